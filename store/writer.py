"""Write representations so that a kill at any moment loses at most the shards in work.

The order is the protocol: a shard's numbers, then its record (rows, clips, hash), and when every shard has a
record, the failures, then the manifest. A reader trusts only the manifest, so the state before stays
readable until the moment the next one is complete. One process owns a shard; which process that is does not
matter, and two that write the same shard write the same bytes.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import zarr
from zarr.abc.store import Store as ZarrStore
from zarr.codecs import BloscCodec, BloscShuffle
from zarr.errors import ContainsArrayError
from zarr.storage import FsspecStore, LocalStore

from store.errors import FormatError, RequestError, StoreError
from store.fingerprint import hash_ids, hash_values
from store.layout import RepresentationName, Store
from store.schema import FAILURES_SCHEMA, Catalog, Manifest, ShardRecord

_SHARD_BYTES = 4 << 20  # a few seconds of an encoder's work, and a good size for a disk and an object store
_SHARD_ROWS = (64, 4096)
_RETIRED = "retired"  # the kind of a row that was not encoded because its song is retired
_EVERY_CHUNK = {"array.write_empty_chunks": True}  # so that a chunk which is not there is known to be lost

Array = np.ndarray[Any, Any]


def shard_rows(shape: tuple[int, ...], dtype: str) -> int:
    """How many rows make a shard: about 4 MiB, a power of two between 64 and 4096."""
    row_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    low, high = _SHARD_ROWS
    return min(high, max(low, 1 << max(0, round(math.log2(_SHARD_BYTES / row_bytes)))))


@dataclass(frozen=True)
class Shard:
    """A piece of work: of the catalog rows [first, last), those in ``rows`` are to be encoded."""

    index: int
    first: int
    last: int
    rows: tuple[int, ...]


class RepresentationWriter:
    """The shards that one representation of one collection still lacks, and how to commit them.

    A row whose song is retired is not encoded; it is recorded as such, and becomes work again when the song comes
    back.

    Parameters
    ----------
    settings : what the fingerprint was made from, for the manifest.
    shape, dtype : of one representation.

    Attributes
    ----------
    pending : shards to be encoded, in order.
    is_complete : nothing is pending and the manifest says so.
    """

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        name: RepresentationName,
        *,
        settings: dict[str, Any],
        shape: tuple[int, ...],
        dtype: str,
    ) -> None:
        self.store, self.catalog, self.name = store, catalog, name
        self.dataset = catalog.info.name
        self.folder = f"{self.dataset}/{name}"
        self.shape, self.dtype, self.settings = shape, dtype, settings
        self._keys, self._retired = catalog.row_keys(), catalog.retired()
        self._array: zarr.Array[Any] | None = None
        manifest = read_manifest(store, self.dataset, name)
        if manifest is not None and (manifest.shape, manifest.dtype) != (shape, dtype):
            raise FormatError(
                f"{self._show()} holds arrays of {manifest.shape} {manifest.dtype}, and {name.backbone} "
                f"makes {shape} {dtype}; {self._remedy()}"
            )
        self.rows_per_shard = manifest.shard_rows if manifest else shard_rows(shape, dtype)
        self._records = dict(enumerate(manifest.shards)) if manifest else {}
        self._mine: set[int] = set()  # shards that this process wrote or has read back
        self._recover()
        self.pending = [shard for shard in self._shards() if not self._is_committed(shard)]
        self.is_complete = manifest is not None and manifest.rows == len(catalog) and not self.pending

    def _show(self) -> str:
        return self.store.files.show(self.folder)

    def _remedy(self) -> str:
        return f"remove it and encode again: encore store remove {self.dataset} --backbone {self.name}"

    def _shards(self) -> list[Shard]:
        total, step = len(self.catalog), self.rows_per_shard
        return [
            self._shard(index, first, min(first + step, total)) for index, first in enumerate(range(0, total, step))
        ]

    def _shard(self, index: int, first: int, last: int) -> Shard:
        record = self._records.get(index)
        if record is not None and record.rows == (first, last) and not _skipped(record):
            return Shard(index, first, last, ())  # the usual case, and there may be thousands
        begin = record.rows[1] if record else first
        come_back = [row for row in (_skipped(record) if record else ()) if not self._retired[row]]
        new = begin + np.flatnonzero(~self._retired[begin:last])
        return Shard(index, first, last, (*come_back, *new.tolist()))

    def _is_committed(self, shard: Shard) -> bool:
        record = self._records.get(shard.index)
        if record is None:
            return False
        first, last = record.rows
        if first != shard.first or last > shard.last or record.clips != hash_ids(self._keys[first:last]):
            raise FormatError(
                f"{self._show()} belongs to other clips than the catalog's rows {first}-{last - 1}; {self._remedy()}"
            )
        return last == shard.last and not shard.rows

    def _recover(self) -> None:
        """Take over the shards that other or interrupted runs committed, each only if its numbers are whole."""
        for file in self.store.files.files(f"{self.folder}/shards"):
            try:
                index = int(file.removesuffix(".json"))
                if index in self._mine:
                    continue
                record = ShardRecord.parse(json.loads(self.store.files.read(f"{self.folder}/shards/{file}")))
            except (FormatError, ValueError, FileNotFoundError):
                continue
            self._records[index] = record
            if self._read_whole(record) is None:
                del self._records[index]
            else:
                self._mine.add(index)

    def _read_whole(self, record: ShardRecord) -> Array | None:
        """A committed shard's numbers; None where they are not those that were committed."""
        try:
            values = np.asarray(self._open()[slice(*record.rows)])
        except (RuntimeError, ValueError):  # what decompressors raise on torn data
            return None
        return values if hash_values(values) == record.values else None

    def _open(self) -> zarr.Array[Any]:
        """The array, created on first use and long enough for every row."""
        if self._array is None:
            total, step = len(self.catalog), self.rows_per_shard
            try:
                self._array = open_array(self.store, self.dataset, self.name, writable=True)
                if self._array.shape[0] < total:
                    self._array.resize((total, *self.shape))
            except FileNotFoundError:
                # Floats hardly compress and are read fastest as they are; piano rolls are mostly zeros.
                packs = np.dtype(self.dtype).kind in "iub"
                with _disk(self._show()), contextlib.suppress(ContainsArrayError):
                    zarr.create_array(
                        _zarr_store(self.store, f"{self.folder}/representations.zarr", writable=True),
                        shape=(total, *self.shape),
                        dtype=self.dtype,
                        # One file a shard: it is replaced as a whole, and read straight into memory.
                        chunks=(step, *self.shape),
                        compressors=BloscCodec(cname="zstd", clevel=3, shuffle=BloscShuffle.bitshuffle)
                        if packs
                        else None,
                        fill_value=fill_value(self.dtype),
                    )
                # Another process may have made it at the same moment.
                self._array = open_array(self.store, self.dataset, self.name, writable=True)
        return self._array

    def commit(self, shard: Shard, values: Array, failures: Sequence[tuple[int, str, str]] = ()) -> None:
        """Store a shard's new rows and record them.

        Parameters
        ----------
        values : [len(shard.rows), *shape], rows that failed hold the fill value.
        failures : (catalog row, kind, reason).
        """
        if values.shape != (len(shard.rows), *self.shape) or values.dtype != np.dtype(self.dtype):
            raise ValueError(f"shard {shard.index} got {values.shape} {values.dtype}")
        whole = np.full((shard.last - shard.first, *self.shape), fill_value(self.dtype), self.dtype)
        before = self._records.get(shard.index)
        kept: list[tuple[int, str, str]] = []
        if before is not None:
            held = self._read_whole(before)
            if held is None:
                raise FormatError(
                    f"{self._show()}: rows {before.rows[0]}-{before.rows[1] - 1} are damaged and cannot be added to; "
                    f"{self._remedy()}"
                )
            whole[: len(held)] = held
            kept = [failure for failure in before.failures if failure[0] not in set(shard.rows)]
        whole[np.asarray(shard.rows, dtype=np.int64) - shard.first] = values
        begin = before.rows[1] if before else shard.first
        skipped = [(row, _RETIRED, "its song is retired") for row in range(begin, shard.last) if self._retired[row]]
        array = self._open()
        with _disk(self._show()):
            array[shard.first : shard.last] = whole
            self._sync(shard.index)
        record = ShardRecord(
            rows=(shard.first, shard.last),
            clips=hash_ids(self._keys[shard.first : shard.last]),
            values=hash_values(whole),
            failures=tuple(sorted((*kept, *failures, *skipped))),
        )
        self.store.files.write(f"{self.folder}/shards/{shard.index:05d}.json", json.dumps(asdict(record)).encode())
        self._records[shard.index] = record
        self._mine.add(shard.index)

    def _sync(self, index: int) -> None:
        """Bring a local chunk to the disk before its record says that it is there."""
        if self.store.files.local is None:
            return
        chunk = self.store.files.local / self.folder / "representations.zarr" / "c" / str(index)
        with chunk.joinpath(*("0" for _ in self.shape)).open("rb") as file:
            os.fsync(file.fileno())

    def finish(self) -> Manifest | None:
        """Write failures and manifest once every shard is there; None while other processes still work on theirs."""
        self._recover()
        shards = self._shards()
        if not all(self._is_committed(shard) for shard in shards):
            return None
        self._open()
        newer = read_manifest(self.store, self.dataset, self.name)
        if newer is not None and newer.rows > len(self.catalog):
            raise StoreError(f"{self._show()} has grown meanwhile by another run; run the same command again")
        records = tuple(self._records[shard.index] for shard in shards)
        failures = [failure for record in records for failure in record.failures if failure[1] != _RETIRED]
        clip_ids, paths = self.catalog.column("clip_id").to_pylist(), self.catalog.column("path").to_pylist()
        columns = {
            "row": [row for row, _, _ in failures],
            "clip_id": [clip_ids[row] for row, _, _ in failures],
            "path": [paths[row] for row, _, _ in failures],
            "kind": [kind for _, kind, _ in failures],
            "reason": [reason for _, _, reason in failures],
        }
        self.store.write_table(f"{self.folder}/failures.parquet", pa.table(columns, schema=FAILURES_SCHEMA))
        manifest = Manifest(
            backbone=self.name.backbone,
            fingerprint=self.name.fingerprint,
            rows=len(self.catalog),
            shard_rows=self.rows_per_shard,
            shape=self.shape,
            dtype=self.dtype,
            settings=self.settings,
            shards=records,
        )
        self.store.files.write(f"{self.folder}/manifest.json", manifest.to_json())
        self.store.files.remove(f"{self.folder}/shards")
        self.is_complete, self.pending = True, []
        return manifest


def _skipped(record: ShardRecord) -> list[int]:
    return [row for row, kind, _ in record.failures if kind == _RETIRED]


def fill_value(dtype: str) -> float | int:
    """What a row holds that could not be encoded: NaN in floats, 0 in integers."""
    return float("nan") if np.dtype(dtype).kind == "f" else 0


def read_manifest(store: Store, dataset: str, name: RepresentationName) -> Manifest | None:
    """The manifest, or None where the representation is not complete."""
    where = f"{dataset}/{name}/manifest.json"
    try:
        manifest = Manifest.from_json(store.files.read(where))
    except FileNotFoundError:
        return None
    except FormatError as error:
        raise FormatError(
            f"{store.files.show(where)}: {error}; remove it and encode again: "
            f"encore store remove {dataset} --backbone {name}"
        ) from error
    except RequestError as error:
        raise RequestError(f"{store.files.show(where)}: {error}") from error
    if (manifest.backbone, manifest.fingerprint) != (name.backbone, name.fingerprint):
        raise FormatError(f"{store.files.show(where)} speaks of {manifest.backbone}-{manifest.fingerprint}")
    return manifest


def open_array(store: Store, dataset: str, name: RepresentationName, *, writable: bool = False) -> zarr.Array[Any]:
    """The Zarr array of a representation; FileNotFoundError where there is none."""
    where = f"{dataset}/{name}/representations.zarr"
    if not store.files.exists(f"{where}/zarr.json"):
        raise FileNotFoundError(where)
    try:
        with _disk(store.files.show(where)), zarr.config.set(_EVERY_CHUNK):
            return zarr.open_array(_zarr_store(store, where, writable=writable), mode="r+" if writable else "r")
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{store.files.show(where)} is damaged: {error}") from error


def _zarr_store(store: Store, where: str, *, writable: bool) -> ZarrStore:
    if store.files.local is not None:
        return LocalStore(store.files.local / where, read_only=not writable)
    return FsspecStore.from_url(f"{store.files.url.rstrip('/')}/{where}", read_only=not writable)


class _disk:  # noqa: N801 - reads as a statement: with _disk(where)
    """Turn the file system's errors into one that names the place."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, StoreError | FileNotFoundError):
            raise StoreError(f"cannot use {self.where}: {error.strerror or error}") from error
