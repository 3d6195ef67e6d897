"""Write a collection anew in artist order, without the rows of retired songs.

Rows never move otherwise. An artist's clips lie side by side in a new collection; those of songs that came later lie
behind all others, and rows of retired songs stay. Both cost reads: stage two takes the clips of whole artists.

The new collection is written beside the old one, read back, compared with it row by row, and put in its place at one
moment: a kill leaves the one or the other. What is bound to rows goes along (catalog, representations with their
failures and notes), or is made again when it is asked for (the map of a report). Trained heads cannot go along: their
predictions name rows, and some heads draw random numbers by row.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from store.errors import FormatError, RequestError, StoreError
from store.files import WORK
from store.layout import RepresentationName, Store
from store.reader import Representations
from store.rows import Rows
from store.runs import count_by_mode, count_searches
from store.schema import RETIRED, Catalog, Manifest
from store.shards import Shard
from store.splits import SPLITS_FILE
from store.verify import verify
from store.writer import RepresentationWriter

_OF_SONGS = ("trained_on.parquet", "weights.txt", "licence.txt", "command.txt", "probe.json")  # not bound to rows

Order = NDArray[np.int64]
Entry = tuple[int, str, str]  # row, kind, reason


@dataclass(frozen=True, kw_only=True)
class Compacted:
    """What was done: rows before and after, ``moved`` of which lie elsewhere now; bytes of the collection."""

    dataset: str
    rows_before: int
    rows: int
    moved: int
    representations: list[str]
    bytes_before: int
    bytes: int


def compact(store: Store, dataset: str, advance: Callable[[int], None] = lambda _rows: None) -> Compacted:
    """Rewrite a collection in artist order, without retired rows.

    Parameters
    ----------
    advance : is called with the number of rows that were written.

    Raises
    ------
    RequestError
        where it lies behind a URL, has trained heads, or representations that are not up to date.
    FormatError
        where something is damaged.
    """
    if store.files.local is None:
        raise RequestError(
            f"nothing behind a URL can be replaced at one moment; copy it to a disk (encore store copy "
            f"{store.files.url} DIR), compact it there and copy it back to another place"
        )
    recover(store, dataset)
    catalog = store.read_catalog(dataset)  # raises with the list of what there is
    names = store.representations(dataset)
    work = f"{WORK}{dataset}"
    with ExitStack() as locks:
        locks.enter_context(store.lock(dataset))
        for name in names:
            locks.enter_context(store.lock(dataset, name))
        catalog = store.read_catalog(dataset)
        _check(store, catalog, names)
        order = catalog.order().to_numpy()
        order = order[~catalog.retired()[order]].astype(np.int64)
        size = store.files.size(dataset)
        store.files.remove(work)
        target = Store(store.files.at(work))
        _write(store, target, catalog, order, names, advance)
        _compare(store, target, catalog, order, names)
        total = target.files.size(dataset)
        store.files.exchange(dataset, f"{work}/{dataset}")
        store.files.remove(work)
    return Compacted(
        dataset=dataset,
        rows_before=len(catalog),
        rows=len(order),
        moved=int((order != np.arange(len(order))).sum()),
        representations=[str(name) for name in names],
        bytes_before=size,
        bytes=total,
    )


def recover(store: Store, dataset: str) -> None:
    """Put a collection back that a kill caught between two renames, where the system cannot exchange folders."""
    before = f"{WORK}{dataset}/{dataset}.before"
    if store.files.exists(before) and not store.files.exists(dataset):
        store.files.move(before, dataset)


def _check(store: Store, catalog: Catalog, names: list[RepresentationName]) -> None:
    """RequestError where something in the collection cannot be rewritten."""
    dataset = catalog.info.name
    runs = count_by_mode(store, dataset)
    searches = sum(count_searches(store, dataset, of) for of in runs)
    if searches or any(any(counts.values()) for counts in runs.values()):
        raise RequestError(
            f"{dataset} has trained heads or searches, which are bound to its rows as they lie; remove them (encore "
            f"store remove {dataset} --runs) and train again afterwards, or compact a copy (encore store copy)"
        )
    live = np.flatnonzero(~catalog.retired())
    for name in names:
        manifest = store.read_manifest(dataset, name)
        if manifest is None or _lacks(manifest, live):
            raise RequestError(
                f"{dataset}/{name} is not up to date; finish it (encore embed {dataset} --backbone {name.backbone}) or "
                f"remove it (encore store remove {dataset} --backbone {name})"
            )


def _lacks(manifest: Manifest, live: Order) -> bool:
    """Whether a representation has yet to be encoded for some live rows."""
    retired_rows = [row for shard in manifest.shards for row, kind, _ in shard.failures if kind == RETIRED]
    return bool((live >= manifest.rows).any() or np.isin(live, retired_rows).any())


def _write(
    store: Store,
    target: Store,
    catalog: Catalog,
    order: Order,
    names: list[RepresentationName],
    advance: Callable[[int], None],
) -> None:
    dataset = catalog.info.name
    after = Catalog(catalog.info, catalog.table.take(order).combine_chunks())
    target.write_catalog(after)
    _carry(store, target, dataset, SPLITS_FILE)
    for name in names:
        before = Representations(store, catalog, name)
        manifest, rows = before.manifest, Rows(before)
        failures = _moved([entry for shard in manifest.shards for entry in shard.failures], order, len(catalog))
        notes = _moved(before.notes(), order, len(catalog))
        writer = RepresentationWriter(
            target, after, name, settings=manifest.settings, shape=manifest.shape, dtype=manifest.dtype
        )
        writer.check_room(writer.most_bytes(writer.pending))
        for shard in writer.pending:
            values = rows.take(order[shard.first : shard.last])
            writer.commit(shard, values, _between(failures, shard), _between(notes, shard))
            advance(len(values))
        writer.finish()
        for file in _OF_SONGS:
            _carry(store, target, dataset, f"{name}/{file}")


def _moved(entries: list[Entry], order: Order, rows: int) -> list[Entry]:
    """Entries of rows under their new row numbers; those of rows that are left out are dropped."""
    place = np.full(rows, -1, dtype=np.int64)
    place[order] = np.arange(len(order))
    return sorted((int(place[row]), kind, reason) for row, kind, reason in entries if place[row] >= 0)


def _between(entries: list[Entry], shard: Shard) -> list[Entry]:
    return entries[bisect_left(entries, (shard.first,)) : bisect_left(entries, (shard.last,))]


def _carry(store: Store, target: Store, dataset: str, file: str) -> None:
    """Copy a file that is not bound to rows, where it is there."""
    name = f"{dataset}/{file}"
    if store.exists(name):
        target.write({name: store.read(name)})


def _compare(store: Store, target: Store, catalog: Catalog, order: Order, names: list[RepresentationName]) -> None:
    """FormatError where the new collection, read back, is not the old one with its rows in another order."""
    dataset = catalog.info.name
    _, problems = verify(target, dataset)
    if problems:
        raise FormatError("what was written is not whole: " + "\n".join(problems))
    after, keys = target.read_catalog(dataset), catalog.row_keys()
    same = after.row_keys() == [keys[row] for row in order.tolist()]
    for name in names:
        old, new = Rows(Representations(store, catalog, name)), Representations(target, after, name)
        for shard in new.manifest.shards:
            first, last = shard.rows
            same = same and new.read(first, last).tobytes() == old.take(order[first:last]).tobytes()
    if not same:
        raise StoreError(f"what was written of {dataset} is not what lies in {store.files.show(dataset)}")
