"""Decoders write what they think of a damaged file straight to file descriptor 2; a `ClipError` says what matters."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

_STDERR = 2
_lock = threading.Lock()
_depth = 0  # how many threads decode now
_kept = -1  # what the descriptor stood for before the first of them


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Send what is written to file descriptor 2 nowhere meanwhile."""
    global _depth, _kept
    with _lock:
        if _depth == 0:
            _kept = _send_nowhere()
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0 and _kept >= 0:
                os.dup2(_kept, _STDERR)
                os.close(_kept)


def _send_nowhere() -> int:
    """A copy of the descriptor as it was; -1 where it is closed."""
    try:
        copy = os.dup(_STDERR)
    except OSError:
        return -1
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _STDERR)
    os.close(nowhere)
    return copy
