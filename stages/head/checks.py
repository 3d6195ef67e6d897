"""Checks of a collection before heads are trained on it; each failure has its message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from stages.head.collection import Collection
from stages.head.heads import Head
from stages.head.options import Configs
from stages.head.training.stretches import silent
from stages.progress import note
from store.errors import RequestError
from store.words import plural


def trainable(data: Collection, configs: Configs, changes: Mapping[str, str]) -> list[type[Head]]:
    """The heads that can learn from a collection; what is left out or has no effect is noted.

    Parameters
    ----------
    configs : the heads, each with its own settings.
    changes : the settings that the user named.

    Raises
    ------
    RequestError
        where nothing can be learned: a single label, a number that is constant, that is the label or among the
        features, no artist for heads that read artists alone, a threshold where no threshold decides.
    """
    name = data.info.name
    _check_labels(data, changes) if data.numbers is None else _check_numbers(data, changes)
    if changes.get("threshold", "fixed") != "fixed" and not data.task.HAS_THRESHOLDS:
        raise RequestError(f"{name} has {data.task.TITLE}, and {data.task.DECISION}: there is no threshold to tune")
    see = f" (why: encore store show {name})"
    for reason, count in data.left_out.items():
        if count:
            note(f"{plural(count, 'clip')} left out: {reason}{see if reason == 'failed' else ''}")
    if data.x is not None:
        note_silent(silent(data.x), data)
    heads = [head for head in configs if not head.READS_ARTISTS or (data.artist >= 0).any()]
    heads_left_out = [head for head in configs if head not in heads]
    if heads_left_out:
        verb, verbs = ("needs", "is left out") if len(heads_left_out) == 1 else ("need", "are left out")
        if not heads:
            raise RequestError(
                f"no song of {name} has a known artist, which {_names(heads_left_out)} {verb}; try --mode song"
            )
        note(f"no song of {name} has a known artist: {_names(heads_left_out)} {verbs}")
    notes = [text for head in heads for key, text in head.notes(data, configs[head]).items() if key in changes]
    for text in dict.fromkeys(notes):
        note(text)
    return heads


def _check_labels(data: Collection, changes: Mapping[str, str]) -> None:
    if len(data.label_names) < 2:
        raise RequestError(
            f"every clip of {data.info.name} has the same label, {data.label_names[0]!r}: there is nothing to learn"
        )
    for setting in ("undersample", "target_scale"):
        if setting in changes:
            raise RequestError(f"{setting} is for numbers; add --target NAME, or leave out --set {setting}")


def _check_numbers(data: Collection, changes: Mapping[str, str]) -> None:
    numbers, name = data.numbers, f"{data.target} of {data.info.name}"
    assert numbers is not None
    if (numbers == numbers[0]).all():
        raise RequestError(f"{name} is {numbers[0]:g} for every clip: there is nothing to learn")
    for setting, plain in (("class_weights", "none"), ("loss", "cross-entropy")):
        if changes.get(setting, plain) != plain:
            raise RequestError(
                f"{setting} is for labels, and {data.target} is a number; leave out --set {setting}. "
                f"Where many clips share a value, --set undersample=1 trains on fewer of these"
            )
    if _is_label(data):
        raise RequestError(f"{name} is each clip's label, written as a number; leave out --target, or name another")
    column = None if data.x is None else _column_of(data.x.numpy(), numbers)
    if column is not None:
        raise RequestError(
            f"number {column} of {data.backbone} is {data.target} itself: there is nothing to learn; leave it out of "
            f"the features, as --columns targets={data.target} does, and encode again"
        )


def _is_label(data: Collection) -> bool:
    """Whether the number that is asked for is the one label of every clip."""
    if (data.labels.sum(axis=1) != 1).any():
        return False
    try:
        of_labels = np.array([float(label) for label in data.label_names])
    except ValueError:
        return False
    return bool((of_labels[data.labels.argmax(axis=1)] == data.numbers).all())


def _column_of(x: NDArray[np.float32], numbers: NDArray[np.float64]) -> int | None:
    """The column of representations [clips, dim] that holds these numbers; None where none does."""
    same = np.flatnonzero(x[0] == np.float32(numbers[0]))  # most columns differ in the first clip
    equal = [int(column) for column in same if (x[:, column] == numbers.astype(np.float32)).all()]
    return equal[0] if equal else None


def note_silent(count: int, data: Collection) -> None:
    """Note how many representations are all zero."""
    if count:
        note(f"all zero: {count:,} of {plural(len(data), 'representation')}; heads cannot tell these clips apart")


def _names(heads: Sequence[type[Head]]) -> str:
    return ", ".join(head.NAME for head in heads)
