"""Vectors that are written as text: ``[0.1, 0.2]`` as Python and JSON write them, ``[0.1 0.2]`` as numpy does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stages.embed.tables.table import Block

_VECTOR = r"^\s*[\[(]\s*[-+0-9.eEnaif]+([,\s]+[-+0-9.eEnaif]+)+\s*[\])]\s*$"


def text_blocks(columns: Mapping[str, pa.ChunkedArray]) -> dict[str, Block]:
    """A block for each column of text whose cells all hold a vector, of one length, or nothing."""
    widths = {name: _width(column) for name, column in columns.items()}
    return {name: Block(width, _Vectors(columns[name], width).take) for name, width in widths.items() if width}


class _Vectors:
    """A column's vectors, parsed when they are first read."""

    def __init__(self, column: pa.ChunkedArray, width: int) -> None:
        self._column = column
        self._width = width
        self._values = lru_cache(maxsize=1)(self._parse)

    def take(self, rows: slice | Sequence[int]) -> NDArray[np.float32]:
        return self._values()[rows]

    def _parse(self) -> NDArray[np.float32]:
        column, has_text = self._column, _given(self._column)
        values = np.full((len(column), self._width), np.nan, dtype=np.float32)
        flat = pc.list_flatten(_split(column.filter(has_text))).cast(pa.float64()).to_numpy()
        with np.errstate(over="ignore"):  # what single precision cannot hold is not finite
            values[has_text.to_numpy()] = flat.reshape(-1, self._width)
        return values


def _width(column: pa.ChunkedArray) -> int:
    """How many numbers every cell holds; 0 where cells are no vectors, or not of one length."""
    first = next((cell for chunk in column.chunks for cell in chunk.slice(0, 64).to_pylist() if cell), None)
    if first is None or first.lstrip()[:1] not in ("[", "("):
        return 0
    cells = column.filter(_given(column))
    if not pc.all(pc.match_substring_regex(cells, _VECTOR)).as_py():
        return 0
    widths = pc.unique(pc.list_value_length(_split(cells))).to_pylist()
    try:
        pc.list_flatten(_split(cells.slice(0, 1))).cast(pa.float64())
    except pa.ArrowInvalid:
        return 0
    return int(widths[0]) if len(widths) == 1 else 0


def _given(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(column), ""), False)


def _split(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.split_pattern_regex(pc.utf8_trim(cells, characters="[]() \t\r\n,"), r"[,\s]+")
