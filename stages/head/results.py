"""The scores of trained heads as rows of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stages.head.modes import Mode
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

    def paper(self) -> dict[str, Any] | None:
        """The thesis's figure for this collection, mode and backbone (None for what reads no representation)."""
        paper = self.thesis
        if paper is None or self.mode.name not in paper.scores or self.mode.rule not in (None, "most frequent"):
            return None
        if self.neighbours == "train" or self.target is not None or not paper.is_of(self.backbone, self.regime):
            return None
        return {paper.metric: paper.scores[self.mode.name], "backbone": paper.backbone if self.backbone else None}


def numbers(scores: Mapping[str, float]) -> dict[str, float | None]:
    """Scores as JSON documents hold them: None for NaN."""
    return {name: _number(value) for name, value in scores.items()}


def _number(value: Any) -> float | None:
    return None if math.isnan(value) else float(value)
