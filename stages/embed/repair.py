"""Encode damaged shards again, and no others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stages.devices import find_device
from stages.embed.catalogs import mark_sources
from stages.embed.choose import find_backbone, make_backbone
from stages.embed.encode import encode, open_writer, representation_name
from stages.embed.loading import default_workers
from store.errors import RequestError
from store.layout import RepresentationName, Store, match
from store.reader import Representations
from store.schema import Catalog
from store.words import plural


@dataclass(frozen=True, kw_only=True)
class Repair:
    """What was done to one representation: how many shards were damaged, and how many clips were encoded again."""

    representation: str
    damaged: int
    encoded: int


def repair(
    store: Store,
    dataset: str,
    *,
    backbone_name: str | None,
    weights: str | None,
    settings: Mapping[str, str],
    precision: str,
    dtype: str | None = None,
    device_name: str,
    batch: int = 16,
) -> list[Repair]:
    """Encode the damaged shards of a collection's complete representations again.

    Parameters
    ----------
    backbone_name : a backbone, or one with the beginning of a fingerprint; None for all representations.
    weights, settings, precision, dtype : those that the damaged representation was encoded with.

    Raises
    ------
    RequestError
        where the backbone would encode other numbers than the damaged ones, or their songs' files changed.
    """
    catalog = store.read_catalog(dataset)
    complete = {str(name): name for name in store.complete(dataset)}
    names = match(complete, backbone_name)
    if not names:
        store.find(dataset, backbone_name)  # raises with the list of what there is
    repairs = []
    for name in names:
        representations = Representations(store, catalog, complete[name])
        damaged = representations.damaged()
        clips = 0
        if damaged:
            rows = [representations.manifest.shards[index].rows for index in damaged]
            _check_files(catalog, rows)
            choice = find_backbone(complete[name].backbone, weights, precision, dtype=dtype)
            backbone, mark = make_backbone(choice, settings, catalog.info)
            _check_name(representation_name(backbone, mark), complete[name], dataset)
            writer = open_writer(store, catalog, backbone, mark, damaged)
            device = find_device(device_name)
            clips = encode(writer, catalog, backbone, device=device, batch=batch, workers=default_workers(device)).clips
        repairs.append(Repair(representation=name, damaged=len(damaged), encoded=clips))
    return repairs


def _check_name(name: RepresentationName, damaged: RepresentationName, dataset: str) -> None:
    if name != damaged:
        raise RequestError(
            f"{dataset}/{damaged} is damaged, and what is asked for gives {name}; give the same --weights, --set, "
            f"--precision and --dtype as for embed (encore store show {dataset} lists them), or remove it and encode "
            f"again: encore store remove {dataset} --backbone {damaged}"
        )


def _check_files(catalog: Catalog, ranges: list[tuple[int, int]]) -> None:
    """RequestError where files of songs in these rows are no longer as they were when they were encoded."""
    files = set(mark_sources(catalog.live()).row_keys())
    keys, is_retired = catalog.row_keys(), catalog.retired()
    rows = [
        row for first, last in ranges for row in range(first, last) if not is_retired[row] and keys[row] not in files
    ]
    # A file that was absent from the start has no mark to compare.
    rows = [row for row in rows if catalog.column("source")[row].is_valid]
    if rows:
        raise RequestError(
            f"the files of {plural(len(rows), 'damaged clip')} changed or are gone (the first is "
            f"{catalog.column('path')[rows[0]]}); bring the collection up to date first, by the encore embed "
            f"command that made it"
        )
