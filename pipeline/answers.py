"""What the functions of ``import encore`` return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.head.restore import RestoredHead


@dataclass(frozen=True)
class Collection:
    """One collection of a store.

    Attributes
    ----------
    clips : rows of its catalog, those of retired songs among them.
    representations : the complete ones, as ``<backbone>-<fingerprint>``.
    """

    name: str
    title: str
    clips: int
    synthetic: bool
    representations: tuple[str, ...]


@dataclass(frozen=True)
class Representation:
    """What a backbone made of the clips of a collection.

    Attributes
    ----------
    name : ``<backbone>-<fingerprint>``.
    rows : [clips] the catalog rows of the clips that are encoded and not retired, ascending.
    values : [clips, *shape] their numbers, as they are stored.
    """

    name: str
    rows: NDArray[np.int64]
    values: np.ndarray[Any, Any]


@dataclass(frozen=True)
class HeadScores:
    """Test scores of one head, by one of its rules (most heads have one, whose name is None).

    Attributes
    ----------
    metrics : metric -> mean over seeds and folds, a fraction in [0, 1] (of a number, R2, Spearman's correlation, and
        errors in its own unit); None where it is not defined.
    deviations : metric -> the deviation of these scores, divided by their number.
    train_seconds : over all seeds.
    path : the folder with checkpoint, scores and settings.
    """

    mode: str
    rule: str | None
    backbone: str | None
    regime: str
    seeds: int
    metrics: dict[str, float | None]
    deviations: dict[str, float | None]
    train_seconds: float
    path: str


@dataclass(frozen=True)
class TrainedHead:
    """A head that `train_head` or ``encore head`` left in a store, and what it was trained on.

    Attributes
    ----------
    representation : the folder of the representations that it reads; None if it reads none.
    labels : what the columns of its scores are.
    """

    dataset: str
    representation: str | None
    mode: str
    regime: str
    seed: int
    fold: int
    labels: tuple[str, ...]
    head: RestoredHead


@dataclass(frozen=True)
class Predictions:
    """What a head says of the clips of a collection.

    Attributes
    ----------
    rows : [clips] the catalog row of each clip.
    labels : what the columns are.
    scores : [clips, labels] in [0, 1]; of a number [clips, 1] in its own unit.
    chosen : [clips, labels] whether the head decides for the label; of a number the same as ``scores``.
    """

    rows: NDArray[np.int64]
    labels: tuple[str, ...]
    scores: NDArray[np.floating[Any]]
    chosen: NDArray[Any]
