"""Ctrl-C where it would be lost: in imports, in code that drops exceptions, while processes are started."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

_MOMENT_S = 0.01
_MOMENTS = 2_000  # a module that takes longer than that is not waited for
_DROPS = 2  # of one Ctrl-C, after which it is raised further out each time
_PATIENCE_S = 0.5  # for a line there
_IMPORTING = "<frozen importlib._bootstrap>"


class Interrupts:
    """A handler of Ctrl-C that raises KeyboardInterrupt until one has stopped the command.

    Inside the import of a compiled module, such as torch's, the exception is lost, becomes another one, or leaves
    behind a half-made module that crashes the process: there the handler tries again a moment later. Where it is
    dropped again and again, as in a loop that spends its time in what compiled code calls, it is raised further and
    further out, but in functions that the block has called. That ends a debugger's tracing until the block is over.

    Parameters
    ----------
    block : the frame of the block in which it is raised.
    """

    def __init__(self, block: FrameType | None = None) -> None:
        self._block = block
        self.is_over = False  # the command ends, and takes no more
        self.was_dropped = False  # one is to come again
        self.drops = 0
        self._moments = 0
        self._armed: list[tuple[FrameType, Any]] = []
        self._tracing = sys.gettrace()
        self._patience: threading.Timer | None = None

    def __call__(self, _number: int, frame: FrameType | None) -> None:
        if self.is_over:
            return
        if self._moments < _MOMENTS and _is_import(frame):
            self._moments += 1
            _come_again()
        else:
            self._moments, self.was_dropped = 0, False
            armed = bool(self._armed)
            self.disarm()
            # Where no line has come, the frame that is at work may do.
            frames = [] if self.drops <= _DROPS or armed else self._called(frame)
            if not frames:
                raise _Interrupt(self)
            self._raise_outside(frames)

    def _called(self, frame: FrameType | None) -> list[FrameType]:
        """The frames that were called from the block, the innermost first."""
        frames = []
        while frame is not None and frame is not self._block:
            frames.append(frame)
            frame = frame.f_back
        return frames if frame is not None else []

    def _raise_outside(self, frames: Sequence[FrameType]) -> None:
        """Raise at the next line of a frame further out than the last time, or of one around it."""
        self._armed = [(each, each.f_trace) for each in frames[(self.drops - _DROPS) % len(frames) :]]

        def trace(*_: object) -> None:
            self.disarm()
            self.was_dropped = False
            raise _Interrupt(self)

        for each, _ in self._armed:
            each.f_trace = trace
        sys.settrace(lambda *_: None)
        self.was_dropped = True
        self._patience = _come_again(_PATIENCE_S)

    def disarm(self) -> None:
        """Raise at no next line."""
        if self._armed:
            for frame, before in self._armed:
                frame.f_trace = before
            self._armed = []
            sys.settrace(None)
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def stops(self, error: BaseException) -> bool:
        """Whether an error is a Ctrl-C, was raised while one was handled, or in place of one. Then the command ends."""
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, _Interrupt):
            cause = cause.__context__
        if cause is not None:
            cause.has_stopped = True
        self.is_over = self.is_over or cause is not None or self.was_dropped
        self.disarm()
        return self.is_over

    def check(self) -> None:
        """Raise a Ctrl-C that is still to come again."""
        if self.was_dropped:
            self.disarm()
            raise _Interrupt(self)

    def end(self) -> None:
        """Take no more, and have a debugger go on."""
        self.is_over, self._block = True, None
        self.disarm()
        if self._tracing is not None:
            sys.settrace(self._tracing)


class _Interrupt(KeyboardInterrupt):
    """One that comes again if it ends before it has stopped the command.

    Compiled code such as ``numpy.random.Generator.choice`` drops exceptions or raises others in their place, and
    destructors and the callbacks of weak references drop them. One that somebody keeps does not come again.
    """

    def __init__(self, handler: Interrupts) -> None:
        super().__init__()
        self.handler, self.has_stopped = handler, False

    def __del__(self) -> None:
        if not self.has_stopped and not sys.is_finalizing():
            self.handler.drops, self.handler.was_dropped = self.handler.drops + 1, True
            _come_again()


@contextmanager
def raised() -> Iterator[Interrupts]:
    """Raise KeyboardInterrupt for a Ctrl-C in the block; where Ctrl-C is ignored on purpose, it stays so."""
    # The caller's frame lies behind this one's and that of `contextmanager`.
    handler, before = Interrupts(sys._getframe(2)), signal.getsignal(signal.SIGINT)
    if callable(before):
        signal.signal(signal.SIGINT, handler)
    try:
        yield handler
    finally:
        handler.end()
        if callable(before):
            signal.signal(signal.SIGINT, before)


@contextmanager
def kept_from_arrow() -> Iterator[None]:
    """Keep Ctrl-C from Arrow while it reads text: its own handler loses one that comes near the end."""
    import pyarrow as pa

    pa.enable_signal_handlers(False)
    try:
        yield
    finally:
        pa.enable_signal_handlers(True)


def _come_again(seconds: float = _MOMENT_S) -> threading.Timer:
    """Have the main thread get a Ctrl-C that reached nobody once more, in a moment."""
    if hasattr(signal, "pthread_kill"):  # ends what the thread may be waiting for
        timer = threading.Timer(seconds, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    else:  # on Windows
        timer = threading.Timer(seconds, _thread.interrupt_main)
    timer.daemon = True
    timer.start()
    return timer


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
