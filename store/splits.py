"""``splits.parquet``: in which part of each split every song of a collection stands, kept for ever.

A row a song, its ``song_id``, and an int8 column ``<regime>-<seed>`` for every split that was ever asked for: 0 train,
1 validation, 2 test (the number of the fold, from 0, in ``<regime>-<k>fold-<seed>``), -1 for a song that it does not
divide. Rows belong to songs and not to catalog rows, so that a song that is retired, comes back, or is read from its
files by another command keeps its part.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from store.errors import FormatError, RequestError, StoreError
from store.layout import Store, check_name

_KEY = "song_id"
_VERSION = {b"encore-splits": b"1"}

Parts = NDArray[np.int8]


def read_splits(store: Store, dataset: str, columns: list[str], songs: pa.StringArray) -> dict[str, Parts]:
    """The part of each of ``songs`` in the splits ``columns``, as far as they are kept; -1 where it has none yet."""
    table = _read(store, dataset)
    row = pc.index_in(songs, value_set=table.column(_KEY))
    known = row.is_valid().to_numpy(zero_copy_only=False)
    row = row.drop_null().to_numpy(zero_copy_only=False)
    found = {}
    for column in set(columns) & set(table.column_names):
        found[column] = np.full(len(songs), -1, dtype=np.int8)
        found[column][known] = table.column(column).to_numpy()[row]
    return found


def splits_mark(store: Store, dataset: str) -> str | None:
    """A mark of the kept splits that changes whenever they are written; None where there are none."""
    return store.files.mark(_name(dataset))


def keep_splits(
    store: Store, dataset: str, songs: pa.StringArray, splits: Mapping[str, Parts], seen: str | None
) -> None:
    """Keep the part of each of ``songs`` (distinct) in some splits; -1 leaves what is kept as it is.

    The file is replaced as a whole, other songs and other splits stay: for one process at a time (`Store.lock`).

    Parameters
    ----------
    seen : `splits_mark` from before it was looked up what is kept.

    Raises
    ------
    StoreError
        where another run kept splits since, which can happen behind a URL, where nothing can be locked.
    """
    table = _read(store, dataset)
    before = table.num_rows
    new = songs.filter(pc.invert(pc.is_in(songs, value_set=table.column(_KEY))))
    keys = pa.concat_arrays([*table.column(_KEY).chunks, new])
    place = pc.index_in(songs, value_set=keys).to_numpy(zero_copy_only=False)
    columns: dict[str, pa.Array] = {_KEY: keys}
    for name in dict.fromkeys([*table.column_names[1:], *splits]):
        values = np.full(len(keys), -1, dtype=np.int8)
        if name in table.column_names:
            values[:before] = table.column(name).to_numpy()
        if name in splits:
            dealt = splits[name] >= 0
            values[place[dealt]] = splits[name][dealt]
        columns[name] = pa.array(values)
    if splits_mark(store, dataset) != seen:
        raise StoreError(
            f"another run kept splits of {dataset} in {store.files.url} at the same moment; run the same command again"
        )
    store.write_table(_name(dataset), pa.table(columns).replace_schema_metadata(_VERSION))


def _name(dataset: str) -> str:
    return f"{check_name(dataset)}/splits.parquet"


def _read(store: Store, dataset: str) -> pa.Table:
    """The kept splits; a table without rows where there are none yet."""
    name = _name(dataset)
    if not store.files.exists(name):
        return pa.table({_KEY: pa.array([], type=pa.string())})
    table = store.read_table(name)
    held = {key: (table.schema.metadata or {}).get(key) for key in _VERSION}
    if None not in held.values() and held != _VERSION:
        raise RequestError(f"{store.files.show(name)} was written by a newer Encore; read it with that one")
    types = {field.name: field.type for field in table.schema}
    whole = held == _VERSION and types.pop(_KEY, None) == pa.string() and set(types.values()) <= {pa.int8()}
    if not whole or any(table.column(i).null_count for i in range(table.num_columns)):
        raise FormatError(
            f"{store.files.show(name)} does not hold splits as its format says. Put a copy back; where there is none, "
            f"remove it, and splits are dealt anew: then train again what was trained on this collection"
        )
    return table
