"""The task of a collection: everything that depends on whether its clips carry one label or several.

A task decides what a network puts out, which loss it learns from, how scores become decisions, which metrics judge
them and how these are printed. Heads, the training loop and reports ask the task and never which one it is. A third
task (regression on numeric targets) is one more class here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Num
from numpy.typing import NDArray
from torch import Tensor

from stages.head.scores import metrics, thresholds
from stages.head.scores.metrics import Metric
from stages.head.scores.prediction import Prediction

Truth = NDArray[np.bool_]  # [clips, labels]; a regression's would be [clips, targets] numbers
Floats = NDArray[np.float64]
Scores = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Task(ABC):
    """What is asked of every clip of a collection.

    Class attributes
    ----------------
    NAME : how runs and JSON documents name it.
    TITLE : what a clip carries, in words.
    DECISION : how scores become a decision, in words.
    HAS_THRESHOLDS : whether thresholds decide.
    METRICS : what judges it; the first is the main metric, which early stopping watches and tables show first.
    """

    NAME: ClassVar[str]
    TITLE: ClassVar[str]
    DECISION: ClassVar[str]
    HAS_THRESHOLDS: ClassVar[bool]
    METRICS: ClassVar[tuple[Metric, ...]]

    @property
    def main(self) -> Metric:
        """The main metric."""
        return self.METRICS[0]

    # What a network learns.

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
    def target(self, truth: Bool[Tensor, "clips labels"]) -> Num[Tensor, "clips ..."]:
        """The truth as `loss` compares outputs with it."""

    @abstractmethod
    def loss(
        self, outputs: Float[Tensor, "batch outputs"], target: Num[Tensor, "batch ..."], reduction: str = "mean"
    ) -> Tensor:
        """What training minimises: the mean, or with ``reduction="none"`` each term, of the negative log likelihood."""

    @abstractmethod
    def balance(self, truth: Bool[Tensor, "train labels"]) -> Tensor:
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
    def total(self, sums: Floats) -> Floats:
        """[...] the main metric from sums of `tally` [..., sums] over any clips."""


class _Labels(Task):
    """What is common to the tasks that choose among labels."""

    def outputs(self, labels: Sequence[str]) -> int:
        return len(labels)

    def prior(self, truth: Truth) -> Floats:
        share: Floats = truth.mean(axis=0)
        return share

    def baseline(self, truth: Truth, clips: int) -> Prediction:
        """The label that most training clips carry."""
        share = self.prior(truth)
        chosen = np.zeros((clips, len(share)), dtype=bool)
        chosen[:, int(share.argmax())] = True
        return Prediction(np.broadcast_to(share.astype(np.float32), chosen.shape), chosen)

    def total(self, sums: Floats) -> Floats:
        """2 hits / (true + chosen): micro F1, which is accuracy where each clip has and gets one label."""
        total = sums[..., 1] + sums[..., 2]
        return np.divide(2 * sums[..., 0], total, out=np.zeros_like(total), where=total > 0)


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


MULTI_LABEL, SINGLE_LABEL = MultiLabel(), SingleLabel()
TASKS: dict[str, Task] = {task.NAME: task for task in (MULTI_LABEL, SINGLE_LABEL)}
METRICS = {metric.name: metric for task in TASKS.values() for metric in task.METRICS}


def task_of(truth: Truth) -> Task:
    """The task of a collection: multi-label where any of its clips carries more than one label."""
    return MULTI_LABEL if (truth.sum(axis=1) > 1).any() else SINGLE_LABEL


def task_judged_by(names: Container[str]) -> Task:
    """The task that metrics of these names judge; stored runs of earlier versions name no task, but have metrics."""
    return next((task for task in TASKS.values() if task.main.name in names), SINGLE_LABEL)
