"""The loop of stage one: catalog x backbone -> representations in the store.

Worker processes load clips (decode, parse); this process encodes them on the device and commits shard after shard.
No batch crosses a shard, so a run that was interrupted and continued writes the same bytes as one that was not. Memory
holds one shard and a few batches, whatever the size of the collection.
"""

from __future__ import annotations

import gc
import os
import signal
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch.utils.data import DataLoader

from stages import interrupts
from stages.embed.backbones import Backbone
from stages.embed.inputs import Clip, Input, ffmpeg, remarks, song_file
from stages.embed.weights import denormals_flushed
from stages.progress import log, task
from store.arrays import fill_value
from store.errors import PASSING, ClipError, EncoreError, RequestError
from store.fingerprint import canonical, fingerprint
from store.layout import RepresentationName, Store
from store.schema import Catalog
from store.shards import Shard, ShardWriter
from store.words import plural
from store.writer import RepresentationWriter

Array = np.ndarray[Any, Any]
Failure = tuple[int, str, str]  # catalog row, kind, reason
# Commits shards, wherever, and says so of each in any order; calls its second argument with the clips that are done.
Runner = Callable[[Sequence[Shard], Callable[[int], None]], Iterator["Done"]]


@dataclass(frozen=True)
class Encoded:
    """What a run did.

    Attributes
    ----------
    name : of the representation.
    clips : how many clips it encoded.
    failures : the clips that it could not encode.
    complete : False while other processes still work on shards of the same representation.
    """

    name: RepresentationName
    clips: int
    failures: tuple[Failure, ...]
    complete: bool


def representation_name(backbone: Backbone, weights: str | None) -> RepresentationName:
    """The name under which the store keeps this backbone's numbers with these weights."""
    return RepresentationName(backbone.NAME, fingerprint(decides(backbone, weights)))


def decides(backbone: Backbone, weights: str | None) -> dict[str, Any]:
    """Everything that decides this backbone's numbers, in JSON types; its hash is the fingerprint."""
    settings = {
        "backbone": backbone.NAME,
        "revision": backbone.REVISION,
        "config": backbone.config,
        "inputs": backbone.input,
        "weights": weights,
    }
    if backbone.precision != "32":
        settings["precision"] = backbone.precision
    plain: dict[str, Any] = canonical(settings)
    return plain


def open_writer(
    store: Store, catalog: Catalog, backbone: Backbone, weights: str | None, damaged: Collection[int] = ()
) -> RepresentationWriter:
    """The writer of this representation, which knows the shards that are still to be encoded.

    Parameters
    ----------
    damaged : complete shards to be encoded again, and no others.
    """
    return RepresentationWriter(
        store,
        catalog,
        representation_name(backbone, weights),
        settings=decides(backbone, weights),
        shape=backbone.shape,
        dtype=backbone.dtype,
        damaged=damaged,
        has_passed=has_passed,
    )


def has_passed(kind: str, reason: str) -> bool:
    """Whether a clip that failed may be readable now."""
    return kind in PASSING or (kind == "not-supported" and ffmpeg.has_come(reason))


@dataclass(frozen=True)
class Done:
    """What is left to say of a committed shard.

    Attributes
    ----------
    index : of the shard.
    values : the hash of its numbers.
    clips : how many were to be encoded.
    failures : those of them that could not be.
    """

    index: int
    values: str
    clips: int
    failures: tuple[Failure, ...]


class Work:
    """Encodes shards of one representation, one after the other, and commits each.

    Doing a shard again, here or in another process, changes nothing. What another process needs in order to do the same
    is a `stages.embed.engines.Job`.

    Parameters
    ----------
    batch : how many clips are loaded, and encoded, at a time, with all their windows.
    strict : end with an error at the first clip that fails.

    Raises
    ------
    RequestError
        if the collection has no files of the kind that the backbone reads, or the device cannot run its precision.
    """

    def __init__(
        self,
        writer: ShardWriter,
        catalog: Catalog,
        backbone: Backbone,
        *,
        device: torch.device,
        batch: int,
        strict: bool = False,
    ) -> None:
        self.writer, self.backbone, self.device = writer, backbone, device
        self.batch, self.strict = batch, strict
        self.clips = ClipTable(catalog, backbone.input)
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)  # pinning memory would otherwise wake the first GPU too
        backbone.to(device)

    def run(
        self, shards: Iterable[Shard], *, workers: int, advance: Callable[[int], None] = lambda _clips: None
    ) -> Iterator[Done]:
        """Each of ``shards`` once it is committed, in order; ``shards`` is read a little ahead of what is encoded.

        Parameters
        ----------
        workers : how many processes load clips; with 0, this one does.
        advance : is called with the number of clips that were encoded or failed.

        Raises
        ------
        EncoreError
            if a worker process ends unexpectedly, a clip fails under ``strict``, or the disk is about to be full.
        """
        cuda = self.device.type == "cuda"
        begun: deque[Shard] = deque()

        def batches() -> Iterator[tuple[int, ...]]:
            for shard in shards:
                begun.append(shard)
                yield from (shard.rows[i : i + self.batch] for i in range(0, len(shard.rows), self.batch))

        loaded = load_in_workers(self.clips, batches(), workers, pin=cuda)
        encoded = encode_ahead(self.backbone, loaded, self.device, ahead=int(cuda))
        for batch in encoded:
            while not begun[0].rows:  # its songs are all retired: nothing of it is encoded, and it is committed
                yield self._commit(begun.popleft(), iter(()), advance)
            yield self._commit(begun.popleft(), chain([batch], encoded), advance)
        while begun:
            yield self._commit(begun.popleft(), iter(()), advance)

    def _commit(
        self,
        shard: Shard,
        encoded: Iterator[tuple[LoadedBatch, torch.Tensor | None]],
        advance: Callable[[int], None],
    ) -> Done:
        """Take a shard's batches from ``encoded``, and write it."""
        backbone, place = self.backbone, {row: i for i, row in enumerate(shard.rows)}
        values = np.full((len(place), *backbone.shape), fill_value(backbone.dtype), backbone.dtype)
        failures: list[Failure] = []
        notes: list[Failure] = []
        position = 0
        while position < len(place):
            batch, representations = next(encoded)
            rows, numbers, errors = _clips_of(backbone, batch, representations)
            values[[place[row] for row in rows]] = numbers
            failures += errors
            notes += batch.notes
            if self.strict and errors:
                row, kind, reason = errors[0]
                raise EncoreError(f"{self.clips.path(row)}: {kind}: {reason}")
            position += len(batch)
            advance(len(batch))
        failed = {row for row, _, _ in failures}
        self.writer.check_room(values.nbytes)
        record = self.writer.commit(shard, values, failures, [entry for entry in notes if entry[0] not in failed])
        return Done(shard.index, record.values, len(place), tuple(failures))


def encode(
    writer: RepresentationWriter,
    catalog: Catalog,
    backbone: Backbone,
    *,
    device: torch.device,
    batch: int,
    workers: int,
    strict: bool = False,
    part: tuple[int, int] = (1, 1),
) -> Encoded:
    """Encode every clip that the store does not have yet, in this process.

    Parameters
    ----------
    batch, strict : see `Work`.
    workers : how many processes load clips; with 0, this one does.
    part : (i, n), 1 <= i <= n: take every n-th shard, so that n processes on one store share the work.

    Raises
    ------
    RequestError, EncoreError
        see `Work`.
    """
    work = Work(writer, catalog, backbone, device=device, batch=batch, strict=strict)
    return collect(writer, lambda shards, advance: work.run(shards, workers=workers, advance=advance), part)


def collect(writer: RepresentationWriter, run: Runner, part: tuple[int, int] = (1, 1)) -> Encoded:
    """Have ``run`` commit every shard that the store does not have yet, and write the manifest once all are there."""
    share, parts = part
    shards = [shard for shard in writer.pending if shard.index % parts == share - 1]
    total = sum(len(shard.rows) for shard in shards)
    failures: list[Failure] = []
    if shards:
        writer.begin()
    with task(f"encoding {writer.dataset} by {writer.name.backbone}", total, "clips") as advance:
        for result in run(shards, advance):
            writer.take_over(result.index, result.values)
            failures += result.failures
            _log(writer, result)
    complete = writer.finish() is not None
    return Encoded(writer.name, total - len(failures), tuple(failures), complete)


def _log(writer: RepresentationWriter, result: Done) -> None:
    """Say in the log what of a shard was written, and what failed."""
    for row, kind, reason in result.failures:
        log(f"{writer.catalog.column('path')[row]}: {kind}: {reason}", "WARNING")
    encoded = plural(result.clips - len(result.failures), "clip")
    log(f"{writer.folder}: shard {result.index} is written, {encoded} of it encoded")


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

    def __init__(self, catalog: Catalog, reader: Input) -> None:
        self.reader = reader
        self.root = Path(catalog.info.data_root or ".").resolve()
        self.follow_links = catalog.info.follow_links
        self.paths = _paths(catalog, reader)
        self.clip_ids = catalog.column("clip_id").combine_chunks()
        self.start_s = catalog.column("start_s").to_numpy()
        self.duration_s = catalog.column("duration_s").to_numpy()
        self.source_row = catalog.column("source_row").combine_chunks() if reader.KIND == "features" else None

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, row: int) -> str:
        """The file of catalog row ``row``, as the catalog names it."""
        return str(self.paths[row])

    def clip(self, row: int) -> Clip:
        """The clip of catalog row ``row``; ClipError if its path may not be opened (`song_file`)."""
        path = song_file(self.root, self.path(row), follow_links=self.follow_links)
        start, duration = float(self.start_s[row]), float(self.duration_s[row])
        return Clip(
            clip_id=self.clip_ids[row].as_py(),
            path=path,
            start_s=None if np.isnan(start) else start,
            duration_s=None if np.isnan(duration) else duration,
            source_row=self.source_row[row].as_py() if self.source_row is not None else None,
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


def _paths(catalog: Catalog, reader: Input) -> pa.StringArray:
    """The file of each row. Python's own strings would take thrice the memory, once more in every worker process."""
    name, kind = catalog.info.name, reader.KIND
    paths = catalog.column("path").combine_chunks()
    if kind == "features":
        if catalog.column("source_row").null_count:
            raise RequestError(f"{name} holds songs, not a table of features; name a backbone that reads songs")
        return paths
    if catalog.column("source_row").null_count < len(catalog):
        raise RequestError(f"{name} is a table of ready-made features; encode it by --backbone features")
    if kind == "midi":
        from stages.embed.inputs.midi import NOTE_SUFFIXES as SUFFIXES

        midi = catalog.column("midi_path").combine_chunks()
        paths = pc.if_else(pc.fill_null(pc.greater(pc.binary_length(midi), 0), False), midi, paths)
    else:
        from stages.embed.inputs.audio import AUDIO_SUFFIXES as SUFFIXES
    if len(paths) and not any(Path(str(path)).suffix.lower() in ("", *SUFFIXES) for path in paths):
        raise RequestError(
            f"{name} has no {kind} files (the first is {paths[0]}); name a backbone that reads what it has"
        )
    return paths


def load_in_workers(table: Any, batches: Iterable[Any], workers: int, *, pin: bool) -> Iterator[Any]:
    """``table[batch]`` for each of ``batches``, in order, computed in ``workers`` processes (0: in this one).

    Two batches a worker are asked for ahead. No more processes are started than there are batches.

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
        prefetch_factor=2 if workers else None,
        worker_init_fn=_start_worker if workers else None,
        pin_memory=pin,
    )
    return _with_clear_errors(loader)


def _with_clear_errors(loader: DataLoader[Any]) -> Iterator[Any]:
    try:
        with interrupts.deferred(), _garbage_kept():
            batches = iter(loader)  # starts the workers
        yield from batches
    except Exception as error:
        text = str(error)
        if text.startswith("DataLoader worker"):  # how PyTorch reports one that was killed
            raise EncoreError(
                "a process that loads clips was ended from outside (out of memory, or of /dev/shm?); what was "
                "committed is kept: run the same command again, with fewer --workers or a smaller --batch"
            ) from error
        _, header, trace = text.rpartition("Traceback (most recent call last):\n")
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
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)


def represent(backbone: Backbone, windows: torch.Tensor) -> torch.Tensor:
    """`Backbone.encode` in the backbone's precision, without gradients and denormal numbers: [windows, *shape].

    Everything that encodes, in whichever process or thread, comes through here.
    """
    precision = torch.autocast(windows.device.type, torch.bfloat16, enabled=backbone.precision == "bf16")
    # By default cuDNN rounds float32 convolutions to TF32, and a clip's numbers would depend on its batch.
    no_tf32 = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with torch.inference_mode(), precision, no_tf32, denormals_flushed():
        return backbone.encode(windows)


def encode_ahead(
    backbone: Backbone, loaded: Iterable[LoadedBatch], device: torch.device, *, ahead: int
) -> Iterator[tuple[LoadedBatch, torch.Tensor | None]]:
    """Each batch with the representations of its windows in main memory, None if it has no windows.

    ``ahead`` more batches are queued on the device before the oldest is waited for: a GPU encodes the next batch, and
    copies its results, while this process stores the previous one.
    """
    queue: deque[tuple[LoadedBatch, Callable[[], torch.Tensor | None]]] = deque()
    for batch in loaded:
        queue.append((batch, _start(backbone, batch.windows, device)))
        if len(queue) > ahead:
            batch, wait = queue.popleft()
            yield batch, wait()
    for batch, wait in queue:
        yield batch, wait()


def _start(backbone: Backbone, windows: torch.Tensor | None, device: torch.device) -> Callable[[], torch.Tensor | None]:
    """Start encoding on the device; the function returned waits for the representations and returns them."""
    if windows is None:
        return lambda: None
    encoded = represent(backbone, windows.to(device, non_blocking=True))
    if device.type != "cuda":
        return encoded.cpu
    copy = encoded.to("cpu", non_blocking=True)  # into memory that torch pins, so that nothing waits here
    event = torch.cuda.current_stream(device).record_event()

    def wait() -> torch.Tensor:
        event.synchronize()
        return copy

    return wait


def _clips_of(
    backbone: Backbone, batch: LoadedBatch, encoded: torch.Tensor | None
) -> tuple[list[int], Array, list[Failure]]:
    """The rows of one batch, their representations [rows, *shape] in the dtype of the store, and the failures."""
    if encoded is None:
        return [], np.empty((0, *backbone.shape), backbone.dtype), batch.failures
    if encoded.dtype in (torch.bfloat16, torch.float16):  # numpy has no bfloat16, and sums in 16 bits lose digits
        encoded = encoded.float()
    numbers = encoded.numpy().reshape(len(encoded), *backbone.shape)
    counts = np.asarray(batch.counts)
    if len(numbers) > len(counts):
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        sums = np.add.reduceat(numbers.astype(np.float32), starts, axis=0)
        numbers = sums / counts.reshape(-1, *([1] * len(backbone.shape)))
    stored, fits = _as_stored(numbers, np.dtype(backbone.dtype))
    failures = batch.failures + [
        (row, "not-finite", f"{backbone.NAME} gave numbers that are not finite, or beyond what {backbone.dtype} holds")
        for row, fit in zip(batch.rows, fits.tolist(), strict=True)
        if not fit
    ]
    rows = [row for row, fit in zip(batch.rows, fits.tolist(), strict=True) if fit]
    return rows, stored[fits], failures


def _as_stored(numbers: Array, dtype: np.dtype[Any]) -> tuple[Array, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Numbers in the dtype of the store, and for each row whether all are finite and within its range: [rows].

    Integers are the nearest ones, the even one of two that are equally near.
    """
    if dtype.kind != "f" and numbers.dtype.kind == "f":
        numbers = np.rint(numbers)
    with np.errstate(over="ignore", invalid="ignore"):
        stored = numbers.astype(dtype)
    if dtype.kind == "f":
        fits = np.isfinite(stored)
    else:
        limits = np.iinfo(dtype)
        fits = (numbers >= limits.min) & (numbers < limits.max + 1)  # floats hold the powers of two exactly
    return stored, fits.reshape(len(numbers), -1).all(axis=1)


def default_batch(device: torch.device) -> int:
    """How many clips are loaded and encoded at once by default.

    16 clips of 30 s at 22,050 Hz are 42 MB, and a worker holds up to three such batches.
    """
    return 32 if device.type == "cuda" else 16


def default_workers(device: torch.device) -> int:
    """How many processes load clips by default: all cores but one beside a GPU, half of them where the CPU encodes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(16, cores - 1 if device.type == "cuda" else cores // 2))


def encode_loaded(
    backbone: Backbone, batch: LoadedBatch, device: torch.device
) -> tuple[list[int], Array, list[Failure]]:
    """As `encode_unstored`, one batch that is loaded: rows, their representations [rows, *shape], failures."""
    ((_, representations),) = encode_ahead(backbone, [batch], device, ahead=0)
    return _clips_of(backbone, batch, representations)


def encode_unstored(
    catalog: Catalog, backbone: Backbone, *, device: torch.device, batch: int, workers: int
) -> tuple[Array, list[Failure]]:
    """[rows, *shape] the representations of all clips of a catalog that is in no store, and those that failed.

    The rows of clips that failed hold no numbers of meaning. Parameters are those of `encode`.
    """
    clips = ClipTable(catalog, backbone.input)
    batches = [list(range(i, min(i + batch, len(clips)))) for i in range(0, len(clips), batch)]
    values = np.zeros((len(clips), *backbone.shape), backbone.dtype)
    failures: list[Failure] = []
    backbone.to(device)
    with task(f"encoding by {backbone.NAME}", len(clips), "clips") as advance:
        loaded = load_in_workers(clips, batches, workers, pin=device.type == "cuda")
        for loaded_batch, representations in encode_ahead(backbone, loaded, device, ahead=int(device.type == "cuda")):
            rows, numbers, errors = _clips_of(backbone, loaded_batch, representations)
            values[rows] = numbers
            failures += errors
            advance(len(loaded_batch))
    return values, failures
