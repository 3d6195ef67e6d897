"""Scores of several modes on the same clips: intervals over resampled artists, and paired tests between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.head.modes import Mode
from stages.head.scores.bootstrap import bootstrap, interval, p_value
from stages.head.scores.metrics import Metric
from stages.head.scores.task import Task

Interval = tuple[float, float]


@dataclass(frozen=True)
class Difference:
    """How far a score is above that of another ``mode`` on the same clips; interval and p are None for one artist."""

    mode: Mode
    difference: float
    interval: Interval | None
    p: float | None
    less_is_better: bool = False

    @property
    def is_worse(self) -> bool:
        """Whether the mode is worse than the other, beyond the interval."""
        if self.interval is None:
            return False
        return self.interval[0] > 0 if self.less_is_better else self.interval[1] < 0


@dataclass(frozen=True)
class Score:
    """A metric on some clips; NaN where these do not define it.

    ``interval`` holds 95 % of it over resampled artists, None where there is but one. ``against`` is None for the mode
    that others are tested against, and where there is none.
    """

    clips: int
    score: float
    interval: Interval | None
    against: Difference | None

    def as_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {"score": _number(self.score), "interval": self.interval and list(self.interval)}
        if self.against is not None:
            bounds = self.against.interval
            document["against"] = {
                "mode": str(self.against.mode),
                "difference": _number(self.against.difference),
                "interval": bounds and list(bounds),
                "p": self.against.p,
            }
        return document


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


@dataclass(frozen=True)
class Values:
    """A metric's values: [modes] on some clips, how many these are, and [modes, resamples] under resampled artists."""

    values: NDArray[np.float64]
    clips: int
    resampled: NDArray[np.float64] | None


@dataclass(frozen=True)
class Lead:
    """How far the best of several modes is ahead of the next best on the same clips; interval None for one artist."""

    best: Mode
    next_best: Mode
    difference: float
    interval: Interval | None

    @property
    def is_beyond_noise(self) -> bool:
        return self.interval is not None and self.interval[0] > 0


def lead(modes: Sequence[Mode], of: Values) -> Lead | None:
    """The lead of the best mode in a metric of which more is better; None where there is but one mode."""
    if len(modes) < 2:
        return None
    *_, second, first = np.argsort(of.values, kind="stable").tolist()
    draws = None if of.resampled is None else of.resampled[first] - of.resampled[second]
    difference = float(of.values[first] - of.values[second])
    return Lead(modes[first], modes[second], difference, None if draws is None else interval(draws))


def summed(task: Task, metric: Metric, sums: NDArray[np.float64], artist: NDArray[np.int64]) -> Values:
    """A metric of `Task.totals` from ``sums`` [modes, clips, sums] (`Task.tally`) and ``artist`` [clips]."""
    values = task.totals(sums.sum(axis=1))[metric.name]
    return Values(values, sums.shape[1], bootstrap(task, sums, artist, metric=metric))


def compared(metric: Metric, modes: Sequence[Mode], of: Values, base: Mode | None) -> dict[Mode, Score]:
    """By mode the score on some clips, its interval, and how it differs from the mode ``base``."""
    score = dict(zip(modes, of.values.tolist(), strict=True))
    defined = [] if of.resampled is None else [row if not np.isnan(row).all() else None for row in of.resampled]
    rows = dict(zip(modes, defined or [None] * len(modes), strict=True))
    scores = {}
    for mode, row in rows.items():
        against = None
        if base is not None and mode != base:
            other = rows[base]
            difference = None if row is None or other is None or np.isnan(row - other).all() else row - other
            against = Difference(
                mode=base,
                difference=score[mode] - score[base],
                interval=None if difference is None else interval(difference),
                p=None if difference is None else p_value(difference),
                less_is_better=metric.less_is_better,
            )
        scores[mode] = Score(of.clips, score[mode], None if row is None else interval(row), against)
    return scores
