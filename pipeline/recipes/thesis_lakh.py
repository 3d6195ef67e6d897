"""The thesis on Lakh MIDI: MusicBERT's representations, and the artist."""

from pipeline.recipes import Need, Recipe, Step
from pipeline.recipes._thesis import STUDY, figures, heads, small
from stages.head.thesis import PAPER

RECIPE = Recipe(
    title="Genres of Lakh MIDI by MusicBERT and the artist",
    study=STUDY,
    needs=(
        Need("**/*.mid", "Lakh MIDI, all files: encore data lakh --fetch --data DIR", 176_581),
        Need("midi_genre_map.json", "from microsoft/muzic (MIT), beside its MusicBERT"),
        Need("musicbert.pt", "the published small checkpoint, linked from microsoft/muzic, musicbert"),
    ),
    whole=(
        Step(120, "embed lakh --data {data} --backbone musicbert --weights {data}/musicbert.pt"),
        *heads("lakh", "random,artist", 3000),
    ),
    small=small("musicbert", trained=False),
    disk="1.5 GiB",
    figures=figures("lakh", "random"),
    why=PAPER["lakh"].why,
)
