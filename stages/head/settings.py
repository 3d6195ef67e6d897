"""How a head is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from store.errors import RequestError

_MOST, _MOST_MEMBERS = 10**9, 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Everything that decides a training but data, split and seed.

    Attributes
    ----------
    hidden : width of the hidden layer (of each of its two halves in GraphSAGE); None for the representation's.
    dropout : on the hidden layer.
    learning_rate, decay : Adam's rate, and its factor from epoch to epoch.
    batch : clips a step.
    epochs, patience : at most so many epochs; stop after so many in which neither the validation metric reached a
        new best nor the validation loss fell further. The epoch with the best metric is kept.
    neighbours : drawn for each clip anew in every epoch; None for all.
    neighbours_inference : drawn once for scoring; None for all, exactly.
    drop_edge : share of edges that DropEdge removes at each step (used by the heads that drop edges).
    inductive : only training clips are neighbours, so that a clip is scored as one that came after the training.
    side : the column that `side-edges` joins clips by: ``album``, or one of the collection's numeric targets.
    index : how `knn` finds nearest clips: ``exact``, ``approximate``, or ``auto``, exact for all but large collections.
    standardise : shift and scale each number by the training part's mean and deviation.
    loss, gamma : cross entropy, or the focal loss with this ``gamma``; see `stages.head.training.losses`.
    class_weights : whether frequent and rare labels count for the same in the loss.
    members : networks trained on a split, each from weights and draws of its own; their mean score is the head's.
    threshold : the score from which on a label is chosen where clips carry several: 0.5, or tuned on the validation
        part, one for all labels or one for each; see `stages.head.scores.thresholds`. Early stopping watches 0.5.
    """

    hidden: int | None = 128
    dropout: float = 0.5
    learning_rate: float = 4e-3
    decay: float = 0.96
    batch: int = 512
    epochs: int = 100
    patience: int = 10
    neighbours: int | None = 8
    neighbours_inference: int | None = None
    drop_edge: float = 0.3
    inductive: bool = False
    side: str = "album"
    index: Literal["auto", "exact", "approximate"] = "auto"
    standardise: bool = True
    loss: Literal["cross-entropy", "focal"] = "cross-entropy"
    gamma: float = 2.0
    class_weights: Literal["none", "balanced"] = "none"
    members: int = 1
    threshold: Literal["fixed", "tuned", "per-label"] = "fixed"

    def __post_init__(self) -> None:
        counts = {
            "hidden": self.hidden,
            "batch": self.batch,
            "epochs": self.epochs,
            "patience": self.patience,
            "neighbours": self.neighbours,
            "neighbours_inference": self.neighbours_inference,
            "members": self.members,
        }
        for name, count in counts.items():
            if count is not None and count < 1:
                raise RequestError(f"{name} is {count}; it must be 1 or more")
            most = {"members": _MOST_MEMBERS, "hidden": None}.get(name, _MOST)  # a layer is bounded by memory
            if count is not None and most is not None and count > most:
                raise RequestError(f"{name} is {count}; it must be {most:,} at most")
        for name, share in (("dropout", self.dropout), ("drop_edge", self.drop_edge)):
            if not 0 <= share < 1:
                raise RequestError(f"{name} is {share}; it must be at least 0 and below 1")
        if not 0 < self.learning_rate < float("inf") or not 0 < self.decay <= 1:
            raise RequestError("learning_rate must be above 0, and decay above 0 and at most 1")
        if not 0 <= self.gamma < float("inf"):
            raise RequestError(f"gamma is {self.gamma}; it must be at least 0")
