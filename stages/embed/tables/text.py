"""CSV and TSV.

Text is UTF-8, or UTF-16 as spreadsheets write it, with a header line. In CSV a cell may be quoted and then hold commas
and line breaks; TSV knows no quotes. Where the header lacks the separator that the name promises, and holds commas,
semicolons, tabs or else bars, these are it; a first line ``sep=;`` says it. A .tsv that is separated by commas or
semicolons is read as CSV. Columns without a name (the index that pandas writes) are passed over. A header of several
lines, as pandas writes one for columns of several levels, is joined by points: ``mfcc.mean.01``.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TextIO

import pyarrow as pa

from stages import interrupts
from stages.embed.tables.table import Table, check_names, first_twice
from stages.embed.tables.vectors import text_blocks
from store.errors import RequestError
from store.words import plural

SUFFIXES = {".csv": ",", ".tsv": "\t"}
MAX_TEXT_BYTES = 4 << 30  # text is parsed as a whole

_BLOCK_BYTES = 16 << 20  # no row of text may be longer
_HEADER_LINES = 8  # that a header of several levels may have
_SEPARATOR_LINE = re.compile(r"\"?sep=(?P<separator>[,;\t|])\"?\s*", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_UNNAMED = re.compile(r"Unnamed: \d+_level_\d+")


@dataclass(frozen=True)
class _Dialect:
    """How a text file is written: whether cells may be ``quoted``, and whether its first line is ``sep=``."""

    encoding: str
    delimiter: str
    quoted: bool
    has_separator_line: bool

    def open(self, path: Path) -> TextIO:
        """The file behind a line ``sep=``."""
        file = path.open(encoding=self.encoding, newline="")
        if self.has_separator_line:
            file.readline()
        return file


@dataclass(frozen=True)
class _Header:
    """The names of all columns ("" where one has none), and of how many rows and lines of text they were made."""

    names: list[str]
    rows: int
    lines: int


_NOT_TEXT = {  # how files begin that are called .csv and are something else
    b"PAR1": "Parquet",
    b"\x89HDF": "HDF5",
    b"PK\3\4": "an archive, or a spreadsheet (xlsx, ods)",
    b"\xd0\xcf\x11\xe0": "a spreadsheet (xls)",
    b"\x1f\x8b": "compressed (gzip)",
    b"\xfd7zXZ": "compressed (xz)",
    b"\x28\xb5\x2f\xfd": "compressed (zstd)",
    b"SQLite": "a database (SQLite)",
    b"\x89PNG": "a picture (PNG)",
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
}


def open_text(path: Path) -> Table:
    """The table in a text file, all of it in memory; RequestError with the line where it is none."""
    import pyarrow.csv

    if path.stat().st_size > MAX_TEXT_BYTES:
        raise RequestError(f"{path} has more than {MAX_TEXT_BYTES >> 30} GiB of text; write it as Parquet or HDF5")
    _check_is_text(path)
    try:
        dialect = _dialect(path)
        header = _read_header(path, dialect)
        places = [str(i) for i in range(len(header.names))]
        with interrupts.kept_from_arrow():
            table = pyarrow.csv.read_csv(
                path,
                read_options=pyarrow.csv.ReadOptions(
                    block_size=_BLOCK_BYTES, column_names=places, skip_rows=header.lines, encoding=dialect.encoding
                ),
                parse_options=pyarrow.csv.ParseOptions(
                    delimiter=dialect.delimiter,
                    quote_char='"' if dialect.quoted else False,
                    newlines_in_values=dialect.quoted,
                ),
                convert_options=pyarrow.csv.ConvertOptions(
                    column_types=dict.fromkeys(places, pa.string()), strings_can_be_null=False
                ),
            )
    except pa.ArrowInvalid as error:
        if str(error).startswith("Empty CSV"):
            raise RequestError(f"{path} has no rows") from error
        raise _text_error(path, error) from error
    except (UnicodeError, csv.Error, pa.ArrowException) as error:
        raise _text_error(path, error) from error
    check_names(path, [name for name in header.names if name])
    columns = {name: table.column(i) for i, name in enumerate(header.names) if name}
    if dialect.quoted and table.num_rows:
        _check_last_row(path, table)

    return Table(
        path,
        table.num_rows,
        dict.fromkeys(columns, pa.string()),
        columns.__getitem__,
        text_blocks(columns) if table.num_rows else {},
        nameless=header.names.count(""),
        line=partial(line_of, path, header.rows),
    )


def line_of(path: Path, header_rows: int, row: int) -> int | None:
    """The line (from 1) in which a row of the table (from 0) begins; None where it cannot be told."""
    lines = (line for line, cells in _rows(path) if cells)
    with suppress(csv.Error, StopIteration):  # Arrow is content with cells that are too long for csv
        return next(islice(lines, row + header_rows, None))
    return None


def _check_is_text(path: Path) -> None:
    """Raise for a file whose first bytes say that it holds no text, or zeros alone."""
    with path.open("rb") as file:
        start = file.read(64)
    what = next((what for magic, what in _NOT_TEXT.items() if start.startswith(magic)), None)
    if what is None and start and not any(start):
        what = "zero bytes"
    if what is not None:
        raise RequestError(
            f"{path} is called {path.suffix} and holds {what}; save it as CSV in UTF-8, or name it aright"
        )


def _dialect(path: Path) -> _Dialect:
    """The suffix says the separator, or else a header in which that does not stand and another one does."""
    suffix = path.suffix.lower()
    encoding = _encoding(path)
    with path.open(encoding=encoding, newline="") as file:
        first = file.readline(1 << 20)
        line = _SEPARATOR_LINE.fullmatch(first)
        if line is not None:
            return _Dialect(encoding, line["separator"], True, True)
        while first and not first.strip():
            first = file.readline(1 << 20)
    by_suffix, header = SUFFIXES[suffix], first.strip()
    delimiter = by_suffix if by_suffix in header else max((by_suffix, ",", ";", "\t"), key=header.count)
    if delimiter not in header and "|" in header:  # which otherwise stands within names
        delimiter = "|"
    return _Dialect(encoding, delimiter, (suffix, delimiter) != (".tsv", "\t"), False)


def _encoding(path: Path) -> str:
    """UTF-16 shows itself by a byte order mark, or by the zero byte of a first letter; all else must be UTF-8."""
    with path.open("rb") as file:
        start = file.read(2)
    if start in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    if len(start) == 2 and 0 in start:
        return "utf-16-le" if start[1] == 0 else "utf-16-be"
    return "utf-8-sig"


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """First line (from 1) and cells of every row; no cells for an empty line."""
    dialect = _dialect(path)
    with dialect.open(path) as file:
        yield from _parsed(file, dialect)


def _parsed(file: TextIO, dialect: _Dialect, *, strict: bool = False) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(_BLOCK_BYTES)
    reader = csv.reader(
        file,
        delimiter=dialect.delimiter,
        quoting=csv.QUOTE_MINIMAL if dialect.quoted else csv.QUOTE_NONE,
        strict=strict,
    )
    line = 1 + dialect.has_separator_line
    for cells in reader:
        yield line, cells
        line = reader.line_num + 1 + dialect.has_separator_line


def _read_header(path: Path, dialect: _Dialect) -> _Header:
    """The names of the columns; RequestError where there are none."""
    with dialect.open(path) as file:
        # Where a row begins is where the one before it ends.
        rows = list(islice(((line, cells) for line, cells in _parsed(file, dialect)), 4 * _HEADER_LINES))
    ends = [line - 1 for line, _ in rows[1:]]
    filled_rows = [(cells, ends[i] if i < len(ends) else None) for i, (_, cells) in enumerate(rows) if cells]
    if not filled_rows or not any(cell.strip() for cell in filled_rows[0][0]):
        raise RequestError(f"{path} is empty; its first line must name the columns")
    first = [cell.strip() for cell in filled_rows[0][0]]
    if all(map(_is_number, first)) and first != [str(i) for i in range(len(first))]:
        raise RequestError(f"{path}: the first line must name the columns, and holds numbers alone; add such a line")
    several = _levels([cells for cells, _ in filled_rows])
    names, count = several or (first, 1)
    end = filled_rows[count - 1][1]
    if end is None:
        raise RequestError(f"{path} has no rows")
    return _Header(names, count, end)


def _levels(rows: list[list[str]]) -> tuple[list[str], int] | None:
    """The joined names of a header of several levels, and its lines; None where names stand in one line, or repeat.

    pandas ends such a header with a line that names the index's columns and nothing else, or leaves their cells empty.
    Columns of one level have empty cells below their names.
    """
    first = [cell.strip() for cell in rows[0]]
    if first_twice(name for name in first[1:] if name) is None:
        return None
    rows = [row for row in rows[: _HEADER_LINES + 1] if len(row) == len(first)]
    for end in range(1, len(rows)):
        index = {i for i in range(len(first)) if not any(_named(row[i]) for row in rows[:end])} | {0}
        places = {i for i, cell in enumerate(rows[end]) if cell.strip()}
        if 0 in places and places <= index:
            names = _joined(rows[:end])
            return [rows[end][i].strip() if i in places else name for i, name in enumerate(names)], end + 1
    times = Counter(first)
    for end in range(2, len(rows)):
        empty = [i for i in range(len(first)) if not any(_named(row[i]) for row in rows[1:end])]
        if 0 not in empty or (first[0] and not _names_members(rows[1], times, first, empty)):
            return None
        if first_twice(names := _joined(rows[:end])) is None:
            return names, end
    return None


def _names_members(row: list[str], times: Counter[str], first: list[str], empty: list[int]) -> bool:
    """Whether a row below names can be one of names too: words below those that repeat, nothing below two others."""
    words = [cell for cell, name in zip(row, first, strict=True) if times[name] > 1 and not _is_number(cell)]
    return any(map(_named, words)) and sum(times[first[i]] == 1 for i in empty) > 1


def _named(cell: str) -> bool:
    return bool(cell.strip()) and not _UNNAMED.fullmatch(cell.strip())


def _is_number(cell: str) -> bool:
    return _NUMBER.fullmatch(cell.strip()) is not None


def _joined(rows: list[list[str]]) -> list[str]:
    columns = zip(*rows, strict=True)
    return [".".join(cell.strip() for cell in column if _named(cell)) for column in columns]


def _check_last_row(path: Path, table: pa.Table) -> None:
    """Raise where a quote is still open at the end of the file; what is behind it would be one cell."""
    last = table.slice(table.num_rows - 1)
    if not any("\n" in (column[0].as_py() or "") for column in last.columns):
        return
    dialect = _dialect(path)
    last = 1
    with dialect.open(path) as file:
        try:
            for line, _ in _parsed(file, dialect, strict=True):
                last = line
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                raise RequestError(
                    f"{path}: a quote is left open in the row that ends the file, behind line {last}; close it, or "
                    f'write it twice ("") where it belongs to the text'
                ) from error


def _text_error(path: Path, error: Exception) -> RequestError:
    """What is wrong with a text table, found by reading it again line by line."""
    if _encoding(path) == "utf-8-sig":
        with path.open("rb") as file:
            for line, data in enumerate(file, start=1):
                try:
                    data.decode()
                except UnicodeDecodeError as broken:
                    return RequestError(
                        f"{path}, line {line}: the byte 0x{data[broken.start]:02x} is not UTF-8; save the table as "
                        f"UTF-8 (in a spreadsheet 'CSV UTF-8'; or iconv -f LATIN1 -t UTF-8, or whatever it was "
                        f"written in)"
                    )
    columns, line = None, 0
    with suppress(UnicodeError):  # the first reader's words serve as well
        rows = _rows(path)
        while True:
            try:
                line, cells = next(rows)
            except StopIteration:
                break
            except csv.Error as broken:
                return RequestError(f"{path}, in the row behind line {line}: {broken}")
            columns = columns or len(cells)
            if cells and len(cells) != columns:
                return RequestError(
                    f"{path}, line {line}: {plural(len(cells), 'column')} where the header has {columns}; correct "
                    f"that line (in CSV a cell that holds commas stands in double quotes)"
                )
    return RequestError(f"{path} cannot be read as a table: {error}")
