"""A table as the rest of Encore sees it: named columns of text, lists, numbers and vectors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stages.embed.tables import lists, numbers
from stages.embed.tables.missing import Missing
from store.errors import RequestError

CUT_SHORT = r"^\[[-+0-9.eE,\s]+\.\.\.[-+0-9.eE,\s]+\]$"  # as numpy shows long arrays
# All that Unicode calls white space, and what takes no width: pasted from pages, it stands beside names unseen.
_BLANK = "".join(c for c in map(chr, range(0x3001)) if c.isspace()) + "\u200b\u200c\u200d\u2060\ufeff"
LONG_CELL = 10  # lines; what a cell with more of them holds are rows behind a quote that was left open


@dataclass(frozen=True)
class Block:
    """A column of vectors.

    Attributes
    ----------
    width : numbers in each.
    take : the rows of a slice (``start`` and ``stop``) or of a list, in its order: ``float32 [rows, width]``, NaN where
        a cell holds none.
    """

    width: int
    take: Callable[[slice | Sequence[int]], NDArray[np.float32]] = field(repr=False)


@dataclass(frozen=True)
class Table:
    """Columns of one length, each read when it is asked for.

    Attributes
    ----------
    types : the columns and their Arrow types, in the file's order; text files hold strings only.
    blocks : columns of vectors: two-dimensional data of HDF5, lists of numbers in Parquet or written as text.
    unreadable : columns that can be neither text, numbers nor vectors, and why.
    nameless : columns of a text file that are passed over, since the header gives them no name.
    missing : what a cell without a value holds.
    line : of a text file, the line (from 1) of a row (from 0).
    """

    path: Path
    rows: int
    types: Mapping[str, pa.DataType]
    read: Callable[[str], pa.ChunkedArray] = field(repr=False)
    blocks: Mapping[str, Block] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    nameless: int = 0
    missing: Missing = field(default_factory=Missing)
    line: Callable[[int], int | None] | None = field(default=None, repr=False)

    @property
    def names(self) -> list[str]:
        """All columns that can be read."""
        return list(dict.fromkeys([*self.types, *self.blocks]))

    def where(self, row: int) -> str:
        """File and place of a row (from 0), as a person finds it."""
        line = None if self.line is None else self.line(row)
        return f"{self.path}, row {row} (from 0)" if line is None else f"{self.path}, line {line}"

    def text(self, name: str) -> pa.ChunkedArray:
        """A column as trimmed text, as it is written; null where a cell is empty, or no number.

        Raises
        ------
        RequestError
            where the column holds something else, or bytes that are no UTF-8.
        """
        column = self.read(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_floating(column.type):
            column = _as_whole(column)
        try:
            text = pc.utf8_trim(column.cast(pa.string()), characters=_BLANK)
        except pa.ArrowException as error:
            row = _not_utf8(column)
            if row is not None:
                raise RequestError(
                    f"{self.where(row)}: the column {name!r} holds bytes that are not UTF-8; write the table anew as "
                    f"UTF-8"
                ) from error
            raise RequestError(
                f"{self.path}: the column {name!r} holds {column.type}, in row {_first_valid(column)} (from 0) first, "
                f"and text is wanted"
            ) from error
        return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)

    def values(self, name: str) -> pa.ChunkedArray:
        """A column as text in Unicode's composed form; null where a cell holds no value."""
        return self.missing.nulled(pc.utf8_normalize(self.text(name), form="NFC"))

    def strings(self, name: str) -> list[str | None]:
        """`values` as Python strings."""
        values: list[str | None] = self.values(name).to_pylist()
        return values

    def lists(self, name: str, separator: re.Pattern[str] | None = None) -> list[list[str]]:
        """The values of each cell, without repetition: a list column, or text as `stages.embed.tables.lists` splits it.

        Parameters
        ----------
        separator : what separates values beside ``|``, where a user says so.
        """
        column = self.read(name)
        if _is_list(column.type):
            every = self._list_items(name, column)
            return [self._distinct(cell or (), separator) for cell in every]
        cells = self.strings(name)
        by_cell = {cell: self._distinct([cell] if cell else (), separator) for cell in set(cells)}
        return [list(by_cell[cell]) for cell in cells]

    def _list_items(self, name: str, column: pa.ChunkedArray) -> list[list[str | None] | None]:
        try:
            items: list[list[str | None] | None] = column.cast(pa.list_(pa.string())).to_pylist()
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise RequestError(
                f"{self.path}: the column {name!r} holds {column.type}, in row {_first_valid(column)} (from 0) first, "
                f"and lists of text are wanted"
            ) from error
        return items

    def _distinct(self, cell: Iterable[str | None], separator: re.Pattern[str] | None) -> list[str]:
        import unicodedata

        parts = (part for value in cell if value is not None for part in lists.split(value.strip(), separator))
        composed = (unicodedata.normalize("NFC", part) for part in parts)
        return list(dict.fromkeys(part for part in composed if part not in self.missing))

    def words_for_missing(self, name: str) -> Counter[str]:
        """The words other than an empty cell that stand for no value in a column, and how often each does."""
        if _is_list(self.types[name]) or not _is_text(self.types[name]):
            return Counter()
        text = self.text(name).drop_null()
        text = text.filter(self.missing.mask(text))
        return Counter({entry["values"]: entry["counts"] for entry in pc.value_counts(text).to_pylist()})

    def floats(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """A column as numbers: values, NaN where a cell holds none; and a mask of the cells that hold other text.

        Raises
        ------
        RequestError
            where the column's commas can be read in two ways.
        """
        numbers = self._numbers(name)
        if numbers.readings is not None:
            raise RequestError(f"{self.path}: {name} {self._two_readings(numbers)}")
        return numbers.values, numbers.strange

    def seconds(self, name: str, *, above: bool = False) -> list[float | None]:
        """A column of times in seconds, 0 or more (``above``: more than 0); None where a cell holds no value."""
        values, strange = self.floats(name)
        has_value = strange | ~np.isnan(values)
        if _is_text(self.types[name]):
            has_value |= np.array(self.values(name).is_valid())
        wrong = has_value & ~((values > 0) & np.isfinite(values) | (values == 0) & (not above))
        if wrong.any():
            row = int(np.argmax(wrong))
            cell = self.read(name)[row].as_py()
            raise RequestError(
                f"{self.where(row)}: {name} {cell!r} is no time in seconds, {'above' if above else 'at least'} 0; "
                f"correct it, or leave it empty"
            )
        return [value if has else None for value, has in zip(values.tolist(), has_value.tolist(), strict=True)]

    def why_no_numbers(self, name: str) -> str | None:
        """Why a column is not one of numbers; None where every cell that holds a value holds a number."""
        kind = self.types[name]
        if not _is_text(kind):
            return None if _is_number(_plain(kind)) else f"holds {kind}"
        try:
            parsed = self._numbers(name)
        except RequestError:
            return f"holds bytes that are not UTF-8, in row {_not_utf8(self.read(name))} (from 0) first"
        if parsed.readings is not None:
            return self._two_readings(parsed)
        count, strange = int(np.isfinite(parsed.values).sum()), int(parsed.strange.sum())
        if not strange:
            return None if count else "is empty"
        row = int(np.argmax(parsed.strange))
        cell = self.text(name)[row].as_py()
        if count and numbers.is_number(cell):
            other = self.text(name)[int(np.argmax(np.isfinite(parsed.values)))].as_py()
            return f"holds {cell!r} ({self.where(row)}) beside {other!r}: write all numbers in one way"
        if count <= strange:
            cut = pc.any(pc.match_substring_regex(self.text(name), CUT_SHORT)).as_py()
            return "holds vectors that were cut short when they were written (...)" if cut else "holds text"
        return f"holds {cell!r} ({self.where(row)})"

    def long_cells(self) -> list[tuple[str, int, int]]:
        """Columns of a text file with a cell of more than `LONG_CELL` lines: name, first such row, lines."""
        cells = []
        for name in self.types if self.line is not None else ():
            if name in self.blocks:  # numpy shows a vector in many lines
                continue
            lines = pc.add(pc.count_substring(self.read(name), "\n"), 1).to_numpy()
            row = int(np.argmax(lines > LONG_CELL))
            if lines[row] > LONG_CELL:
                cells.append((name, row, int(lines[row])))
        return cells

    def _numbers(self, name: str) -> numbers.Numbers:
        column = self.read(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if _is_number(column.type):
            values: NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy()
            return numbers.Numbers(values, np.zeros(self.rows, dtype=bool))
        text = self.text(name)
        return numbers.parse(text, Missing().mask(text))

    def _two_readings(self, parsed: numbers.Numbers) -> str:
        assert parsed.readings is not None
        cell, one, other = parsed.readings
        return (
            f"holds {cell!r}, which may be {one:g} or {other:g}, and nothing in the column tells which; write numbers "
            f"without separators of thousands and with a decimal point"
        )


def first_twice(names: Iterable[str]) -> str | None:
    """The first of the names that stands among them more than once."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def check_names(path: Path, names: Sequence[str]) -> None:
    """Raise where a name of columns stands twice."""
    twice = first_twice(names)
    if twice is not None:
        raise RequestError(f"{path} has more than one column {twice!r}; rename all but one")


def is_vector(kind: pa.DataType) -> bool:
    """Whether a column's cells are lists of numbers."""
    return _is_list(kind) and _is_number(kind.value_type) and not pa.types.is_boolean(kind.value_type)


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_text(kind: pa.DataType) -> bool:
    kind = _plain(kind)
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(check(kind) for check in (*checks, pa.types.is_binary, pa.types.is_large_binary))


def _is_number(kind: pa.DataType) -> bool:
    checks = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean)
    return any(check(kind) for check in checks)


def _is_list(kind: pa.DataType) -> bool:
    checks = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(check(kind) for check in checks)


def _as_whole(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of floats with nulls for NaN, as integers where all are whole: ids beside NaN were integers once."""
    column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:
        return column


def _first_valid(column: pa.ChunkedArray) -> int:
    return int(pc.index(column.is_valid(), True).as_py())


def _not_utf8(column: pa.ChunkedArray) -> int | None:
    """The first row whose bytes are no UTF-8, where the column holds text or bytes."""
    if not _is_text(column.type):
        return None
    for row, cell in enumerate(column.cast(pa.large_binary()).to_pylist()):
        try:
            (cell or b"").decode()
        except UnicodeDecodeError:
            return row
    return None
