"""Which trained head a request names: a collection, a mode of it, or the path of a run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from stages import registry
from stages.paths import at_home
from store.errors import RequestError, unknown
from store.layout import Store, split_layer
from store.runs import RunFolder, RunRecord, read_record, target_of, target_suffix

_METADATA = "metadata"  # the folder of runs that read no representation
_INDUCTIVE = "-inductive"


@dataclass(frozen=True)
class Run:
    """One trained head of a store.

    Attributes
    ----------
    name : of its files, ``seed-0``.
    file : the path of its record, for messages.
    validation : its best validation score; None of a head that only counts.
    """

    folder: RunFolder
    name: str
    record: RunRecord
    file: str
    validation: float | None
    modified: float


def find_run(store: Store, request: str) -> tuple[Run, str]:
    """The run that ``DATASET``, ``DATASET/MODE``, ``DATASET/MODE-REGIME`` or a path means, and why it was chosen.

    Each of them followed by ``+TARGET`` means runs that learnt this numeric target; else it is those of labels. Behind
    that ``@LAYER`` means runs that read it (``mean``, ``mix``). Of a collection it is the mode and regime whose
    runs score best on their validation parts, on average; of several runs the one written last.

    Raises
    ------
    RequestError
        where there is no such collection, mode or run, or what it reads is no longer in the store.
    """
    path = _relative(store, request)
    if "/runs/" in path:
        return _at_path(store, request, path), "named by its path"
    name, layer = split_layer(path)
    name, target = target_of(name or "")
    dataset, _, rest = name.partition("/")
    if not store.has_catalog(dataset):
        store.read_catalog(dataset)  # raises with what there is
    runs = list(_runs(store, dataset))
    if not runs:
        raise RequestError(f"{dataset} has no trained head yet; train one: encore head {dataset} --mode gated")
    names = {f"{run.folder.mode}{target_suffix(run.folder.target)}{_at_layer(_layer(run))}" for run in runs}
    runs = [run for run in runs if run.folder.target == target and layer in (None, _layer(run))]
    candidates = [run for run in runs if rest in ("", run.folder.mode, target_of(_folder_name(run.folder))[0])]
    if not candidates:
        raise unknown(f"trained head of {dataset}", f"{rest}{target_suffix(target)}{_at_layer(layer)}", names)
    ready = [run for run in candidates if _is_ready(store, run.folder)]
    if not ready:
        raise _not_ready(store, candidates[0])
    if rest:
        return _newest(ready), f"the newest of {len(ready):,}" if len(ready) > 1 else "the only run"
    by_folder: dict[str, list[Run]] = {}
    for run in ready:
        by_folder.setdefault(run.folder.path, []).append(run)
    best = max(by_folder.values(), key=_mean_validation)
    score = _mean_validation(best)
    if len(ready) == 1:
        return ready[0], "the only run"
    why = f"validation {score:.3f}, the best of {len(by_folder):,}"
    why = why if math.isfinite(score) else "no other mode was validated"
    return _newest(best), f"{why}; the newest of its runs" if len(best) > 1 else why


def _layer(run: Run) -> str | None:
    """Which layer of its representation a run reads; None where that has none."""
    return split_layer(run.folder.representation)[1]


def _at_layer(layer: str | None) -> str:
    return "" if layer is None else f"@{layer}"


def _relative(store: Store, request: str) -> str:
    """A path within the store, whether it was given from its root, from the working directory or in full."""
    if store.files.local is not None:
        root = store.files.local.resolve()
        path = at_home(request).resolve()
        if path.is_relative_to(root):
            request = path.relative_to(root).as_posix()
    return request.strip("/")


def _at_path(store: Store, request: str, path: str) -> Run:
    """The run whose record, head or predictions lie at ``path``, or the newest one in the folder ``path``."""
    parts = path.split("/")
    name = "".join(parts[4:]).rpartition(".")[0] or "".join(parts[4:])
    here = _runs(store, parts[0], parts[2], parts[3]) if len(parts) in (4, 5) else ()
    runs = [run for run in here if name in ("", run.name)]
    if not runs:
        raise RequestError(f"there is no trained head {request} in the store {store.where()}")
    run = _newest(runs)
    if not _is_ready(store, run.folder):
        raise _not_ready(store, run)
    return run


def _runs(store: Store, dataset: str, representation: str = "", folder: str = "") -> Iterator[Run]:
    """The whole runs of a collection, of one of its representations, or in one folder of these."""
    for parent in store.files.folders(f"{dataset}/runs"):
        for child in store.files.folders(f"{dataset}/runs/{parent}"):
            place = _parse_folder(dataset, parent, child)
            if representation in ("", parent) and folder in ("", child) and place is not None:
                files = set(store.files.files(place.path))
                for name in sorted(file[: -len(".json")] for file in files if file.endswith(".json")):
                    if f"{name}.pt" in files:
                        yield _read(store, place, name)


def _parse_folder(dataset: str, representation: str, folder: str) -> RunFolder | None:
    """``gnn-artist-inductive`` as the folder that it names; None for one that is unfinished or of no mode."""
    name, target = target_of(folder)
    base = name.removesuffix(_INDUCTIVE)
    modes = [mode for mode in registry.names("head") if base.startswith(f"{mode}-")]
    if not modes or "." in folder:
        return None
    mode = max(modes, key=len)
    of = None if representation == _METADATA else representation
    return RunFolder(dataset, of, mode, base[len(mode) + 1 :], name.endswith(_INDUCTIVE), target)


def _folder_name(folder: RunFolder) -> str:
    return folder.path.rpartition("/")[2]


def _read(store: Store, folder: RunFolder, name: str) -> Run:
    record = read_record(store, folder, name)
    scores = [epoch["validation"] for epoch in record.history or () if "validation" in epoch]
    validation = max(scores, default=None)
    file = folder.record(name)
    return Run(folder, name, record, store.files.show(file), validation, store.files.modified(file))


def _newest(runs: list[Run]) -> Run:
    return max(runs, key=lambda run: (run.modified, run.name))


def _mean_validation(runs: list[Run]) -> float:
    """Less than any where none was validated."""
    scores = [run.validation for run in runs if run.validation is not None]
    return float(np.mean(scores)) if scores else -math.inf


def _is_ready(store: Store, folder: RunFolder) -> bool:
    """Whether the representation that a run reads is there."""
    if folder.representation is None:
        return True
    name, _ = split_layer(folder.representation)
    return store.exists(f"{folder.dataset}/{name}/manifest.json")


def _not_ready(store: Store, run: Run) -> RequestError:
    folder = run.folder
    have = ", ".join(map(str, store.complete(folder.dataset))) or "none"
    name, _ = split_layer(folder.representation)
    backbone = (name or "").rpartition("-")[0]
    return RequestError(
        f"{run.file} reads the representation {name}, which {folder.dataset} no longer has; have: "
        f"{have}. Encode it again with the same settings and weights (encore embed {folder.dataset} --backbone "
        f"{backbone}), or train a head on what is there: encore head {folder.dataset} --mode {folder.mode}"
    )
