"""The thesis on Lakh Pianoroll: a network over piano rolls, and the artist."""

from pipeline.recipes import Need, Recipe, Step
from pipeline.recipes._thesis import STUDY, figures, heads, small
from stages.head.thesis import PAPER

RECIPE = Recipe(
    title="Genres of Lakh Pianoroll by a network over piano rolls and the artist",
    study=STUDY,
    needs=(
        Need("**/*.npz", "LPD-5, cleansed: encore data lpd --fetch --data DIR", 21_425),
        Need("**/cleansed_ids.txt", "the same"),
    ),
    whole=(
        Step(600, "train pianoroll-cnn --dataset lpd --data {data} --regime random --out {work}/pianoroll-cnn.pt"),
        Step(10, "embed lpd --data {data} --backbone pianoroll-cnn --weights {work}/pianoroll-cnn.pt"),
        *heads("lpd", "random,artist", 800),
    ),
    small=small("pianoroll-cnn", trained=True),
    disk="200 MiB",
    figures=figures("lpd", "random"),
    why=PAPER["lpd"].why,
)
