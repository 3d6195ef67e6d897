"""What decides each row's numbers, as text, and the hashes that bind shards to their rows."""

from __future__ import annotations

import hashlib

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
    column = column.cast(pa.large_string())
    return pc.fill_null(column, "None") if column.null_count else column


class RowKeys:
    """The texts of all rows, laid out so that a run of them is hashed at once.

    Parameters
    ----------
    keys : [rows], see `texts`.
    """

    def __init__(self, keys: pa.LargeStringArray) -> None:
        count = len(keys)
        lengths = pc.binary_length(keys).to_numpy().astype("<u4")
        ends = pa.py_buffer(_LENGTH_BYTES * np.arange(count + 1, dtype=np.int64))
        heads = pa.Array.from_buffers(pa.large_binary(), count, [None, ends, pa.py_buffer(lengths)])
        content = pc.binary_join_element_wise(heads, keys.cast(pa.large_binary()), pa.scalar(b"", pa.large_binary()))
        self._begins = np.frombuffer(content.buffers()[1], np.int64)[: count + 1] if count else np.zeros(1, np.int64)
        self._bytes = memoryview(content.buffers()[2] or b"")

    def __len__(self) -> int:
        return len(self._begins) - 1

    def hash(self, first: int, last: int) -> str:
        """`store.fingerprint.hash_ids` of the texts of rows [first, last); fewer where there are fewer."""
        begin, end = self._begins[min(first, len(self))], self._begins[min(last, len(self))]
        return hashlib.sha256(self._bytes[int(begin) : int(end)]).hexdigest()[:32]
