"""Ctrl-C while processes are started."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def deferred() -> Iterator[None]:
    """Keep a Ctrl-C until the end of the block, and raise it there.

    Python drops an exception that is raised in the hooks around ``fork``, so a Ctrl-C at that moment would be lost, or
    would end the new process alone. Outside of the main thread, which alone receives signals, nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _frame: signals.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if signals:
        signal.raise_signal(signal.SIGINT)


@contextmanager
def kept_from_children() -> Iterator[None]:
    """Keep Ctrl-C from the processes that start in the block, and from those that a thread started in it starts.

    A terminal sends it to every process of a command, and one that has just begun would answer with a traceback. This
    process gets it at the end of the block.
    """
    resource_tracker.ensure_running()  # multiprocessing would start it later, and let the signal through again
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
