"""Parquet files as a store keeps them: with a hash of the whole file, which pages' own checksums do not give.

A checksum covers a page, but nothing covers the headers of pages and the file's footer, where one flipped bit can
rename a column or change a type unnoticed. The hash of all other bytes stands before the footer, where readers of
Parquet see a gap between what the footer points to.
"""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from store.errors import FormatError

_ROW_GROUP = 1 << 16
_SEAL = b"\x89ENCORE\n"
_DIGEST_BYTES = 16


def to_parquet(table: pa.Table) -> bytes:
    """A table as the bytes of a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=_ROW_GROUP, write_page_checksum=True)
    data = sink.getbuffer()
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    return b"".join((data[:footer], _SEAL, _digest(data[:footer], data[footer:]), data[footer:]))


def from_parquet(data: bytes) -> pa.Table:
    """The table that `to_parquet` wrote; one that was written before there was a hash has its pages checked.

    Raises
    ------
    FormatError
        where a bit of it is not as it was written.
    """
    seal = data.rfind(_SEAL)
    after = seal + len(_SEAL) + _DIGEST_BYTES
    view = memoryview(data)
    if seal >= 0 and _digest(view[:seal], view[after:]) != data[after - _DIGEST_BYTES : after]:
        raise FormatError("it does not hold the bytes that were written")
    try:
        # Small tables gain nothing by threads, which wait for ever where memory is too short for one of them.
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True, pre_buffer=False)
        table = file.read(use_threads=False)
        table.schema.names  # noqa: B018 - a name that is no text is told here
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise FormatError(str(error)) from error
    return table


def _digest(*pieces: memoryview) -> bytes:
    digest = xxhash.xxh3_128()
    for piece in pieces:
        digest.update(piece)
    return digest.digest()
