"""Four genres of 201 songs that their makers released, and how far the heads bear what is done to recordings."""

from pipeline.recipes import Figure, Need, Recipe, Step

_MODES = "song,linear,artist,gnn,gated"

RECIPE = Recipe(
    title="Four genres of 201 songs of Magnatune, clean and deformed",
    study="Encore's own, on the songs of Aljanaki, Wiering and Veltkamp 2016 (Emotify)",
    measured=True,
    needs=(
        Need("mp3/*.mp3", "the Emotify set (CC BY-NC-SA), by way of sergi-andreu/ProjectMusicInformatics", 201),
        Need("songs.csv", "a table of these files: file, artist, title, album, genre"),
    ),
    whole=(
        Step(
            1,
            "embed folder --name emotify --data {data}/mp3 --table {data}/songs.csv --columns labels=genre "
            "--backbone mfcc",
        ),
        Step(3, f"compare emotify --modes {_MODES} --baselines --regimes random,artist --seeds 5"),
        Step(0.2, "report emotify --regime random"),
        Step(0.2, "report emotify --regime artist"),
        Step(
            4,
            "stress emotify --mode song,gated --regime artist --plot {work}/stress.png "
            "--deform gain=-20,noise=20,noise=10,low-pass=2000,cut=0.25",
        ),
        Step(0.5, "report emotify --html {page}"),
    ),
    small=(
        Step(0.2, "embed demo --songs 40 --backbone mfcc"),
        Step(0.2, "compare demo --modes song,gated --backbone mfcc --seeds 1 --set epochs=2 --set steps=2"),
        Step(0.2, "stress demo --mode song --backbone mfcc --deform gain=-10,mp3=64"),
        Step(0.2, "report demo --backbone mfcc --html {page}"),
    ),
    disk="5 MiB",
    figures=tuple(
        Figure(
            title=f"accuracy, {mode}, {regime}",
            metric="accuracy",
            study=None,
            dataset="emotify",
            backbone="mfcc",
            mode=mode,
            regime=regime,
        )
        for regime in ("random", "artist")
        for mode in ("song", "artist", "gnn", "gated")
    ),
    why="Emotify was made to study emotions; no study has figures on its genres with these splits.",
)
