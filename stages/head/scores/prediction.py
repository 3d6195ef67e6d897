"""What a head predicts for clips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Prediction:
    """Predictions for clips: ``score`` [clips, labels] in [0, 1] and ``chosen`` [clips, labels], the labels decided on.

    `stages.head.scores.task.Task.decide` makes one from scores; heads with a rule of their own make it themselves.
    """

    score: NDArray[np.float32]
    chosen: NDArray[np.bool_]
