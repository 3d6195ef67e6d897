"""Write representations so that a kill at any moment loses at most the shards in work.

The order is the protocol: a shard's numbers, then its record (rows, clips, hash), and when every shard has a
record, the failures, then the manifest. A reader trusts only the manifest, so the state before stays
readable until the moment the next one is complete. One process owns a shard; which process that is does not
matter, and two that write the same shard write the same bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import zarr
from zarr.abc.store import Store as ZarrStore
from zarr.codecs import BloscCodec, BloscShuffle
from zarr.storage import FsspecStore, LocalStore

from store.errors import FormatError, RequestError, StoreError
from store.fingerprint import hash_ids, hash_values
from store.layout import RepresentationName, Store
from store.schema import FAILURES_SCHEMA, Manifest, ShardRecord

_SHARD_BYTES = 4 << 20  # a few seconds of an encoder's work, and a good size for a disk and an object store
_SHARD_ROWS = (64, 4096)


def shard_rows(shape: tuple[int, ...], dtype: str) -> int:
    """How many rows make a shard: about 4 MiB, a power of two between 64 and 4096."""
    row_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    low, high = _SHARD_ROWS
    return min(high, max(low, 1 << max(0, round(math.log2(_SHARD_BYTES / row_bytes)))))


@dataclass(frozen=True)
class Shard:
    """A piece of work: the catalog rows [first, last), of which those before ``start`` are there already."""

    index: int
    first: int
    start: int
    last: int


class RepresentationWriter:
    """The shards that one representation of one collection still lacks, and how to commit them.

    Parameters
    ----------
    clip_ids : of all catalog rows, in their order.
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
        dataset: str,
        name: RepresentationName,
        *,
        clip_ids: Sequence[str],
        settings: dict[str, Any],
        shape: tuple[int, ...],
        dtype: str,
    ) -> None:
        self.store, self.dataset, self.name = store, dataset, name
        self.folder = f"{dataset}/{name}"
        self.shape, self.dtype, self.settings = shape, dtype, settings
        self._clip_ids = clip_ids
        self.rows_per_shard = shard_rows(shape, dtype)
        self._array: zarr.Array[Any] | None = None
        manifest = read_manifest(store, dataset, name)
        if manifest is not None and (manifest.shape, manifest.dtype, manifest.shard_rows) != (
            shape,
            dtype,
            self.rows_per_shard,
        ):
            raise FormatError(
                f"{self._show()} holds arrays of {manifest.shape} {manifest.dtype}, and {name.backbone} "
                f"makes {shape} {dtype}; remove it: encore store remove {dataset} --backbone {name}"
            )
        self._records = dict(enumerate(manifest.shards)) if manifest else {}
        self._recover()
        self.pending = [shard for shard in self._shards() if not self._is_committed(shard)]
        self.is_complete = manifest is not None and manifest.rows == len(clip_ids) and not self.pending

    def _show(self) -> str:
        return self.store.files.show(self.folder)

    def _shards(self) -> list[Shard]:
        total, step = len(self._clip_ids), self.rows_per_shard
        shards = []
        for index, first in enumerate(range(0, total, step)):
            record = self._records.get(index)
            shards.append(Shard(index, first, record.rows[1] if record else first, min(first + step, total)))
        return shards

    def _is_committed(self, shard: Shard) -> bool:
        record = self._records.get(shard.index)
        if record is None:
            return False
        first, last = record.rows
        if first != shard.first or last > shard.last or record.clips != hash_ids(self._clip_ids[first:last]):
            raise FormatError(
                f"{self._show()} belongs to other clips than the catalog's rows {first}-{last - 1}; "
                f"remove it and encode again: encore store remove {self.dataset} --backbone {self.name}"
            )
        return last == shard.last

    def _recover(self) -> None:
        """Take over the shards that an interrupted run had committed, each only if its numbers are whole."""
        for file in self.store.files.files(f"{self.folder}/shards"):
            try:
                record = ShardRecord.parse(json.loads(self.store.files.read(f"{self.folder}/shards/{file}")))
                index = int(file.removesuffix(".json"))
                whole = hash_values(np.asarray(self._open()[slice(*record.rows)])) == record.values
            except (FormatError, ValueError, FileNotFoundError):
                continue
            if whole:
                self._records[index] = record

    def _open(self) -> zarr.Array[Any]:
        """The array, created on first use and long enough for every row."""
        if self._array is None:
            total, step = len(self._clip_ids), self.rows_per_shard
            try:
                self._array = open_array(self.store, self.dataset, self.name, writable=True)
                if self._array.shape[0] < total:
                    self._array.resize((total, *self.shape))
            except FileNotFoundError:
                # Floats hardly compress and are read fastest as they are; piano rolls are mostly zeros.
                packs = np.dtype(self.dtype).kind in "iub"
                with _disk(self._show()):
                    self._array = zarr.create_array(
                        _zarr_store(self.store, f"{self.folder}/representations.zarr", writable=True),
                        shape=(total, *self.shape),
                        dtype=self.dtype,
                        # One file a shard: it is replaced as a whole, and read straight into memory.
                        chunks=(step, *self.shape),
                        compressors=BloscCodec(cname="zstd", clevel=3, shuffle=BloscShuffle.bitshuffle)
                        if packs
                        else None,
                        fill_value=fill_value(self.dtype),
                        overwrite=True,
                    )
        return self._array

    def commit(self, shard: Shard, values: np.ndarray[Any, Any], failures: Sequence[tuple[int, str, str]] = ()) -> None:
        """Store a shard's new rows and record them.

        Parameters
        ----------
        values : [shard.last - shard.start, *shape], rows that failed hold the fill value.
        failures : (catalog row, kind, reason).
        """
        if values.shape != (shard.last - shard.start, *self.shape) or values.dtype != np.dtype(self.dtype):
            raise ValueError(f"shard {shard.index} got {values.shape} {values.dtype}")
        array = self._open()
        before = self._records.get(shard.index)
        kept = before.failures if before else ()
        if shard.start > shard.first:
            values = np.concatenate([array[shard.first : shard.start], values])
        with _disk(self._show()):
            array[shard.first : shard.last] = values
        record = ShardRecord(
            rows=(shard.first, shard.last),
            clips=hash_ids(self._clip_ids[shard.first : shard.last]),
            values=hash_values(values),
            failures=(*kept, *failures),
        )
        self.store.files.write(f"{self.folder}/shards/{shard.index:05d}.json", json.dumps(asdict(record)).encode())
        self._records[shard.index] = record

    def finish(self, paths: Sequence[str]) -> Manifest | None:
        """Write failures and manifest once every shard is there; None while other processes still work on theirs.

        Parameters
        ----------
        paths : of all catalog rows, for the table of failures.
        """
        self._recover()
        shards = self._shards()
        if not all(self._is_committed(shard) for shard in shards):
            return None
        self._open()
        records = tuple(self._records[shard.index] for shard in shards)
        failures = [failure for record in records for failure in record.failures]
        columns = {
            "row": [row for row, _, _ in failures],
            "clip_id": [self._clip_ids[row] for row, _, _ in failures],
            "path": [paths[row] for row, _, _ in failures],
            "kind": [kind for _, kind, _ in failures],
            "reason": [reason for _, _, reason in failures],
        }
        self.store.write_table(f"{self.folder}/failures.parquet", pa.table(columns, schema=FAILURES_SCHEMA))
        manifest = Manifest(
            backbone=self.name.backbone,
            fingerprint=self.name.fingerprint,
            rows=len(self._clip_ids),
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
        with _disk(store.files.show(where)):
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
