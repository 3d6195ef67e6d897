"""Many threads' items, done in batches by one."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from stages.batching import Batcher
from tests import PATIENCE_S


def test_what_waits_meanwhile_is_the_next_batch() -> None:
    busy, go_on, batches = threading.Event(), threading.Event(), []

    def work(items: Sequence[int]) -> list[int]:
        batches.append(list(items))
        busy.set()
        assert go_on.wait(PATIENCE_S)
        return [-item for item in items]

    batcher = Batcher(work, 4)
    first = batcher.submit(0)
    assert busy.wait(PATIENCE_S)
    others = [batcher.submit(item) for item in range(1, 7)]
    go_on.set()
    assert [result.result(PATIENCE_S) for result in (first, *others)] == [0, -1, -2, -3, -4, -5, -6]
    assert batches == [[0], [1, 2, 3, 4], [5, 6]]
    batcher.close()
    assert (batcher.batches, batcher.items) == (3, 7)


def test_one_that_fails_harms_no_other() -> None:
    busy, go_on = threading.Event(), threading.Event()

    def work(items: Sequence[int]) -> list[int]:
        busy.set()
        assert go_on.wait(PATIENCE_S)
        return [1 // item for item in items]

    batcher = Batcher(work, 8)
    results = [batcher.submit(1)]
    assert busy.wait(PATIENCE_S)
    results += [batcher.submit(item) for item in (1, 0, 1)]
    go_on.set()
    assert [results[i].result(PATIENCE_S) for i in (0, 1, 3)] == [1, 1, 1]
    with pytest.raises(ZeroDivisionError):
        results[2].result(PATIENCE_S)
    batcher.close()


def test_what_was_submitted_is_finished_before_it_closes() -> None:
    batcher: Batcher[int, int] = Batcher(lambda items: [item + 1 for item in items], 3)
    results = [batcher.submit(item) for item in range(50)]
    batcher.close()
    assert [result.result(0) for result in results] == list(range(1, 51))
