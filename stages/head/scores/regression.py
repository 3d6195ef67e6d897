"""The task that estimates a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from stages.head.scores import metrics
from stages.head.scores.base import Floats, Scores, Task, Truth
from stages.head.scores.metrics import Metric
from stages.head.scores.prediction import Prediction


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

    def tally(self, truth: Truth, decision: Truth) -> Floats:
        """[clips, 5] one, the squared and the absolute error, the number and its square (from the mean of these)."""
        error = decision[:, 0].astype(np.float64) - truth[:, 0]
        number = truth[:, 0] - truth[:, 0].mean() if len(truth) else truth[:, 0]
        return np.stack([np.ones_like(error), error**2, np.abs(error), number, number**2], axis=1)

    def totals(self, sums: Floats) -> dict[str, Floats]:
        """R2, RMSE and MAE; NaN where they are not defined."""
        count, squared, absolute, number, square = np.moveaxis(sums, -1, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = square - number**2 / count
            r2 = np.where(spread > metrics.LEAST_SPREAD * square, 1 - squared / spread, np.nan)
            return {"r2": r2, "rmse": np.sqrt(squared / count), "mae": absolute / count}
