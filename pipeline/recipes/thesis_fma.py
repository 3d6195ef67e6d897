"""The thesis on FMA small: the mixture of CNNs, and the artist."""

from pipeline.recipes import Need, Recipe, Step
from pipeline.recipes._thesis import STUDY, figures, heads, small
from stages.head.thesis import PAPER

RECIPE = Recipe(
    title="Genres of FMA small by the mixture of CNNs and the artist",
    study=STUDY,
    needs=(
        Need("**/*.mp3", "FMA small, 7.2 GiB: encore data fma --fetch --data DIR", 8_000),
        Need("**/tracks.csv", "the same"),
    ),
    whole=(
        Step(2000, "train mixcnn --dataset fma --data {data} --regime official --out {work}/mixcnn.pt"),
        Step(15, "embed fma --data {data} --backbone mixcnn --weights {work}/mixcnn.pt"),
        *heads("fma", "official", 60),
    ),
    small=small("mixcnn", trained=True),
    disk="20 MiB",
    figures=figures("fma", "official"),
    why=PAPER["fma"].why + ". The official split shares no artist, and the artist alone tells nothing there.",
)
