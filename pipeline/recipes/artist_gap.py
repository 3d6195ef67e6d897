"""What every stored backbone owes to artists that stand on both sides of a split."""

from __future__ import annotations

import math

from pipeline.output import table
from pipeline.recipes import QUICK, Recipe, Step
from stages.head.report import report
from stages.head.scores.compared import Score
from store.errors import EncoreError, RequestError
from store.layout import Store

_MODES = ("song", "artist-embedding", "gnn", "gated")
_REGIMES = ("random", "artist")


def _stored(store: Store) -> list[tuple[str, str]]:
    """The representations of the store's collections, but for those of deformed clips."""
    datasets = [dataset for dataset in store.datasets() if not dataset.endswith(".stress")]
    return [(dataset, str(name)) for dataset in datasets for name in store.complete(dataset)]


def _steps(store: Store) -> tuple[Step, ...]:
    stored = _stored(store)
    if not stored:
        raise RequestError(f"{store.where()} holds no representation yet; encode one: encore embed DATASET")
    return (
        *(
            Step(
                5,
                f"compare {dataset} --backbone {name} --modes {','.join(_MODES)} --regimes {','.join(_REGIMES)} "
                "--seeds 3",
            )
            for dataset, name in stored
        ),
        Step(1, f"report {' '.join(dict.fromkeys(dataset for dataset, _ in stored))} --html {{page}}"),
    )


def _gaps(store: Store) -> list[str]:
    """A table for each representation: the scores of both regimes, and the first less the second."""
    lines: list[str] = []
    for dataset, name in _stored(store):
        try:
            random, artist = (
                report(store, dataset, backbone=name, modes=_MODES, regime=regime, against="song")
                for regime in _REGIMES
            )
        except EncoreError as error:
            lines += ["", f"{dataset}, {name}: {error}"]
            continue
        metric = random.task.main
        rows = []
        for mode, entry in random.modes.items():
            other = artist.modes.get(mode)
            if other is not None:
                low, high = _interval(entry.overall, other.overall)
                cells = [metric.text(entry.overall.score), metric.text(other.overall.score)]
                gap = metric.text(entry.overall.score - other.overall.score, "+")
                is_known = not math.isnan(low + high)
                interval = f"{metric.text(low, '+')} - {metric.text(high, '+')}" if is_known else "-"
                rows.append([str(mode), *cells, gap, interval])
        lines += ["", f"{dataset}, {name}: {metric.title}", table(["mode", *_REGIMES, "gap", "interval"], rows)]
    return lines


def _interval(one: Score, other: Score) -> tuple[float, float]:
    """95 % of a difference of scores on different clips, from the interval of each."""
    if one.interval is None or other.interval is None:
        return math.nan, math.nan
    difference = one.score - other.score
    below = math.hypot(one.score - one.interval[0], other.interval[1] - other.score)
    above = math.hypot(one.interval[1] - one.score, other.score - other.interval[0])
    return difference - below, difference + above


RECIPE = Recipe(
    title="The artist gap of every stored backbone: random less artist",
    study="Flexer 2007 and Pampalk, Flexer and Widmer 2005 on artist filters",
    whole=_steps,
    small=(
        Step(0.2, "embed demo --songs 40 --backbone mfcc"),
        Step(
            0.3,
            f"compare demo --backbone mfcc --modes {','.join(_MODES)} --regimes {','.join(_REGIMES)} {QUICK}",
        ),
        Step(0.2, "report demo --backbone mfcc --html {page}"),
    ),
    disk="what it holds now, and 1 MiB for each representation",
    closing=_gaps,
)
