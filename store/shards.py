"""One shard of a representation: its numbers, then its record. Any process may commit any shard.

If two encode the same one, the first to commit wins. Commits take turns under the representation's lock; behind a URL,
where there are no locks, no two runs should be given the same shard.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import zarr

from store.arrays import Disk, chunk_name, create_array, fill_value, has_layers, open_array, shard_rows
from store.clips import ClipKeys, Clips, flags
from store.errors import PASSING, FormatError
from store.fingerprint import hash_pieces, hash_values
from store.layout import RepresentationName, Store
from store.schema import RETIRED, ShardRecord
from store.seal import hash_bytes
from store.words import plural

Array = np.ndarray[Any, Any]
Failure = tuple[int, str, str]  # catalog row, kind, reason
_SPARE_BYTES = 64 << 20  # left on the disk for the manifest, the seal and other people's files


def may_have_passed(kind: str, reason: str) -> bool:  # noqa: ARG001
    """Whether a clip that failed for this reason may succeed now."""
    return kind in PASSING


@dataclass(frozen=True)
class Shard:
    """A unit of work: catalog rows [first, last), of which those in ``rows`` are to be encoded."""

    index: int
    first: int
    last: int
    rows: Sequence[int]


class ShardWriter:
    """Commits shards of one representation, whichever process planned them (`RepresentationWriter` does).

    Opening costs no more than reading the manifest, so that a process can be given a single shard.

    Parameters
    ----------
    settings : what the fingerprint is a hash of, for the manifest.
    shape, dtype : of one representation.
    damaged : complete shards to be encoded again, and no others; see `store.reader.Representations.damaged`.
    has_passed : whether a failure of this kind and reason may be none now; by default `may_have_passed`.

    Raises
    ------
    FormatError
        if the folder holds arrays of another shape or type.
    """

    def __init__(
        self,
        store: Store,
        catalog: Clips,
        name: RepresentationName,
        *,
        settings: dict[str, Any],
        shape: tuple[int, ...],
        dtype: str,
        damaged: Collection[int] = (),
        has_passed: Callable[[str, str], bool] = may_have_passed,
    ) -> None:
        self.store, self.catalog, self.name = store, catalog, name
        self.dataset = catalog.info.name
        self.folder = f"{self.dataset}/{name}"
        self.shape, self.dtype, self.settings = shape, dtype, settings
        self._keys = ClipKeys(catalog)
        self._retired, self._seen = flags(catalog)
        self._array: zarr.Array[Any] | None = None
        manifest = store.read_manifest(self.dataset, name)
        if manifest is not None and (manifest.shape, manifest.dtype) != (shape, dtype):
            raise FormatError(
                f"{self._show()} holds arrays of {manifest.shape} {manifest.dtype}, and {name.backbone} "
                f"makes {shape} {dtype}; {self._remedy()}"
            )
        self.rows_per_shard = manifest.shard_rows if manifest else self._begun_with()
        self._records = dict(enumerate(manifest.shards)) if manifest else {}
        self._known: set[int] = set()  # shards that this process has written or read back
        self._again = frozenset(damaged)
        self._has_passed = has_passed
        self._lost = {index: self._records.pop(index) for index in self._again if index in self._records}
        self._has_all_rows = manifest is not None and manifest.rows == len(catalog)
        self._plan()

    def _plan(self) -> None:
        """Decide on opening what is left to encode; `RepresentationWriter` does."""

    def _begun_with(self) -> int:
        """The number of rows in a shard: as in the array that is there, whichever version created it, else as in a new
        one."""
        try:
            return int(open_array(self.store, self.dataset, self.name).chunks[0])
        except FileNotFoundError:
            return shard_rows(self.shape, self.dtype)

    def check_room(self, size: int) -> None:
        """StoreError where the disk has no room for as many more bytes."""
        self.store.files.check_room(self.folder, size, _SPARE_BYTES)

    def _record_file(self, index: int) -> str:
        return f"{self.folder}/shards/{index:05d}.json"

    def _show(self) -> str:
        return self.store.files.show(self.folder)

    def _remedy(self) -> str:
        return f"remove it and encode again: encore store remove {self.dataset} --backbone {self.name}"

    def _lacking(self, record: ShardRecord, *, passing: bool) -> list[int]:
        """The rows of a committed shard whose songs came back; with ``passing`` also those that may be readable now."""
        live = [entry for entry in record.failures if entry[0] < len(self._keys) and not self._retired[entry[0]]]
        return [
            row
            for row, kind, reason in live
            if kind == RETIRED or (passing and self._seen[row] and self._has_passed(kind, reason))
        ]

    def _check(self, shard: Shard, record: ShardRecord) -> None:
        """Raise FormatError if a record is of other clips than this catalog's, or than those of one grown since."""
        first, last = record.rows
        keys = self._keys if last <= len(self._keys) else ClipKeys(self.store.open_clips(self.dataset))
        if first != shard.first or last > first + self.rows_per_shard or record.clips != keys.hash(first, last):
            raise FormatError(
                f"{self._show()} belongs to other clips than the catalog's rows {first}-{last - 1}; {self._remedy()}"
            )

    def _read_record(self, index: int) -> ShardRecord | None:
        try:
            digest, _, record = self.store.files.read(self._record_file(index)).partition(b"\n")
            return ShardRecord.parse(json.loads(record)) if digest == hash_bytes(record).encode() else None
        except (FormatError, ValueError, RecursionError, FileNotFoundError):
            return None

    def _read_numbers(self, record: ShardRecord) -> Array | None:
        """A committed shard's numbers; None if they are not those that were committed."""
        try:
            # Opened anew, as another run may have made the array longer.
            values = np.asarray(open_array(self.store, self.dataset, self.name)[slice(*record.rows)])
        except (RuntimeError, ValueError, FileNotFoundError):  # decompressors fail on torn data; there may be no array
            return None
        return values if hash_values(values) == record.values else None

    def _latest(self, index: int) -> ShardRecord | None:
        """The record of a shard in the store at this moment, whichever run wrote it."""
        record = self._read_record(index)
        if record is not None:
            return record
        manifest = self.store.read_manifest(self.dataset, self.name)
        return manifest.shards[index] if manifest is not None and index < len(manifest.shards) else None

    def commit(
        self, shard: Shard, values: Array, failures: Sequence[Failure] = (), notes: Sequence[Failure] = ()
    ) -> ShardRecord:
        """Write a shard's new rows and their record, unless another run has done so already; the record that stands.

        A shard that another run has grown is left to that run; rows that it still lacks are tried by the next one.

        Parameters
        ----------
        values : [len(shard.rows), *shape]; rows that failed hold the fill value.
        failures : (catalog row, kind, reason).
        notes : the same, of rows that did not fail.

        Raises
        ------
        FormatError
            if the shard has committed rows that are damaged.
        """
        if values.shape != (len(shard.rows), *self.shape) or values.dtype != np.dtype(self.dtype):
            raise ValueError(f"shard {shard.index} got {values.shape} {values.dtype}")
        with self.store.lock(self.dataset, self.name):
            before = self._latest(shard.index)
            values_before = self._read_numbers(before) if before is not None else None
            if before is None or values_before is None or shard.index in self._again:
                if shard.index in self._records:
                    raise FormatError(
                        f"{self._show()}: rows {shard.first}-{self._records[shard.index].rows[1] - 1} are damaged and "
                        f"cannot be added to; encode them again: encore store repair {self.dataset} --backbone "
                        f"{self.name}; or {self._remedy()}"
                    )
                record = self._write(shard, values, failures, notes, None, values[:0])
            else:
                self._check(shard, before)
                lacking = set(shard.rows) & set(self._lacking(before, passing=True))
                if before.rows[1] > shard.last or (before.rows[1] == shard.last and not lacking):
                    record = before
                else:
                    record = self._write(shard, values, failures, notes, before, values_before)
            self._records[shard.index] = record
            self._known.add(shard.index)
        return record

    def committed(self, shard: Shard) -> ShardRecord | None:
        """The record of a shard that this or another process has committed since it was planned; else None."""
        record = self._read_record(shard.index)
        if record is None or record.rows[1] < shard.last or self._lacking(record, passing=True):
            return None
        self._check(shard, record)
        return record

    def _write(
        self,
        shard: Shard,
        values: Array,
        failures: Sequence[Failure],
        notes: Sequence[Failure],
        before: ShardRecord | None,
        values_before: Array,
    ) -> ShardRecord:
        """Write a shard, ``values_before`` (recorded by ``before``) and the new rows behind it; then its record."""
        if shard.rows == range(shard.first, shard.last):
            block = values
        else:
            block = np.full((shard.last - shard.first, *self.shape), fill_value(self.dtype), self.dtype)
            block[: len(values_before)] = values_before
            block[np.asarray(shard.rows, dtype=np.int64) - shard.first] = values
        of_values = hash_values(block)
        self._check_again(shard.index, block, failures)
        again = set(shard.rows)
        earlier = [failure for failure in (before.failures if before else ()) if failure[0] not in again]
        earlier_notes = [entry for entry in (before.notes if before else ()) if entry[0] not in again]
        begin = shard.first + len(values_before)
        skipped = [(row, RETIRED, "its song is retired") for row in range(begin, shard.last) if self._retired[row]]
        array = self._writable()
        with Disk(self._show()):
            array[shard.first : shard.last] = block
            file = self._sync(shard.index, block, of_values)
        record = ShardRecord(
            rows=(shard.first, shard.last),
            clips=self._keys.hash(shard.first, shard.last),
            values=of_values,
            failures=tuple(sorted((*earlier, *failures, *skipped))),
            notes=tuple(sorted((*earlier_notes, *notes))),
            layers=self._layers(block),
            file=file,
        )
        content = json.dumps(record.as_json()).encode()
        # Not brought to the disk: one that is lost with the power, or torn, costs that its shard is encoded again.
        data = hash_bytes(content).encode() + b"\n" + content
        self.store.files.write(self._record_file(shard.index), data, durable=False)
        return record

    def _shortened(self, record: ShardRecord, last: int) -> ShardRecord | None:
        """A record of a committed shard's rows before ``last`` alone; None where its numbers are damaged."""
        values = self._read_numbers(record)
        if values is None:
            return None
        first = record.rows[0]
        values = values[: last - first]
        return replace(
            record,
            rows=(first, last),
            clips=self._keys.hash(first, last),
            values=hash_values(values),
            failures=tuple(entry for entry in record.failures if entry[0] < last),
            notes=tuple(entry for entry in record.notes if entry[0] < last),
            layers=self._layers(values),
        )

    def _layers(self, values: Array) -> tuple[str, ...]:
        """The hash of each layer's numbers, where there are layers."""
        return tuple(map(hash_values, np.moveaxis(values, 1, 0))) if has_layers(self.shape) else ()

    def _check_again(self, index: int, values: Array, failures: Sequence[Failure]) -> None:
        """FormatError where a damaged shard is about to be replaced by other numbers than were committed."""
        record = self._lost.get(index)
        if record is None or hash_values(values[: record.rows[1] - record.rows[0]]) == record.values:
            return  # rows of songs that came since lie behind those that were committed
        failed_rows = {row for row, _, _ in record.failures}
        lost = [entry for entry in failures if entry[0] < record.rows[1] and entry[0] not in failed_rows]
        if lost:
            row, kind, reason = lost[0]
            (path,) = self.catalog.clips(row, row + 1).column("path").to_pylist()
            raise FormatError(
                f"{self._show()}: {plural(len(lost), 'clip')} of rows {record.rows[0]}-{record.rows[1] - 1} cannot be "
                f"encoded again (the first is {path}: {kind}: {reason}); put back what they were encoded from, and "
                f"give the same command"
            )
        if any(self._retired[row] and row not in failed_rows for row in range(*record.rows)):
            return  # the numbers of songs that are gone cannot be had again, and are not used
        raise FormatError(
            f"{self._show()}: encoding rows {record.rows[0]}-{record.rows[1] - 1} again gives other numbers than those "
            f"that were committed (were they encoded on another device, or have files changed?); {self._remedy()}"
        )

    def _writable(self) -> zarr.Array[Any]:
        """The array, created on first use and long enough for every row; to be called under the lock."""
        if self._array is None:
            self.store.seals.leave_open(self.dataset, self._layout)
            shape = (len(self.catalog), *self.shape)
            create_array(self.store, self.dataset, self.name, shape, self.dtype, self.rows_per_shard)
            self._array = open_array(self.store, self.dataset, self.name, writable=True)
            if self._array.shape[0] < shape[0]:
                self._array.resize(shape)
        return self._array

    @property
    def _layout(self) -> str:
        """The array's description, which Zarr writes: its path in the collection."""
        return f"{self.name}/representations.zarr/zarr.json"

    def _sync(self, index: int, values: Array, of_values: str) -> str:
        """The hash of a shard's file; a local one is brought to the disk, so that no record is there before it is."""
        name = chunk_name(self.dataset, self.name, self.shape, index)
        local = self.store.files.local
        if local is not None:
            with (local / name).open("rb") as file:
                os.fsync(file.fileno())
        array = self._writable()
        if array.compressors or array.filters:
            return hash_bytes(self.store.files.read(name))
        if len(values) == self.rows_per_shard:
            return of_values
        padding = np.full((self.rows_per_shard - len(values), *self.shape), fill_value(self.dtype), self.dtype)
        return hash_pieces([_raw(values), _raw(padding)])


def _raw(values: Array) -> memoryview:
    """The bytes of an array as they lie in a file."""
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).reshape(-1).view(np.uint8).data
