"""What a collection and a request must be before heads are trained, each with its message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stages.head.collection import Collection
from stages.head.heads import OWN_SETTINGS, Head, TrainedHead
from stages.head.settings import Settings
from stages.head.training.stretches import silent
from stages.progress import note
from stages.splits.regimes import PARTS, Split
from store.errors import RequestError
from store.words import counted


def check_request(heads: Sequence[type[Head]], settings: Settings, changes: Mapping[str, str]) -> None:
    """Refuse settings that none of the heads, or not all of them, can have; ``changes`` are those that were named."""
    if settings.inductive:
        wrong = [head.NAME for head in heads if head.READS_NEIGHBOURS and not head.INDUCTIVE]
        if wrong:
            raise RequestError(
                f"{', '.join(wrong)} cannot be inductive; leave out --neighbours train, or name other modes"
            )
    verb = "does" if len(heads) == 1 else "do"
    for name in changes:
        # A hidden layer's settings are given to all modes alike, also to those that have none.
        if name in OWN_SETTINGS - TrainedHead.SETTINGS and not any(name in head.SETTINGS for head in heads):
            option = "--neighbours" if name == "neighbours" else f"--set {name}"
            raise RequestError(f"{_names(heads)} {verb} not read {name}; leave out {option}")
    if "gamma" in changes and settings.loss != "focal":
        raise RequestError("gamma is the focal loss's; add --set loss=focal, or leave out --set gamma")


def trainable(
    heads: Sequence[type[Head]], data: Collection, settings: Settings, changes: Mapping[str, str]
) -> list[type[Head]]:
    """The heads that can learn from a collection; what is left out or of no effect is noted.

    Raises
    ------
    RequestError
        where nothing can be learned: a single label, no artist for heads that read artists alone, a threshold
        where each clip has exactly one label.
    """
    name = data.info.name
    if len(data.labels) < 2:
        raise RequestError(f"every clip of {name} has the same label, {data.labels[0]!r}: there is nothing to learn")
    if settings.threshold != "fixed" and not data.task.HAS_THRESHOLDS:
        raise RequestError(f"{name} has {data.task.TITLE}, and {data.task.DECISION}: there is no threshold to tune")
    see = f" (why: encore store show {name})"
    for reason, count in data.left_out.items():
        if count:
            note(f"{counted(count, 'clip')} left out: {reason}{see if reason == 'failed' else ''}")
    if data.x is not None:
        note_silent(silent(data.x), data)
    chosen = [head for head in heads if not head.READS_ARTISTS or (data.artist >= 0).any()]
    lost = [head for head in heads if head not in chosen]
    if lost:
        verb, verbs = ("needs", "is left out") if len(lost) == 1 else ("need", "are left out")
        if not chosen:
            raise RequestError(f"no song of {name} has a known artist, which {_names(lost)} {verb}; try --mode song")
        note(f"no song of {name} has a known artist: {_names(lost)} {verbs}")
    most = data.graph.most if any("neighbours" in head.SETTINGS for head in chosen) else 0
    if "neighbours" in changes and settings.neighbours and 0 < most < settings.neighbours:
        note(
            f"no clip of {name} has more than {counted(most, 'other')} by its artist; "
            f"where there are fewer, all are taken"
        )
    return chosen


def note_silent(count: int, data: Collection) -> None:
    """Say how many representations are all zero."""
    if count:
        note(f"all zero: {count:,} of {counted(len(data), 'representation')}; heads cannot tell these clips apart")


def note_missing_labels(data: Collection, regime: str, splits: Sequence[Split]) -> None:
    """Say which labels no clip of a part carries; such a label cannot be learned there, or is in no macro score."""
    for which, name in enumerate(PARTS):
        missing = [[i for i, held in enumerate(data.targets[p == which].any(axis=0)) if not held] for p in splits]
        labels = sorted({i for of_split in missing for i in of_split})
        if labels:
            times = [sum(i in of_split for of_split in missing) for i in labels]
            of = f" in {times[0]} of {len(splits)} splits"
            each = [of, *(f" in {count}" for count in times[1:])] if len(splits) > 1 else [""] * len(labels)
            shown = ", ".join(data.labels[i] + where for i, where in zip(labels[:5], each, strict=False))
            more = ", ..." if len(labels) > 5 else ""
            them = "it" if len(labels) == 1 else "them"
            effect = f"nothing is learned of {them} there" if which == 0 else f"macro scores leave {them} out there"
            note(f"regime {regime}: no {name} clip carries {shown}{more}; {effect}")


def _names(heads: Sequence[type[Head]]) -> str:
    return ", ".join(head.NAME for head in heads)
