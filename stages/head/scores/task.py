"""The task of a collection: what depends on whether its clips carry one label, several labels, or a number.

A task decides what a network puts out, which loss it learns from, how scores become decisions, which metrics judge
them and how these are printed. Heads, the training loop and reports ask the task and never which one it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Num
from numpy.typing import NDArray
from torch import Tensor

from stages.head.scores import metrics, thresholds
from stages.head.scores.metrics import Metric
from stages.head.scores.prediction import Prediction

Truth = NDArray[Any]  # [clips, labels] bool, or a regression's [clips, 1] float64
Floats = NDArray[np.float64]
Scores = NDArray[np.floating[Any]]

_LEAST = 1e-4  # probabilities are kept this far from 0 and 1 where their logarithm is taken
_ROUNDING = 1e-4  # that scores may lie outside of [0, 1]


@dataclass(frozen=True)
class Task(ABC):
    """What is asked of every clip of a collection.

    Class attributes
    ----------------
    NAME : how runs and JSON documents name it.
    TITLE : what a clip carries, in words.
    DECISION : how scores become a decision, in words.
    HAS_THRESHOLDS : whether thresholds decide.
    CHOOSES : whether a decision is a set of labels; else it is a number.
    TESTED : the metrics that reports give intervals and paired tests of; the main one where none is named.
    METRICS : what judges it; the first is the main metric, which early stopping watches and tables show first.
    """

    NAME: ClassVar[str]
    TITLE: ClassVar[str]
    DECISION: ClassVar[str]
    HAS_THRESHOLDS: ClassVar[bool]
    CHOOSES: ClassVar[bool] = True
    METRICS: ClassVar[tuple[Metric, ...]]
    TESTED: ClassVar[tuple[Metric, ...]] = ()

    @property
    def main(self) -> Metric:
        """The main metric."""
        return self.METRICS[0]

    @property
    def within(self) -> Metric:
        """The metric that compares kinds of clips with each other; one that `totals` gives."""
        return self.main

    # What a network learns.

    def fitted(self, truth: Truth, scale: str) -> Task:  # noqa: ARG002
        """The task as a network learns it from ``truth`` of the training clips; ``scale`` is `Settings.target_scale`.

        Only a regression learns anything here: the unit and origin of its target.
        """
        return self

    @abstractmethod
    def outputs(self, labels: Sequence[str]) -> int:
        """How many numbers a network gives for a clip of a collection with these labels."""

    @abstractmethod
    def activate(self, outputs: Float[Tensor, "clips outputs"]) -> Float[Tensor, "clips outputs"]:
        """Scores from a network's outputs."""

    @abstractmethod
    def link(self, score: Tensor) -> Tensor:
        """Scores on the scale of a network's outputs: how far evidence counted elsewhere moves an output."""

    @abstractmethod
    def bounded(self, score: Tensor) -> Tensor:
        """Scores, those that rounding or a correction has pushed out of their range brought back to its ends."""

    @abstractmethod
    def clear(self, score: Tensor) -> Tensor:
        """Scores, those at the ends of their range moved so far inside that `link` is finite."""

    @abstractmethod
    def is_score(self, score: Scores) -> Truth:
        """[clips] whether all of a clip's scores [clips, outputs] are within their range, but for rounding."""

    @abstractmethod
    def agreement(self, share: Float[Tensor, "clips outputs"]) -> tuple[Tensor, Tensor]:
        """Two numbers [clips] that say how decided scores ``share`` (of an artist's songs, say) are."""

    @abstractmethod
    def of_songs(self, truth: Truth, first: NDArray[np.int64]) -> Truth:
        """[songs, outputs] the truth of songs from that of their clips, which begin at ``first`` [songs]."""

    @abstractmethod
    def curvature(self, truth: Num[Tensor, "train outputs"]) -> Float[Tensor, " outputs"]:
        """The second derivative of the loss of a clip by each output, on average, where nothing is known of it."""

    @abstractmethod
    def target(self, truth: Num[Tensor, "clips outputs"]) -> Num[Tensor, "clips ..."]:
        """The truth as `loss` compares outputs with it."""

    @abstractmethod
    def loss(
        self, outputs: Float[Tensor, "batch outputs"], target: Num[Tensor, "batch ..."], reduction: str = "mean"
    ) -> Tensor:
        """What training minimises: the mean, or with ``reduction="none"`` each term, of the negative log likelihood."""

    @abstractmethod
    def balance(self, truth: Num[Tensor, "train outputs"]) -> Tensor:
        """Class weights that give every class the same total weight, and a training clip 1 on average."""

    @abstractmethod
    def weigh(self, balance: Tensor, target: Num[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """The weight of each term of `loss`, by what `balance` gave."""

    # What is decided.

    def thresholds(self, how: str, truth: Truth, score: Scores) -> Floats | None:
        """[labels] the scores above which labels are chosen; None where no threshold decides.

        Parameters
        ----------
        how : a key of `stages.head.scores.thresholds.CHOICES`.
        truth, score : [clips, labels] of clips that are not tested on.
        """
        return thresholds.find(how, truth, score) if self.HAS_THRESHOLDS else None

    @abstractmethod
    def decide(self, score: NDArray[np.float32], threshold: Floats | None = None) -> Prediction:
        """The decisions for ``score`` [clips, labels]; ``threshold`` is [labels], 0.5 by default."""

    @abstractmethod
    def prior(self, truth: Truth) -> Floats:
        """[labels] the best score for a clip of which nothing is known, from ``truth`` of the training clips."""

    @abstractmethod
    def baseline(self, truth: Truth, clips: int) -> Prediction:
        """What is predicted for so many clips of which nothing is known, from ``truth`` of the training clips."""

    # How it is judged.

    def evaluate(self, truth: Truth, chosen: Truth, score: Scores | None = None) -> dict[str, float]:
        """Each metric by its name, NaN where these clips do not define it; without ``score`` those of decisions."""
        return {
            metric.name: metric.measure(truth, score if metric.ranks else chosen)
            for metric in self.METRICS
            if not metric.ranks or score is not None
        }

    @abstractmethod
    def tally(self, truth: Truth, chosen: Truth) -> Floats:
        """[clips, sums] numbers of each clip whose sums over clips give the main metric (`total`)."""

    @abstractmethod
    def totals(self, sums: Floats) -> dict[str, Floats]:
        """By name, [...] the metrics that sums of `tally` [..., sums] over any clips give; the main one among them."""

    def total(self, sums: Floats) -> Floats:
        """[...] the main metric from sums of `tally` [..., sums] over any clips."""
        return self.totals(sums)[self.main.name]


class _Labels(Task):
    """What is common to the tasks that choose among labels."""

    def outputs(self, labels: Sequence[str]) -> int:
        return len(labels)

    def bounded(self, score: Tensor) -> Tensor:
        return score.clamp(0, 1)

    def clear(self, score: Tensor) -> Tensor:
        return score.clamp(_LEAST, 1 - _LEAST)

    def is_score(self, score: Scores) -> Truth:
        return np.asarray(((score > -_ROUNDING) & (score < 1 + _ROUNDING)).all(axis=1))

    def agreement(self, share: Tensor) -> tuple[Tensor, Tensor]:
        """The highest share, and the entropy of all."""
        return share.amax(dim=1), -(share * share.clamp(min=_LEAST).log()).sum(dim=1)

    def of_songs(self, truth: Truth, first: NDArray[np.int64]) -> Truth:
        """The labels that any of a song's clips carries."""
        return np.logical_or.reduceat(truth, first) if len(first) else truth[:0]

    def curvature(self, truth: Tensor) -> Tensor:
        share = truth.float().mean(dim=0)
        return share * (1 - share)

    def prior(self, truth: Truth) -> Floats:
        share: Floats = truth.mean(axis=0)
        return share

    def baseline(self, truth: Truth, clips: int) -> Prediction:
        """The label that most training clips carry."""
        share = self.prior(truth)
        chosen = np.zeros((clips, len(share)), dtype=bool)
        chosen[:, int(share.argmax())] = True
        return Prediction(np.broadcast_to(share.astype(np.float32), chosen.shape), chosen)

    def totals(self, sums: Floats) -> dict[str, Floats]:
        """2 hits / (true + chosen): micro F1, which is accuracy where each clip has and gets one label."""
        total = sums[..., 1] + sums[..., 2]
        return {self.main.name: np.divide(2 * sums[..., 0], total, out=np.zeros_like(total), where=total > 0)}


class MultiLabel(_Labels):
    """Any number of labels a clip: each label is a decision of its own."""

    NAME = "multi-label"
    TITLE = "several labels a clip"
    DECISION = "labels above a threshold are chosen"
    HAS_THRESHOLDS = True
    METRICS = (metrics.MICRO_F1, metrics.MACRO_F1, metrics.SUBSET_ACCURACY, metrics.ROC_AUC, metrics.PR_AUC)

    def activate(self, outputs: Tensor) -> Tensor:
        return torch.sigmoid(outputs)

    def link(self, score: Tensor) -> Tensor:
        return torch.logit(score)

    def target(self, truth: Tensor) -> Tensor:
        """[clips, labels] 0 or 1."""
        return truth.float()

    def loss(self, outputs: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
        return F.binary_cross_entropy_with_logits(outputs, target, reduction=reduction)

    def balance(self, truth: Tensor) -> Tensor:
        """[2, labels] the weights of a clip without and with each label, which is a problem of two classes:

        ``n / (2 n_without)`` and ``n / (2 n_with)``; 1 where all or none of the clips carry the label.
        """
        clips = len(truth)
        present = truth.sum(dim=0).float()
        absent = clips - present
        both = (present > 0) & (absent > 0)
        return torch.where(both, clips / (2 * torch.stack([absent, present])), torch.ones_like(present))

    def weigh(self, balance: Tensor, target: Tensor) -> Tensor:
        return torch.lerp(balance[0], balance[1], target)

    def decide(self, score: NDArray[np.float32], threshold: Floats | None = None) -> Prediction:
        """Every label whose score is above its threshold."""
        cut = np.full(score.shape[1], thresholds.FIXED) if threshold is None else threshold
        return Prediction(score, thresholds.above(score, cut))

    def tally(self, truth: Truth, chosen: Truth) -> Floats:
        """[clips, 3] hits, true labels, chosen labels."""
        return np.stack([a.sum(axis=1) for a in (truth & chosen, truth, chosen)], axis=1).astype(np.float64)


class SingleLabel(_Labels):
    """One label a clip: labels are classes that exclude each other."""

    NAME = "single-label"
    TITLE = "one label a clip"
    DECISION = "the most likely label is chosen"
    HAS_THRESHOLDS = False
    METRICS = (metrics.ACCURACY, metrics.MACRO_F1)

    def activate(self, outputs: Tensor) -> Tensor:
        return torch.softmax(outputs, dim=1)

    def link(self, score: Tensor) -> Tensor:
        return score.log()

    def target(self, truth: Tensor) -> Tensor:
        """[clips] the place of the label."""
        return truth.long().argmax(dim=1)

    def loss(self, outputs: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
        return F.cross_entropy(outputs, target, reduction=reduction)

    def balance(self, truth: Tensor) -> Tensor:
        """[labels] ``n / (k n_with)`` for the k labels that occur, 1 for others."""
        present = truth.sum(dim=0).float()
        occurs = present > 0
        return torch.where(occurs, len(truth) / (occurs.sum() * present), torch.ones_like(present))

    def weigh(self, balance: Tensor, target: Tensor) -> Tensor:
        return balance[target]

    def decide(self, score: NDArray[np.float32], threshold: Floats | None = None) -> Prediction:
        """The label with the highest score, of equals the first."""
        if threshold is not None:
            raise ValueError("where labels exclude each other no threshold decides")
        chosen = np.zeros(score.shape, dtype=bool)
        chosen[np.arange(len(score)), score.argmax(axis=1)] = True
        return Prediction(score, chosen)

    def tally(self, truth: Truth, chosen: Truth) -> Floats:
        """[clips, 3] whether the decision is right, 1 and 1."""
        hits = (truth == chosen).all(axis=1)
        return np.stack([hits, *np.ones((2, len(hits)))], axis=1).astype(np.float64)


@dataclass(frozen=True)
class Regression(Task):
    """A number a clip, such as its popularity. Scores and decisions are that number, in its own unit.

    A network learns ``(number - origin) / unit`` by its squared error, so that least squares is what is minimised
    whatever the unit; scores are turned back.

    Attributes
    ----------
    origin, unit : of the target as a network learns it (`fitted`).
    """

    NAME = "regression"
    TITLE = "a number a clip"
    DECISION = "a number is estimated"
    HAS_THRESHOLDS = False
    CHOOSES = False
    METRICS = (metrics.R2, metrics.RMSE, metrics.MAE, metrics.SPEARMAN)
    TESTED = METRICS

    origin: float = 0.0
    unit: float = 1.0

    @property
    def within(self) -> Metric:
        """The absolute error: R2 is relative to how far the numbers of a kind spread by themselves."""
        return metrics.MAE

    def fitted(self, truth: Truth, scale: str) -> Task:
        """``deviation``: mean 0 and standard deviation 1; ``range``: from -0.5 to 0.5 on the training clips."""
        if scale == "range":
            low, high = float(truth.min()), float(truth.max())
            origin, unit = low / 2 + high / 2, high - low
        else:
            origin, unit = float(truth.mean()), float(truth.std())
        return replace(self, origin=origin, unit=unit or 1.0)

    def outputs(self, labels: Sequence[str]) -> int:
        return len(labels)

    def activate(self, outputs: Tensor) -> Tensor:
        return outputs * self.unit + self.origin

    def link(self, score: Tensor) -> Tensor:
        return (score - self.origin) / self.unit

    def bounded(self, score: Tensor) -> Tensor:
        return score

    def clear(self, score: Tensor) -> Tensor:
        return score

    def is_score(self, score: Scores) -> Truth:
        return np.asarray(np.isfinite(score).all(axis=1))

    def agreement(self, share: Tensor) -> tuple[Tensor, Tensor]:
        """How far, and how far squared, it lies from the middle of all."""
        distance = self.link(share).squeeze(1)
        return distance, distance.square()

    def of_songs(self, truth: Truth, first: NDArray[np.int64]) -> Truth:
        """The mean of a song's clips."""
        if not len(first):
            return truth[:0]
        clips = np.diff(np.append(first, len(truth)))[:, None]
        mean: Truth = np.add.reduceat(truth, first) / clips
        return mean

    def curvature(self, truth: Tensor) -> Tensor:
        return torch.full((truth.shape[1],), 2.0, device=truth.device)

    def target(self, truth: Tensor) -> Tensor:
        """[clips, 1] the number in the unit that networks learn."""
        return self.link(truth).float()

    def loss(self, outputs: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
        return F.mse_loss(outputs, target, reduction=reduction)

    def balance(self, truth: Tensor) -> Tensor:
        """1: numbers have no classes (`stages.head.checks` refuses the setting)."""
        return truth.new_ones(1)

    def weigh(self, balance: Tensor, target: Tensor) -> Tensor:
        return balance.expand_as(target)

    def decide(self, score: NDArray[np.float32], threshold: Floats | None = None) -> Prediction:
        """The score itself."""
        if threshold is not None:
            raise ValueError("no threshold decides on a number")
        return Prediction(score, score)

    def prior(self, truth: Truth) -> Floats:
        """[1] the mean, which has the least squared error."""
        mean: Floats = truth.mean(axis=0)
        return mean

    def baseline(self, truth: Truth, clips: int) -> Prediction:
        """The mean of the training clips."""
        return self.decide(np.full((clips, 1), self.prior(truth), dtype=np.float32))

    def tally(self, truth: Truth, chosen: Truth) -> Floats:
        """[clips, 5] one, the squared and the absolute error, the number and its square (from the mean of these)."""
        error = chosen[:, 0].astype(np.float64) - truth[:, 0]
        number = truth[:, 0] - truth[:, 0].mean() if len(truth) else truth[:, 0]
        return np.stack([np.ones_like(error), error**2, np.abs(error), number, number**2], axis=1)

    def totals(self, sums: Floats) -> dict[str, Floats]:
        """R2, RMSE and MAE; NaN where they are not defined."""
        count, squared, absolute, number, square = np.moveaxis(sums, -1, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = square - number**2 / count
            r2 = np.where(spread > metrics.LEAST_SPREAD * square, 1 - squared / spread, np.nan)
            return {"r2": r2, "rmse": np.sqrt(squared / count), "mae": absolute / count}


MULTI_LABEL, SINGLE_LABEL, REGRESSION = MultiLabel(), SingleLabel(), Regression()
TASKS: dict[str, Task] = {task.NAME: task for task in (MULTI_LABEL, SINGLE_LABEL, REGRESSION)}
METRICS = {metric.name: metric for task in TASKS.values() for metric in task.METRICS}


def task_of(truth: Truth) -> Task:
    """The task of a collection: multi-label where any of its clips carries more than one label."""
    return MULTI_LABEL if (truth.sum(axis=1) > 1).any() else SINGLE_LABEL


def task_judged_by(names: Container[str]) -> Task:
    """The task that metrics of these names judge; stored runs of earlier versions name no task, but have metrics."""
    return next((task for task in TASKS.values() if task.main.name in names), SINGLE_LABEL)
