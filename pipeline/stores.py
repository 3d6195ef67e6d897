"""``encore store``: look at what a store holds, check it, remove from it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.output import table, wrapped
from stages import registry
from store.errors import EncoreError, RequestError
from store.layout import Store, check_name, match
from store.reader import Representations
from store.runs import count_by_mode, count_searches
from store.splits import read_splits
from store.words import counted


def list_store(store: Store) -> list[dict[str, Any]]:
    """One entry a collection: its clips, its representations, complete or not, and what was trained on each."""
    found: list[dict[str, Any]] = []
    for dataset in store.datasets():
        try:
            catalog = store.read_catalog(dataset)
        except EncoreError as error:
            found.append({"dataset": dataset, "error": str(error), "representations": [], "runs": []})
            continue
        found.append(
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
                "runs": runs(store, dataset),
            }
        )
    return found


def runs(store: Store, dataset: str) -> list[dict[str, Any]]:
    """What heads left, one entry a representation that they were trained on: how many runs and searches, their bytes,
    and how many of the runs are of each ``<mode>-<regime>``.

    ``metadata`` are the runs of heads that read no representation.
    """
    found = []
    for of, counts in count_by_mode(store, dataset).items():
        where = f"{dataset}/runs/{of}"
        searches = count_searches(store, dataset, of)
        found.append(
            {
                "representation": of,
                "runs": sum(counts.values()),
                "searches": searches,
                "bytes": store.files.size(where),
                "modes": {mode: count for mode, count in counts.items() if count},
            }
        )
    return found


def _runs_and_searches(run: dict[str, Any]) -> str:
    searches = f" and {counted(run['searches'], 'search', 'searches')}" if run["searches"] else ""
    return counted(run["runs"], "run") + searches


def list_text(store: Store) -> str:
    held = list_store(store)
    if not held:
        return store.there_is_none() or f"the store {store.where()} holds nothing yet; fill it: encore embed demo"
    rows = []
    for entry in held:
        if "error" in entry:
            rows.append([entry["dataset"], "-", "damaged catalog", "", "", ""])
            continue
        name = entry["dataset"] + (" (synthetic)" if entry["synthetic"] else "")
        trained = {
            run["representation"]: [f"{run['runs']:,}" if run["runs"] else "-", mib(run["bytes"])]
            for run in entry["runs"]
        }
        parts = [
            [
                f"{r['name']}{'' if r['complete'] else ' (not complete)'}",
                mib(r["bytes"]),
                *trained.pop(r["name"], ["-", "-"]),
            ]
            for r in entry["representations"]
        ] or [["no representation", "-", "-", "-"]]
        parts += [[of if of == "metadata" else f"{of} (removed)", "-", *cells] for of, cells in trained.items()]
        for i, part in enumerate(parts):
            rows.append([name if i == 0 else "", f"{entry['clips']:,}" if i == 0 else "", *part])
    return table(["data set", "clips", "representation", "MiB", "runs", "MiB"], rows)


def mib(count: int) -> str:
    """Bytes in MiB, as tables show them."""
    return f"{count / 2**20:,.1f}"


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
                "failures_by_kind": dict(sorted(Counter(failures.column("kind").to_pylist()).items())),
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
        "songs": len(pc.unique(catalog.column("song_id"))),
        "artists": len(pc.unique(catalog.column("artist_id").drop_null())),
        "retired": int(catalog.column("retired").to_numpy().sum()),
        "representations": representations,
        "runs": runs(store, dataset),
    }


def show_text(found: dict[str, Any]) -> str:
    kind = " (synthetic)" if found["synthetic"] else ""
    retired = f" ({found['retired']:,} retired)" if found["retired"] else ""
    lines = [
        f"{found['dataset']}{kind}: {found['title']}, {found['version']}",
        *wrapped(f"licence: {found['licence']}"),
        *wrapped(f"citation: {found['citation']}"),
        f"files: {found['data_root']}",
        f"clips: {found['clips']:,}{retired} of {counted(found['songs'], 'song')} by "
        f"{counted(found['artists'], 'artist')}",
    ]
    for entry in found["representations"]:
        if not entry["complete"]:
            lines.append(f"{entry['name']}: not complete; go on: encore embed {found['dataset']}")
            continue
        shape = " x ".join(f"{n:,}" for n in (entry["rows"], *entry["shape"]))
        lines.append(f"{entry['name']}: {shape} {entry['dtype']}, {mib(entry['bytes'])} MiB")
        config = {name: value for name, value in entry["settings"].get("config", {}).items() if name != "REVISION"}
        if config:
            lines += wrapped(", ".join(f"{name}={_shown(value)}" for name, value in config.items()), "    ", "  ")
        if entry["failures"]:
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in entry["failures_by_kind"].items())
            first = entry["first_failures"]
            shown = "" if len(first) == entry["failures"] else f"; the first {len(first)}"
            lines.append(f"  {counted(entry['failures'], 'clip')} could not be encoded ({kinds}){shown}:")
            lines += [f"    {f['path']}: {f['kind']}: {f['reason']}" for f in first]
    for run in found["runs"]:
        of = "that read no representation" if run["representation"] == "metadata" else f"on {run['representation']}"
        lines.append(f"trained heads {of}: {_runs_and_searches(run)}, {mib(run['bytes'])} MiB")
        by_regime: dict[str, list[str]] = {}
        for folder, count in run["modes"].items():
            mode = max((name for name in registry.names("head") if folder.startswith(f"{name}-")), key=len, default="")
            by_regime.setdefault(folder.removeprefix(f"{mode}-"), []).append(f"{mode} {count}")
        for regime, modes in by_regime.items():
            lines += wrapped(f"{regime}: {', '.join(modes)}", "    ", "  ")
    return "\n".join(lines)


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def verify(store: Store, dataset: str | None) -> tuple[list[str], list[str]]:
    """Read splits and every shard of every complete representation; returns what was checked and what is wrong."""
    names = store.datasets() if dataset is None else [check_name(dataset)]
    none = store.there_is_none()
    if none is not None:
        raise RequestError(none)
    checked, wrong = [], []
    for name in names:
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
            checked.append(f"{where}: {'damaged' if problems else 'intact'}")
            wrong += problems
    return checked, wrong


@dataclass(frozen=True)
class Removal:
    """What a request to remove comes to: folder in the store -> bytes; and the runs that stay without their numbers.

    ``searches`` counts the searches for settings that lie with the heads, where these are what goes.
    """

    folders: dict[str, int]
    kept_runs: list[dict[str, Any]]
    searches: int = 0

    @property
    def with_searches(self) -> str:
        """What to add to the words on the folders."""
        return f", with {counted(self.searches, 'search', 'searches')} for settings" if self.searches else ""


def removal(store: Store, dataset: str, backbone: str | None, *, only_runs: bool) -> Removal:
    """Of a collection all that the store holds, or the representations of a backbone, or only what was trained on them.

    Runs stay when their representation goes: a report reads nothing else, and encoding again gives the same numbers.
    """
    if not store.has_catalog(dataset):
        store.read_catalog(dataset)  # raises with the list of what there is
    trained = runs(store, dataset)
    if only_runs:
        names = [run["representation"] for run in trained]
        chosen = match(names, backbone)
        folders = [f"{dataset}/runs/{name}" for name in chosen]
        missing = f"{dataset} has no runs of {backbone or 'any head'}; have: {', '.join(names) or 'none'}"
        kept, searches = [], sum(run["searches"] for run in trained if run["representation"] in chosen)
    else:
        names = [str(name) for name in store.representations(dataset)]
        chosen = match(names, backbone)
        folders = [dataset] if backbone is None else [f"{dataset}/{name}" for name in chosen]
        missing = f"{dataset} has no representation {backbone!r}; have: {', '.join(names) or 'none'}"
        kept = [run for run in trained if backbone is not None and run["representation"] in chosen]
        searches = 0
    if not folders:
        raise RequestError(missing)
    return Removal({folder: store.files.size(folder) for folder in folders}, kept, searches)


def remove(store: Store, dataset: str, going: Removal) -> dict[str, Any]:
    """Remove what `removal` found; says what went.

    What killed commands left half written or half removed goes with it, wherever in the store it lies.
    """
    store.files.sweep()
    for folder in going.folders:
        store.files.remove(folder)
    gone = [{"path": store.files.show(folder), "bytes": count} for folder, count in going.folders.items()]
    return {
        "dataset": dataset,
        "removed": gone,
        "bytes": sum(going.folders.values()),
        "searches": going.searches,
        "kept_runs": going.kept_runs,
    }


def removed_text(found: dict[str, Any]) -> str:
    lines = [f"removed {folder['path']}, {mib(folder['bytes'])} MiB" for folder in found["removed"]]
    lines += [
        f"kept: {_runs_and_searches(run)} trained on it, {mib(run['bytes'])} MiB; remove them: "
        f"encore store remove {found['dataset']} --runs --backbone {run['representation']}"
        for run in found["kept_runs"]
    ]
    return "\n".join(lines)
