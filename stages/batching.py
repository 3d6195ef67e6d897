"""Work from many threads, done by one: whatever waits while it is busy is its next batch.

So a lone item never waits for company, and the busier it is, the larger its batches are.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """A thread that collects items into batches and works on these.

    Parameters
    ----------
    work : the results of some items, in their order. Where it raises, each of the items is tried alone, so that none
        suffers from another.
    most : items in a batch.

    Attributes
    ----------
    batches, items : how many were done.
    """

    def __init__(self, work: Callable[[Sequence[T]], Sequence[R]], most: int) -> None:
        self.batches = self.items = 0
        self._work, self._most = work, most
        self._queue: queue.SimpleQueue[tuple[T, Future[R]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def submit(self, item: T) -> Future[R]:
        """Add an item; the future of its result."""
        result: Future[R] = Future()
        self._queue.put((item, result))
        return result

    def close(self) -> None:
        """Finish what was submitted, and end."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (entry := self._queue.get()) is not None:
            batch = [entry]
            while len(batch) < self._most and not self._queue.empty():
                entry = self._queue.get()
                if entry is None:
                    self._queue.put(None)
                    break
                batch.append(entry)
            self._do([(item, result) for item, result in batch if result.set_running_or_notify_cancel()])

    def _do(self, batch: list[tuple[T, Future[R]]]) -> None:
        if not batch:
            return
        try:
            results = self._work([item for item, _ in batch])
        except Exception as error:
            if len(batch) > 1:
                for entry in batch:
                    self._do([entry])
            else:
                batch[0][1].set_exception(error)
            return
        self.batches += 1
        self.items += len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            future.set_result(result)
