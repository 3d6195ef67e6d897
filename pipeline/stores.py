"""``encore store``: look at what a store holds, check it, remove from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.output import table, wrapped
from store.errors import EncoreError, RequestError
from store.layout import RepresentationName, Store, check_name
from store.reader import Representations
from store.splits import read_splits


def list_store(store: Store) -> list[dict[str, Any]]:
    """One entry a collection: its clips and its representations, complete or not."""
    found: list[dict[str, Any]] = []
    for dataset in store.datasets():
        try:
            catalog = store.read_catalog(dataset)
        except EncoreError as error:
            found.append({"dataset": dataset, "error": str(error), "representations": []})
            continue
        found.append(
            {
                "dataset": dataset,
                "synthetic": catalog.info.synthetic,
                "clips": len(catalog),
                "representations": [
                    {"name": str(name), "complete": store.is_complete(dataset, name)}
                    for name in store.representations(dataset)
                ],
            }
        )
    return found


def list_text(store: Store) -> str:
    held = list_store(store)
    if not held:
        return f"{store.files.url} holds nothing yet; fill it: encore embed demo"
    rows = []
    for entry in held:
        if "error" in entry:
            rows.append([entry["dataset"], "-", "damaged catalog"])
            continue
        name = entry["dataset"] + (" (synthetic)" if entry["synthetic"] else "")
        parts = [f"{r['name']}{'' if r['complete'] else ' (not complete)'}" for r in entry["representations"]]
        for i, part in enumerate(parts or ["no representation"]):
            rows.append([name if i == 0 else "", f"{entry['clips']:,}" if i == 0 else "", part])
    return table(["data set", "clips", "representation"], rows)


def show(store: Store, dataset: str) -> dict[str, Any]:
    """Everything the store says of one collection."""
    catalog = store.read_catalog(dataset)
    info = catalog.info
    live = pa.array(np.flatnonzero(~catalog.retired()))
    representations = []
    for name in store.representations(dataset):
        entry: dict[str, Any] = {"name": str(name), "complete": store.is_complete(dataset, name)}
        if entry["complete"]:
            held = Representations(store, catalog, name)
            failures = held.failures().filter(pc.field("row").isin(live))
            entry |= {
                "rows": held.rows,
                "shape": list(held.shape),
                "dtype": held.manifest.dtype,
                "settings": held.manifest.settings,
                "bytes": store.files.size(f"{dataset}/{name}/representations.zarr"),
                "failures": failures.num_rows,
                "first_failures": failures.slice(0, 5).to_pylist(),
            }
        representations.append(entry)
    return {
        "dataset": dataset,
        "title": info.title,
        "version": info.version,
        "licence": info.licence,
        "citation": info.citation,
        "synthetic": info.synthetic,
        "data_root": info.data_root,
        "clips": len(catalog),
        "retired": int(catalog.column("retired").to_numpy().sum()),
        "representations": representations,
    }


def show_text(found: dict[str, Any]) -> str:
    kind = " (synthetic)" if found["synthetic"] else ""
    retired = f" ({found['retired']:,} retired)" if found["retired"] else ""
    lines = [
        f"{found['dataset']}{kind}: {found['title']}, {found['version']}",
        *wrapped(f"licence: {found['licence']}"),
        *wrapped(f"citation: {found['citation']}"),
        f"files: {found['data_root']}",
        f"clips: {found['clips']:,}{retired}",
    ]
    for entry in found["representations"]:
        if not entry["complete"]:
            lines.append(f"{entry['name']}: not complete; go on: encore embed {found['dataset']}")
            continue
        shape = " x ".join(f"{n:,}" for n in (entry["rows"], *entry["shape"]))
        lines.append(f"{entry['name']}: {shape} {entry['dtype']}, {entry['bytes'] / 2**20:,.1f} MiB")
        if entry["failures"]:
            lines.append(f"  {entry['failures']:,} clips could not be encoded, the first of them:")
            lines += [f"  {f['path']}: {f['kind']}: {f['reason']}" for f in entry["first_failures"]]
    return "\n".join(lines)


def verify(store: Store, dataset: str | None) -> tuple[list[str], list[str]]:
    """Read splits and every shard of every complete representation; returns what was checked and what is wrong."""
    checked, wrong = [], []
    for name in store.datasets() if dataset is None else [check_name(dataset)]:
        try:
            catalog = store.read_catalog(name)
        except RequestError:
            raise
        except EncoreError as error:
            checked.append(f"{name}: damaged")
            wrong.append(str(error))
            continue
        try:
            read_splits(store, name, [], pa.array([], type=pa.string()))
        except EncoreError as error:
            wrong.append(str(error))
        for representation in store.representations(name):
            where = f"{name}/{representation}"
            if not store.is_complete(name, representation):
                checked.append(f"{where}: not complete")
                continue
            try:
                problems = Representations(store, catalog, representation).verify()
            except EncoreError as error:
                problems = [str(error)]
            checked.append(f"{where}: {'damaged' if problems else 'whole'}")
            wrong += problems
    return checked, wrong


def require(store: Store, dataset: str) -> None:
    """RequestError with the list of what there is, where the store does not hold ``dataset``."""
    if not store.has_catalog(dataset):
        store.read_catalog(dataset)


def remove(store: Store, dataset: str, backbone: str | None) -> list[str]:
    """Remove one representation, or the whole collection; returns the folders that went.

    What killed commands left half written or half removed goes with it, wherever in the store it lies.
    """
    require(store, dataset)
    store.files.sweep()
    if backbone is None:
        store.files.remove(dataset)
        return [store.files.show(dataset)]
    names = store.representations(dataset)
    chosen = _named(names, backbone)
    if not chosen:
        have = ", ".join(map(str, names)) or "none"
        raise RequestError(f"{dataset} has no representation {backbone!r}; have: {have}")
    for name in chosen:
        store.files.remove(f"{dataset}/{name}")
    return [store.files.show(f"{dataset}/{name}") for name in chosen]


def _named(names: list[RepresentationName], wanted: str) -> list[RepresentationName]:
    return [name for name in names if wanted in (name.backbone, str(name))]
