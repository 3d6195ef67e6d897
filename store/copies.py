"""Copy collections from one store to another, each on a disk or behind a URL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from store.errors import FormatError, RequestError
from store.layout import Store
from store.seal import SEAL, hash_bytes
from store.verify import verify


@dataclass(frozen=True, kw_only=True)
class Copied:
    """What was copied of a collection, and what was there before."""

    dataset: str
    files: int
    bytes: int
    already_there: int


def copy(source: Store, target: Store, dataset: str, advance: Callable[[int], None] = lambda _count: None) -> Copied:
    """Copy a whole collection, its seal last; files that are there with the same bytes stay, so that it is resumable.

    Parameters
    ----------
    advance : is called with the number of files that were done.

    Raises
    ------
    RequestError
        where the target holds another collection of that name.
    FormatError
        where the source is damaged, or the copy is not what the source was.
    StoreError
        where the target's disk has no room for it.
    """
    source.read_catalog(dataset)  # raises with the list of what there is
    with target.lock(dataset):
        _check_target(source, target, dataset)
        if target.files.room() is not None:
            target.files.check_room(dataset, max(0, source.files.size(dataset) - target.files.size(dataset)))
        files = size = present = 0
        for name in _files(source, dataset):
            data = source.read(name) if name != f"{dataset}/{SEAL}" else source.files.read(name)
            if _is_there(target, name, data):
                present += 1
            else:
                target.files.write(name, data)
                files, size = files + 1, size + len(data)
            advance(1)
    _, problems = verify(target, dataset)
    if problems:
        raise FormatError("the copy is not whole: " + "\n".join(problems))
    return Copied(dataset=dataset, files=files, bytes=size, already_there=present)


def check_places(source: Store, target: Store) -> None:
    """RequestError where a store would be copied into itself."""
    inner, outer = (Path(store.files.local or store.files.at("")) for store in (target, source))
    if source.files.fs == target.files.fs and inner.resolve().is_relative_to(outer.resolve()):
        raise RequestError(f"{target.files.url} is or lies in {source.files.url}, which is copied; name another place")


def count_files(store: Store, dataset: str) -> int:
    """How many files `copy` goes through."""
    return sum(1 for _ in _files(store, dataset))


def _check_target(source: Store, target: Store, dataset: str) -> None:
    """RequestError where the target has a collection of this name that is not begun or made by this copy."""
    name = f"{dataset}/{SEAL}"
    theirs = _bytes(target, name)
    if theirs is not None and theirs != _bytes(source, name):
        raise RequestError(
            f"{target.files.show(dataset)} is there already and is another, or an earlier, state of {dataset}; remove "
            f"it, or name another place"
        )


def _files(store: Store, dataset: str) -> Iterator[str]:
    """Every file of a collection, the seal last; no locks and no unfinished work of killed processes."""
    yield from (name for name in _walk(store, dataset) if name != f"{dataset}/{SEAL}")
    if store.files.exists(f"{dataset}/{SEAL}"):
        yield f"{dataset}/{SEAL}"


def _walk(store: Store, folder: str) -> Iterator[str]:
    for name in store.files.files(folder):
        if not name.endswith(".lock"):
            yield f"{folder}/{name}"
    for name in store.files.folders(folder):
        yield from _walk(store, f"{folder}/{name}")


def _is_there(store: Store, name: str, data: bytes) -> bool:
    present = _bytes(store, name)
    return present is not None and hash_bytes(present) == hash_bytes(data)


def _bytes(store: Store, name: str) -> bytes | None:
    try:
        return store.files.read(name)
    except FileNotFoundError:
        return None
