"""From a network's outputs to scores and decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def mean(scores: Sequence[NDArray[np.float32]], multi_label: bool) -> Prediction:
    """The mean of scores [clips, labels] of the same clips, and what it decides."""
    return decide(torch.from_numpy(np.mean(scores, axis=0, dtype=np.float32)), multi_label)


@dataclass(frozen=True)
class Prediction:
    """What a head says of clips: ``score`` [clips, labels] in [0, 1], ``chosen`` [clips, labels] bool."""

    score: NDArray[np.float32]
    chosen: NDArray[np.bool_]


def choose(logits: Tensor, multi_label: bool) -> Prediction:
    """Scores and decisions from logits [clips, labels]."""
    return decide(probabilities(logits, multi_label), multi_label)


def probabilities(logits: Tensor, multi_label: bool) -> Tensor:
    """The probability of each label [clips, labels]: each by itself where clips carry several, else one of all."""
    return torch.sigmoid(logits) if multi_label else torch.softmax(logits, dim=1)


def decide(score: Tensor, multi_label: bool) -> Prediction:
    """Every label above one half, or the one most likely label."""
    found = score.cpu().numpy()
    if multi_label:
        return Prediction(found, found > 0.5)
    chosen = np.zeros(found.shape, dtype=bool)
    chosen[np.arange(len(found)), found.argmax(axis=1)] = True
    return Prediction(found, chosen)
