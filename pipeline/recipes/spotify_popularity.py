"""How popular a song is, from Spotify's features alone, and what its artist adds."""

from pipeline.recipes import QUICK, Figure, Need, Recipe, Step

# The network of the study: dense, 512 songs a batch, rate 1e-3, the target from -0.5 to 0.5.
_DENSE = "--set batch=512 --set learning_rate=0.001 --set target_scale=range"
_MODES = "song,linear,artist,artist-embedding,gnn,gated"

RECIPE = Recipe(
    title="Popularity from Spotify's features, and what the artist adds",
    study="PaSST beside Spotify's features on the popularity of songs",
    measured=True,
    needs=(
        Need(
            "ClassicHit.csv",
            "15,150 songs with Spotify's features, from the GitHub repository "
            "TylerFlar/cse158-assignment2-music-genre-predicting (MIT)",
        ),
    ),
    whole=(
        Step(
            0.5,
            "embed table --name classichit --table {data}/ClassicHit.csv "
            "--columns artist=Artist,labels=Genre,title=Track,targets=Popularity",
        ),
        Step(
            6,
            f"compare classichit --target Popularity --modes {_MODES} --regimes random,artist --seeds 3 {_DENSE}",
        ),
        Step(0.5, "report classichit --target Popularity --regime random"),
        Step(0.5, "report classichit --target Popularity --regime artist"),
        Step(1, "report classichit --target Popularity --html {page}"),
    ),
    small=(
        Step(0.2, "embed demo --songs 40 --backbone mfcc"),
        Step(
            0.2,
            f"compare demo --backbone mfcc --target bpm --modes {_MODES} --regimes random,artist {QUICK} {_DENSE}",
        ),
        Step(0.2, "report demo --backbone mfcc --target bpm --html {page}"),
    ),
    disk="30 MiB",
    figures=tuple(
        Figure(
            title=f"mean absolute error, {title}",
            metric="mae",
            study=study,
            dataset="classichit",
            backbone="features",
            mode=mode,
            regime=regime,
            target="Popularity",
            scale=0.01,
            digits=3,
        )
        for title, study, mode, regime in (
            ("Spotify's features", 0.148, "song", "random"),
            ("PaSST (here: gated)", 0.119, "gated", "random"),
            ("features, no artist twice", None, "song", "artist"),
            ("gated, no artist twice", None, "gated", "artist"),
        )
    ),
    why="Errors are shares of the range of popularity, 0 to 100. The study has other songs, dated otherwise, and parts "
    "them 8:2 song by song; here they are parted 8:1:1, the second part for early stopping. Its PaSST hears the songs, "
    "of which this collection has none; the gated head has the features and the artist's other songs instead.",
)
