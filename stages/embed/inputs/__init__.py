"""From a file to the array that a backbone reads.

An input is a frozen dataclass: its fields decide the numbers and are part of the fingerprint. `Input.load`
runs in worker processes, one clip at a time (decode, parse, resample); what can be batched on the device
(spectrograms) belongs to the backbone's ``encode``.
"""

from __future__ import annotations

import os
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

    KIND: ClassVar[Kind]
    REVISION: ClassVar[int]

    def load(self, clip: Clip) -> np.ndarray[Any, Any]:
        """The clip as an array [windows, ...]: one window, or several whose representations are averaged.

        Raises
        ------
        ClipError
            where this clip cannot be read or holds nothing; the run goes on without it.
        """
        ...


def song_file(root: Path, relative: str) -> Path:
    """The file of a song, links followed, under its collection's (resolved) folder.

    ClipError where it leaves that folder, or is neither a file nor absent: a pipe would be waited for without end.
    """
    try:
        path = (root / relative).resolve()
    except RuntimeError as error:  # Python's word for links that lead in a circle
        raise ClipError("not-a-file", "is a link that leads back to itself") from error
    if not path.is_relative_to(root):
        raise ClipError("outside", f"{relative} leads out of {root}")
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise ClipError("not-a-file", "is a pipe, a socket or a device")
    return path


def draw(reader: Input, clip: Clip, count: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """``count`` windows of a clip for training: [count, ...].

    From random places, where the reader can cut them anywhere (it then has a method ``draw(clip, count, rng)``);
    otherwise some of those that `Input.load` gives, none twice where they suffice.
    """
    anywhere = getattr(reader, "draw", None)
    if anywhere is not None:
        drawn: np.ndarray[Any, Any] = anywhere(clip, count, rng)
        return drawn
    windows = reader.load(clip)
    return windows[rng.choice(len(windows), count, replace=len(windows) < count)]
