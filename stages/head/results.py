"""The scores of trained heads as rows of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.head.modes import Mode
from stages.head.scores.bootstrap import best_beyond_noise, bootstrap, interval
from stages.head.scores.task import Task
from stages.head.thesis import Paper


@dataclass(kw_only=True)
class Result:
    """The test scores of one mode in one regime, over seeds: a row of the tables of ``head`` and ``compare``.

    Attributes
    ----------
    backbone : the folder of the representation; None for heads that read none.
    members : how many networks' mean a score is.
    threshold : how labels were chosen (`Settings.threshold`), None where not by a threshold.
    neighbours : whose representations take part in a clip's score: ``all`` (transductive), ``train`` (inductive) or
        None.
    remark : what else there is to say of how it was done; may be empty.
    overlap : for each fold of each seed what its parts share (`Collection.overlap`).
    target : the numeric target that was learnt; None for labels.
    thesis : the thesis's figures on this collection.
    scores : the metrics of each fold of each seed, by name; NaN where not defined.
    tallies : `Task.tally` of the test clips [clips, sums] of each fold of each seed; empty where they are not at hand.
    interval : of the main metric over all of these clips, 95 % over resampled artists (`add_intervals`).
    is_best : whether its mean is the best of its table, beyond noise.
    tuned : the settings that were chosen for each fold of each seed; empty where none were.
    seconds : training time of each fold of each seed.
    saved : where its runs are kept.
    """

    dataset: str
    synthetic: bool
    backbone: str | None
    mode: Mode
    regime: str
    seeds: int
    task: Task
    members: int
    threshold: str | None
    neighbours: str | None
    remark: str
    overlap: list[dict[str, Any]]
    target: str | None = None
    thesis: Paper | None = None
    scores: list[dict[str, float]] = field(default_factory=list)
    tallies: list[NDArray[np.float64]] = field(default_factory=list)
    interval: tuple[float, float] | None = None
    is_best: bool = False
    tuned: list[dict[str, Any]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    saved: str = ""

    def as_json(self) -> dict[str, Any]:
        """The record under its stable keys; a metric that is not defined on these clips is null.

        ``std`` is the deviation of these very scores, divided by their number n (not n - 1): 0 of a single one.
        """
        metrics = {
            name: {"mean": _number(np.mean(values)), "std": _number(np.std(values))}
            for name, values in self.by_metric().items()
        }
        return {
            "dataset": self.dataset,
            "synthetic": self.synthetic,
            "backbone": self.backbone,
            "mode": self.mode.name,
            "rule": self.mode.rule,
            "regime": self.regime,
            "seeds": self.seeds,
            "members": self.members,
            "threshold": self.threshold,
            "transductive": self.transductive,
            "neighbours": self.neighbours,
            "remark": self.remark,
            "metrics": metrics,
            "interval": self.interval and list(self.interval),
            "tuned": self.tuned or None,
            "train_seconds": float(np.sum(self.seconds)),
            "overlap": self.overlap,
            "paper": self.paper(),
            "saved": self.saved,
            **({} if self.target is None else {"target": self.target}),
        }

    @property
    def transductive(self) -> bool:
        """Whether representations of test clips take part as neighbours."""
        return self.neighbours == "all"

    def by_metric(self) -> dict[str, list[float]]:
        """The values of each metric over all folds and seeds."""
        return {name: [scores[name] for scores in self.scores] for name in self.scores[0]}

    @property
    def main(self) -> float:
        """The mean of the main metric; NaN where it is not defined."""
        return float(np.mean(self.by_metric()[self.task.main.name]))

    def paper(self) -> dict[str, Any] | None:
        """The thesis's figure for this collection, mode and backbone (None for what reads no representation)."""
        paper = self.thesis
        if paper is None or self.mode.name not in paper.scores or self.mode.rule not in (None, "most frequent"):
            return None
        if self.neighbours == "train" or self.target is not None or not paper.is_of(self.backbone, self.regime):
            return None
        return {paper.metric: paper.scores[self.mode.name], "backbone": paper.backbone if self.backbone else None}


def add_intervals(results: Sequence[Result], artist: NDArray[np.int64]) -> None:
    """Give the results of one table their intervals, and say which is the best beyond noise.

    All are resampled together, so that the best is compared with the next best on the same artists.

    Parameters
    ----------
    artist : [clips] of the test clips of all folds and seeds, one behind the other; -1 where unknown.
    """
    with_tallies = [result for result in results if result.tallies]
    if not with_tallies:
        return
    sums = np.stack([np.concatenate(result.tallies) for result in with_tallies])
    resampled = bootstrap(results[0].task, sums, artist)
    if resampled is None:
        return
    for result, scores in zip(with_tallies, resampled, strict=True):
        result.interval = interval(scores)
    if len(with_tallies) == len(results):
        best = best_beyond_noise(np.array([result.main for result in results]), resampled)
        for place, result in enumerate(results):
            result.is_best = place == best


def numbers(scores: Mapping[str, float]) -> dict[str, float | None]:
    """Scores as JSON documents hold them: None for NaN."""
    return {name: _number(value) for name, value in scores.items()}


def _number(value: Any) -> float | None:
    return None if math.isnan(value) else float(value)
