"""What weighted and focal losses, and tuned thresholds, do to rare labels."""

import csv
from pathlib import Path

from pipeline.recipes import QUICK, Figure, Need, Recipe, Step
from store.errors import RequestError

_LOSSES = {
    "plain": "",
    "weighted": "--set class_weights=balanced",
    "focal": "--set loss=focal",
}
_THRESHOLDS = ("fixed", "tuned", "per-label")
_LEAST = 20  # songs of a tag that is kept
_VARIANTS = [(loss, threshold) for loss in _LOSSES for threshold in _THRESHOLDS]


def _prepare(data: Path, work: Path) -> None:
    """``tags.csv``: the tags of each row of the table that has any, those of 20 songs or more."""
    with (data / "ClassicHit_labels.csv").open(encoding="utf-8", newline="") as file:
        songs = [row["genius_tags"].split("|") if row.get("genius_tags") else [] for row in csv.DictReader(file)]
    counts: dict[str, int] = {}
    for tags in songs:
        for tag in tags:
            counts[tag] = counts.get(tag, 0) + 1
    tag_lists = [[tag for tag in tags if counts[tag] >= _LEAST] for tags in songs]
    if not any(tag_lists):
        raise RequestError(f"{data / 'ClassicHit_labels.csv'} has no column genius_tags with tags of {_LEAST} songs")
    with (work / "tags.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["song", "tags"])
        writer.writerows([f"row-{row:06}", "|".join(tags)] for row, tags in enumerate(tag_lists) if tags)


RECIPE = Recipe(
    title="Rare tags: weighted and focal losses, fixed and tuned thresholds",
    study="Lin et al. 2017 (focal loss) and Lipton, Elkan and Narayanaswamy 2014 (thresholds)",
    measured=True,
    needs=(
        Need("ClassicHit.csv", "from the GitHub repository TylerFlar/cse158-assignment2-music-genre-predicting (MIT)"),
        Need("ClassicHit_labels.csv", "a table beside it, of the same rows: genius_tags, separated by |"),
    ),
    prepare=_prepare,
    whole=(
        *(
            Step(
                0.2,
                f"embed table --name tags-{loss}-{threshold} --table {{data}}/ClassicHit.csv "
                "--columns artist=Artist,labels=,title=Track --labels {work}/tags.csv",
            )
            for loss, threshold in _VARIANTS
        ),
        *(
            Step(
                0.7,
                f"compare tags-{loss}-{threshold} --modes song,gated --regimes artist --seeds 2 --set epochs=40 "
                f"--threshold {threshold} {_LOSSES[loss]}",
            )
            for loss, threshold in _VARIANTS
        ),
        Step(1, f"report {' '.join(f'tags-{loss}-tuned' for loss in _LOSSES)} --html {{page}}"),
    ),
    small=(
        Step(0.2, "embed demo --songs 40 --backbone mfcc"),
        *(
            Step(
                0.2,
                f"compare demo --modes song --backbone mfcc {QUICK} --threshold {threshold} {options}",
            )
            for options in _LOSSES.values()
            for threshold in ("fixed", "tuned")
        ),
        Step(0.2, "report demo --backbone mfcc --html {page}"),
    ),
    disk="50 MiB",
    figures=tuple(
        Figure(
            title=f"{mode}, {loss}, {threshold}: {metric.replace('_', ' ')}",
            metric=metric,
            study=None,
            dataset=f"tags-{loss}-{threshold}",
            backbone="features",
            mode=mode,
            regime="artist",
        )
        for mode in ("song", "gated")
        for loss, threshold in _VARIANTS
        for metric in ("micro_f1", "macro_f1", "pr_auc")
    ),
    why="One collection under nine names, so that its runs stand beside each other; splits, networks and draws are the "
    "same. PR-AUC knows no threshold: what it does not gain, a loss has not learnt, and a threshold gains the rest.",
)
