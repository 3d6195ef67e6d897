"""Write representations so that a kill at any moment loses at most the shards in work.

The order is the protocol: a shard's numbers, then its record (rows, clips, hash), and when every shard has a
record, the failures, then the manifest. A reader trusts only the manifest, so the state before stays
readable until the moment the next one is complete. Which process encodes a shard does not matter: of two that
encode the same one, the first to commit is believed. Commits take turns under the representation's lock; behind a URL,
where there is none, no two processes should be given the same shard.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import zarr

from store.arrays import Disk, chunk_path, create_array, fill_value, open_array, shard_rows
from store.errors import PASSING, FormatError
from store.fingerprint import hash_ids, hash_values
from store.layout import RepresentationName, Store
from store.schema import RETIRED, Catalog, Manifest, ShardRecord, failures_table

Array = np.ndarray[Any, Any]
Failure = tuple[int, str, str]  # catalog row, kind, reason


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
    back. So does a row whose file could not be read for a reason that may pass (`store.errors.PASSING`), once the
    catalog has seen that file.

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
        self._seen = catalog.column("source").is_valid().to_numpy()
        self._array: zarr.Array[Any] | None = None
        manifest = store.read_manifest(self.dataset, name)
        if manifest is not None and (manifest.shape, manifest.dtype) != (shape, dtype):
            raise FormatError(
                f"{self._show()} holds arrays of {manifest.shape} {manifest.dtype}, and {name.backbone} "
                f"makes {shape} {dtype}; {self._remedy()}"
            )
        self.rows_per_shard = manifest.shard_rows if manifest else shard_rows(shape, dtype)
        self._records = dict(enumerate(manifest.shards)) if manifest else {}
        self._mine: set[int] = set()  # shards that this process wrote or has read back
        self._recover()
        self.pending = [shard for shard in self._shards() if shard.rows or not self._is_committed(shard)]
        self.is_complete = manifest is not None and manifest.rows == len(catalog) and not self.pending

    def _record_file(self, index: int) -> str:
        return f"{self.folder}/shards/{index:05d}.json"

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
        begin = record.rows[1] if record else first
        again = self._lacking(record, passing=True) if record else []
        new = begin + np.flatnonzero(~self._retired[begin:last])
        return Shard(index, first, last, (*again, *new.tolist()))

    def _lacking(self, record: ShardRecord, *, passing: bool) -> list[int]:
        """The rows of a committed shard whose songs came back; ``passing``: those that may be readable now too."""
        mine = [(row, kind) for row, kind, _ in record.failures if row < len(self._keys) and not self._retired[row]]
        return [row for row, kind in mine if kind == RETIRED or (passing and kind in PASSING and self._seen[row])]

    def _is_committed(self, shard: Shard) -> bool:
        record = self._records.get(shard.index)
        if record is None:
            return False
        self._check(shard, record)
        return record.rows[1] >= shard.last and not self._lacking(record, passing=False)

    def _check(self, shard: Shard, record: ShardRecord) -> None:
        """Raise where a record is of other clips than this catalog's, or than those another run has grown it to."""
        first, last = record.rows
        keys = self._keys if last <= len(self._keys) else self.store.read_catalog(self.dataset).row_keys()
        if first != shard.first or last > first + self.rows_per_shard or record.clips != hash_ids(keys[first:last]):
            raise FormatError(
                f"{self._show()} belongs to other clips than the catalog's rows {first}-{last - 1}; {self._remedy()}"
            )

    def _recover(self) -> None:
        """Take over the shards that other or interrupted runs committed, each only if its numbers are whole."""
        for file in self.store.files.files(f"{self.folder}/shards"):
            try:
                index = int(file.removesuffix(".json"))
                if index in self._mine:
                    continue
                record = ShardRecord.parse(json.loads(self.store.files.read(self._record_file(index))))
            except (FormatError, ValueError, RecursionError, FileNotFoundError):
                continue
            if self._read_whole(record) is None:
                self._records.pop(index, None)
            else:
                self._records[index] = record
                self._mine.add(index)

    def _read_whole(self, record: ShardRecord) -> Array | None:
        """A committed shard's numbers; None where they are not those that were committed."""
        try:
            # Opened anew: another run may have made the array longer.
            values = np.asarray(open_array(self.store, self.dataset, self.name)[slice(*record.rows)])
        except (RuntimeError, ValueError, FileNotFoundError):  # what decompressors raise on torn data, and no array
            return None
        return values if hash_values(values) == record.values else None

    def _latest(self, index: int) -> ShardRecord | None:
        """The record of a shard as the store has it at this moment, by whichever run."""
        try:
            return ShardRecord.parse(json.loads(self.store.files.read(self._record_file(index))))
        except (FormatError, ValueError, RecursionError, FileNotFoundError):
            manifest = self.store.read_manifest(self.dataset, self.name)
            return manifest.shards[index] if manifest is not None and index < len(manifest.shards) else None

    def commit(
        self, shard: Shard, values: Array, failures: Sequence[Failure] = (), notes: Sequence[Failure] = ()
    ) -> None:
        """Store a shard's new rows and record them, unless another run has done so already.

        A shard that another run has grown is left to that run: what it still lacks, the next one tries again.

        Parameters
        ----------
        values : [len(shard.rows), *shape], rows that failed hold the fill value.
        failures : (catalog row, kind, reason).
        notes : the same, of rows that did not fail.
        """
        if values.shape != (len(shard.rows), *self.shape) or values.dtype != np.dtype(self.dtype):
            raise ValueError(f"shard {shard.index} got {values.shape} {values.dtype}")
        with self.store.lock(self.dataset, self.name):
            before = self._latest(shard.index)
            held = self._read_whole(before) if before is not None else None
            if before is None or held is None:
                if shard.index in self._records:
                    raise FormatError(
                        f"{self._show()}: rows {shard.first}-{self._records[shard.index].rows[1] - 1} are damaged and "
                        f"cannot be added to; {self._remedy()}"
                    )
                record = self._write(shard, values, failures, notes, None, values[:0])
            else:
                self._check(shard, before)
                lacking = set(shard.rows) & set(self._lacking(before, passing=True))
                if before.rows[1] > shard.last or (before.rows[1] == shard.last and not lacking):
                    record = before
                else:
                    record = self._write(shard, values, failures, notes, before, held)
            self._records[shard.index] = record
            self._mine.add(shard.index)

    def _write(
        self,
        shard: Shard,
        values: Array,
        failures: Sequence[Failure],
        notes: Sequence[Failure],
        before: ShardRecord | None,
        held: Array,
    ) -> ShardRecord:
        """Put a shard's new rows beside those ``held``, which ``before`` records; then its record."""
        whole = np.full((shard.last - shard.first, *self.shape), fill_value(self.dtype), self.dtype)
        whole[: len(held)] = held
        whole[np.asarray(shard.rows, dtype=np.int64) - shard.first] = values
        again = set(shard.rows)
        kept = [failure for failure in (before.failures if before else ()) if failure[0] not in again]
        kept_notes = [entry for entry in (before.notes if before else ()) if entry[0] not in again]
        begin = shard.first + len(held)
        skipped = [(row, RETIRED, "its song is retired") for row in range(begin, shard.last) if self._retired[row]]
        array = self._writable()
        with Disk(self._show()):
            array[shard.first : shard.last] = whole
            self._sync(shard.index)
        record = ShardRecord(
            rows=(shard.first, shard.last),
            clips=hash_ids(self._keys[shard.first : shard.last]),
            values=hash_values(whole),
            failures=tuple(sorted((*kept, *failures, *skipped))),
            notes=tuple(sorted((*kept_notes, *notes))),
        )
        self.store.files.write(self._record_file(shard.index), json.dumps(asdict(record)).encode())
        return record

    def _writable(self) -> zarr.Array[Any]:
        """The array, created on first use and long enough for every row; called under the lock."""
        if self._array is None:
            shape = (len(self.catalog), *self.shape)
            create_array(self.store, self.dataset, self.name, shape, self.dtype, self.rows_per_shard)
            self._array = open_array(self.store, self.dataset, self.name, writable=True)
            if self._array.shape[0] < shape[0]:
                self._array.resize(shape)
        return self._array

    def _sync(self, index: int) -> None:
        """Bring a local chunk to the disk before its record says that it is there."""
        if self.store.files.local is None:
            return
        with chunk_path(self.store.files.local, self.dataset, self.name, self.shape, index).open("rb") as file:
            os.fsync(file.fileno())

    def finish(self) -> Manifest | None:
        """Write failures and manifest once every shard is there; None while other processes still work on theirs.

        Where another run has grown the collection meanwhile, finishing is left to that run.
        """
        self._recover()  # before the lock is taken, since it may take a while
        with self.store.lock(self.dataset, self.name):
            self._recover()
            held = self.store.read_manifest(self.dataset, self.name)
            if held is not None and held.rows > len(self.catalog):
                return held
            for index, record in enumerate(held.shards if held is not None else ()):
                if index not in self._mine:
                    self._records[index] = record
            done = all(self._is_committed(shard) for shard in self._shards())
            if not done or any(record.rows[1] > len(self.catalog) for record in self._records.values()):
                return None
            return self._finish()

    def _finish(self) -> Manifest:
        self._writable()  # a catalog without rows has an array too
        records = tuple(record for _, record in sorted(self._records.items()))
        failures = [failure for record in records for failure in record.failures if failure[1] != RETIRED]
        self.store.write_table(f"{self.folder}/failures.parquet", failures_table(self.catalog, failures))
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
