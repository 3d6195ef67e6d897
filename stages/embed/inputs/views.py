"""Stretches of a file as files of their own, which a decoder is given instead of it."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from store.errors import ClipError

MAX_LINKS = 1024  # recordings joined in one file


class View(io.RawIOBase):
    """A stretch of a file as a file of its own, with other bytes in front of it.

    Parameters
    ----------
    prefix : bytes that come first.
    start, end : the stretch of ``path`` that follows them.
    """

    def __init__(self, path: Path, prefix: bytes, start: int, end: int) -> None:
        super().__init__()
        self._file = path.open("rb", buffering=0)
        self._prefix, self._start, self._size = prefix, start, len(prefix) + end - start
        self._at = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer)
        if self._at < len(self._prefix):
            piece = self._prefix[self._at : self._at + len(target)]
        else:
            self._file.seek(self._start + self._at - len(self._prefix))
            piece = self._file.read(max(0, min(len(target), self._size - self._at)))
        target[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def close(self) -> None:
        self._file.close()
        super().close()


@dataclass(frozen=True)
class Layout:
    """How to read a file: the views to decode one behind the other, none where the file is to be read as it is.

    ``header_share`` is what the header claims over what is there, where it claims more (2.0: half of it is missing).
    """

    views: tuple[View, ...] = ()
    header_share: float = 1.0


def joined(path: Path, parts: list[tuple[bytes, int, int]], share: float = 1.0) -> Layout:
    """A view for each of ``parts``: prefix, start, end; none where the one part is the file as it is."""
    if len(parts) > MAX_LINKS:
        raise ClipError("outside", f"{len(parts):,} recordings joined in one file; {MAX_LINKS:,} are the most")
    if parts == [(b"", 0, path.stat().st_size)]:
        return Layout(header_share=share)
    return Layout(tuple(View(path, *part) for part in parts), share)
