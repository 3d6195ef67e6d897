"""Processes that read songs for a server: a song that kills its decoder, or keeps it busy for too long, harms no other.

Each thread of the pool has a process of its own and waits for it. The processes import neither torch nor a backbone.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

from store.errors import ClipError, EncoreError
from store.words import plural

_CONTEXT = multiprocessing.get_context("spawn")  # a fork would copy the locks of the server's threads
_END_S = 5.0


class Decoders:
    """A pool of processes that decode songs.

    Parameters
    ----------
    count : how many.
    limit_s : seconds that one call may take.
    """

    def __init__(self, count: int, limit_s: float) -> None:
        self._limit_s = limit_s
        self._own = threading.local()
        self._processes: set[_Process] = set()
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="decoder")
        for _ in range(count):
            self._threads.submit(self._process)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Call a function in one of the processes and return its result as a future.

        The future raises the EncoreError that the function raises, or a `ClipError` of kind ``damaged`` if the process
        died or took too long.
        """
        return self._threads.submit(self._call, function, arguments)

    def close(self) -> None:
        """End the processes without waiting for their work."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in list(self._processes):
            process.end()
        self._threads.shutdown(wait=True)

    def _process(self) -> _Process:
        process: _Process | None = getattr(self._own, "process", None)
        if process is None:
            process = self._own.process = _Process()
            self._processes.add(process)
        return process

    def _call(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        process = self._process()
        why = "the program that reads it came to an end over it"
        try:
            process.pipe.send((function, arguments))
            if process.pipe.poll(self._limit_s):
                is_result, value = _receive(process.pipe)
                if is_result:
                    return value
                raise value
            why = f"reading it took more than {plural(round(self._limit_s), 'second')}"
        except (EOFError, ConnectionError):
            pass
        process.end()
        self._processes.discard(process)
        self._own.process = None
        raise ClipError("damaged", why)


class _Process:
    def __init__(self) -> None:
        self.pipe, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_answer, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def end(self) -> None:
        self._process.kill()
        self._process.join(_END_S)


def _answer(pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's, which ends this process
    while True:
        try:
            function, arguments = pipe.recv()
        except (EOFError, OSError):
            os._exit(0)
        try:
            answer = True, function(*arguments)
        except EncoreError as error:
            answer = False, error
        except Exception as error:
            answer = False, RuntimeError(f"{type(error).__name__}: {error}")
        _send(pipe, answer)


def _send(pipe: Connection, value: Any) -> None:
    """`Connection.send`, which would copy arrays twice on their way; these go by themselves, behind the rest."""
    arrays: list[pickle.PickleBuffer] = []
    rest = pickle.dumps(value, protocol=5, buffer_callback=arrays.append)
    pipe.send((rest, len(arrays)))
    for array in arrays:
        pipe.send_bytes(array.raw())


def _receive(pipe: Connection) -> Any:
    """What `_send` sent; arrays cannot be written to."""
    rest, arrays = pipe.recv()
    return pickle.loads(rest, buffers=[pipe.recv_bytes() for _ in range(arrays)])
