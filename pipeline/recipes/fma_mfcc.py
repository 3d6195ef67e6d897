"""FMA small by MFCCs: short slices, and the votes of slices and of checkpoints."""

from pipeline.recipes import QUICK, Figure, Need, Recipe, Step

_MODES = "song,gnn,gated"

RECIPE = Recipe(
    title="Eight genres of FMA small by MFCCs, sliced",
    study="networks over 20 MFCCs whose slices and checkpoints vote (after Li, Chan and Chun 2010)",
    needs=(
        Need("**/*.mp3", "FMA small, 7.2 GiB: encore data fma --fetch --data DIR", 8_000),
        Need("**/tracks.csv", "the same"),
    ),
    whole=(
        Step(
            3000,
            "train mfcc-cnn --dataset fma --data {data} --regime official --segments 3 --hop 1.5 "
            "--out {work}/mfcc-cnn.pt",
        ),
        Step(30, "embed fma --data {data} --backbone mfcc-cnn --weights {work}/mfcc-cnn.pt"),
        Step(
            10,
            f"compare fma --backbone mfcc-cnn --modes {_MODES} --regimes official --seeds 3 --checkpoints 5",
        ),
        Step(1, "report fma --backbone mfcc-cnn --html {page}"),
    ),
    small=(
        Step(
            0.5,
            "train mfcc-cnn --dataset demo --songs 40 --regime random --segments 3 --hop 1.5 --set steps=2 "
            "--set batch=4 --out {work}/mfcc-cnn.pt",
        ),
        Step(0.5, "embed demo --songs 40 --backbone mfcc-cnn --weights {work}/mfcc-cnn.pt"),
        Step(
            0.2,
            f"compare demo --backbone mfcc-cnn --modes song,gnn {QUICK} --checkpoints 2",
        ),
        Step(0.2, "report demo --backbone mfcc-cnn --html {page}"),
    ),
    disk="5 MiB",
    figures=tuple(
        Figure(
            title=f"accuracy, {mode}",
            metric="accuracy",
            study=None,
            dataset="fma",
            backbone="mfcc-cnn",
            mode=mode,
            regime="official",
        )
        for mode in _MODES.split(",")
    ),
    why="The slices of a song lie in its part here. Where they are parted at random, a network knows the test songs.",
)
