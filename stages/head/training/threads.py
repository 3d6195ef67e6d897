"""How many threads a training takes, and what memory it keeps for itself."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

from stages.head.collection import Collection
from stages.head.settings import Settings

_MMAP_THRESHOLD, _TRIM_THRESHOLD = (-3, 2**25), (-1, 2**30)  # of mallopt(3): a parameter, and bytes


_ONE_THREAD_FLOPS = 1e9  # below so much work a step, other threads gain little, and lose much where cores are shared


@cache
def keep_freed_memory() -> None:
    """Have the C library keep for itself what is freed in pieces of at most 32 MiB.

    Each step makes new gradients. Memory that goes back to the system in between comes as empty pages, one by one: a
    third of a step of 16 clips where layers are 1,280 wide.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for parameter in (_MMAP_THRESHOLD, _TRIM_THRESHOLD):
            mallopt(*parameter)


def takes_one_thread(data: Collection, settings: Settings) -> bool:
    """Whether steps are so small that a second thread would only wait for the first: by the floating-point operations
    of one hidden layer and the output layer over a batch, forward and backward.
    """
    clips, hidden = min(settings.batch, len(data)), settings.hidden or data.dim
    return 6 * clips * hidden * (data.dim + len(data.labels)) < _ONE_THREAD_FLOPS


@contextmanager
def threads(data: Collection, settings: Settings) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1 if takes_one_thread(data, settings) else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
