"""Remove a collection, a representation, the heads that were trained on one, or what nobody uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from store.errors import FormatError, RequestError
from store.inventory import Document, list_runs
from store.layout import Store, match, split_layer
from store.runs import METADATA
from store.schema import Manifest


@dataclass(frozen=True)
class Removal:
    """What a request to remove amounts to, before anything is removed.

    Attributes
    ----------
    folders : folder in the store -> its size in bytes.
    kept_runs : the runs (`store.inventory.list_runs`) whose representation goes while they stay.
    searches : how many searches for settings go with the heads; 0 unless only heads are removed.
    """

    dataset: str
    folders: dict[str, int]
    kept_runs: list[Document]
    searches: int = 0


def plan_removal(store: Store, dataset: str, backbone: str | None, *, only_runs: bool) -> Removal:
    """Plan the removal of a whole collection, of one backbone's representations, or of what was trained on them.

    Runs stay when their representation goes: a report reads nothing else, and encoding again gives the same numbers.

    Raises
    ------
    RequestError
        if the store does not hold what should go.
    """
    if not store.has_catalog(dataset):
        store.read_catalog(dataset)  # raises with the list of collections
    trained = list_runs(store, dataset)
    if only_runs:
        names = [run["representation"] for run in trained]
        matches = match(names, backbone)
        folders = [f"{dataset}/runs/{name}" for name in matches]
        missing = f"{dataset} has no runs of {backbone or 'any head'}; have: {', '.join(names) or 'none'}"
        runs, searches = [], sum(run["searches"] for run in trained if run["representation"] in matches)
    else:
        names = [str(name) for name in store.representations(dataset)]
        matches = match(names, backbone)
        folders = [dataset] if backbone is None else [f"{dataset}/{name}" for name in matches]
        missing = f"{dataset} has no representation {backbone!r}; have: {', '.join(names) or 'none'}"
        runs = [run for run in trained if backbone is not None and split_layer(run["representation"])[0] in matches]
        searches = 0
    if not folders:
        raise RequestError(missing)
    return Removal(dataset, {folder: store.files.size(folder) for folder in folders}, runs, searches)


def remove(store: Store, removal: Removal) -> Document:
    """Carry out a `plan_removal`, and sweep what killed commands left half written or half removed anywhere."""
    store.files.sweep()
    for folder in removal.folders:
        store.remove(folder)
    return {
        "dataset": removal.dataset,
        "removed": [{"path": store.files.show(folder), "bytes": size} for folder, size in removal.folders.items()],
        "bytes": sum(removal.folders.values()),
        "searches": removal.searches,
        "kept_runs": removal.kept_runs,
    }


@dataclass(frozen=True)
class Unused:
    """Something that nobody uses.

    Attributes
    ----------
    path : a folder or a file in the store.
    why : one line for a person.
    """

    path: str
    why: str
    bytes: int


def find_unused(store: Store, dataset: str | None, is_current: Callable[[Manifest], bool]) -> list[Unused]:
    """What nobody uses in one collection, or in all of them.

    That is representations which this version can no longer make, so that new songs are never added to them; runs that
    were trained on a representation that is gone; and what killed commands left behind.

    Parameters
    ----------
    is_current : whether the backbone of this version makes the representation of a manifest.
    """
    unused = [
        Unused(path, "left by a command that was killed", store.files.size(path))
        for path in store.files.left_over(dataset or "")
    ]
    for name in store.datasets() if dataset is None else [dataset]:
        store.read_catalog(name)  # raises with the list of what there is
        names = {METADATA}
        for representation in store.representations(name):
            try:
                manifest = store.read_manifest(name, representation)
            except FormatError:  # damaged, which `verify` tells, and may be mended
                manifest = None
            if manifest is None or is_current(manifest):
                names.add(str(representation))
            else:
                path = f"{name}/{representation}"
                unused.append(Unused(path, "made by an older version of its backbone", store.files.size(path)))
        for representation_name in store.files.folders(f"{name}/runs"):
            path = f"{name}/runs/{representation_name}"
            if split_layer(representation_name)[0] not in names and store.files.size(path):
                unused.append(Unused(path, "trained on a representation that is gone", store.files.size(path)))
    return unused


def remove_unused(store: Store, unused: list[Unused]) -> None:
    """Remove what `find_unused` gave."""
    store.files.sweep()
    for entry in unused:
        store.remove(entry.path)
