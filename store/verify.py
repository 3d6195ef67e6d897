"""Read a store back and compare it with what was committed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from store.errors import EncoreError, RequestError
from store.layout import Store, check_name
from store.reader import Representations, hash_shards
from store.seal import remedy
from store.splits import read_splits
from store.words import plural


def verify(store: Store, dataset: str | None = None) -> tuple[list[str], list[str]]:
    """Read every file of one collection, or of all: kept splits, every shard of complete representations, runs.

    Returns
    -------
    checked, problems : one line per representation (or damaged catalog) and for other files, and one line per problem.

    Raises
    ------
    RequestError
        if there is no store, or the collection is not in it.
    """
    names = store.datasets() if dataset is None else [check_name(dataset)]
    absent = store.there_is_none()
    if absent is not None:
        raise RequestError(absent)
    checked: list[str] = []
    problems: list[str] = []
    for name in names:
        with ThreadPoolExecutor(1) as aside:  # files are hashed while the catalog, which they do not need, is read
            hashes = {each: aside.submit(hash_shards, store, name, each) for each in store.complete(name)}
            try:
                catalog = store.open_clips(name)
            except RequestError:
                raise
            except EncoreError as error:
                aside.shutdown(wait=False, cancel_futures=True)  # whose shards these are is not known
                checked.append(f"{name}: damaged")
                problems.append(str(error))
                continue
            others: list[str] = []
            try:
                read_splits(store, name, [], pa.array([], type=pa.string()))
            except EncoreError as error:
                others.append(str(error))
            for representation in store.representations(name):
                folder = f"{name}/{representation}"
                if representation not in hashes:
                    checked.append(f"{folder}: not complete")
                    continue
                try:
                    damages = Representations(store, catalog, representation).verify(hashes[representation].result)
                except EncoreError as error:
                    damages = [str(error)]
                checked.append(f"{folder}: {'damaged' if damages else 'intact'}")
                problems += damages
        others += compare_files(store, name, [*problems, *others])
        if others:
            checked.append(f"{name}: {plural(len(others), 'other file')} damaged or missing")
        problems += others
    return checked, problems


def compare_files(store: Store, dataset: str, problems: Sequence[str] = ()) -> list[str]:
    """A line for each file that breaks the seal and that no line of ``problems`` names yet, with a space behind."""
    text = "\n".join(problems)
    wrong = ((path, store.files.show(f"{dataset}/{path}"), why) for path, why in store.seals.compare(dataset).items())
    return [f"{file} {why}; {remedy(dataset, path, why)}" for path, file, why in wrong if f"{file} " not in text]
