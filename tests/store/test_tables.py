"""Parquet files of a store: whatever bit of one flips, no other data is read."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from store.errors import FormatError
from store.tables import from_parquet, to_parquet


@pytest.fixture
def table() -> pa.Table:
    """Splits as they are kept: a flipped bit of the footer can name another column, which nothing else would tell."""
    columns = {f"random-{seed}": np.arange(40, dtype=np.int8) % 3 for seed in range(2)}
    return pa.table({"song_id": [f"song {i}" for i in range(40)], **columns}).replace_schema_metadata({"a": "b"})


def test_what_is_written_is_read_also_by_others(table: pa.Table) -> None:
    data = to_parquet(table)
    for found in (from_parquet(data), pq.read_table(io.BytesIO(data), page_checksum_verification=True)):
        assert found.equals(table, check_metadata=True)


def test_a_table_from_before_there_was_a_hash_is_read(table: pa.Table) -> None:
    sink = io.BytesIO()
    pq.write_table(table, sink, write_page_checksum=True)
    assert from_parquet(sink.getvalue()).equals(table, check_metadata=True)


def test_no_flipped_bit_gives_other_data(table: pa.Table) -> None:
    data = bytearray(to_parquet(table))
    noticed = 0
    for place in range(len(data)):
        bit = 1 << place % 8
        data[place] ^= bit
        try:
            assert from_parquet(bytes(data)).equals(table, check_metadata=True)  # a bit of the hash's own mark
        except FormatError:
            noticed += 1
        data[place] ^= bit
    assert len(data) - 8 <= noticed < len(data)


def test_what_is_cut_or_no_table_is_damaged(table: pa.Table) -> None:
    data = to_parquet(table)
    for part in (b"", b"PAR1", data[:-1], data[: len(data) // 2], data[4:], data + b"\0"):
        with pytest.raises(FormatError):
            from_parquet(part)
