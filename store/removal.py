"""Remove a collection, a representation, or the heads that were trained on one."""

from __future__ import annotations

from dataclasses import dataclass

from store.errors import RequestError
from store.inventory import Document, list_runs
from store.layout import Store, match


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
    return Removal(dataset, {folder: store.files.size(folder) for folder in folders}, kept, searches)


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
