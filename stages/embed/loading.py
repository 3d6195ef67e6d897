"""Clips as windows in memory: a table of clips, loaded batch by batch in worker processes (decode, parse)."""

from __future__ import annotations

import gc
import math
import mmap
import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import DataLoader

from stages import interrupts
from stages.embed.inputs import Clip, Input, remarks, song_file
from store.clips import Clips, blocks
from store.errors import ClipError, EncoreError, RequestError

Array = np.ndarray[Any, Any]
Failure = tuple[int, str, str]  # catalog row, kind, reason
Place = tuple[int, torch.dtype, tuple[int, ...]]  # which buffer, and what lies in it

_AHEAD = 2  # batches that each worker is asked for before they are needed
_BUFFER_BYTES = 64 * 2**20  # 16 clips of 30 s at 33 kHz; pages that nothing is written into take no memory


@dataclass
class LoadedBatch:
    """What a worker sends: the clips that it could load, with all their windows, and those that it could not.

    Attributes
    ----------
    rows : catalog rows of the clips that were loaded.
    counts : how many windows each of them has.
    windows : [sum of counts, ...], in the order of ``rows``; None if no clip could be loaded.
    failures : the clips that could not be loaded.
    """

    rows: list[int]
    counts: list[int]
    windows: torch.Tensor | None
    failures: list[Failure]
    notes: list[Failure] = field(default_factory=list)

    def __len__(self) -> int:
        """How many clips were to be loaded."""
        return len(self.rows) + len(self.failures)

    def pin_memory(self) -> LoadedBatch:
        if self.windows is not None:
            self.windows = self.windows.pin_memory()
        return self


class ClipTable:
    """The clips of a catalog as an input reads them; worker processes index it by lists of catalog rows.

    Raises
    ------
    RequestError
        if the catalog has no files of the kind that the input reads.
    """

    def __init__(self, catalog: Clips, reader: Input) -> None:
        self.catalog, self.reader = catalog, reader
        self.root = Path(catalog.info.data_root or ".").resolve()
        self.follow_links = catalog.info.follow_links
        _check_kind(catalog, reader)

    def __len__(self) -> int:
        return len(self.catalog)

    def path(self, row: int) -> str:
        """The file of catalog row ``row``, as the catalog names it."""
        return self._path(self._row(row))

    def _row(self, row: int) -> dict[str, Any]:
        values: dict[str, Any] = self.catalog.clips(row, row + 1).to_pylist()[0]
        return values

    def _path(self, values: dict[str, Any]) -> str:
        beside = values["midi_path"] if self.reader.KIND == "midi" else None
        return str(beside or values["path"])

    def clip(self, row: int) -> Clip:
        """The clip of catalog row ``row``; ClipError if its path may not be opened (`song_file`)."""
        values = self._row(row)
        return Clip(
            clip_id=values["clip_id"],
            path=song_file(self.root, self._path(values), follow_links=self.follow_links),
            start_s=values["start_s"],
            duration_s=values["duration_s"],
            source_row=values["source_row"] if self.reader.KIND == "features" else None,
        )

    def __getitem__(self, rows: Sequence[int]) -> LoadedBatch:
        readable: list[int] = []
        arrays: list[Array] = []
        failures: list[Failure] = []
        notes: list[Failure] = []
        for row in rows:
            try:
                with remarks() as collected:
                    arrays.append(self.reader.load(self.clip(row)))
                readable.append(row)
                notes += [(row, kind, reason) for kind, reason in collected]
            except (ClipError, OSError) as error:
                failures.append(failure(row, error))
        windows = torch.from_numpy(np.concatenate(arrays)) if arrays else None
        return LoadedBatch(readable, [len(array) for array in arrays], windows, failures, notes)


def failure(row: int, error: ClipError | OSError) -> Failure:
    """The record of a clip that could not be read."""
    if isinstance(error, ClipError):
        return row, error.kind, error.reason
    return row, "unreadable", error.strerror or str(error)  # the disk's fault: the next run tries again


def _check_kind(catalog: Clips, reader: Input) -> None:
    """RequestError where no row has a file of the kind that ``reader`` reads."""
    name, kind = catalog.info.name, reader.KIND
    without_row = sum(table.column("source_row").null_count for _, table in blocks(catalog))
    if kind == "features":
        if without_row:
            raise RequestError(f"{name} holds songs, not a table of features; name a backbone that reads songs")
        return
    if without_row < len(catalog):
        raise RequestError(f"{name} is a table of ready-made features; encode it by --backbone features")
    if kind == "midi":
        from stages.embed.inputs.midi import NOTE_SUFFIXES as SUFFIXES
    else:
        from stages.embed.inputs.audio import AUDIO_SUFFIXES as SUFFIXES
    paths = (path for _, table in blocks(catalog) for path in _paths(table, kind))
    first = next(paths, None)
    if first is not None and not any(Path(path).suffix.lower() in ("", *SUFFIXES) for path in chain([first], paths)):
        raise RequestError(f"{name} has no {kind} files (the first is {first}); name a backbone that reads what it has")


def _paths(table: pa.Table, kind: str) -> Iterator[str]:
    """The file of each row."""
    for path, beside in zip(table.column("path"), table.column("midi_path"), strict=True):
        yield (beside.as_py() if kind == "midi" else None) or path.as_py()


def load_windows(
    table: ClipTable, batches: Iterable[Sequence[int]], workers: int, *, pin: bool
) -> Iterator[LoadedBatch]:
    """`load_in_workers` of clips whose windows last until the next batch is asked for, and no longer.

    So workers can write them into the same few buffers again and again. A tensor for each batch is mapped, touched page
    by page and freed by this process, which takes a millisecond for each clip of 30 s.
    """
    if pin or not workers or multiprocessing.get_start_method() != "fork":
        yield from load_in_workers(table, batches, workers, pin=pin)
        return
    try:
        ring = _Ring(table, _AHEAD * workers + 1)  # one more is being read
    except (OSError, MemoryError):  # a limit on address space, say
        yield from load_in_workers(table, batches, workers, pin=pin)
        return
    for batch, place in load_in_workers(ring, enumerate(batches), workers, pin=False):
        if place is not None:
            batch.windows = ring.tensor(place)
        yield batch


class _Ring:
    """Buffers that processes forked from this one share with it; batch i lies in buffer i modulo their number."""

    def __init__(self, table: ClipTable, count: int) -> None:
        self.table = table
        self.buffers = [mmap.mmap(-1, _BUFFER_BYTES) for _ in range(count)]

    def __getitem__(self, numbered: tuple[int, Sequence[int]]) -> tuple[LoadedBatch, Place | None]:
        """Load a batch, in a worker; its windows stay where they are if they do not fit."""
        number, rows = numbered
        batch = self.table[rows]
        if batch.windows is None or batch.windows.nbytes > _BUFFER_BYTES:
            return batch, None
        place = number % len(self.buffers), batch.windows.dtype, tuple(batch.windows.shape)
        self.tensor(place).copy_(batch.windows)
        batch.windows = None
        return batch, place

    def tensor(self, place: Place) -> torch.Tensor:
        number, dtype, shape = place
        return torch.frombuffer(self.buffers[number], dtype=dtype, count=math.prod(shape)).view(shape)


def load_in_workers(table: Any, batches: Iterable[Any], workers: int, *, pin: bool) -> Iterator[Any]:
    """``table[batch]`` for each of ``batches``, in order, computed in ``workers`` processes (0: in this one).

    ``_AHEAD`` batches a worker are asked for ahead. No more processes are started than there are batches.

    Raises
    ------
    EncoreError
        if a worker process is killed or raises; of the same class as the worker's error if that is one.
    """
    batches = iter(batches)
    first = list(islice(batches, max(1, workers)))
    if not first:
        return iter(())
    workers = min(workers, len(first))
    loader: DataLoader[Any] = DataLoader(
        table,  # indexed by whole batches, which is why there is no batch_size
        sampler=chain(first, batches),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=_AHEAD if workers else None,
        worker_init_fn=_start_worker if workers else None,
        pin_memory=pin,
    )
    return _with_clear_errors(loader)


@contextmanager
def killed_workers_told() -> Iterator[None]:
    """Raise an EncoreError where a process that loads clips was killed.

    PyTorch raises its own from the handler of a signal, and so wherever this process is at that moment.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise EncoreError(
            "a process that loads clips was ended from outside (out of memory, or of /dev/shm?); what was "
            "committed is kept: run the same command again, with fewer --workers or a smaller --batch"
        ) from error


def _with_clear_errors(loader: DataLoader[Any]) -> Iterator[Any]:
    try:
        with killed_workers_told():
            with interrupts.deferred(), _garbage_kept():
                batches = iter(loader)  # starts the workers
            yield from batches
    except Exception as error:
        _, header, trace = str(error).rpartition("Traceback (most recent call last):\n")
        if not header:
            raise
        message = next((line for line in trace.splitlines() if not line.startswith(" ")), type(error).__name__)
        kind = type(error) if isinstance(error, EncoreError) else EncoreError
        raise kind(f"a process that loads clips failed: {message}") from error


@contextmanager
def _garbage_kept() -> Iterator[None]:
    """Keep processes that are forked in the block from collecting what this one has let go of.

    A forked process must not touch a GPU, and an event of one that it collects does: CUDA then ends the process.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _start_worker(_worker: int) -> None:
    """Leave Ctrl-C, and what a cluster says by signals, to the main process; keep decoders' messages off the screen.

    Decoders write those about damaged files straight to file descriptor 2; what matters comes back as a `ClipError`.
    """
    parent = multiprocessing.parent_process()
    if multiprocessing.get_start_method() == "fork" and parent is not None and os.getppid() != parent.pid:
        os._exit(1)  # killed meanwhile: PyTorch would take whoever adopted this process for it, and wait for ever
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)


def default_workers(device: torch.device) -> int:
    """How many processes load clips by default: all cores but one beside a GPU, half of them where the CPU encodes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(16, cores - 1 if device.type == "cuda" else cores // 2))
