"""HDF5 files as tables: one-dimensional datasets are columns, two-dimensional ones vectors or lists.

Only what lies in the file itself is read: links, virtual datasets and external storage can name any other file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stages.embed.tables.table import Block, Table
from store.errors import RequestError

SUFFIXES = (".h5", ".hdf5")
MAX_WIDTH = 1 << 16


def open_hdf5(path: Path) -> Table:
    """The datasets of a file's root as columns; RequestError where they have several lengths.

    Two-dimensional numbers are a block of vectors, two-dimensional text is a list a row.
    """
    import h5py

    types: dict[str, pa.DataType] = {}
    widths: dict[str, int] = {}
    unreadable: dict[str, str] = {}
    lengths: dict[str, int] = {}
    with hdf5_file(path) as file:
        for name in file:
            _check_name(path, name)
            if not isinstance(file.get(name, getlink=True), h5py.HardLink):
                unreadable[name] = "is a link"
                continue
            data = file[name]
            if not isinstance(data, h5py.Dataset) or data.is_virtual or data.external:
                unreadable[name] = "is a group" if isinstance(data, h5py.Group) else "lies in another file"
                continue
            text = h5py.check_string_dtype(data.dtype) is not None
            if data.ndim == 2 and data.dtype.kind in "iuf" and data.shape[1]:
                if data.shape[1] > MAX_WIDTH:
                    raise RequestError(f"{path}: {name!r} has {data.shape[1]:,} columns; {MAX_WIDTH:,} are the most")
                widths[name] = data.shape[1]
            elif data.ndim == 2 and text:
                types[name] = pa.list_(pa.string())
            elif data.ndim == 1 and text:
                types[name] = pa.string()
            elif data.ndim == 1 and (data.dtype.kind in "iuf" or data.dtype == bool):
                types[name] = pa.from_numpy_dtype(data.dtype.newbyteorder("="))
            else:
                unreadable[name] = f"holds {data.dtype} of the shape {data.shape}"
                continue
            lengths[name] = len(data)
    if len(set(lengths.values())) > 1:
        each = ", ".join(f"{name} {rows:,}" for name, rows in lengths.items())
        raise RequestError(f"{path}: the datasets of a table have one length; these have: {each}")
    if not lengths:
        each = "; ".join(f"{name} {why}" for name, why in unreadable.items()) or "it is empty"
        raise RequestError(f"{path}: no dataset in the root of the file is a column of a table: {each}")
    return Table(
        path,
        next(iter(lengths.values()), 0),
        types,
        lambda name: pa.chunked_array([column_of(path, name)]),
        {name: Block(width, partial(rows_of, path, name)) for name, width in widths.items()},
        unreadable,
    )


def column_of(path: Path, name: str) -> pa.Array:
    """A dataset of one dimension, or of text in two: the latter as lists."""
    import h5py

    with hdf5_file(path) as file:
        data = file[name]
        if not h5py.check_string_dtype(data.dtype):
            return pa.array(data[...].astype(data.dtype.newbyteorder("=")))
        try:
            cells = data.asstr()[...]
        except UnicodeDecodeError as error:
            row = next(row for row in range(len(data)) if not _is_utf8(data[row]))
            raise RequestError(
                f"{path}, row {row} (from 0): {name!r} holds bytes that are not UTF-8; write the file anew as UTF-8"
            ) from error
        if data.ndim == 1:
            return pa.array(cells, type=pa.string())
        return pa.array([[text for text in row if text] for row in cells.tolist()], type=pa.list_(pa.string()))


def rows_of(path: Path, name: str, rows: slice | Sequence[int]) -> NDArray[np.float32]:
    """Rows of a two-dimensional dataset: ``float32 [rows, width]``."""
    with hdf5_file(path) as file:
        data = file[name]
        block = data[rows] if isinstance(rows, slice) else np.stack([data[row] for row in rows])
        with np.errstate(over="ignore"):  # what single precision cannot hold is not finite
            numbers: NDArray[np.float32] = block.astype(np.float32)
        return numbers


def _is_utf8(cell: Any) -> bool:
    texts = [cell] if isinstance(cell, bytes) else cell.ravel().tolist()
    try:
        return all(isinstance(text.decode() if isinstance(text, bytes) else text, str) for text in texts)
    except UnicodeDecodeError:
        return False


def _check_name(path: Path, name: str) -> None:
    """Raise for a name that is not UTF-8, which h5py gives as lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise RequestError(
            f"{path}: the name of a dataset is not UTF-8: {name.encode(errors='surrogateescape')!r}; rename it"
        ) from error


@contextmanager
def hdf5_file(path: Path) -> Iterator[Any]:
    """The file as `h5py.File`; RequestError where it cannot be read."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError) as error:  # h5py raises both for damaged files
        raise RequestError(f"{path} cannot be read as HDF5: {error}") from error
