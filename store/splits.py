"""``splits.parquet``: in which part of each split every song of a collection stands, kept for ever.

A row a song, its ``song_id``, and an int8 column ``<regime>-<seed>`` for every split that was ever asked for: 0 train,
1 validation, 2 test (the number of the fold, from 0, in ``<regime>-<k>fold-<seed>``), -1 for a song that it does not
divide. Rows belong to songs and not to catalog rows, so that a song that is retired, comes back, or is read from its
files by another command keeps its part. The file's metadata say how each column was dealt (`Dealing`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from store.errors import FormatError, RequestError, StoreError
from store.layout import Store, check_name

SPLITS_FILE = "splits.parquet"
_KEY = "song_id"
_VERSION = {b"encore-splits": b"1"}
_DEALINGS = b"encore-dealings"

Parts = NDArray[np.int8]


@dataclass(frozen=True)
class Dealing:
    """How a split was dealt: by which revision of the rule, and a mark of the parts that its first songs were given.

    The mark stays when songs are added or corrected, and changes when the split is dealt anew. Splits that were kept
    before both were recorded are of revision 1 and have no mark.
    """

    revision: int = 1
    mark: str | None = None


@dataclass(frozen=True)
class StoredSplit:
    """``part`` [songs] the part (or fold) of each song, -1 where it has none yet, and how the split was dealt."""

    part: Parts
    dealing: Dealing


def read_splits(store: Store, dataset: str, columns: list[str], songs: pa.StringArray) -> dict[str, StoredSplit]:
    """Those of the splits ``columns`` that are kept, with the part of each of ``songs``."""
    table = _read(store, dataset)
    row = pc.index_in(songs, value_set=table.column(_KEY))
    is_there = row.is_valid().to_numpy(zero_copy_only=False)
    row = row.drop_null().to_numpy(zero_copy_only=False)
    dealings = _dealings(store, dataset, table)
    splits = {}
    for column in set(columns) & set(dealings):
        part = np.full(len(songs), -1, dtype=np.int8)
        part[is_there] = table.column(column).to_numpy()[row]
        splits[column] = StoredSplit(part, dealings[column])
    return splits


def read_dealings(store: Store, dataset: str) -> dict[str, Dealing]:
    """How each of the kept splits was dealt, by column; nothing where none is kept."""
    return _dealings(store, dataset, _read(store, dataset))


def splits_mark(store: Store, dataset: str) -> str | None:
    """A mark of the kept splits that changes whenever they are written; None where there are none."""
    return store.files.mark(_name(dataset))


def keep_splits(
    store: Store,
    dataset: str,
    songs: pa.StringArray,
    splits: Mapping[str, Parts],
    mark_before: str | None,
    *,
    revision: int,
    anew: bool = False,
) -> dict[str, Dealing]:
    """Keep the part of each of ``songs`` (distinct) in some splits; -1 leaves what is kept as it is.

    The file is replaced as a whole, other songs and other splits stay: for one process at a time (`Store.lock`).

    Parameters
    ----------
    mark_before : `splits_mark` from before it was looked up what is kept.
    revision : of the rule by which splits that are not kept yet were dealt.
    anew : forget everything that was kept before.

    Returns
    -------
    How each of ``splits`` was dealt, by column.

    Raises
    ------
    StoreError
        where another run kept splits since, which can happen behind a URL, where nothing can be locked.
    """
    table = _none() if anew else _read(store, dataset)
    dealings = _dealings(store, dataset, table)
    before = table.num_rows
    new = songs.filter(pc.invert(pc.is_in(songs, value_set=table.column(_KEY))))
    keys = pa.concat_arrays([*table.column(_KEY).chunks, new])
    place = pc.index_in(songs, value_set=keys).to_numpy(zero_copy_only=False)
    columns: dict[str, pa.Array] = {_KEY: keys}
    for name in dict.fromkeys([*table.column_names[1:], *splits]):
        values = np.full(len(keys), -1, dtype=np.int8)
        if name in table.column_names:
            values[:before] = table.column(name).to_numpy()
        else:
            dealings[name] = Dealing(revision, _mark(songs, splits[name]))
        if name in splits:
            has_part = splits[name] >= 0
            values[place[has_part]] = splits[name][has_part]
        columns[name] = pa.array(values)
    record = json.dumps({name: asdict(dealing) for name, dealing in dealings.items()}, sort_keys=True)
    metadata = {**_VERSION, _DEALINGS: record.encode()}
    if not store.replace_table(_name(dataset), pa.table(columns).replace_schema_metadata(metadata), mark_before):
        raise StoreError(
            f"another run kept splits of {dataset} in {store.files.url} at the same moment; run the same command again"
        )
    return {name: dealings[name] for name in splits}


def _mark(songs: pa.StringArray, part: Parts) -> str:
    digest = hashlib.sha256("\n".join(songs.filter(pa.array(part >= 0)).to_pylist()).encode())
    digest.update(part[part >= 0].data)
    return digest.hexdigest()[:16]


def _dealings(store: Store, dataset: str, table: pa.Table) -> dict[str, Dealing]:
    """How each split in the table was dealt."""
    try:
        record = json.loads((table.schema.metadata or {}).get(_DEALINGS, b"{}"))
        dealings = {name: Dealing(**record.get(name, {})) for name in table.column_names[1:]}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(store, dataset) from error
    if not all(isinstance(d.revision, int) and isinstance(d.mark, str | None) for d in dealings.values()):
        raise _damaged(store, dataset)
    return dealings


def _name(dataset: str) -> str:
    return f"{check_name(dataset)}/{SPLITS_FILE}"


def _none() -> pa.Table:
    return pa.table({_KEY: pa.array([], type=pa.string())})


def _read(store: Store, dataset: str) -> pa.Table:
    """The kept splits; a table without rows where there are none yet."""
    name = _name(dataset)
    if not store.exists(name):
        return _none()
    table = store.read_table(name)
    version = {key: (table.schema.metadata or {}).get(key) for key in _VERSION}
    if None not in version.values() and version != _VERSION:
        raise RequestError(f"{store.files.show(name)} was written by a newer Encore; read it with that one")
    types = {field.name: field.type for field in table.schema}
    is_sound = version == _VERSION and table.column_names[:1] == [_KEY]
    is_sound = is_sound and types.pop(_KEY) == pa.string() and set(types.values()) <= {pa.int8()}
    if not is_sound or any(table.column(i).null_count for i in range(table.num_columns)):
        raise _damaged(store, dataset)
    return table


def _damaged(store: Store, dataset: str) -> FormatError:
    return FormatError(
        f"{store.files.show(_name(dataset))} does not hold splits as its format says. Put a copy back; where there is "
        f"none, remove it, and splits are dealt anew: then train again what was trained on this collection"
    )
