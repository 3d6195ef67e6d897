"""What a head predicts for clips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Prediction:
    """Scores and decisions for clips, both [clips, outputs].

    Of labels, ``score`` is in [0, 1] and ``decision`` is True for those that are chosen. Of a number, both are that
    number in its own unit. `stages.head.scores.task.Task.decide` makes a prediction from scores; heads with a rule of
    their own make it themselves.
    """

    score: NDArray[np.float32]
    decision: NDArray[Any]
