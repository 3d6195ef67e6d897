"""The clips of a catalog as encoding reads them: a block of rows at a time.

Encoding needs of each clip its file, its stretch and what its numbers are bound to, and never those of more clips than
the shards at work have. So it reads the stored catalog group by group, and what it holds of a collection does not grow
with it but for two flags a row.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from store.errors import StoreError
from store.fingerprint import hash_pieces
from store.keys import RowKeys, texts
from store.schema import CATALOG_SCHEMA, CONTENT, ENCODED, FAILURES_SCHEMA, Catalog, CatalogInfo

_SCHEMA = pa.schema([CATALOG_SCHEMA.field(name) for name in ENCODED])
_ROWS = 1 << 16  # looked at together, where all are
_GROUPS = 2  # in memory: shards are taken in order, and one may reach from a group into the next
_PIECE_BYTES = 1 << 19


class Clips(Protocol):
    """The clips of a catalog; a `store.schema.Catalog` holds all of them in memory."""

    @property
    def info(self) -> CatalogInfo: ...

    def __len__(self) -> int: ...

    def clips(self, first: int, last: int) -> pa.Table:
        """The columns `store.schema.ENCODED` of rows [first, last); fewer rows where there are fewer."""


class StoredClips:
    """The clips of a catalog's file, read group by group. A command that replaces the file changes nothing here.

    Parameters
    ----------
    source : the file's path, or its bytes.
    check : is called with the hash of all bytes before any is believed.

    Attributes
    ----------
    hash : of all bytes of the file.

    Raises
    ------
    FormatError, RequestError
        if it is no catalog of this version.
    """

    def __init__(
        self, source: str | os.PathLike[str] | bytes, check: Callable[[str], None] = lambda _hash: None
    ) -> None:
        self._source = source
        self._groups: OrderedDict[int, pa.Table] = OrderedDict()
        self._open: pq.ParquetFile | None = None
        bytes_of_file = self._file_bytes()
        self.hash = hash_pieces(_pieces(bytes_of_file))
        check(self.hash)
        self._open = _parquet(bytes_of_file)
        self.info = Catalog.from_arrow(self._open.schema_arrow.empty_table()).info
        counts = [self._open.metadata.row_group(i).num_rows for i in range(self._open.num_row_groups)]
        self._begins = np.cumsum([0, *counts])

    def __len__(self) -> int:
        return int(self._begins[-1])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None, "_groups": OrderedDict()}

    def clips(self, first: int, last: int) -> pa.Table:
        """See `Clips.clips`."""
        last = min(last, len(self))
        if first >= last:
            return _SCHEMA.empty_table()
        begin, end = np.searchsorted(self._begins, [first, last - 1], side="right") - 1
        pieces = []
        for group in range(begin, end + 1):
            start, stop = self._begins[group : group + 2].tolist()
            pieces.append(self._group(group).slice(max(0, first - start), min(last, stop) - max(first, start)))
        return pa.concat_tables(pieces)

    def _group(self, index: int) -> pa.Table:
        group = self._groups.pop(index, None)
        if group is None:
            while len(self._groups) >= _GROUPS:
                self._groups.popitem(last=False)
            group = self._read(index)
        self._groups[index] = group
        return group

    def _read(self, index: int) -> pa.Table:
        file = self._file()
        there = [name for name in ENCODED if name in file.schema_arrow.names]
        group = file.read_row_group(index, columns=there, use_threads=False)
        columns = {name: group.column(name) for name in there}
        for name in set(ENCODED) - set(there):  # columns that a catalog of an earlier version has not
            columns[name] = pa.nulls(group.num_rows, CATALOG_SCHEMA.field(name).type)
        return pa.table({name: columns[name] for name in ENCODED}, schema=_SCHEMA)

    def _file(self) -> pq.ParquetFile:
        """The file; a process that was not forked opens it anew."""
        if self._open is None:
            bytes_of_file = self._file_bytes()
            if hash_pieces(_pieces(bytes_of_file)) != self.hash:
                raise StoreError(f"another command wrote {self._source!s} meanwhile; run the same command again")
            self._open = _parquet(bytes_of_file)
        return self._open

    def _file_bytes(self) -> pa.NativeFile:
        return pa.BufferReader(self._source) if isinstance(self._source, bytes) else pa.OSFile(str(self._source))


def _parquet(file: pa.NativeFile) -> pq.ParquetFile:
    return pq.ParquetFile(file, pre_buffer=False)


def _pieces(file: pa.NativeFile) -> Iterator[memoryview]:
    while piece := file.read(_PIECE_BYTES):
        yield memoryview(piece)


def blocks(clips: Clips) -> Iterator[tuple[int, pa.Table]]:
    """All clips, so many at a time: the first row and the columns `store.schema.ENCODED`."""
    for first in range(0, len(clips), _ROWS):
        yield first, clips.clips(first, first + _ROWS)


def flags(clips: Clips) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """[rows] whether the row is retired, and whether its file was seen."""
    retired, seen = np.zeros(len(clips), bool), np.zeros(len(clips), bool)
    for first, table in blocks(clips):
        retired[first : first + len(table)] = table.column("retired").to_numpy()
        seen[first : first + len(table)] = table.column("source").is_valid().to_numpy()
    return retired, seen


class ClipKeys:
    """Hashes of what decides the numbers of consecutive rows, a block at a time."""

    def __init__(self, clips: Clips) -> None:
        self._clips = clips
        self._block: tuple[int, RowKeys] | None = None  # the last one, since shards are taken in order

    def __len__(self) -> int:
        return len(self._clips)

    def hash(self, first: int, last: int) -> str:
        """See `store.keys.RowKeys.hash`."""
        begin = first - first % _ROWS
        if last > begin + _ROWS:
            return self._keys(first, last).hash(0, last - first)
        if self._block is None or self._block[0] != begin:
            self._block = begin, self._keys(begin, begin + _ROWS)
        return self._block[1].hash(first - begin, last - begin)

    def _keys(self, first: int, last: int) -> RowKeys:
        table = self._clips.clips(first, last)
        return RowKeys(texts([table.column(name) for name in CONTENT]))


def failures_table(clips: Clips, entries: Sequence[tuple[int, str, str]]) -> pa.Table:
    """(row, kind, reason) of rows of a catalog, in their order, as a table of `FAILURES_SCHEMA`."""
    rows = np.array([row for row, _, _ in entries], dtype=np.int64)
    pieces = [_SCHEMA.empty_table().select(["clip_id", "path"])]
    for first in np.unique(rows - rows % _ROWS).tolist():
        of_block = rows[(rows >= first) & (rows < first + _ROWS)]
        pieces.append(clips.clips(first, first + _ROWS).select(["clip_id", "path"]).take(pa.array(of_block - first)))
    whose = pa.concat_tables(pieces)
    columns = {
        "row": rows,
        "clip_id": whose.column("clip_id"),
        "path": whose.column("path"),
        "kind": [kind for _, kind, _ in entries],
        "reason": [reason for _, _, reason in entries],
    }
    return pa.table(columns, schema=FAILURES_SCHEMA)
