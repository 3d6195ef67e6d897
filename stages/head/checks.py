"""What a collection must be before heads are trained on it, each with its message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stages.head.collection import Collection
from stages.head.heads import Head
from stages.head.options import Configs
from stages.head.settings import Settings
from stages.head.training.stretches import silent
from stages.progress import note
from store.errors import RequestError
from store.words import plural


def trainable(data: Collection, settings: Settings, configs: Configs, changes: Mapping[str, str]) -> list[type[Head]]:
    """The heads that can learn from a collection; what is left out or has no effect is noted.

    Parameters
    ----------
    configs : the heads, each with its own settings.
    changes : the settings that were named.

    Raises
    ------
    RequestError
        where nothing can be learned: a single label, no artist for heads that read artists alone, a threshold
        where each clip has exactly one label.
    """
    name = data.info.name
    if len(data.label_names) < 2:
        raise RequestError(
            f"every clip of {name} has the same label, {data.label_names[0]!r}: there is nothing to learn"
        )
    if settings.threshold != "fixed" and not data.task.HAS_THRESHOLDS:
        raise RequestError(f"{name} has {data.task.TITLE}, and {data.task.DECISION}: there is no threshold to tune")
    see = f" (why: encore store show {name})"
    for reason, count in data.left_out.items():
        if count:
            note(f"{plural(count, 'clip')} left out: {reason}{see if reason == 'failed' else ''}")
    if data.x is not None:
        note_silent(silent(data.x), data)
    chosen = [head for head in configs if not head.READS_ARTISTS or (data.artist >= 0).any()]
    lost = [head for head in configs if head not in chosen]
    if lost:
        verb, verbs = ("needs", "is left out") if len(lost) == 1 else ("need", "are left out")
        if not chosen:
            raise RequestError(f"no song of {name} has a known artist, which {_names(lost)} {verb}; try --mode song")
        note(f"no song of {name} has a known artist: {_names(lost)} {verbs}")
    notes = [text for head in chosen for key, text in head.notes(data, configs[head]).items() if key in changes]
    for text in dict.fromkeys(notes):
        note(text)
    return chosen


def note_silent(count: int, data: Collection) -> None:
    """Say how many representations are all zero."""
    if count:
        note(f"all zero: {count:,} of {plural(len(data), 'representation')}; heads cannot tell these clips apart")


def _names(heads: Sequence[type[Head]]) -> str:
    return ", ".join(head.NAME for head in heads)
