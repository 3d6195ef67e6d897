"""Tables as people have them: CSV, TSV, Parquet, HDF5.

Text is UTF-8 with a header line. In CSV a cell may be quoted and then hold commas and line breaks; TSV knows no
quotes. Where the header lacks the separator that the name promises, and holds commas, semicolons or tabs, these are it;
a .tsv that is separated by commas or semicolons is read as CSV.
Columns without a name (the index that pandas writes) are passed over. Every complaint names file and line.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.embed.hdf5 import column_of, layout_of
from store.errors import RequestError
from store.words import counted

TEXT_SUFFIXES = {".csv": ",", ".tsv": "\t"}
PARQUET_SUFFIXES = (".parquet", ".pq")
HDF5_SUFFIXES = (".h5", ".hdf5")

MAX_TEXT_BYTES = 4 << 30  # text is parsed as a whole
MAX_ROWS = 50_000_000

_BLOCK_BYTES = 16 << 20  # no row of text may be longer
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_DECIMAL_COMMA = r"^[+-]?\d+,\d+$"
_NO_NUMBER = ["nan", "na", "n/a", "null", "none", "inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"]


@dataclass(frozen=True)
class Table:
    """Named columns of one length, each read when it is asked for.

    Attributes
    ----------
    types : the columns and their Arrow types, in the file's order; text files hold strings only.
    wide : two-dimensional columns (HDF5) and their widths.
    header : rows before the first of the table.
    nameless : how many columns of a text file are passed over, since the header gives them no name.
    """

    path: Path
    rows: int
    types: Mapping[str, pa.DataType]
    read: Callable[[str], pa.ChunkedArray] = field(repr=False)
    wide: Mapping[str, int] = field(default_factory=dict)
    header: int = 1
    nameless: int = 0

    def where(self, row: int) -> str:
        """File and place of a row (from 0), as a person finds it."""
        if self.path.suffix.lower() in TEXT_SUFFIXES:
            lines = (line for line, cells in _text_rows(self.path) if cells)
            with suppress(csv.Error, StopIteration):  # Arrow is content with cells that are too long for csv
                return f"{self.path}, line {next(islice(lines, row + self.header, None))}"
        return f"{self.path}, row {row} (from 0)"

    def strings(self, name: str) -> list[str | None]:
        """A column as trimmed text; None where a cell is empty."""
        values: list[str | None] = self._text(name).to_pylist()
        return values

    def lists(self, name: str) -> list[list[str]]:
        """The values of each cell, without repetition: a list column, or text separated by ``|``."""
        column = self.read(name)
        if _is_list(column.type):
            return [_distinct(cell or ()) for cell in column.cast(pa.list_(pa.string())).to_pylist()]
        cells = self.strings(name)
        parsed = {cell: _distinct(cell.split("|") if cell else ()) for cell in set(cells)}
        return [parsed[cell] for cell in cells]

    def floats(self, name: str) -> tuple[np.ndarray[Any, np.dtype[np.float64]], np.ndarray[Any, np.dtype[np.bool_]]]:
        """A column as numbers: values, NaN where a cell holds none; and a mask of the cells that hold other text."""
        column = self.read(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if _is_number(column.type) or pa.types.is_boolean(column.type):
            return _to_numpy(column.cast(pa.float64(), safe=False)), np.zeros(self.rows, dtype=bool)
        if pa.types.is_string(column.type):
            with suppress(pa.ArrowInvalid):  # mostly there is a number in every cell, and nothing more to find out
                values = _to_numpy(column.cast(pa.float64()))
                if np.isfinite(values).all():
                    return values, np.zeros(self.rows, dtype=bool)
        text = self._text(name)
        good = pc.fill_null(pc.match_substring_regex(text, _NUMBER), False)
        missing = pc.fill_null(pc.is_in(pc.utf8_lower(text), pa.array(_NO_NUMBER)), False)
        strange = pc.and_not(pc.is_valid(text), pc.or_(good, missing))
        numbers = pc.if_else(good, text, pa.scalar(None, pa.string())).cast(pa.float64())
        return _to_numpy(numbers), strange.to_numpy()

    def seconds(self, name: str, *, above: bool = False) -> list[float | None]:
        """A column of times in seconds, 0 or more (``above``: more than 0); None where a cell is empty."""
        values, _ = self.floats(name)
        given = self.read(name).is_valid().to_numpy() if _is_number(self.types[name]) else _given(self.strings(name))
        wrong = given & ~((values > 0) & np.isfinite(values) | (values == 0) & (not above))
        if wrong.any():
            row = int(np.argmax(wrong))
            cell = self.read(name)[row].as_py()
            raise RequestError(
                f"{self.where(row)}: {name} {cell!r} is no time in seconds, {'above' if above else 'at least'} 0; "
                f"correct it, or leave it empty"
            )
        return [value if has else None for value, has in zip(values.tolist(), given.tolist(), strict=True)]

    def is_numeric(self, name: str) -> tuple[bool, int | None]:
        """Whether every cell that holds something holds a number; and the first that does not, where most do."""
        if name in self.wide or _is_number(self.types[name]):
            return True, None
        if not pa.types.is_string(self.types[name]):
            return False, None
        values, strange = self.floats(name)
        numbers = int(np.isfinite(values).sum())
        if strange.any():
            decimals = pc.match_substring_regex(self._text(name), _DECIMAL_COMMA)
            commas = pc.sum(decimals).as_py() or 0
            return False, int(np.argmax(strange)) if numbers + commas > strange.sum() - commas else None
        return numbers > 0, None

    def _text(self, name: str) -> pa.ChunkedArray:
        column = self.read(name)
        try:
            text = pc.utf8_trim_whitespace(column.cast(pa.string()))
        except pa.ArrowException as error:
            raise RequestError(f"{self.path}: the column {name!r} holds {column.type}, and text is wanted") from error
        return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


def read_table(path: Path) -> Table:
    """Open a table; RequestError names file, line and remedy where it is not one."""
    suffix = path.suffix.lower()
    if not path.is_file():
        raise RequestError(f"there is no table {path}")
    if suffix in TEXT_SUFFIXES:
        table = _open_text(path)
    elif suffix in PARQUET_SUFFIXES:
        table = _open_parquet(path)
    elif suffix in HDF5_SUFFIXES:
        rows, types, wide = layout_of(path)
        table = Table(path, rows, types, lambda name: pa.chunked_array([column_of(path, name)]), wide)
    else:
        have = ", ".join((*TEXT_SUFFIXES, *PARQUET_SUFFIXES, *HDF5_SUFFIXES))
        raise RequestError(f"{path} is no table that can be read; have: {have}")
    if not table.rows:
        raise RequestError(f"{path} has no rows")
    if table.rows > MAX_ROWS:
        raise RequestError(f"{path} has {table.rows:,} rows; {MAX_ROWS:,} are the most")
    return table


def _open_text(path: Path) -> Table:
    import pyarrow.csv

    if path.stat().st_size > MAX_TEXT_BYTES:
        raise RequestError(f"{path} has more than {MAX_TEXT_BYTES >> 30} GiB of text; write it as Parquet or HDF5")
    try:
        delimiter, quoted = _dialect(path)
        _, header = next(((line, cells) for line, cells in _text_rows(path) if cells), (0, []))
        if not any(header):
            raise RequestError(f"{path} is empty; its first line must name the columns")
        table = pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(block_size=_BLOCK_BYTES),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=delimiter, quote_char='"' if quoted else False, newlines_in_values=quoted
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False
            ),
        )
    except (UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        raise _text_error(path, error) from error
    names = [name.strip() for name in header]
    _check_names(path, [name for name in names if name])
    columns = {name: table.column(i) for i, name in enumerate(names) if name}
    types = dict.fromkeys(columns, pa.string())
    return Table(path, table.num_rows, types, columns.__getitem__, nameless=names.count(""))


def _open_parquet(path: Path) -> Table:
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        types = {f.name: f.type for f in file.schema_arrow}
    except (pa.ArrowException, OSError) as error:
        raise RequestError(f"{path} is no Parquet file that can be read: {error}") from error
    _check_names(path, file.schema_arrow.names)

    def read(name: str) -> pa.ChunkedArray:
        try:
            return file.read(columns=[name]).column(name)
        except (pa.ArrowException, OSError) as error:
            raise RequestError(f"{path}: the column {name!r} cannot be read: {error}") from error

    return Table(path, file.metadata.num_rows, types, read)


def _check_names(path: Path, names: Sequence[str]) -> None:
    twice = first_twice(names)
    if twice is not None:
        raise RequestError(f"{path} has more than one column {twice!r}; rename all but one")


def first_twice(names: Iterable[str]) -> str | None:
    """The first of the names that stands among them more than once."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def _dialect(path: Path) -> tuple[str, bool]:
    """What separates columns, and whether cells may be quoted, as in all but a TSV with tabs.

    The suffix says it, or else a header in which what it says does not stand and another separator does.
    """
    suffix = path.suffix.lower()
    meant = TEXT_SUFFIXES[suffix]
    with path.open(encoding="utf-8-sig") as file:
        header = next((line for line in file if line.strip()), "")
    held = header.strip()
    delimiter = meant if meant in held else max((meant, ",", ";", "\t"), key=held.count)
    return delimiter, (suffix, delimiter) != (".tsv", "\t")


def _text_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """First line (from 1) and cells of every row; no cells for an empty line."""
    delimiter, quoted = _dialect(path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
        line = 1
        for cells in reader:
            yield line, cells
            line = reader.line_num + 1


def _text_error(path: Path, error: Exception) -> RequestError:
    """What is wrong with a text table, found by reading it again line by line."""
    with path.open("rb") as file:
        for line, data in enumerate(file, start=1):
            try:
                data.decode()
            except UnicodeDecodeError as broken:
                return RequestError(
                    f"{path}, line {line}: the byte 0x{data[broken.start]:02x} is not UTF-8; save the table as UTF-8 "
                    f"(in a spreadsheet 'CSV UTF-8'; or iconv -f LATIN1 -t UTF-8, or whatever it was written in)"
                )
    columns = None
    try:
        for line, cells in _text_rows(path):
            columns = columns or len(cells)
            if cells and len(cells) != columns:
                return RequestError(
                    f"{path}, line {line}: {counted(len(cells), 'column')} where the header has {columns}; correct "
                    f"that line (in CSV a cell that holds commas stands in double quotes)"
                )
    except csv.Error:
        pass  # the first reader's words serve as well
    return RequestError(f"{path} cannot be read as a table: {error}")


def _distinct(values: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(value.strip() for value in values if value and value.strip()))


def _to_numpy(column: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.float64]]:
    values: np.ndarray[Any, np.dtype[np.float64]] = column.to_numpy()  # nulls become NaN
    return values


def _given(cells: Sequence[str | None]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.array([cell is not None for cell in cells], dtype=bool)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
