"""MARBLE's genre tasks from one encoding a clip, alone and with the artist's other songs."""

from pipeline.recipes import QUICK, Figure, Need, Recipe, Step

# Frozen probes as their papers print them: GTZAN (accuracy), MTG-Jamendo's genres (ROC-AUC, average precision).
_PUBLISHED = {
    "MERT-v2-30s": (91.72, 88.01, 21.22),
    "MuQ": (83.8, 85.4, 19.1),
    "MusicFM": (84.1, 85.3, 19.4),
    "MERT-Large": (77.6, 86.1, 18.0),
}
_TASKS = (("gtzan", "accuracy"), ("mtg", "roc_auc"), ("mtg", "pr_auc"))
_MODES = "song,linear,gnn,gated"


def _figures() -> tuple[Figure, ...]:
    published = [
        (f"{model} (published probe)", dataset, metric, value, "linear", False)
        for model, values in _PUBLISHED.items()
        for (dataset, metric), value in zip(_TASKS, values, strict=True)
        if model == "MERT-Large"
    ]
    others = [
        (name, dataset, metric, None, mode, inductive)
        for dataset, metric in _TASKS
        for name, mode, inductive in (
            ("one hidden layer", "song", False),
            ("with neighbours *", "gnn", False),
            ("with neighbours, inductive", "gnn", True),
            ("gated *", "gated", False),
            ("gated, inductive", "gated", True),
        )
    ]
    return tuple(
        Figure(
            title=f"{dataset} {metric.replace('_', ' ')}: {name}",
            metric=metric,
            study=value,
            dataset=dataset,
            backbone="mert",
            mode=mode,
            regime="official",
            inductive=inductive,
        )
        for name, dataset, metric, value, mode, inductive in [*published, *others]
    )


RECIPE = Recipe(
    title="MARBLE's genre tasks, with intervals and the artist's share",
    study="Yuan et al. 2023 (MARBLE)",
    needs=(
        Need("gtzan/**/*.wav", "GTZAN, as its mirrors have it; encore data gtzan", 1_000),
        Need("gtzan/**/*_filtered.txt", "the fault-filtered split: encore data gtzan --fetch --data DIR/gtzan", 3),
        Need("gtzan/artists.csv", "song,artist of GTZAN (Sturm 2013), for the modes that read artists"),
        Need("mtg/**/autotagging_genre-*.tsv", "the lists of split 0: encore data mtg --fetch --data DIR/mtg", 3),
        Need("mtg/**/*.mp3", "the songs, by the download script of MTG/mtg-jamendo-dataset", 55_094),
        Need("MERT-v1-330M/config.json", "the folder of m-a-p/MERT-v1-330M (CC BY-NC 4.0)"),
    ),
    whole=(
        Step(
            60,
            "embed gtzan --data {data}/gtzan --artists {data}/gtzan/artists.csv --backbone mert "
            "--weights {data}/MERT-v1-330M",
        ),
        Step(
            9000,
            "embed mtg --data {data}/mtg --genres all --excerpt 30s --backbone mert --weights {data}/MERT-v1-330M",
        ),
        *(
            Step(minutes, f"compare {dataset} --backbone mert --modes {_MODES} --regimes official --seeds 3 {options}")
            for dataset, minutes in (("gtzan", 3), ("mtg", 120))
            for options in ("", "--neighbours train")
        ),
        Step(5, "report gtzan mtg --regime official --html {page}"),
    ),
    small=(
        Step(0.2, "embed demo --songs 40 --backbone mfcc"),
        Step(
            0.2,
            f"compare demo --backbone mfcc --modes song,gnn,gated {QUICK}",
        ),
        Step(
            0.2,
            f"compare demo --backbone mfcc --modes gnn,gated {QUICK} --neighbours train",
        ),
        Step(0.2, "report demo --backbone mfcc --html {page}"),
    ),
    disk="6 GiB",
    figures=_figures(),
    why="* test clips are each other's neighbours (transductive); inductive: training clips alone are. Published: "
    + "; ".join(f"{model} {' / '.join(map(str, values))}" for model, values in _PUBLISHED.items())
    + " (GTZAN accuracy, MTG ROC-AUC, MTG average precision), each with the probe and the layers that its paper chose; "
    "ours reads the last layer (--layer chooses another).",
)
