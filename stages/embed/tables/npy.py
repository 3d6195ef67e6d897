"""Vectors in files of numpy's beside a table: row ``i`` of the array belongs to row ``i`` of the table."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.embed.tables.table import Block, Table
from store.errors import RequestError
from store.words import plural

SUFFIX = ".npy"


def with_arrays(table: Table, names: Iterable[str]) -> Table:
    """The table with a block for each name that is no column of it and ends in .npy.

    Raises
    ------
    RequestError
        where there is no such file in the table's folder, or it holds no array of numbers with a row for each row.
    """
    columns = {*table.types, *table.blocks}
    files = [name for name in dict.fromkeys(names) if name not in columns and name.endswith(SUFFIX)]
    return replace(table, blocks={**table.blocks, **{name: _block(table, name) for name in files}}) if files else table


def _block(table: Table, name: str) -> Block:
    relative = os.path.normpath(name)
    if os.path.isabs(relative) or relative.split(os.sep)[0] == "..":
        raise RequestError(f"{name} does not lie beside {table.path}; put it into that folder")
    path = table.path.parent / relative
    array = _open(path)
    if array.ndim not in (1, 2) or array.dtype.kind not in "iuf":
        raise RequestError(f"{path} holds {array.dtype} of shape {array.shape}, and rows of numbers are wanted")
    if len(array) != table.rows:
        raise RequestError(
            f"{path} has {plural(len(array), 'row')} and {table.path} {table.rows:,}; each must have its vector"
        )

    def take(rows: slice | Sequence[int]) -> NDArray[np.float32]:
        with np.errstate(over="ignore"):  # what single precision cannot hold is not finite
            numbers: NDArray[np.float32] = np.asarray(_open(path)[rows], dtype=np.float32)
        return numbers.reshape(len(numbers), -1)

    return Block(array.shape[1] if array.ndim == 2 else 1, take)


def _open(path: Path) -> NDArray[np.generic]:
    if not path.is_file():
        raise RequestError(f"there is no file {path}")
    try:
        array: NDArray[np.generic] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise RequestError(f"{path} is no array of numpy's that can be read: {error}") from error
    if not isinstance(array, np.ndarray):
        raise RequestError(f"{path} holds several arrays; save one: numpy.save")
    return array
