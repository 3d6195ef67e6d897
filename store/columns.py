"""Columns of a catalog as arrays, for both stages."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from store.schema import SPLITS, Catalog


def ids_and_codes(catalog: Catalog, name: str) -> tuple[pa.StringArray, NDArray[np.int64]]:
    """The distinct ids of a column, sorted, and the number of each row's id among them, -1 for null: [rows]."""
    column = catalog.column(name).combine_chunks()
    values = pc.unique(column).drop_null().sort()
    numbers = pc.index_in(column, value_set=values)
    return values, pc.fill_null(numbers, -1).cast(pa.int64()).to_numpy(zero_copy_only=False)


def codes(catalog: Catalog, name: str) -> NDArray[np.int64]:
    """A column of ids as numbers in the order of the sorted ids, -1 for null: [rows]."""
    return ids_and_codes(catalog, name)[1]


def recordings(catalog: Catalog) -> NDArray[np.int64] | None:
    """A number for each recording; a song of which no other version is known is one of its own. None without any."""
    if catalog.column("recording_id").null_count == len(catalog):
        return None
    recording, song = codes(catalog, "recording_id"), codes(catalog, "song_id")
    return np.where(recording >= 0, recording, recording.max() + 1 + song)


def appearances(catalog: Catalog) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Every artist of every row, the first-named and the others, as pairs of equal length: row and artist's number.

    None where no row names another artist than its first.
    """
    others = catalog.column("other_artist_ids").combine_chunks()
    names = others.flatten()
    if not len(names) - names.null_count:
        return None
    ids = pa.concat_arrays([catalog.column("artist_id").combine_chunks(), names])
    rows = np.concatenate([np.arange(len(catalog)), pc.list_parent_indices(others).to_numpy()])
    has_id = ids.is_valid().to_numpy(zero_copy_only=False)
    number = pc.index_in(ids, value_set=pc.unique(ids).drop_null().sort()).drop_null().to_numpy()
    return rows[has_id], number.astype(np.int64)


def labels(catalog: Catalog) -> tuple[list[str], NDArray[np.bool_]]:
    """The names of all labels, sorted, and which of them each row carries: [rows, labels]."""
    column = catalog.column("labels").combine_chunks()
    flat, owner = column.flatten(), pc.list_parent_indices(column)
    names = pc.unique(flat).drop_null().sort()
    matrix = np.zeros((len(catalog), len(names)), dtype=bool)
    matrix[owner.to_numpy(), pc.index_in(flat, value_set=names).to_numpy(zero_copy_only=False)] = True
    return names.to_pylist(), matrix


def official(catalog: Catalog) -> NDArray[np.int8]:
    """The data set's own split: [rows] 0 train, 1 validation, 2 test, -1 none."""
    number = {name: i for i, name in enumerate(SPLITS)}
    return np.array([number.get(part or "", -1) for part in catalog.strings("split_official")], dtype=np.int8)


def targets(catalog: Catalog) -> dict[str, NDArray[np.float64]]:
    """The numeric targets by name: [rows] float64, NaN where a row has none."""
    column = catalog.column("targets").combine_chunks().drop_null()
    rows = catalog.column("targets").is_valid().to_numpy().nonzero()[0]
    names, values = column.keys, column.items
    offsets = column.offsets.to_numpy()
    row_of = np.repeat(rows, np.diff(offsets))
    begin, end = (int(offsets[0]), int(offsets[-1])) if len(column) else (0, 0)
    names, values = names[begin:end], values[begin:end].to_numpy(zero_copy_only=False)
    by_name = {}
    for name in pc.unique(names).to_pylist():
        of_name = pc.equal(names, name).to_numpy(zero_copy_only=False)
        by_name[name] = np.full(len(catalog), np.nan)
        by_name[name][row_of[of_name]] = values[of_name]
    return by_name
