"""Parquet files of a store: whatever is damaged in one, no other data is read."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from store.errors import FormatError
from store.schema import CATALOG_SCHEMA
from store.tables import from_parquet, to_parquet


@pytest.fixture
def table() -> pa.Table:
    """Splits as a store keeps them: a flipped bit of the footer can rename a column, which only the seal notices."""
    columns = {f"random-{seed}": np.arange(40, dtype=np.int8) % 3 for seed in range(2)}
    return pa.table({"song_id": [f"song {i}" for i in range(40)], **columns}).replace_schema_metadata({"a": "b"})


def unsealed(table: pa.Table) -> bytes:
    """As tables were written before there was a seal."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def is_noticed(data: bytes, table: pa.Table) -> bool:
    try:
        damaged = from_parquet(data)
    except FormatError:
        return True
    assert damaged.equals(table, check_metadata=True)
    return False


def test_what_is_written_is_read_also_by_others(table: pa.Table) -> None:
    data = to_parquet(table)
    for read in (from_parquet(data), pq.read_table(io.BytesIO(data), page_checksum_verification=True)):
        assert read.equals(table, check_metadata=True)


def test_a_table_from_before_there_was_a_seal_is_read(table: pa.Table) -> None:
    large = pa.table({"row": np.arange(200_000), "label": [["rock"] * (row % 3) for row in range(200_000)]})
    for old in (table, table[:0], large, CATALOG_SCHEMA.empty_table(), pa.table({})):
        assert from_parquet(unsealed(old)).equals(old)


def test_every_flipped_bit_is_noticed(table: pa.Table) -> None:
    data = bytearray(to_parquet(table))
    for place in range(len(data)):
        bit = 1 << place % 8
        data[place] ^= bit
        assert is_noticed(bytes(data), table)
        data[place] ^= bit


@pytest.mark.parametrize("size", [8, 24, 100, 512])
def test_every_lost_block_is_noticed(table: pa.Table, size: int) -> None:
    """Also one that takes the seal, or a part of it, along with other data."""
    data = to_parquet(table)
    rng = np.random.default_rng(0)
    for first in range(0, len(data) - size + 1, 3):
        for block in (bytes(size), rng.bytes(size)):
            if data[first : first + size] != block:
                assert is_noticed(data[:first] + block + data[first + size :], table)


def test_damaged_pages_of_a_table_without_a_seal_are_noticed(table: pa.Table) -> None:
    data = bytearray(unsealed(table))
    metadata = pq.ParquetFile(io.BytesIO(data)).metadata
    pages = metadata.row_group(0).column(2)
    end = pages.dictionary_page_offset + pages.total_compressed_size
    assert metadata.row_group(0).num_columns == 3
    for place in range(end - 8, end):
        data[place] ^= 4
        assert is_noticed(bytes(data), table)
        data[place] ^= 4


def test_what_is_cut_or_no_table_is_damaged(table: pa.Table) -> None:
    data = to_parquet(table)
    for part in (b"", b"PAR1", data[:-1], data[: len(data) // 2], data[4:], data + b"\0"):
        with pytest.raises(FormatError):
            from_parquet(part)
