"""What decides each row's numbers, as text, and the hashes that bind shards to their rows."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_LENGTH_BYTES = 4


def texts(columns: list[pa.ChunkedArray]) -> pa.LargeStringArray:
    """Each row's values as Python writes them, with tabs between."""
    lines = pc.binary_join_element_wise(*map(_text, columns), pa.scalar("\t", pa.large_string()))
    return lines.combine_chunks() if isinstance(lines, pa.ChunkedArray) else lines


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_floating(column.type):  # of which there are few different ones, or none
        coded = column.combine_chunks().dictionary_encode()
        words = pa.array([str(value) for value in coded.dictionary.to_pylist()], type=pa.large_string())
        column = words.take(coded.indices)
    return pc.fill_null(column.cast(pa.large_string()), "None")


class RowKeys:
    """The texts of all rows, laid out so that a run of them is hashed at once.

    Parameters
    ----------
    keys : [rows], see `texts`.
    """

    def __init__(self, keys: pa.LargeStringArray) -> None:
        count = len(keys)
        ends = np.frombuffer(keys.buffers()[1], np.int64)[keys.offset : keys.offset + count + 1] if count else [0]
        offsets = np.asarray(ends, dtype=np.int64)
        content = np.frombuffer(keys.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
        lengths = np.diff(offsets).astype("<u4")
        self._begins = offsets - offsets[0] + _LENGTH_BYTES * np.arange(count + 1)
        buffer = np.empty(int(self._begins[-1]), dtype=np.uint8)
        heads = (self._begins[:-1, None] + np.arange(_LENGTH_BYTES)).reshape(-1)
        is_content = np.ones(len(buffer), dtype=bool)
        is_content[heads] = False
        buffer[heads] = lengths.view(np.uint8)
        buffer[is_content] = content
        self._whole: memoryview = buffer.data

    def __len__(self) -> int:
        return len(self._begins) - 1

    def hash(self, first: int, last: int) -> str:
        """`store.fingerprint.hash_ids` of the texts of rows [first, last); fewer where there are fewer."""
        begin, end = self._begins[min(first, len(self))], self._begins[min(last, len(self))]
        piece: Any = self._whole[int(begin) : int(end)]
        return hashlib.sha256(piece).hexdigest()[:32]
