"""Measurements, side by side with peers: a module each, whose ``measure()`` gives {name: entry}; {} where what it
``WANTS`` is not here.

An entry is ``{ours, peer, ratio, target, unit, note}``; a ratio above 1 is better than the peer, whatever the unit.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def best_seconds(*works: Callable[[], Any], repeats: int = 3) -> list[float]:
    """The shortest of some runs of each, taken in turns: what other runs took longer, something else took from them."""
    best = [float("inf")] * len(works)
    for _ in range(repeats):
        for i, work in enumerate(works):
            started = time.perf_counter()
            work()
            best[i] = min(best[i], time.perf_counter() - started)
    return best


def median_seconds(
    *works: Callable[[], Any], repeats: int = 5, clock: Callable[[], float] = time.process_time
) -> list[float]:
    """The median of some runs of each, taken in turns.

    Where all run on one thread the processor's time, its clock on a machine that does nothing else, bears others.
    """
    times: list[list[float]] = [[] for _ in works]
    for _ in range(repeats):
        for work, seconds in zip(works, times, strict=True):
            started = clock()
            work()
            seconds.append(clock() - started)
    return [statistics.median(seconds) for seconds in times]


@contextmanager
def one_quiet_thread() -> Iterator[None]:
    """Inside, torch has one thread and no progress is shown."""
    import torch

    from stages.progress import be_quiet

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    be_quiet(True)
    try:
        yield
    finally:
        be_quiet(False)
        torch.set_num_threads(threads)


def processor_seconds() -> float:
    """The processor's time that this process and its ended children have had."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def peak_gib() -> float:
    """The most that this process has held; `getrusage` would count what its parent held before it started it."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 2**20


def entry(
    ours: float, peer: float, target: float | None, unit: str, note: str, *, less_is_better: bool = True
) -> dict[str, Any]:
    """One line of the report; ``target`` is the least ratio that is wanted."""
    ratio = peer / ours if less_is_better else ours / peer
    return {"ours": ours, "peer": peer, "ratio": ratio, "target": target, "unit": unit, "note": note}
