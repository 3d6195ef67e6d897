"""Write representations so that a kill at any moment loses at most the shards in progress.

The order of writes is the protocol: a shard's numbers, then its record (rows, clips, hash; see `store.shards`), and
once every shard has a record, or damaged ones were encoded again, the failures, then the manifest. Readers trust only
the manifest, so the previous state stays readable until the next one is complete.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sized

import numpy as np

from store.clips import failures_table
from store.errors import StoreError
from store.schema import RETIRED, Manifest, ShardRecord
from store.shards import Shard, ShardWriter


class RepresentationWriter(ShardWriter):
    """The shards that one representation of one collection still lacks, and the way to commit them.

    Parameters are those of `ShardWriter`.

    Opening reads back the numbers of all shards that other or interrupted runs have committed without finishing, each
    once; a damaged one is encoded again. Whatever other processes commit later they have brought to the disk, and it is
    not read again.

    A row of a retired song is not encoded but recorded as such, and encoded when the song comes back. A row whose file
    could not be read for a reason that may have passed is tried again, once the catalog has seen that file.

    Attributes
    ----------
    pending : the shards to be encoded, in order.
    is_complete : whether nothing is pending and there is a manifest.

    Raises
    ------
    FormatError
        if the folder holds arrays of another shape or type, or belongs to other clips.
    """

    def _plan(self) -> None:
        self._damaged: set[int] = set()  # shards with a record, but without the numbers that it is of
        self._recover()
        for index in self._known & self._lost.keys():
            del self._lost[index]
        self.pending = [shard for shard in self._shards() if shard.rows or not self._is_committed(shard)]
        if self._again:
            self.pending = [shard for shard in self.pending if shard.index in self._again]
        self.is_complete = self._has_all_rows and not self.pending

    def share(self, part: tuple[int, int] = (1, 1)) -> list[Shard]:
        """The pending shards of part i of n, 1 <= i <= n: every n-th."""
        number, parts = part
        return [shard for shard in self.pending if shard.index % parts == number - 1]

    def most_bytes(self, shards: Sized) -> int:
        """How much disk as many shards take at most."""
        row_bytes = math.prod(self.shape) * np.dtype(self.dtype).itemsize
        return len(shards) * self.rows_per_shard * row_bytes

    def begin(self) -> None:
        """Lay out the array, so that processes which are given shards need not."""
        with self.store.lock(self.dataset, self.name):
            self._writable()

    def take_over(self, index: int, values: str) -> None:
        """Count a shard as done that another process has committed; ``values`` is the hash of its numbers.

        Raises
        ------
        StoreError
            where the store holds no such shard, as the process writes to another store.
        """
        record = self._records.get(index) if index in self._known else self._latest(index)
        if record is None or record.values != values:
            raise StoreError(
                f"{self._show()} does not hold the shard {index} that another process says it has committed; name a "
                f"--store that all of them can reach, and see that nobody else writes to it"
            )
        self._records[index] = record
        self._known.add(index)

    def _shards(self) -> list[Shard]:
        total, step = len(self.catalog), self.rows_per_shard
        return [
            self._shard(index, first, min(first + step, total)) for index, first in enumerate(range(0, total, step))
        ]

    def _shard(self, index: int, first: int, last: int) -> Shard:
        record = self._records.get(index)
        begin = record.rows[1] if record else first
        failed_rows = self._lacking(record, passing=True) if record else []
        retired = self._retired[begin:last]
        if not failed_rows and not retired.any():  # of a million clips these are a million numbers
            return Shard(index, first, last, range(begin, last))
        return Shard(index, first, last, (*failed_rows, *(begin + np.flatnonzero(~retired)).tolist()))

    def _is_committed(self, shard: Shard) -> bool:
        record = self._records.get(shard.index)
        if record is None:
            return False
        self._check(shard, record)
        return record.rows[1] >= shard.last and not self._lacking(record, passing=False)

    def _recover(self) -> None:
        """Take over the shards that other or interrupted runs have committed, each only if its numbers are whole."""
        for index, record in self._unfinished():
            if self._read_numbers(record) is None:
                self._records.pop(index, None)
                self._damaged.add(index)
            else:
                self._records[index] = record
                self._known.add(index)

    def _unfinished(self) -> Iterator[tuple[int, ShardRecord]]:
        """The shards committed since the manifest was written, but for those known to this process."""
        for file in self.store.files.files(f"{self.folder}/shards"):
            name = file.removesuffix(".json")
            record = self._read_record(int(name)) if name.isdecimal() and int(name) not in self._known else None
            if record is not None:
                yield int(name), record

    def finish(self) -> Manifest | None:
        """Write failures and manifest once every shard is there; None while other processes still work on theirs.

        If another run has grown the collection meanwhile, finishing is left to that run. Damaged shards that were
        encoded again are readable from here on, whether or not rows of songs that came since are still to be encoded.
        """
        with self.store.lock(self.dataset, self.name):
            manifest = self.store.read_manifest(self.dataset, self.name)
            if manifest is not None and manifest.rows > len(self.catalog):
                return manifest
            for index, record in enumerate(manifest.shards if manifest is not None else ()):
                if index not in self._known:
                    self._records[index] = record
            for index, record in self._unfinished():
                if index not in self._damaged or self._read_numbers(record) is not None:  # or encoded again since
                    self._records[index] = record
            is_complete = all(self._is_committed(shard) for shard in self._shards())
            if not is_complete or any(record.rows[1] > len(self.catalog) for record in self._records.values()):
                if manifest is not None and self._again & self._known:
                    self._write_manifest(self._replaced(index, old) for index, old in enumerate(manifest.shards))
                return None
            return self._finish()

    def _replaced(self, index: int, record: ShardRecord) -> ShardRecord:
        """A shard's record in the manifest, or, where the shard was damaged and encoded again, that of the same rows
        now: songs that are gone have no numbers any more."""
        now = self._read_record(index) if index in self._again else None  # of another process, where it has added rows
        if now is None:
            return record
        return now if now.rows == record.rows else self._shortened(now, record.rows[1]) or record

    def _finish(self) -> Manifest:
        self._writable()  # even a catalog without rows has an array
        self.store.seals.close(self.dataset, self._layout)
        manifest = self._write_manifest(record for _, record in sorted(self._records.items()))
        self.store.files.remove(f"{self.folder}/shards")
        self.is_complete, self.pending = True, []
        return manifest

    def _write_manifest(self, shards: Iterable[ShardRecord]) -> Manifest:
        records = tuple(shards)
        failures = [failure for record in records for failure in record.failures if failure[1] != RETIRED]
        self.store.write_table(f"{self.folder}/failures.parquet", failures_table(self.catalog, failures))
        manifest = Manifest(
            backbone=self.name.backbone,
            fingerprint=self.name.fingerprint,
            rows=records[-1].rows[1] if records else 0,
            shard_rows=self.rows_per_shard,
            shape=self.shape,
            dtype=self.dtype,
            settings=self.settings,
            shards=records,
        )
        self.store.write({f"{self.folder}/manifest.json": manifest.to_json()})
        return manifest
