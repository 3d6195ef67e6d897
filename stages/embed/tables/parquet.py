"""Parquet files as tables; a column of lists of numbers, all of one length, is a block of vectors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stages.embed.tables.table import Block, Table, check_names, is_vector
from store.errors import RequestError

SUFFIXES = (".parquet", ".pq")
MAX_WIDTH = 1 << 16


def open_parquet(path: Path) -> Table:
    """The file's columns; RequestError where it is none, or is damaged."""
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
        types = {f.name: f.type for f in schema if f.name}
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: the name of a column is not UTF-8: {error.object!r}; rename it") from error
    except (pa.ArrowException, OSError) as error:
        raise RequestError(f"{path} is no Parquet file that can be read: {error}") from error
    check_names(path, [name for name in schema.names if name])

    def read(name: str) -> pa.ChunkedArray:
        try:
            return file.read(columns=[name]).column(name)
        except (pa.ArrowException, OSError) as error:
            raise RequestError(f"{path}: the column {name!r} cannot be read: {error}") from error

    vectors = {name: _Vectors(file, path, name) for name, kind in types.items() if is_vector(kind)}
    ragged = {name: why for name, column in vectors.items() if (why := column.why_not())}
    blocks = {name: Block(column.width, column.take) for name, column in vectors.items() if name not in ragged}
    unreadable = ragged | {name: f"holds {kind}" for name, kind in types.items() if _is_nested(kind)}
    columns = {name: kind for name, kind in types.items() if name not in blocks}
    nameless = schema.names.count("")
    return Table(path, file.metadata.num_rows, columns, read, blocks, unreadable, nameless)


class _Vectors:
    """A column of lists, read a row group at a time: the last one stays in memory."""

    def __init__(self, file: Any, path: Path, name: str) -> None:
        self._file = file
        self._path = path
        self._name = name
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
        self._begin = np.cumsum([0, *sizes])
        self._group = lru_cache(maxsize=1)(self._read_group)
        self.width = 0

    def why_not(self) -> str | None:
        """Why these are no vectors of one length; None where they are, and then ``width`` is known."""
        for group in range(len(self._begin) - 1):
            lengths = pc.list_value_length(self._cells(group))
            for length in pc.unique(lengths.drop_null()).to_pylist():
                self.width = self.width or length
                if length != self.width or not 0 < length <= MAX_WIDTH:
                    row = int(self._begin[group]) + int(pc.index(lengths, pa.scalar(length, lengths.type)).as_py())
                    if length > MAX_WIDTH:
                        return f"holds {length:,} numbers in row {row} (from 0); {MAX_WIDTH:,} are the most"
                    return f"holds lists of several lengths: {length} in row {row} (from 0), {self.width} before"
        return None if self.width else "is empty"

    def take(self, rows: slice | Sequence[int]) -> NDArray[np.float32]:
        numbers = (
            np.arange(rows.start, min(rows.stop, int(self._begin[-1]))) if isinstance(rows, slice) else np.array(rows)
        )
        vectors = np.empty((len(numbers), self.width), dtype=np.float32)
        groups = np.searchsorted(self._begin, numbers, side="right") - 1
        for group in np.unique(groups).tolist():
            mine = groups == group
            vectors[mine] = self._group(group)[numbers[mine] - self._begin[group]]
        return vectors

    def _cells(self, group: int) -> pa.ChunkedArray:
        try:
            return self._file.read_row_group(group, columns=[self._name]).column(0)
        except (pa.ArrowException, OSError) as error:
            raise RequestError(f"{self._path}: the column {self._name!r} cannot be read: {error}") from error

    def _read_group(self, group: int) -> NDArray[np.float32]:
        cells = self._cells(group).combine_chunks()
        values = np.full((len(cells), self.width), np.nan, dtype=np.float32)
        numbers = cells.flatten().cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)
        with np.errstate(over="ignore"):  # what single precision cannot hold is not finite
            values[cells.is_valid().to_numpy(zero_copy_only=False)] = numbers.reshape(-1, self.width)
        return values


def _is_nested(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind) or pa.types.is_map(kind):
        return True
    return isinstance(kind, pa.ListType | pa.LargeListType | pa.FixedSizeListType) and pa.types.is_nested(
        kind.value_type
    )
