"""What a store holds, as plain documents: its collections, their representations, and what was trained on them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from store.clips import failures_table
from store.errors import EncoreError, StoreError
from store.layout import RepresentationName, Store
from store.reader import Representations
from store.runs import count_by_mode, count_searches
from store.schema import Catalog
from store.splits import read_dealings

Document = dict[str, Any]


def list_collections(store: Store) -> list[Document]:
    """One entry per collection: its clips, its representations (complete or not) and the runs trained on each.

    A collection whose catalog cannot be read has the key ``error`` in place of ``synthetic`` and ``clips``.
    """
    entries: list[Document] = []
    for dataset in store.datasets():
        try:
            catalog = store.read_catalog(dataset)
        except EncoreError as error:
            entries.append({"dataset": dataset, "error": str(error), "representations": [], "runs": []})
            continue
        entries.append(
            {
                "dataset": dataset,
                "synthetic": catalog.info.synthetic,
                "clips": len(catalog),
                "representations": [
                    {
                        "name": str(name),
                        "complete": store.is_complete(dataset, name),
                        "bytes": store.files.size(f"{dataset}/{name}"),
                    }
                    for name in store.representations(dataset)
                ],
                "runs": list_runs(store, dataset),
            }
        )
    return entries


def list_runs(store: Store, dataset: str) -> list[Document]:
    """One entry per representation that heads were trained on: runs, searches, bytes, and runs per ``<mode>-<regime>``.

    The representation ``metadata`` stands for heads that read none.
    """
    entries = []
    for representation, counts in count_by_mode(store, dataset).items():
        folder = f"{dataset}/runs/{representation}"
        entries.append(
            {
                "representation": representation,
                "runs": sum(counts.values()),
                "searches": count_searches(store, dataset, representation),
                "bytes": store.files.size(folder),
                "modes": {mode: count for mode, count in counts.items() if count},
            }
        )
    return entries


def describe_collection(store: Store, dataset: str) -> Document:
    """Everything the store knows about one collection; RequestError if it is not in the store.

    A damaged representation has the key ``error``.
    """
    catalog = store.read_catalog(dataset)
    info = catalog.info
    return {
        "dataset": dataset,
        "title": info.title,
        "version": info.version,
        "licence": info.licence,
        "citation": info.citation,
        "synthetic": info.synthetic,
        "data_root": info.data_root,
        "notes": list(info.notes),
        "clips": len(catalog),
        "songs": len(pc.unique(catalog.column("song_id"))),
        "artists": len(pc.unique(catalog.column("artist_id").drop_null())),
        "retired": int(catalog.column("retired").to_numpy().sum()),
        "representations": [_describe(store, catalog, name) for name in store.representations(dataset)],
        "splits": {name: dealing.revision for name, dealing in read_dealings(store, dataset).items()},
        "runs": list_runs(store, dataset),
    }


def _describe(store: Store, catalog: Catalog, name: RepresentationName) -> Document:
    """A representation; of one that is damaged or not complete little is known."""
    entry: Document = {"name": str(name), "complete": store.is_complete(catalog.info.name, name)}
    if not entry["complete"]:
        return entry
    try:
        values = Representations(store, catalog, name)
        failures = values.failures().filter(pc.field("row").isin(pa.array(np.flatnonzero(~catalog.retired()))))
    except StoreError as error:
        return {**entry, "complete": False, "error": str(error)}
    folder = f"{catalog.info.name}/{name}"
    return {
        **entry,
        "rows": values.rows,
        "shape": list(values.shape),
        "dtype": values.manifest.dtype,
        "settings": values.manifest.settings,
        "weights": store.read_line(catalog.info.name, name, "weights.txt"),
        "licence": store.read_line(catalog.info.name, name, "licence.txt"),
        "command": store.read_line(catalog.info.name, name, "command.txt"),
        "bytes": store.files.size(f"{folder}/representations.zarr"),
        "failures": failures.num_rows,
        "failures_by_kind": dict(sorted(Counter(failures.column("kind").to_pylist()).items())),
        "first_failures": failures.slice(0, 5).to_pylist(),
        "notes_by_kind": dict(sorted(Counter(kind for _, kind, _ in _live_notes(values, catalog)).items())),
    }


def list_failures(store: Store, dataset: str) -> Document:
    """Every clip of a collection that could not be encoded, or was encoded with a note, in every representation.

    ``clips`` has an entry for each: representation, row (of the catalog, from 0), clip_id, path, kind, reason, encoded.
    """
    catalog = store.read_catalog(dataset)
    live_rows = pa.array(np.flatnonzero(~catalog.retired()))
    clips: list[Document] = []
    for name in store.complete(dataset):
        representations = Representations(store, catalog, name)
        failures = representations.failures().filter(pc.field("row").isin(live_rows)).to_pylist()
        notes = failures_table(catalog, _live_notes(representations, catalog)).to_pylist()
        clips += [{"representation": str(name), **failure, "encoded": False} for failure in failures]
        clips += [{"representation": str(name), **note, "encoded": True} for note in notes]
    return {"dataset": dataset, "notes": list(catalog.info.notes), "clips": clips}


def _live_notes(representations: Representations, catalog: Catalog) -> list[tuple[int, str, str]]:
    """(row, kind, reason) of the notes on encoded clips whose songs are not retired."""
    is_retired = catalog.retired()
    return [note for note in representations.notes() if not is_retired[note[0]]]
