"""Ctrl-C where it would be lost: in imports, in compiled code that drops exceptions, while processes are started."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_MOMENT_S = 0.05
_MOMENTS = 400  # a module that takes longer than that is not waited for
_IMPORTING = "<frozen importlib._bootstrap>"


class Interrupts:
    """A handler of Ctrl-C that raises KeyboardInterrupt, though not into an import: then it tries again a moment later.

    Inside the import of a compiled module, such as torch's, the exception is lost, becomes another one, or leaves
    behind a half-made module that crashes the process.
    """

    def __init__(self) -> None:
        self._moments = 0

    def __call__(self, _number: int, frame: FrameType | None) -> None:
        if self._moments < _MOMENTS and _is_import(frame):
            self._moments += 1
            come_again()
        else:
            self._moments = 0
            raise _Interrupt


class _Interrupt(KeyboardInterrupt):
    """One that comes again where compiled code drops it, as ``numpy.random.Generator.choice`` does with most.

    Then nobody added a frame to its traceback, which Python does before anyone can catch it. The next one comes between
    two instructions of Python's own, where compiled code cannot have it.
    """

    def __del__(self) -> None:
        if (self.__traceback__ is None or self.__traceback__.tb_next is None) and not sys.is_finalizing():
            _in_a_moment(_raise_between_instructions)


def _raise_between_instructions() -> None:
    """Raise KeyboardInterrupt in the main thread, from another one."""
    import ctypes

    thread = threading.main_thread().ident
    assert thread is not None
    if _is_import(sys._current_frames().get(thread)):
        _in_a_moment(_raise_between_instructions)
    else:
        error = ctypes.py_object(KeyboardInterrupt)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), error)


def come_again() -> None:
    """Have the main thread get a Ctrl-C that reached nobody once more, in a moment."""
    if hasattr(signal, "pthread_kill"):  # ends what the thread may be waiting for
        _in_a_moment(signal.pthread_kill, threading.main_thread().ident, signal.SIGINT)
    else:  # on Windows
        _in_a_moment(_thread.interrupt_main)


def _in_a_moment(function: Callable[..., object], *arguments: object) -> None:
    timer = threading.Timer(_MOMENT_S, function, arguments)
    timer.daemon = True
    timer.start()


def _is_import(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_filename != _IMPORTING:
        frame = frame.f_back
    return frame is not None


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
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # multiprocessing would start it later, and let the signal through again
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
