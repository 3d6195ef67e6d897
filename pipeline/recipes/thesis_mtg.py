"""The thesis on MTG-Jamendo: CoLA's representations, and the artist."""

from pipeline.recipes import Need, Recipe, Step
from pipeline.recipes._thesis import STUDY, figures, heads, small
from stages.head.thesis import PAPER

RECIPE = Recipe(
    title="Genres of MTG-Jamendo by CoLA and the artist",
    study=STUDY,
    needs=(
        Need("**/autotagging_genre-*.tsv", "the lists of split 0: encore data mtg --fetch --data DIR", 3),
        Need("**/*.mp3", "the songs, 500 GB, by the download script of MTG/mtg-jamendo-dataset", 55_094),
    ),
    whole=(
        Step(
            6000,
            "train cola --dataset mtg --data {data} --unlabelled --objective contrastive --regime random "
            "--out {work}/cola.pt",
        ),
        Step(900, "embed mtg --data {data} --backbone cola --weights {work}/cola.pt"),
        *heads("mtg", "random,official", 900),
    ),
    small=small("cola", trained=True),
    disk="300 MiB",
    figures=figures("mtg", "random"),
    why=PAPER["mtg"].why + ". Its width of CoLA is 2,560; EfficientNet-B0 has 1,280.",
)
