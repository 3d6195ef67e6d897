"""The settings of a training, and what any setting says of itself: its bounds, and what a search may try."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from store.errors import RequestError

_MOST, _MOST_MEMBERS, _MOST_CHECKPOINTS = 10**9, 1000, 100


@dataclass(frozen=True)
class Choices:
    """A search tries one of these values, or the default."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Between:
    """A search tries any number from ``low`` to ``high``."""

    low: float
    high: float


@dataclass(frozen=True)
class Around:
    """A search tries numbers between the default divided by ``factor`` and multiplied by it, on a logarithmic scale."""

    factor: float


Search = Choices | Between | Around


def setting(
    default: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    search: Search | None = None,
    tune: tuple[Any, ...] | None = None,
) -> Any:
    """A field of a configuration, its bounds (None is always within them), and what a search may try.

    ``tune`` has the values that ``--tune quick`` tries beside the default, maybe none; ``full`` tries the choices of
    ``search``. None for a setting that is never tuned, as whatever decides what a head gathers for its network.
    """
    metadata = {"least": least, "above": above, "most": most, "below": below, "search": search, "tune": tune}
    return dataclasses.field(default=default, metadata=metadata)


class Checked:
    """Base of a configuration, a frozen dataclass: RequestError for a value outside the bounds of its field."""

    __slots__ = ()

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value, bounds = getattr(self, field.name), field.metadata
            if isinstance(value, int | float) and not _is_within(value, bounds):
                raise RequestError(f"{field.name} is {value}; it must be {_words(bounds)}")


def _is_within(value: float, bounds: Mapping[str, Any]) -> bool:
    least, above, most, below = (bounds.get(name) for name in ("least", "above", "most", "below"))
    return (
        (isinstance(value, int) or math.isfinite(value))
        and (least is None or value >= least)
        and (above is None or value > above)
        and (most is None or value <= most)
        and (below is None or value < below)
    )


def _words(bounds: Mapping[str, Any]) -> str:
    words = {"least": "at least", "above": "above", "below": "below", "most": "at most"}
    limits = [f"{text} {bounds[name]:,}" for name, text in words.items() if bounds.get(name) is not None]
    return " and ".join(limits) or "a finite number"


@dataclass(frozen=True, kw_only=True, slots=True)
class NoSettings(Checked):
    """The configuration of a head that has nothing to set."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings(Checked):
    """How networks are trained, whatever the head; what only heads read stands in each head's ``Config``.

    Attributes
    ----------
    learning_rate, decay : Adam's rate, and its factor from epoch to epoch.
    weight_decay : every step takes this share of each weight, times the rate (AdamW); biases are left alone.
    batch : clips a step.
    steps : of an epoch at least: on a small collection an epoch is several passes over the training clips, so that the
        rate's decay and the patience do not end a training of few steps early.
    epochs, patience : at most so many epochs; stop after so many in which neither the validation metric reached a
        new best nor the validation loss fell further. The epoch with the best metric is kept.
    standardise : shift and scale each number by the training part's mean and deviation.
    loss, gamma : cross entropy, or the focal loss with this ``gamma``; see `stages.head.training.losses`.
    class_weights : whether frequent and rare labels count for the same in the loss.
    members : networks trained on a split, each from weights and draws of its own; their mean score is the head's.
    checkpoints : of one training, the epochs with the best validation metric whose mean score is the head's. One for
        the best alone; a head that is solved has but one.
    target_scale : how a network learns a number: in deviations from the mean of the training clips, or with their range
        from -0.5 to 0.5. Scores are in the number's own unit either way.
    undersample : where numbers crowd, train on some of the clips only: at most this many times the mean number of clips
        in a twentieth of the range; see `stages.head.training.losses.crowd_out`. None for all.
    tune : whether weight decay (``quick``), or also a hidden layer's width (``full``), is chosen for each split before
        the training; see `stages.head.tune`.
    threshold : the score from which on a label is chosen where clips carry several: 0.5, or tuned on the validation
        part, one for all labels or one for each; see `stages.head.scores.thresholds`. Early stopping decides likewise.
    """

    learning_rate: float = setting(4e-3, above=0, search=Around(20.0))
    decay: float = setting(0.96, above=0, most=1, search=Between(0.85, 1.0))
    weight_decay: float = setting(0.0, least=0, below=100, search=Choices((0.0, 0.1, 0.3, 1.0, 3.0)), tune=(0.3, 3.0))
    batch: int = setting(512, least=1, most=_MOST, search=Choices((16, 64, 128, 256, 512, 1024)))
    steps: int = setting(24, least=1, most=_MOST)
    epochs: int = setting(100, least=1, most=_MOST)
    patience: int = setting(10, least=1, most=_MOST)
    standardise: bool = True
    loss: Literal["cross-entropy", "focal"] = "cross-entropy"
    gamma: float = setting(2.0, least=0)
    class_weights: Literal["none", "balanced"] = "none"
    checkpoints: int = setting(1, least=1, most=_MOST_CHECKPOINTS)
    target_scale: Literal["deviation", "range"] = "deviation"
    undersample: float | None = setting(None, above=0)
    members: int = setting(1, least=1, most=_MOST_MEMBERS)
    tune: Literal["off", "quick", "full"] = "off"
    threshold: Literal["fixed", "tuned", "per-label"] = "tuned"


def keys(config: Any) -> list[str]:
    """The names of a configuration's settings, of the class or of an instance."""
    return [field.name for field in dataclasses.fields(config)]
