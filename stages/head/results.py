"""The scores of trained heads, as tables and JSON documents hold them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stages.head.scores.task import task_judged_by
from stages.head.thesis import Paper


@dataclass(kw_only=True)
class Result:
    """The test scores of one mode in one regime, over seeds.

    ``rule`` tells the rules of one head apart (artist only has two); ``scores`` holds one dictionary for each fold of
    each seed, ``overlap`` what the parts of each share, ``thesis`` the figures that the thesis has on this collection.
    ``members`` is how many networks' mean a score is, ``threshold`` how labels were chosen (`Settings.threshold`), None
    where not by a threshold. ``neighbours`` says whose representations take part in a clip's score: ``all``
    (transductive), ``train`` (inductive) or None; ``remark`` what else there is to say of how it was done, or nothing.
    """

    dataset: str
    synthetic: bool
    backbone: str | None
    mode: str
    rule: str | None
    regime: str
    seeds: int
    members: int
    threshold: str | None
    neighbours: str | None
    remark: str
    overlap: list[dict[str, Any]]
    thesis: Paper | None = None
    scores: list[dict[str, float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    saved: str = ""

    def as_json(self) -> dict[str, Any]:
        """The record under DESIGN's stable keys; a metric that is not defined on these clips is null.

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
            "mode": self.mode,
            "rule": self.rule,
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
        }

    @property
    def transductive(self) -> bool:
        return self.neighbours == "all"

    def by_metric(self) -> dict[str, list[float]]:
        return {name: [scores[name] for scores in self.scores] for name in self.scores[0]}

    def paper(self) -> dict[str, Any] | None:
        """The thesis's figure for this collection, mode and backbone (None for what reads no representation)."""
        paper = self.thesis
        if paper is None or self.mode not in paper.scores or self.rule not in (None, "most frequent"):
            return None
        if self.neighbours == "train" or not paper.is_of(self.backbone, self.regime):
            return None
        return {paper.metric: paper.scores[self.mode], "backbone": paper.backbone if self.backbone else None}


def _number(value: Any) -> float | None:
    return None if math.isnan(value) else float(value)


def numbers(scores: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _number(value) for name, value in scores.items()}


def columns_of(results: Sequence[Result]) -> list[str]:
    """The metrics that any of the results has, the main one first."""
    names = list(dict.fromkeys(name for result in results for name in result.scores[0]))
    main = task_judged_by(names).main.name
    return [main, *(name for name in names if name != main)]
