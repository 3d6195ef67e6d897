"""HDF5 files as tables: one-dimensional datasets are columns, two-dimensional ones blocks of numbered columns.

Only what lies in the file itself is read: links, virtual datasets and external storage can name any other file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from store.errors import RequestError

MAX_WIDTH = 1 << 16


def layout_of(path: Path) -> tuple[int, dict[str, pa.DataType], dict[str, int]]:
    """Rows; columns and their Arrow types; two-dimensional columns and their widths."""
    import h5py

    types: dict[str, pa.DataType] = {}
    wide: dict[str, int] = {}
    lengths: dict[str, int] = {}
    with opened(path) as file:
        for name in file:
            if not isinstance(file.get(name, getlink=True), h5py.HardLink):
                continue
            data = file[name]
            if not isinstance(data, h5py.Dataset) or data.is_virtual or data.external:
                continue
            if data.ndim == 2 and data.dtype.kind in "iuf":
                if data.shape[1] > MAX_WIDTH:
                    raise RequestError(f"{path}: {name!r} has {data.shape[1]:,} columns; {MAX_WIDTH:,} are the most")
                wide[name] = data.shape[1]
            elif data.ndim == 1 and h5py.check_string_dtype(data.dtype):
                types[name] = pa.string()
            elif data.ndim == 1 and data.dtype.kind in "iufb":
                types[name] = pa.from_numpy_dtype(data.dtype.newbyteorder("="))
            else:
                continue
            lengths[name] = len(data)
    if len(set(lengths.values())) > 1:
        each = ", ".join(f"{name} {rows:,}" for name, rows in lengths.items())
        raise RequestError(f"{path}: the datasets of a table have one length; these have: {each}")
    return next(iter(lengths.values()), 0), types, wide


def column_of(path: Path, name: str) -> pa.Array:
    """A one-dimensional dataset."""
    import h5py

    with opened(path) as file:
        data = file[name]
        if not h5py.check_string_dtype(data.dtype):
            return pa.array(data[...].astype(data.dtype.newbyteorder("=")))
        try:
            return pa.array(data.asstr()[...], type=pa.string())
        except UnicodeDecodeError as error:
            raise RequestError(f"{path}: the strings of {name!r} are not UTF-8: {error}") from error


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file as `h5py.File`; RequestError where it cannot be read."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError) as error:  # h5py raises both for damaged files
        raise RequestError(f"{path} cannot be read as HDF5: {error}") from error
