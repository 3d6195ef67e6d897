"""Loading in worker processes: what ends them is told, and their windows come whole."""

from __future__ import annotations

import errno
import gc
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence

import pytest
import torch

from stages.embed import loading
from stages.embed.loading import ClipTable, LoadedBatch, load_in_workers, load_windows
from store.errors import EncoreError, RequestError


class Broken:
    """What its workers meet: an exception, or a signal."""

    def __init__(self, what: Exception | signal.Signals) -> None:
        self.what = what

    def __getitem__(self, batch: int) -> None:
        if isinstance(self.what, Exception):
            raise self.what
        os.kill(os.getpid(), self.what)


@pytest.mark.parametrize(
    ("what", "kind", "words"),
    [
        (
            RuntimeError("cannot cache function\n  'f'"),
            EncoreError,
            r"clips failed: RuntimeError: cannot cache function$",
        ),
        (ValueError("no such thing"), EncoreError, r"clips failed: ValueError: no such thing$"),
        (RequestError("ask otherwise"), RequestError, r"clips failed: .*RequestError: ask otherwise$"),
        (signal.SIGKILL, EncoreError, "ended from outside"),
    ],
)
def test_what_ends_a_worker_is_told(what: Exception | signal.Signals, kind: type[EncoreError], words: str) -> None:
    with pytest.raises(EncoreError, match=words) as error:
        list(load_in_workers(Broken(what), [1, 2], 1, pin=False))
    assert error.type is kind


def test_a_worker_that_was_orphaned_before_it_began_ends() -> None:
    read, write = os.pipe()
    parent = os.fork()
    if parent == 0:
        multiprocessing.get_context("fork").Process(target=_begin, args=(os.getpid(), write)).start()
        os._exit(0)
    os.close(write)
    os.waitpid(parent, 0)
    with open(read, "rb") as pipe:
        assert pipe.read() == b"begun"


def _begin(parent: int, write: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.01)
    os.write(write, b"begun")
    loading._start_worker(0)
    os.write(write, b", and waiting for ever")


class Collecting:
    """A table whose workers collect garbage; its numbers are the process ids of those that were finalised."""

    def __init__(self) -> None:
        self.finalised: list[int] = []

    def __getitem__(self, batch: int) -> list[int]:
        gc.collect()
        return self.finalised


class Cycle:
    """What only a collection of garbage lets go of."""

    def __init__(self, finalised: list[int]) -> None:
        self.itself, self.finalised = self, finalised

    def __del__(self) -> None:
        self.finalised.append(os.getpid())


def test_workers_do_not_collect_what_this_process_has_let_go_of() -> None:
    """It may be an event of a GPU, and CUDA ends a forked process that touches one."""
    table = Collecting()
    gc.disable()
    try:
        Cycle(table.finalised)
        assert list(load_in_workers(table, [0, 1], 2, pin=False)) == [[], []]
    finally:
        gc.enable()
    gc.collect()
    assert table.finalised == [os.getpid()]


class Counting(ClipTable):
    """Clips whose windows say which they are: as many of them as the row's number, modulo 4, in one of two types."""

    def __init__(self) -> None:
        pass

    def __getitem__(self, rows: Sequence[int]) -> LoadedBatch:
        counts = [row % 4 for row in rows]
        kind = torch.float32 if rows[0] % 2 else torch.int64
        windows = torch.repeat_interleave(torch.tensor(rows), torch.tensor(counts))[:, None].expand(-1, 1_000).to(kind)
        return LoadedBatch(list(rows), counts, windows if sum(counts) else None, [])


@pytest.mark.parametrize("size", [2**26, 20_000, 1])  # all batches fit into a buffer; some; none
@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine of two cores
def test_windows_come_through_shared_buffers_as_through_tensors(
    workers: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many more batches than buffers, of other sizes and types, one of them without a window."""
    monkeypatch.setattr(loading, "_BUFFER_BYTES", size)
    batches = [[row, row + 1] for row in range(25)] + [[4, 8]] + [[2, 3, 5]] * 9
    count = 0
    for batch, rows in zip(load_windows(Counting(), batches, workers, pin=False), batches, strict=True):
        expected = Counting()[rows]
        assert (batch.rows, batch.counts) == (expected.rows, expected.counts)
        if expected.windows is None:
            assert batch.windows is None
        else:
            assert batch.windows is not None
            assert batch.windows.dtype == expected.windows.dtype
            assert torch.equal(batch.windows, expected.windows)
        count += 1
    assert count == len(batches)


def test_without_room_for_buffers_windows_come_as_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: int) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(loading.mmap, "mmap", no_room)
    (batch,) = load_windows(Counting(), [[1]], 1, pin=False)
    assert batch.windows is not None
    assert batch.windows.shape == (1, 1_000)
