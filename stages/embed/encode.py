"""The loop of stage one: catalog x backbone -> representations in the store.

Worker processes load clips (decode, parse); this process encodes them on the device and commits shard after shard.
No batch crosses a shard, so a run that was interrupted and continued writes the same bytes as one that was not. Memory
holds one shard and a few batches, whatever the size of the collection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch

from stages.embed.backbones import Backbone
from stages.embed.inputs import ffmpeg
from stages.embed.loading import ClipTable, Failure, LoadedBatch, killed_workers_told, load_windows
from stages.embed.represent import clips_of, encode_ahead
from stages.progress import log, task
from store.arrays import fill_value
from store.clips import Clips
from store.errors import PASSING, EncoreError
from store.fingerprint import canonical, fingerprint
from store.layout import RepresentationName, Store
from store.shards import Shard, ShardWriter
from store.words import plural
from store.writer import RepresentationWriter

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
    if backbone.dtype == "float16":  # asked for; no backbone gives it by itself
        settings["dtype"] = backbone.dtype
    plain: dict[str, Any] = canonical(settings)
    return plain


def open_writer(
    store: Store, catalog: Clips, backbone: Backbone, weights: str | None, damaged: Collection[int] = ()
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
    return kind in PASSING or (kind == "not-supported" and ffmpeg.is_there_now(reason))


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
        catalog: Clips,
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
        pending: deque[Shard] = deque()

        def batches() -> Iterator[Sequence[int]]:
            for shard in shards:
                pending.append(shard)
                yield from (shard.rows[i : i + self.batch] for i in range(0, len(shard.rows), self.batch))

        batches_in_memory = load_windows(self.clips, batches(), workers, pin=cuda)
        encoded = encode_ahead(self.backbone, batches_in_memory, self.device, ahead=int(cuda))
        for batch in encoded:
            while not pending[0].rows:  # its songs are all retired: nothing of it is encoded, and it is committed
                yield self._commit(pending.popleft(), iter(()), advance)
            yield self._commit(pending.popleft(), chain([batch], encoded), advance)
        while pending:
            yield self._commit(pending.popleft(), iter(()), advance)

    def _commit(
        self,
        shard: Shard,
        stream: Iterator[tuple[LoadedBatch, torch.Tensor | None]],
        advance: Callable[[int], None],
    ) -> Done:
        """Take a shard's batches from ``stream``, and write it."""
        backbone, place = self.backbone, {row: i for i, row in enumerate(shard.rows)}
        values = np.full((len(place), *backbone.shape), fill_value(backbone.dtype), backbone.dtype)
        failures: list[Failure] = []
        notes: list[Failure] = []
        position = 0
        while position < len(place):
            batch, representations = next(stream)
            rows, numbers, errors = clips_of(backbone, batch, representations)
            values[[place[row] for row in rows]] = numbers
            failures += errors
            notes += batch.notes
            if self.strict and errors:
                row, kind, reason = errors[0]
                raise EncoreError(f"{self.clips.path(row)}: {kind}: {reason}")
            position += len(batch)
            advance(len(batch))
        failed_rows = {row for row, _, _ in failures}
        self.writer.check_room(values.nbytes)
        record = self.writer.commit(shard, values, failures, [entry for entry in notes if entry[0] not in failed_rows])
        return Done(shard.index, record.values, len(place), tuple(failures))


def encode(
    writer: RepresentationWriter,
    catalog: Clips,
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
    shards = writer.share(part)
    total = sum(len(shard.rows) for shard in shards)
    failures: list[Failure] = []
    if shards:
        writer.begin()
    what = f"encoding {writer.dataset} by {writer.name.backbone}"
    with killed_workers_told(), task(what, total, "clips") as advance:
        for result in run(shards, advance):
            writer.take_over(result.index, result.values)
            failures += result.failures
            _log(writer, result)
    complete = writer.finish() is not None
    return Encoded(writer.name, total - len(failures), tuple(failures), complete)


def _log(writer: RepresentationWriter, result: Done) -> None:
    """Say in the log what of a shard was written, and what failed."""
    for row, kind, reason in result.failures:
        (path,) = writer.catalog.clips(row, row + 1).column("path").to_pylist()
        log(f"{path}: {kind}: {reason}", "WARNING")
    encoded = plural(result.clips - len(result.failures), "clip")
    log(f"{writer.folder}: shard {result.index} is written, {encoded} of it encoded")


def default_batch(device: torch.device) -> int:
    """How many clips are loaded and encoded at once by default.

    16 clips of 30 s at 22,050 Hz are 42 MB, and a worker holds up to three such batches.
    """
    return 32 if device.type == "cuda" else 16
