"""From a file to the array that a backbone reads.

An input is a frozen dataclass: its fields decide the numbers and are part of the fingerprint. `Input.load`
runs in worker processes, one clip at a time (decode, parse, resample); what can be batched on the device
(spectrograms) belongs to the backbone's ``encode``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from store.errors import ClipError

Kind = Literal["audio", "midi", "features"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """Where one clip's data lies.

    ``path`` is absolute. ``start_s`` and ``duration_s`` (seconds) give the stretch; None means from the start
    and to the end. ``source_row`` is the row (from 0) of a table of features.
    """

    clip_id: str
    path: Path
    start_s: float | None = None
    duration_s: float | None = None
    source_row: int | None = None


class Input(Protocol):
    """What a backbone wants to be given.

    Class attributes
    ----------------
    KIND : what the files hold.
    REVISION : raise it by one when the code gives other numbers for the same settings; it is part of the fingerprint.
    """

    REVISION: ClassVar[int]

    @property
    def KIND(self) -> Kind:  # noqa: N802 - a class attribute of most readers
        ...

    def load(self, clip: Clip) -> np.ndarray[Any, Any]:
        """The clip as an array [windows, ...]: one window, or several whose representations are averaged.

        Raises
        ------
        ClipError
            where this clip cannot be read or holds nothing; the run goes on without it.
        """
        ...


Remark = tuple[str, str]  # kind and reason, as of a ClipError, of a clip that is encoded nevertheless

_remarks: ContextVar[list[Remark] | None] = ContextVar("remarks", default=None)


def remark(kind: str, reason: str) -> None:
    """Note something about the clip that is being loaded; `remarks` collects it."""
    collected = _remarks.get()
    if collected is not None:
        collected.append((kind, reason))


@contextmanager
def remarks() -> Iterator[list[Remark]]:
    """The remarks that readers make within this context."""
    collected: list[Remark] = []
    token = _remarks.set(collected)
    try:
        yield collected
    finally:
        _remarks.reset(token)


def song_file(root: Path, relative: str, *, follow_links: bool = False) -> Path:
    """The file of a song under its collection's (resolved) folder, with links followed.

    Raises
    ------
    ClipError
        ``outside`` where the path leaves the folder, ``not-followed`` where a link does and ``follow_links`` is not
        set, ``not-a-file`` for a folder, a pipe (which would be waited for without end), a device, a link to itself
        or to nothing.
    """
    if os.path.normpath(relative).split(os.sep)[0] == ".." or os.path.isabs(relative):
        raise ClipError("outside", f"{relative} leads out of {root}")
    try:
        path = (root / relative).resolve()
    except RuntimeError as error:  # Python's word for links that lead in a circle
        raise ClipError("not-a-file", "is a link that leads back to itself") from error
    except ValueError as error:  # no path can hold a zero byte
        raise ClipError("missing", str(error)) from error
    if not follow_links and not path.is_relative_to(root):
        raise ClipError("not-followed", f"is a link out of {root}; --follow-links follows it")
    if path.is_dir():
        raise ClipError("not-a-file", "is a folder")
    if path.exists() and not path.is_file():
        raise ClipError("not-a-file", "is a pipe, a socket or a device")
    if not path.exists() and (root / relative).is_symlink():
        raise ClipError("not-a-file", "is a link to a file that is not there")
    return path


def draw(reader: Input, clip: Clip, count: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """``count`` windows of a clip for training: [count, ...].

    From random places, where the reader can cut them anywhere (it then has a method ``draw(clip, count, rng)``);
    otherwise some of those that `Input.load` gives, none twice where they suffice.
    """
    anywhere = getattr(reader, "draw", None)
    if anywhere is not None:
        sample: np.ndarray[Any, Any] = anywhere(clip, count, rng)
        return sample
    windows = reader.load(clip)
    return windows[rng.choice(len(windows), count, replace=len(windows) < count)]
