"""Read a store back and compare it with what was committed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from store.errors import EncoreError, RequestError
from store.layout import Store, check_name
from store.reader import Representations, hash_shards
from store.seal import remedy
from store.splits import read_splits


def verify(store: Store, dataset: str | None = None) -> tuple[list[str], list[str]]:
    """Read every file of one collection, or of all: kept splits, every shard of complete representations, runs.

    Returns
    -------
    checked, problems : one line per representation (or damaged catalog), and one line per problem.

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
            try:
                read_splits(store, name, [], pa.array([], type=pa.string()))
            except EncoreError as error:
                problems.append(str(error))
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
        problems += _compare(store, name, problems)
    return checked, problems


def _compare(store: Store, dataset: str, problems: list[str]) -> list[str]:
    """A line for each file that breaks the seal and that no line of ``problems`` names yet."""
    wrong = ((store.files.show(f"{dataset}/{path}"), why) for path, why in store.seals.compare(dataset).items())
    text = "\n".join(problems)
    return [f"{file} {why}; {remedy(dataset)}" for file, why in wrong if f"{file} " not in text]
