"""The tasks that choose among labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from stages.head.scores import metrics, thresholds
from stages.head.scores.base import Floats, Scores, Task, Truth
from stages.head.scores.prediction import Prediction

_LEAST = 1e-4  # probabilities are kept this far from 0 and 1 where their logarithm is taken
_ROUNDING = 1e-4  # that scores may lie outside of [0, 1]


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
        """The largest of the shares [clips, labels], and their entropy: [clips] each."""
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
        decision = np.zeros((clips, len(share)), dtype=bool)
        decision[:, int(share.argmax())] = True
        return Prediction(np.broadcast_to(share.astype(np.float32), decision.shape), decision)

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
        """Every label whose score is above its threshold, of which each clip may have its own."""
        limit = np.full(score.shape[1], thresholds.FIXED) if threshold is None else threshold
        return Prediction(score, thresholds.above(score, limit))

    def tally(self, truth: Truth, decision: Truth) -> Floats:
        """[clips, 3] hits, true labels, chosen labels."""
        return np.stack([a.sum(axis=1) for a in (truth & decision, truth, decision)], axis=1).astype(np.float64)


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
        """[clips] the index of the label."""
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
        decision = np.zeros(score.shape, dtype=bool)
        decision[np.arange(len(score)), score.argmax(axis=1)] = True
        return Prediction(score, decision)

    def tally(self, truth: Truth, decision: Truth) -> Floats:
        """[clips, 3] whether the decision is right, 1 and 1."""
        hits = (truth == decision).all(axis=1)
        return np.stack([hits, *np.ones((2, len(hits)))], axis=1).astype(np.float64)
