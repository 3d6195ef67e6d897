"""How this process takes memory from the system."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of <malloc.h>


@functools.cache
def keep_freed_memory(largest: int = 1 << 30, *, for_threads: bool = False) -> None:
    """Let glibc give arrays memory that this process has used before, in place of new pages from the system.

    New pages are mapped and cleared one by one: of the time in which a processor encodes that was two fifths, and of a
    training step of 16 clips, which makes new gradients, a third where layers are 1,280 wide. The process keeps the
    most that it has needed.

    Parameters
    ----------
    largest : bytes of the largest arrays for which memory is kept; 32 times as much is, and 2 GiB at most.
    for_threads : for threads other than the first too; only at the beginning of a process. All share the first one's
        memory then, as that of others ends at 64 MiB.
    """
    if not sys.platform.startswith("linux"):
        return
    settings = {_MMAP_THRESHOLD: largest, _TRIM_THRESHOLD: min(32 * largest, (1 << 31) - 1)}
    with contextlib.suppress(AttributeError):  # of another C library
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in {**settings, **({_ARENA_MAX: 1} if for_threads else {})}.items():
            mallopt(option, value)
