"""How far a training is: what a checkpoint keeps of it beside weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from stages.head.settings import Settings


@dataclass
class Progress:
    """How far a training is: after ``epoch``.

    ``kept`` holds the best epochs so far, the best of all first: ``epoch``, ``rank`` and the weights, ``network``.
    """

    epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    kept: list[dict[str, Any]] = field(default_factory=list)
    least_loss: float = float("inf")
    last_progress: int = 0
    seconds: float = 0.0

    def is_over(self, settings: Settings) -> bool:
        return self.epoch >= settings.epochs or self.epoch - self.last_progress >= settings.patience
