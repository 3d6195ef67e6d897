"""Parquet files as a store keeps them: sealed with a hash of the whole file.

Parquet's own checksums cover the data of pages, but neither their headers nor the footer, where one flipped bit can
rename a column or change a type. The seal, a mark and the hash of all other bytes, lies between the last page and the
footer, which other readers of Parquet skip.
"""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from store.errors import FormatError

_ROW_GROUP = 1 << 16
_MARK = b"\x89ENCORE\n"
_DIGEST_BYTES = 16
_MAGIC = b"PAR1"  # at both ends of a Parquet file; before the last one stands the length of the footer, in 4 bytes


def to_parquet(table: pa.Table) -> bytes:
    """A table as the bytes of a sealed Parquet file."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=_ROW_GROUP)
    data = sink.getbuffer()
    footer = _footer(data)
    return b"".join((data[:footer], _MARK, _digest(data[:footer], data[footer:]), data[footer:]))


def from_parquet(data: bytes) -> pa.Table:
    """The table that `to_parquet` wrote, or one from before there were seals, whose pages carry checksums.

    Raises
    ------
    FormatError
        if any bit differs from what was written.
    """
    seal = data.rfind(_MARK)
    end = seal + len(_MARK) + _DIGEST_BYTES
    view = memoryview(data)
    if seal >= 0 and _digest(view[:seal], view[end:]) != data[end - _DIGEST_BYTES : end]:
        raise FormatError("it does not hold the bytes that were written")
    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=seal < 0, pre_buffer=False)
        # Small tables gain nothing from threads, and one that gets no memory would be waited for forever.
        table = file.read(use_threads=False)
        table.schema.names  # noqa: B018 - raises if a name is not text
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise FormatError(str(error)) from error
    if seal < 0 and _last_page_end(file.metadata) != _footer(view):
        raise FormatError("its seal is damaged")
    return table


def _footer(data: memoryview) -> int:
    """The offset at which the footer begins."""
    return len(data) - len(_MAGIC) - 4 - int.from_bytes(data[-8:-4], "little")


def _last_page_end(metadata: pq.FileMetaData) -> int:
    """The offset after the last page, where the footer of a table without a seal begins."""
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    chunks = [group.column(index) for group in groups for index in range(group.num_columns)]
    ends = ((chunk.dictionary_page_offset or chunk.data_page_offset) + chunk.total_compressed_size for chunk in chunks)
    return max(ends, default=len(_MAGIC))


def _digest(*pieces: memoryview) -> bytes:
    digest = xxhash.xxh3_128()
    for piece in pieces:
        digest.update(piece)
    return digest.digest()
