"""Jobs side by side, each in a copy of this process with one thread.

Copies (fork) share what is in memory. Two threads on one small network were slower than one, and several seeds'
networks in one pass were 0.8 to 1.3 times as fast as one after another.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Generator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import torch
from threadpoolctl import threadpool_limits

from stages import interrupts, progress
from store.errors import EncoreError

_END_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)

Job = TypeVar("Job")
Done = TypeVar("Done")
Advance = Callable[[int], None]


def most_at_once() -> int:
    """How many jobs may run side by side: as many as torch would take threads (``OMP_NUM_THREADS`` says how many).

    1 where a process cannot be copied safely: a copy has everything in memory as it stands, but none of the threads,
    and only Linux promises that its libraries bear that.
    """
    return torch.get_num_threads() if sys.platform == "linux" else 1


def in_order(
    work: Callable[[Job, Advance], Done], jobs: Sequence[Job], at_once: int, advance: Advance
) -> Generator[Done, None, None]:
    """``work(job, advance)`` of each job, in the order of the jobs; up to ``at_once`` of them are under way at a time.

    What the work of a copy returns or raises goes through pickle. Copies end with this process and with the iteration.

    Raises
    ------
    EncoreError
        where a copy was ended from outside; and whatever the first job that failed raised.
    """
    if at_once < 2:
        for job in jobs:
            yield work(job, advance)
        return
    waiting, running, results = deque(enumerate(jobs)), dict[Connection, tuple[int, BaseProcess]](), dict[int, Done]()
    try:
        for number in range(len(jobs)):
            while number not in results:
                while waiting and len(running) < at_once:
                    following, job = waiting.popleft()
                    with interrupts.deferred():
                        pipe, process = _start(work, job, list(running))
                        running[pipe] = following, process
                ready = set(wait(list(running)))
                for pipe in [pipe for pipe in running if pipe in ready]:
                    kind, value = _receive(pipe)
                    if kind == "advance":
                        advance(value)
                    elif kind == "note":
                        progress.note(value)
                    elif kind == "failed":
                        raise value
                    else:
                        worker, process = running.pop(pipe)
                        results[worker] = value
                        process.join()
                        pipe.close()
            yield results.pop(number)
    finally:
        for _, process in running.values():
            process.terminate()
        for pipe, (_, process) in running.items():
            process.join()
            pipe.close()


def _start(
    work: Callable[[Job, Advance], Done], job: Job, others: Sequence[Connection]
) -> tuple[Connection, BaseProcess]:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work_apart, args=(work, job, theirs, [ours, *others], os.getpid()), daemon=True)
    process.start()
    theirs.close()
    return ours, process


def _work_apart(
    work: Callable[[Job, Advance], Done], job: Job, pipe: Connection, readers: Sequence[Connection], parent: int
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the first process, which ends its copies
    ctypes.CDLL(None).prctl(_END_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        return
    for end in readers:  # a pipe breaks when its last reader is gone, and these are the first process's to read
        end.close()
    torch.set_num_threads(1)
    # A copy has no other threads, and a library that counted on those it had would wait for them for ever.
    threadpool_limits(1)
    progress.relay(lambda text: pipe.send(("note", text)))
    try:
        pipe.send(("done", work(job, lambda n: pipe.send(("advance", n)))))
    except BrokenPipeError:  # the first process is gone
        return
    except Exception as error:
        error.add_note("".join(traceback.format_exception(error)))
        pipe.send(("failed", _picklable(error)))


def _picklable(error: Exception) -> Exception:
    """The error, or where it does not survive pickle one with the same text."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return EncoreError(f"{type(error).__name__}: {error}")
    return error


def _receive(pipe: Connection) -> tuple[str, Any]:
    try:
        message: tuple[str, Any] = pipe.recv()
    except (EOFError, OSError) as error:
        raise EncoreError(
            "a process that trains was ended from outside (out of memory?); what was finished is kept: run the same "
            "command again, with OMP_NUM_THREADS=1 it trains one network at a time"
        ) from error
    return message
