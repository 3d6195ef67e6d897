"""Several networks as one: the mean of their scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from stages.head.heads import Prediction
from stages.head.train import decide


def network_seed(seed: int, member: int) -> int:
    """The seed of weights and draws of an ensemble's network; the first's is that of the split, others are spread."""
    return seed if member == 0 else int(np.random.SeedSequence([seed, member]).generate_state(1)[0])


def mean(scores: Sequence[NDArray[np.float32]], multi_label: bool) -> Prediction:
    """The mean of scores [clips, labels] of the same clips, and what it decides."""
    return decide(torch.from_numpy(np.mean(scores, axis=0, dtype=np.float32)), multi_label)
