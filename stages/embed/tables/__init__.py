"""Tables as people have them: CSV, TSV, Parquet, HDF5.

`table` says what a column can be asked for, `text`, `parquet` and `hdf5` how each format is opened,
`missing`, `numbers` and `lists` what a cell means. Every complaint names file and line.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from stages.embed.tables import hdf5, parquet, text
from stages.embed.tables.missing import Missing
from stages.embed.tables.table import Block, Table, first_twice
from stages.embed.tables.text import MAX_TEXT_BYTES
from store.errors import RequestError

__all__ = ["MAX_TEXT_BYTES", "Block", "Missing", "Table", "first_twice", "read_table"]

MAX_ROWS = 50_000_000


def read_table(path: Path, missing: Missing | None = None) -> Table:
    """Open a table; RequestError names file, line and remedy where it is not one.

    Parameters
    ----------
    missing : which words mean that a cell holds no value; None for those of `stages.embed.tables.missing`.
    """
    suffix = path.suffix.lower()
    if not path.is_file():
        raise RequestError(f"there is no table {path}")
    if suffix in text.SUFFIXES:
        table = text.open_text(path)
    elif suffix in parquet.SUFFIXES:
        table = parquet.open_parquet(path)
    elif suffix in hdf5.SUFFIXES:
        table = hdf5.open_hdf5(path)
    else:
        have = ", ".join((*text.SUFFIXES, *parquet.SUFFIXES, *hdf5.SUFFIXES))
        raise RequestError(f"{path} is no table that can be read; have: {have}")
    if not table.rows:
        raise RequestError(f"{path} has no rows")
    if table.rows > MAX_ROWS:
        raise RequestError(f"{path} has {table.rows:,} rows; {MAX_ROWS:,} are the most")
    return table if missing is None else replace(table, missing=missing)
