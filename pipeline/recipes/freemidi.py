"""The artist's genre from 3,413 MIDI files, and what the graph adds for artists that are new."""

from pipeline.recipes import QUICK, Figure, Need, Recipe, Step

_MODES = "song,artist,gnn,dropedge,gated"

RECIPE = Recipe(
    title="Six genres of 401 artists, from MIDI files of their songs",
    study="Encore's own: no other has figures on these files",
    measured=True,
    needs=(
        Need("midi/*.mid", "MIDI files of free MIDI sites, by way of rp-bot/Ultimate-MIDI-Scraper", 3413),
        Need("songs.csv", "a table of these files: file, artist, title, labels"),
    ),
    whole=(
        Step(
            1,
            "embed folder --name freemidi --data {data}/midi --table {data}/songs.csv --backbone pianoroll "
            "--clips 1 --clip-s 60 --set frames=4",
        ),
        Step(5, f"compare freemidi --modes {_MODES} --regimes random,artist --seeds 3 --set epochs=30 --set steps=6"),
        Step(0.5, "report freemidi --regime random"),
        Step(0.5, "report freemidi --regime artist"),
        Step(2, "stress freemidi --mode song,gnn,gated --regime artist --plot {work}/stress.png"),
        Step(1, "report freemidi --html {page}"),
    ),
    small=(
        Step(0.2, "embed demo --songs 40 --backbone pianoroll --set frames=1"),
        Step(
            0.3,
            f"compare demo --modes song,gnn,gated --backbone pianoroll {QUICK}",
        ),
        Step(0.1, "stress demo --mode song --backbone pianoroll --deform transpose=1"),
        Step(0.2, "report demo --backbone pianoroll --html {page}"),
    ),
    disk="60 MiB",
    figures=tuple(
        Figure(
            title=f"micro F1, {mode}, {regime}",
            metric="micro_f1",
            study=None,
            dataset="freemidi",
            backbone="pianoroll",
            mode=mode,
            regime=regime,
        )
        for regime in ("random", "artist")
        for mode in ("song", "artist", "gnn", "gated")
    ),
    why="The genre is the artist's, so that in random, where artists stand on both sides, the artist alone tells it.",
)
