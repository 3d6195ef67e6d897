"""How a collection grows: rows never move, new songs come behind, what changed or went is retired."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from store.errors import StoreError
from store.layout import Store
from store.schema import Catalog

# What a person may correct; where a song's file or row lies is no correction.
_CORRECTABLE = [
    *("song_id", "artist_id", "artist_name", "other_artist_ids", "recording_id", "album_id", "title"),
    *("labels", "targets", "split_official"),
]


@dataclass(frozen=True)
class Growth:
    """What a merge did, in clips; ``corrected`` counts those whose labels, artist, title or split changed."""

    added: int
    kept: int
    corrected: int
    retired: int
    revived: int


def update(
    store: Store, current: Catalog, mark_before: str | None, look_again: Callable[[], Catalog]
) -> tuple[Catalog, Growth]:
    """Bring a collection's stored catalog up to date with ``current``, as `merge` does, and write it where it changed.

    Runs that do so at once take turns. Where another one wrote the catalog since ``current`` was begun, the files are
    looked at again: songs that came in between would otherwise be missing in ``current``, and be retired.

    Parameters
    ----------
    mark_before : `Store.catalog_mark` from before the collection's files were looked at.
    look_again : what gives ``current``, as it is now.

    Raises
    ------
    StoreError
        where another run wrote the catalog all the same, which can happen behind a URL, where nothing can be locked.
    """
    name = current.info.name
    with store.lock(name):
        mark = store.catalog_mark(name)
        if mark != mark_before:
            current = look_again()
        old = store.read_catalog(name) if mark is not None else None
        catalog, growth = merge(old, current)
        same = old is not None and old.table.equals(catalog.table) and old.info == catalog.info
        if not same and not store.replace_catalog(catalog, mark):
            raise StoreError(
                f"another run wrote the catalog of {name} in {store.files.url} at the same moment; run the same "
                f"command again"
            )
    return catalog, growth


def merge(old: Catalog | None, new: Catalog) -> tuple[Catalog, Growth]:
    """The stored catalog brought up to date with ``new``.

    A clip of ``new`` is the stored row with the same id, file content and stretch; that row takes over its
    labels, artist, split, title and path, and is revived where it was retired. A clip with no such row is
    appended. A stored row that nothing in ``new`` matches is retired; a clip whose file went does not come
    back as a new row that could only fail. Merging the same state again changes nothing.

    Parameters
    ----------
    new : live rows alone, each clip once.
    """
    if old is None:
        return new, Growth(added=len(new), kept=0, corrected=0, retired=0, revived=0)
    rows = {key: row for row, key in enumerate(old.row_keys())}
    alive_before = ~old.retired()
    old_ids = set(old.strings("clip_id"))
    sources, clip_ids = new.strings("source"), new.strings("clip_id")
    match = np.full(len(old), -1, dtype=np.int64)
    appended = []
    for i, key in enumerate(new.row_keys()):
        row = rows.get(key)
        if row is not None:
            match[row] = i
        elif sources[i] is not None or clip_ids[i] not in old_ids:
            appended.append(i)

    matched = np.flatnonzero(match >= 0)
    unmatched = np.flatnonzero(match < 0)
    updated = _with_retired(new.table.take(pa.array(match[matched])), False)
    retired = _with_retired(old.table.take(pa.array(unmatched)), True)
    added = _with_retired(new.table.take(pa.array(appended, type=pa.int64())), False)
    stacked = pa.concat_tables([updated, retired, added])
    order = np.argsort(np.concatenate([matched, unmatched, len(old) + np.arange(len(appended))]), kind="stable")
    table = stacked.take(pa.array(order)).combine_chunks()
    corrected = _rows_that_differ(old.table.take(pa.array(matched)).select(_CORRECTABLE), updated.select(_CORRECTABLE))
    growth = Growth(
        added=len(appended),
        kept=len(matched),
        corrected=corrected,
        retired=int(alive_before[unmatched].sum()),
        revived=int((~alive_before[matched]).sum()),
    )
    return Catalog(new.info, table), growth


def _with_retired(table: pa.Table, retired: bool) -> pa.Table:
    index = table.schema.get_field_index("retired")
    return table.set_column(index, table.schema.field("retired"), pa.repeat(retired, table.num_rows))


def _rows_that_differ(before: pa.Table, after: pa.Table) -> int:
    if before.equals(after):
        return 0
    differs = np.zeros(before.num_rows, dtype=bool)
    for name in before.column_names:
        if not before.column(name).equals(after.column(name)):
            pairs = zip(before.column(name).to_pylist(), after.column(name).to_pylist(), strict=True)
            differs |= np.fromiter((a != b for a, b in pairs), dtype=bool, count=before.num_rows)
    return int(differs.sum())
