"""``seal.json``: the hash of every file that a collection holds, in one place.

A file that changed, was swapped for another or is missing cannot go unnoticed: readers compare what they read with the
seal, and ``encore store verify`` compares everything. A shard's numbers and its file are hashed in the manifest, which
is sealed itself; locks and unfinished work are not sealed.

A file cannot be replaced in the same instant as its hash. So the seal first accepts the old hash and the new one, then
the file is replaced, then the new hash alone stands: at whatever moment a command is killed, the seal accepts what is
there.

A store of 0.1.0 has no seal. Its files are sealed as they are when something is first written.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping

import pyarrow as pa
import xxhash

from store.errors import FormatError, StoreError
from store.files import Files
from store.schema import check_format

SEAL = "seal.json"
_MARK = {b"encore-sealed": b"1"}  # in the metadata of a catalog that has a seal beside it

_FORMAT = 1
_TRIES = 100
_FOREIGN = "was not written by Encore"
_MISSING = "is missing"
_SEALED = re.compile(
    r"(catalog|splits)\.parquet"
    r"|[^/]+/(manifest\.json|failures\.parquet|trained_on\.parquet|representations\.zarr/zarr\.json)"
    r"|runs/[^/]+/[^/]+/[^/]+\.(json|parquet|pt)"
)

# The hashes that a file may have, None for a file that is not there; empty while its content is not decided yet.
Accepted = tuple[str | None, ...]


def hash_bytes(data: bytes | memoryview) -> str:
    """A hash of a file's bytes, 32 hexadecimal digits."""
    return xxhash.xxh3_128_hexdigest(data)


def is_sealed(path: str) -> bool:
    """Whether a file of this path in its collection belongs into the seal."""
    return _SEALED.fullmatch(path) is not None


class Change:
    """The hashes of files that are about to be written: accepted beside the old ones at first, then alone."""

    def __init__(self, hashes: dict[str, str | None]) -> None:
        self.hashes = hashes
        self._before: dict[str, Accepted] = {}
        self._dropped = False

    def drop(self) -> None:
        """The files stay as they were."""
        self._dropped = True

    def begin(self, entries: dict[str, Accepted]) -> None:
        for path, value in self.hashes.items():
            self._before[path] = entries.get(path, (None,))
            entries[path] = tuple(dict.fromkeys((*self._before[path], value)))

    def end(self, entries: dict[str, Accepted]) -> None:
        for path, value in self.hashes.items():
            before = self._before[path]
            expired = {value} - {*before} if self._dropped else {*before} - {value}
            accepted = tuple(entry for entry in entries.get(path, (None,)) if entry not in expired)
            entries.pop(path, None)
            if accepted and accepted != (None,):
                entries[path] = accepted


class Seals:
    """The seals of a store's collections. Paths are relative to the collection."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self._read: dict[str, tuple[str, dict[str, Accepted]]] = {}

    def entries(self, dataset: str) -> dict[str, Accepted] | None:
        """What every file of a collection may hold; None where there is no seal.

        Raises
        ------
        FormatError
            where the seal itself is damaged.
        """
        name = f"{dataset}/{SEAL}"
        mark = self.files.mark(name)
        if mark is None:
            return None
        entry = self._read.get(dataset)
        if entry is None or entry[0] != mark:
            entry = self._read[dataset] = mark, self._parse(dataset, self.files.read(name))
        return entry[1]

    def _parse(self, dataset: str, data: bytes) -> dict[str, Accepted]:
        where = self.files.show(f"{dataset}/{SEAL}")
        damaged = FormatError(f"{where} is damaged; {remedy(dataset, SEAL)}")
        try:
            content = json.loads(data)
            version = content["format"]
            entries = {path: tuple(hashes) for path, hashes in content["files"].items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise damaged from error
        check_format("seal", version, _FORMAT)
        if _to_json(entries) != data:
            raise damaged
        return entries

    def due(self, dataset: str) -> set[str]:
        """The files that must be there."""
        entries = self.entries(dataset) or {}
        return {path for path, accepted in entries.items() if accepted and None not in accepted}

    def check_present(self, dataset: str, catalog: pa.Table) -> None:
        """FormatError where a collection had a seal, as its catalog tells, and has none."""
        if _MARK.items() <= (catalog.schema.metadata or {}).items() and self.entries(dataset) is None:
            raise FormatError(f"{SEAL} is missing; {remedy(dataset, SEAL)}")

    @contextlib.contextmanager
    def changing(self, dataset: str, hashes: Mapping[str, str | None]) -> Iterator[Change]:
        """Around the writing of some files: ``hashes`` of what they will hold, None for those that are removed.

        `Change.drop` says that nothing was written after all. What another run has accepted meanwhile, which can be
        behind a URL, where nothing can be locked, stays.
        """
        change = Change({path: value for path, value in hashes.items() if is_sealed(path)})
        if change.hashes:
            self._update(dataset, change.begin)
        yield change
        if change.hashes:
            self._update(dataset, change.end)

    def leave_open(self, dataset: str, path: str) -> None:
        """Accept whatever this file holds until `close`: another library is going to write it."""

        def leave(entries: dict[str, Accepted]) -> None:
            entries[path] = ()

        if (self.entries(dataset) or {}).get(path) != ():
            self._update(dataset, leave)

    def close(self, dataset: str, path: str) -> None:
        """Seal a file as it is."""
        value = hash_bytes(self.files.read(f"{dataset}/{path}"))

        def seal(entries: dict[str, Accepted]) -> None:
            entries[path] = (value,)

        self._update(dataset, seal)

    def accept(self, dataset: str) -> list[str]:
        """Seal everything as it is now; the paths that were changed, added or removed since the last seal."""
        with self._lock(dataset):
            try:
                before = self.entries(dataset) or {}
            except FormatError:
                before = {}
            after = self._scan(dataset)
            paths = [
                path
                for path in sorted(before.keys() | after.keys())
                if before.get(path) != () and not set(after.get(path, (None,))) <= set(before.get(path, ()))
            ]
            self.files.write(f"{dataset}/{SEAL}", _to_json(after))
        return paths

    def compare(self, dataset: str) -> dict[str, str]:
        """The files that do not hold what the seal says, each with what is wrong; all of them are read.

        What another command writes meanwhile is looked at again.
        """
        entries = self.entries(dataset)
        if entries is None:
            return {}
        paths = sorted(entries.keys() | set(self._paths(dataset)))
        wrong = [path for path in paths if self._look(dataset, path)]
        again = {path: self._look(dataset, path) for path in wrong}
        return {path: why for path, why in again.items() if why is not None}

    def _look(self, dataset: str, path: str) -> str | None:
        """`why` of a file as it is at this moment."""
        try:
            return self.why(dataset, path, self._bytes(dataset, path))
        except StoreError as error:
            return f"cannot be read ({error})"

    def why(self, dataset: str, path: str, data: bytes | None) -> str | None:
        """What is wrong with a file of these bytes, None being no file; None where it is what the seal says."""
        return self.why_hash(dataset, path, None if data is None else hash_bytes(data))

    def why_hash(self, dataset: str, path: str, value: str | None) -> str | None:
        """`why` of a file whose bytes have this hash."""
        entries = self.entries(dataset)
        if entries is None or not is_sealed(path):
            return None
        accepted = entries.get(path, (None,))
        if not accepted or value in accepted:
            return None
        if value is None:
            return _MISSING
        return "does not hold what was written" if path in entries else _FOREIGN

    def _bytes(self, dataset: str, path: str) -> bytes | None:
        try:
            return self.files.read(f"{dataset}/{path}")
        except FileNotFoundError:
            return None

    def _update(self, dataset: str, change: Callable[[dict[str, Accepted]], None]) -> None:
        """Change the entries; where another run changes them at the same moment, those that it has left."""
        name = f"{dataset}/{SEAL}"
        with self._lock(dataset):
            for _ in range(_TRIES):
                mark = self.files.mark(name)
                entries = self.entries(dataset)
                entries = self._scan(dataset) if entries is None else dict(entries)
                change(entries)
                if self.files.write_if(name, _to_json(entries), mark):
                    return
        raise StoreError(f"other runs write {self.files.show(name)} without a pause; run the same command again")

    def _lock(self, dataset: str) -> contextlib.AbstractContextManager[None]:
        return self.files.lock(f"{dataset}/.seal.lock")

    def _scan(self, dataset: str) -> dict[str, Accepted]:
        """Every file as it is at this moment."""
        contents = {path: self._bytes(dataset, path) for path in self._paths(dataset)}
        return {path: (hash_bytes(data),) for path, data in contents.items() if data is not None}

    def _paths(self, dataset: str) -> list[str]:
        """The files that are there and belong into the seal."""
        folders = [f"{name}/" for name in self.files.folders(dataset) if name != "runs"]
        inner = ["", *folders, *(f"{folder}representations.zarr/" for folder in folders)]
        for representation in self.files.folders(f"{dataset}/runs"):
            parent = f"runs/{representation}/"
            inner += [f"{parent}{name}/" for name in self.files.folders(f"{dataset}/{parent}")]
        paths = (f"{folder}{name}" for folder in inner for name in self.files.files(f"{dataset}/{folder}".rstrip("/")))
        return [path for path in paths if is_sealed(path)]


def with_mark(catalog: pa.Table) -> pa.Table:
    """The catalog with a mark by which it is known that there is a seal."""
    return catalog.replace_schema_metadata({**(catalog.schema.metadata or {}), **_MARK})


def remedy(dataset: str, path: str, why: str = "") -> str:
    """What to do about a file of a collection that is not what the seal says."""
    if path.startswith("runs/") and why == _FOREIGN:
        return "remove it"
    if path.startswith("runs/") and why != _MISSING:
        return "put a copy back, or train that head again with the same settings"
    return f"put a copy back, or take the collection as it is: encore store repair {dataset} --accept"


def _to_json(entries: Mapping[str, Accepted]) -> bytes:
    files = {path: list(entries[path]) for path in sorted(entries)}
    digest = hash_bytes(json.dumps(files).encode())
    return (json.dumps({"format": _FORMAT, "hash": digest, "files": files}, indent=1) + "\n").encode()
