"""Open what a store holds, and check it: the manifest against the array, the array against the catalog."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from zarr.codecs import Endian

from store.arrays import chunk_name, chunk_path, fill_value, open_array
from store.clips import ClipKeys, Clips
from store.errors import EncoreError, FormatError, RequestError, StoreError, is_out_of_memory
from store.fingerprint import hash_pieces, hash_values
from store.layout import RepresentationName, Store
from store.schema import FAILURES_SCHEMA, RETIRED, ShardRecord
from store.seal import hash_bytes

_READERS = min(4, os.cpu_count() or 1)  # threads that read files; more no longer help
_PIECE_BYTES = 1 << 19
_BUFFER_BYTES = 1 << 20  # of a thread that only hashes: fewer and larger reads leave the interpreter to the others
_ALIGNMENT = 64


class Representations:
    """A complete representation of one collection.

    Attributes
    ----------
    name, manifest : which one it is, and what it says of itself.
    rows : how many catalog rows are encoded; the catalog may have grown since.
    """

    def __init__(self, store: Store, catalog: Clips, name: RepresentationName) -> None:
        self.store, self.name, self.dataset = store, name, catalog.info.name
        manifest = store.read_manifest(self.dataset, name)
        if manifest is None:
            raise RequestError(
                f"{self.dataset}/{name} is not complete; finish it: "
                f"encore embed {self.dataset} --backbone {name.backbone}"
            )
        self.manifest = manifest
        self.rows = manifest.rows
        try:
            self._array = open_array(store, self.dataset, name)
        except FileNotFoundError as error:
            raise FormatError(f"{self._show()} has a manifest and no array; {self._remedy()}") from error
        self._check(catalog)

    def _show(self) -> str:
        return self.store.files.show(f"{self.dataset}/{self.name}")

    def _show_rows(self, shard: ShardRecord) -> str:
        return f"{self._show()}: rows {shard.rows[0]}-{shard.rows[1] - 1}"

    def _repair(self) -> str:
        again = f"encore store repair {self.dataset} --backbone {self.name}"
        return f"encode again what is damaged: {again}; or {self._remedy()}"

    def _remedy(self) -> str:
        return f"remove it and encode again: encore store remove {self.dataset} --backbone {self.name}"

    def _check(self, catalog: Clips) -> None:
        manifest, array = self.manifest, self._array
        # An array longer than the manifest says is one that grows at this moment; its first rows are valid.
        if array.shape[1:] != manifest.shape or array.shape[0] < manifest.rows or str(array.dtype) != manifest.dtype:
            raise FormatError(
                f"{self._show()}: the manifest says {manifest.rows} x {manifest.shape} {manifest.dtype}, the array "
                f"holds {array.shape} {array.dtype}; {self._remedy()}"
            )
        if manifest.rows > len(catalog):
            raise FormatError(
                f"{self._show()} has {manifest.rows} rows and the catalog {len(catalog)}; {self._remedy()}"
            )
        keys = ClipKeys(catalog)
        for shard in manifest.shards:
            if keys.hash(*shard.rows) != shard.clips:
                raise FormatError(
                    f"{self._show()} belongs to other clips than the catalog's rows "
                    f"{shard.rows[0]}-{shard.rows[1] - 1}; {self._remedy()}"
                )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one representation."""
        return self.manifest.shape

    @cached_property
    def _raw(self) -> bool:
        """Whether a shard is a file of plain numbers on a local disk; those of layers lie layer after layer."""
        return self.store.files.local is not None and not self._array.compressors

    @cached_property
    def mappable(self) -> bool:
        """Whether a shard is a file of plain numbers on a local disk, row after row."""
        return self._raw and not self._array.filters

    def read(self, first: int = 0, last: int | None = None, layer: int | None = None) -> np.ndarray[Any, Any]:
        """Rows [first, last) as they are stored: [rows, *shape], or of one layer alone [rows, dim].

        Raises
        ------
        FormatError
            where a shard that holds some of them does not hold what was committed; what is read of each, all of it or
            the layer, is checked.
        """
        stop = self.rows if last is None else min(last, self.rows)
        shape = self.shape if layer is None else self.shape[1:]
        values = _aligned((max(0, stop - first), *shape), np.dtype(self.manifest.dtype).newbyteorder("<"))

        def fill(indices: range) -> None:
            for index in indices:
                begin, end = self.manifest.shards[index].rows
                low, high = max(begin, first), min(end, stop)
                part = values[low - first : high - first]
                target = part if high - low == end - begin else _aligned((end - begin, *shape), values.dtype)
                self._read_shard(index, target, layer)
                if target is not part:
                    part[...] = target[low - begin : high - begin]

        step = self.manifest.shard_rows
        shards = range(first // step, -(-stop // step)) if stop > first else range(0)
        with ThreadPoolExecutor(_READERS) as readers:
            for _ in readers.map(fill, _batches(shards)):
                pass
        return values

    def _read_shard(self, index: int, out: np.ndarray[Any, Any], layer: int | None = None) -> None:
        """Read all rows of a shard, or one layer of them, into ``out``, and compare them with what was committed."""
        shard = self.manifest.shards[index]
        alone = layer is not None and self._raw and not self.mappable and len(shard.layers) == self.shape[0]
        if layer is not None and not alone:
            block = _aligned((len(out), *self.shape), out.dtype)
            self._read_shard(index, block)
            out[...] = block[:, layer]
            return
        expected_hash = shard.values if layer is None else shard.layers[layer]
        try:
            if layer is None and not self.mappable:
                self._check_chunk(index)
                out[...] = self._array[slice(*shard.rows)]
                content_hash = hash_values(out)
            else:
                first = (layer or 0) * self.manifest.shard_rows * math.prod(out.shape[1:]) * out.itemsize
                descriptor = self.store.files.open_local(self._chunk_name(index))
                try:
                    content_hash = _fill(descriptor, first, out)
                finally:
                    os.close(descriptor)
        except (ValueError, RuntimeError, OSError) as error:
            if is_out_of_memory(error):
                raise
            raise FormatError(f"{self._show_rows(shard)} cannot be read: {error}; {self._repair()}") from error
        if content_hash != expected_hash and not self._held_before(out, shard, expected_hash):
            raise FormatError(
                f"{self._show_rows(shard)} do not hold the numbers that were committed; they were damaged or written "
                f"over since; {self._repair()}"
            )

    def _held_before(self, values: np.ndarray[Any, Any], shard: ShardRecord, expected_hash: str) -> bool:
        """Whether a shard holds what was committed but for rows that had failed, or whose songs came back.

        A run that has not come to its end yet may have encoded these; here they are as before.
        """
        values[[row - shard.rows[0] for row, _, _ in shard.failures]] = fill_value(self.manifest.dtype)
        return hash_values(values) == expected_hash

    def _chunk_name(self, index: int) -> str:
        return chunk_name(self.dataset, self.name, self.shape, index)

    def _chunk(self, root: Path, index: int) -> Path:
        return chunk_path(root, self.dataset, self.name, self.shape, index)

    def _check_chunk(self, index: int) -> None:
        """OSError for a chunk that is lost, which Zarr would read as fill values, or is no file."""
        if self.store.files.local is not None:
            self.store.files.check_file(self._chunk_name(index))

    def failures(self) -> pa.Table:
        """The clips that could not be encoded: row, clip_id, path, kind, reason."""
        return self.store.read_table(f"{self.dataset}/{self.name}/failures.parquet")

    def notes(self) -> list[tuple[int, str, str]]:
        """What was noted of clips that were encoded: row, kind, reason."""
        return [entry for shard in self.manifest.shards for entry in shard.notes]

    def encoded(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """[rows], True where a row holds a representation."""
        mask = np.ones(self.rows, dtype=bool)
        mask[[row for shard in self.manifest.shards for row, _, _ in shard.failures]] = False
        return mask

    def verify(self, hashes: Callable[[], list[str | None]] | None = None) -> list[str]:
        """Read every shard, which compares its hash, and look at failures and layout; a line for what does not hold.

        Parameters
        ----------
        hashes : gives the `hash_shards` of it, where these have begun already; called last.
        """
        return [*self._verify_failures(), *self._verify_layout(), *self.damaged(hashes).values()]

    def damaged(self, hashes: Callable[[], list[str | None]] | None = None) -> dict[int, str]:
        """The shards that do not hold what was committed, each with what is wrong; ``hashes`` as in `verify`."""
        now = hash_shards(self.store, self.dataset, self.name) if hashes is None else hashes()
        wrong = {}
        for index, (shard, content_hash) in enumerate(zip_longest(self.manifest.shards, now)):
            if shard is None or (content_hash is not None and content_hash == shard.file):
                continue  # byte for byte the file that was committed
            try:
                self._check_length(index)
                self._check_file(index, self.read(*shard.rows))
            except FormatError as error:
                wrong[index] = str(error)
        return wrong

    def _verify_failures(self) -> list[str]:
        """Compare ``failures.parquet`` with what the manifest says of failed rows."""
        where = self.store.files.show(f"{self.dataset}/{self.name}/failures.parquet")
        try:
            table = self.failures()
        except StoreError as error:
            return [f"{error}; {self._remedy()}"]
        expected = [[*failure] for shard in self.manifest.shards for failure in shard.failures if failure[1] != RETIRED]
        if table.schema.equals(FAILURES_SCHEMA):
            entries = table.select(["row", "kind", "reason"]).to_pylist()
            if [[*failure.values()] for failure in entries] == expected:
                return []
        return [f"{where} does not hold the failures that were committed; {self._remedy()}"]

    def _verify_layout(self) -> list[str]:
        """Compare how ``zarr.json`` has other programs read the numbers with how they were written."""
        chunks = (self.manifest.shard_rows, *self.shape)
        swapped = getattr(self._array.serializer, "endian", None) is Endian.big
        if self._array.chunks == chunks and not swapped:
            return []
        layout = f"chunks of {self._array.chunks}{', bytes swapped' if swapped else ''}"
        return [f"{self._show()}: zarr.json tells of {layout}, where chunks of {chunks} were written; {self._remedy()}"]

    def _check_length(self, index: int) -> None:
        """Raise for a chunk file that is not as long as its rows, of which the last may only be padding."""
        root = self.store.files.local
        if root is None or self._array.compressors:
            return
        expected = self.manifest.shard_rows * math.prod(self.shape) * np.dtype(self.manifest.dtype).itemsize
        try:
            self._check_chunk(index)
            size = self._chunk(root, index).stat().st_size
        except OSError as error:
            raise FormatError(
                f"{self._show()}: the file of shard {index} cannot be read: {error}; {self._repair()}"
            ) from error
        if size != expected:
            raise FormatError(
                f"{self._show()}: the file of shard {index} has {size:,} bytes and should have {expected:,}; "
                f"{self._repair()}"
            )

    def _check_file(self, index: int, values: np.ndarray[Any, Any]) -> None:
        """Raise where the bytes around a shard's numbers changed: behind the last row, or how they are compressed."""
        shard = self.manifest.shards[index]
        growing = self._array.shape[0] > self.rows or self.store.files.files(f"{self.dataset}/{self.name}/shards")
        if hash_values(values) != shard.values or growing:
            return  # a run that has not come to its end writes it anew
        data = self.store.files.read(self._chunk_name(index))
        if shard.file is not None:
            intact = hash_bytes(data) == shard.file
        else:  # of 0.1.0
            padding = np.frombuffer(data, values.dtype)[values.size :] if not self._array.compressors else values[:0]
            fill = np.full(len(padding), fill_value(self.manifest.dtype), values.dtype)
            intact = padding.tobytes() == fill.tobytes()
        if not intact:
            raise FormatError(
                f"{self._show()}: bytes of the file of shard {index} that hold no numbers are not those that were "
                f"written; {self._repair()}"
            )


def hash_shards(store: Store, dataset: str, name: RepresentationName) -> list[str | None]:
    """The hash of each shard's file as it is now; None where it cannot be read, and for a shard of 0.1.0.

    Empty where the representation is not complete, or its manifest is damaged. The catalog is not needed.
    """
    try:
        manifest = store.read_manifest(dataset, name)
    except EncoreError:
        return []
    if manifest is None:
        return []

    def hash_some(indices: range) -> list[str | None]:
        buffer = memoryview(bytearray(_BUFFER_BYTES))
        hashes: list[str | None] = []
        for index in indices:
            try:
                file = chunk_name(dataset, name, manifest.shape, index)
                known = manifest.shards[index].file is not None
                hashes.append(hash_pieces(store.files.pieces(file, buffer)) if known else None)
            except (FileNotFoundError, StoreError):
                hashes.append(None)
        return hashes

    with ThreadPoolExecutor(_READERS) as readers:
        return [value for some in readers.map(hash_some, _batches(range(len(manifest.shards)))) for value in some]


def _batches(shards: range) -> list[range]:
    """Runs of shards for one thread each; to hand one over takes as long as to read a small shard."""
    size = max(1, len(shards) // (2 * _READERS))
    return [shards[first : first + size] for first in range(0, len(shards), size)]


def _aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """An array for numbers to come, at a multiple of 64 bytes.

    numpy's large ones begin 16 bytes into a page, where files begin with one. Copying from a page to another place 16
    bytes further into it takes some processors twice as long as to any other.
    """
    size = math.prod(shape) * dtype.itemsize
    room = np.empty(size + _ALIGNMENT, dtype=np.uint8)
    first = -room.ctypes.data % _ALIGNMENT
    return room[first : first + size].view(dtype).reshape(shape)


def _fill(descriptor: int, first: int, out: np.ndarray[Any, Any]) -> str:
    """Fill ``out`` straight from a file's bytes from the first on, and hash them.

    Between two copies of a layer nothing that Python does lies in the processor's cache any more, so it does little.
    """
    raw = out.reshape(-1).view(np.uint8).data
    if len(raw) > _PIECE_BYTES:
        return hash_pieces(_pieces(descriptor, first, raw))
    _fill_piece(descriptor, first, raw)
    return hash_bytes(raw)


def _pieces(descriptor: int, first: int, raw: memoryview) -> Iterator[memoryview]:
    """Pieces that are filled one by one; each is given while the processor's cache still holds it."""
    for at in range(0, len(raw), _PIECE_BYTES):
        piece = raw[at : at + _PIECE_BYTES]
        _fill_piece(descriptor, first + at, piece)
        yield piece


def _fill_piece(descriptor: int, first: int, piece: memoryview) -> None:
    if hasattr(os, "preadv"):
        count = os.preadv(descriptor, [piece], first)
    else:  # on Windows
        os.lseek(descriptor, first, os.SEEK_SET)
        count = io.FileIO(descriptor, closefd=False).readinto(piece) or 0
    if count != len(piece):
        raise ValueError("the file is cut short")
