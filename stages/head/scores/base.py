"""What a task decides; `stages.head.scores.task` lists them all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Num
from numpy.typing import NDArray
from torch import Tensor

from stages.head.scores import thresholds
from stages.head.scores.metrics import Metric
from stages.head.scores.prediction import Prediction

Truth = NDArray[Any]  # [clips, labels] bool, or a regression's [clips, 1] float64
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

    def thresholds(self, how: str, truth: Truth, score: Scores, expectation: float = 0.0) -> Floats | None:
        """[labels] the scores above which labels are chosen; None where no threshold decides.

        Parameters
        ----------
        how : a key of `stages.head.scores.thresholds.CHOICES`.
        truth, score : [clips, labels] of clips that are not tested on.
        expectation : as in `stages.head.scores.thresholds.find`.
        """
        return thresholds.find(how, truth, score, expectation) if self.HAS_THRESHOLDS else None

    @abstractmethod
    def decide(self, score: NDArray[np.float32], threshold: Floats | None = None) -> Prediction:
        """The decisions for ``score`` [clips, labels]; ``threshold`` is [labels] or [clips, labels], 0.5 by default."""

    @abstractmethod
    def prior(self, truth: Truth) -> Floats:
        """[labels] the best score for a clip of which nothing is known, from ``truth`` of the training clips."""

    @abstractmethod
    def baseline(self, truth: Truth, clips: int) -> Prediction:
        """What is predicted for so many clips of which nothing is known, from ``truth`` of the training clips."""

    # How it is judged.

    def evaluate(self, truth: Truth, decision: Truth, score: Scores | None = None) -> dict[str, float]:
        """Each metric by its name, NaN where these clips do not define it; without ``score`` those of decisions."""
        return {
            metric.name: metric.measure(truth, score if metric.ranks else decision)
            for metric in self.METRICS
            if not metric.ranks or score is not None
        }

    @abstractmethod
    def tally(self, truth: Truth, decision: Truth) -> Floats:
        """[clips, sums] numbers of each clip whose sums over clips give the main metric (`total`)."""

    @abstractmethod
    def totals(self, sums: Floats) -> dict[str, Floats]:
        """By name, [...] the metrics that sums of `tally` [..., sums] over any clips give; the main one among them."""

    def total(self, sums: Floats) -> Floats:
        """[...] the main metric from sums of `tally` [..., sums] over any clips."""
        return self.totals(sums)[self.main.name]
