"""Where things lie in a store.

::

    STORE/<dataset>/catalog.parquet
    STORE/<dataset>/splits.parquet                                    the part of each song in every split; see splits
    STORE/<dataset>/<backbone>-<fingerprint>/representations.zarr     row i belongs to catalog row i
    STORE/<dataset>/<backbone>-<fingerprint>/shards/00000.json        a committed shard, while work is going on
    STORE/<dataset>/<backbone>-<fingerprint>/failures.parquet
    STORE/<dataset>/<backbone>-<fingerprint>/trained_on.parquet       songs here that the backbone was trained on
    STORE/<dataset>/<backbone>-<fingerprint>/weights.txt              where the weights lay
    STORE/<dataset>/<backbone>-<fingerprint>/licence.txt              the licence of the weights
    STORE/<dataset>/<backbone>-<fingerprint>/command.txt              the command that encoded it
    STORE/<dataset>/<backbone>-<fingerprint>/probe.json               what a fixed clip gave when it was begun
    STORE/<dataset>/<backbone>-<fingerprint>/map.parquet              where clips lie on the page of a report
    STORE/<dataset>/<backbone>-<fingerprint>/manifest.json            written last; none means not complete
    STORE/<dataset>/seal.json                                         the hash of every other file; see seal
    STORE/<dataset>/.lock, STORE/<dataset>/<backbone>-<fingerprint>/.lock     held while what lies beside is written
    STORE/<dataset>/runs/                                             what stage two leaves behind, and its locks
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import pyarrow as pa

from store.clips import Clips, StoredClips
from store.errors import FormatError, RequestError, StoreError, nearest
from store.files import Files
from store.schema import Catalog, Manifest
from store.seal import SEAL, Seals, hash_bytes, remedy, with_mark
from store.tables import from_parquet, to_parquet

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_LOOKS = 3
_REPRESENTATION = re.compile(r"(?P<backbone>[a-z0-9][a-z0-9._-]*)-(?P<fingerprint>[0-9a-f]{12})")


def check_name(name: str) -> str:
    """``name`` where it can name a data set in a store; it becomes a folder, so it may hold no other characters."""
    if name == "runs" or name.endswith(".removed"):
        raise RequestError(f"{name!r} cannot name a data set: a store has folders of its own that are named so")
    if not _NAME.fullmatch(name):
        raise RequestError(
            f"{name!r} cannot name a data set: use lower-case letters, digits, '-', '_' and '.', 64 at most"
        )
    return name


@dataclass(frozen=True)
class RepresentationName:
    """One representation folder: ``<backbone>-<fingerprint>``."""

    backbone: str
    fingerprint: str

    def __str__(self) -> str:
        return f"{self.backbone}-{self.fingerprint}"


def match(names: Iterable[str], text: str | None) -> list[str]:
    """Those of the representations ``names`` that ``text`` means: a backbone, or one with the beginning of a
    fingerprint (``fcn-1a2b``); all of them for None.

    Either may end in a layer (``mert-1a2b@7``), in any of which the same representation is meant where none is named.
    """
    text, layer = split_layer(text)
    parts = {name: split_layer(name) for name in names}
    backbones = {
        name: ((representation or "").rpartition("-")[0] or name)
        for name, (representation, of_name) in parts.items()
        if layer in (None, of_name)
    }
    if text is None:
        return list(backbones)
    return [name for name, backbone in backbones.items() if backbone == text] or [
        name for name, backbone in backbones.items() if name.startswith(text) and len(text) > len(backbone) + 1
    ]


def split_layer(name: str | None) -> tuple[str | None, str | None]:
    """``mert-1a2b@7`` as ``("mert-1a2b", "7")``, ``@7`` as ``(None, "7")``; without a layer, as it is and None."""
    representation, at, layer = (name or "").partition("@")
    return (representation or None, layer) if at else (name, None)


class Store:
    """A store's root: what it holds and the paths inside it. Creates nothing until something is written."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.files = Files(root)
        self.seals = Seals(self.files)

    def datasets(self) -> list[str]:
        """The collections that have a catalog, or should have one."""
        files = ("catalog.parquet", SEAL)
        return [name for name in self.files.folders() if any(self.files.exists(f"{name}/{file}") for file in files)]

    def representations(self, dataset: str) -> list[RepresentationName]:
        """The representations of a collection, complete or not, also those whose folder was lost."""
        folders = {*self.files.folders(check_name(dataset)), *self._lost_folders(dataset)}
        matches = map(_REPRESENTATION.fullmatch, sorted(folders))
        return [RepresentationName(m["backbone"], m["fingerprint"]) for m in matches if m]

    def complete(self, dataset: str) -> list[RepresentationName]:
        """The complete representations of a collection."""
        return [name for name in self.representations(dataset) if self.is_complete(dataset, name)]

    def is_complete(self, dataset: str, name: RepresentationName) -> bool:
        return self.exists(f"{dataset}/{name}/manifest.json")

    def _lost_folders(self, dataset: str) -> set[str]:
        return {path.partition("/")[0] for path in self.seals.due(dataset)}

    def find(self, dataset: str, text: str | None) -> RepresentationName:
        """The one complete representation that ``text`` means (`match`)."""
        complete = {str(name): name for name in self.complete(dataset)}
        names = match(complete, text)
        if len(names) == 1:
            return complete[names[0]]
        if names:
            raise RequestError(
                f"{dataset} has {len(names)} representations that fit; name one by --backbone (make: BACKBONE=): "
                f"{', '.join(names)}"
            )
        if not complete:
            partial = [str(name) for name in self.representations(dataset)]
            remark = f" ({', '.join(partial)} is not complete)" if partial else ""
            strange = [name for name in self.files.folders(dataset) if not _REPRESENTATION.fullmatch(name)]
            for folder in (f"{dataset}/{name}" for name in strange):
                if self.files.exists(f"{folder}/manifest.json"):
                    manifest = Manifest.from_json(self.files.read(f"{folder}/manifest.json"))
                    true_name = f"{manifest.backbone}-{manifest.fingerprint}"
                    raise self._renamed(folder, f"the representation {true_name}", true_name)
            raise RequestError(f"{dataset} has no representations yet{remark}; make them: encore embed {dataset}")
        near = nearest(text or "", {name.backbone for name in complete.values()})
        make = f"{near} {'If not, make' if near else 'Make'} it: encore embed {dataset} --backbone {text}"
        raise RequestError(f"{dataset} has no representation {text!r}; have: {', '.join(complete)}.{make}")

    def lock(self, dataset: str, name: RepresentationName | None = None) -> AbstractContextManager[None]:
        """Keep other processes from writing a collection's catalog, or one of its representations; see `Files.lock`."""
        return self.files.lock(f"{check_name(dataset)}/{name}/.lock" if name else f"{check_name(dataset)}/.lock")

    def has_catalog(self, dataset: str) -> bool:
        return self.exists(f"{check_name(dataset)}/catalog.parquet")

    def check_there(self, dataset: str) -> None:
        """RequestError, with the names that there are, where the store has no such collection."""
        if not self.has_catalog(dataset):
            raise self._no_data_set(dataset)

    def read_catalog(self, dataset: str) -> Catalog:
        """The catalog of a collection; RequestError where there is none."""
        self.check_there(dataset)
        try:
            table = self.read_table(f"{dataset}/catalog.parquet")
            self.seals.check_present(dataset, table)
            catalog = Catalog.from_arrow(table)
        except FormatError as error:
            raise FormatError(
                f"{self.files.show(dataset)}: {error}; put a copy of catalog.parquet back, or encode again "
                f"into another --store"
            ) from error
        if catalog.info.name != dataset:
            raise self._renamed(dataset, f"the collection {catalog.info.name}", catalog.info.name)
        return catalog

    def open_clips(self, dataset: str) -> Clips:
        """The clips of a collection's catalog, to be read a block at a time; errors are those of `read_catalog`."""
        self.check_there(dataset)
        name = f"{dataset}/catalog.parquet"
        # A catalog that no seal covers, or of which something is wrong, is read as a whole, which says what it is.
        if self.seals.entries(dataset) is None:
            return self.read_catalog(dataset)

        def check(value: str) -> None:
            why = self.seals.why_hash(dataset, "catalog.parquet", value)
            if why is not None:
                raise FormatError(why)

        try:
            self.files.check_file(name)
            clips = StoredClips(self.read(name) if self.files.local is None else self.files.local / name, check)
        except (FormatError, OSError, pa.ArrowException):
            return self.read_catalog(dataset)
        return clips if clips.info.name == dataset else self.read_catalog(dataset)

    def there_is_none(self) -> str | None:
        """A message if there is no store at all; None if there is one."""
        if self.files.exists(""):
            return None
        return f"there is no store {self.where()}; fill one: encore embed demo"

    def where(self) -> str:
        """Where the store is, and how a user names another."""
        return f"{self.files.show('').rstrip('/')} (--store or ENCORE_STORE names another)"

    def _no_data_set(self, dataset: str) -> RequestError:
        none = self.there_is_none()
        if none is not None:
            return RequestError(f"unknown data set {dataset!r}: {none}")
        have = self.datasets()
        near = nearest(dataset, have)
        hint = f"{near} {'If not, encode' if near else 'Encode'} it first: encore embed {dataset}"
        return RequestError(
            f"unknown data set {dataset!r} in the store {self.where()}; have: {', '.join(have) or 'none'}.{hint}"
        )

    def _renamed(self, folder: str, holds: str, name: str) -> FormatError:
        return FormatError(f"{self.files.show(folder)} holds {holds}, so it was renamed; name the folder {name} again")

    def catalog_mark(self, dataset: str) -> str | None:
        """A mark of the catalog's file that changes whenever it is written; None where there is none."""
        return self.files.mark(f"{dataset}/catalog.parquet") if _NAME.fullmatch(dataset) else None

    def write_catalog(self, catalog: Catalog) -> None:
        catalog.check()
        self.write_table(f"{check_name(catalog.info.name)}/catalog.parquet", with_mark(catalog.to_arrow()))

    def replace_catalog(self, catalog: Catalog, mark: str | None) -> bool:
        """`write_catalog` where the stored one's `catalog_mark` still is ``mark``; whether it was."""
        catalog.check()
        name = f"{check_name(catalog.info.name)}/catalog.parquet"
        return self.replace_table(name, with_mark(catalog.to_arrow()), mark)

    def read_manifest(self, dataset: str, name: RepresentationName) -> Manifest | None:
        """The manifest, or None where the representation is not complete."""
        where = f"{dataset}/{name}/manifest.json"
        try:
            data = self.read(where)
        except FileNotFoundError:
            return None
        try:
            manifest = Manifest.from_json(data)
        except FormatError as error:
            raise FormatError(
                f"{self.files.show(where)}: {error}; remove it and encode again: "
                f"encore store remove {dataset} --backbone {name}"
            ) from error
        except RequestError as error:
            raise RequestError(f"{self.files.show(where)}: {error}") from error
        true_name = RepresentationName(manifest.backbone, manifest.fingerprint)
        if true_name != name:
            raise self._renamed(f"{dataset}/{name}", f"the representation {true_name}", str(true_name))
        return manifest

    def read_line(self, dataset: str, name: RepresentationName, file: str) -> str | None:
        """What ``weights.txt``, ``licence.txt`` or ``command.txt`` says; None where nobody wrote it down."""
        try:
            return self.files.read(f"{dataset}/{name}/{file}").decode(errors="replace").strip() or None
        except FileNotFoundError:
            return None

    def read_table(self, name: str) -> pa.Table:
        """A Parquet file; FormatError where it is damaged."""
        try:
            data = self.read(name)
        except FileNotFoundError as error:
            raise StoreError(f"{self.files.show(name)} is not there") from error
        try:
            return from_parquet(data)
        except FormatError as error:
            raise FormatError(f"{self.files.show(name)} is damaged: {error}") from error

    def write_table(self, name: str, table: pa.Table) -> None:
        """A Parquet file, replaced as a whole."""
        self.write({name: to_parquet(table)})

    def replace_table(self, name: str, table: pa.Table, mark: str | None) -> bool:
        """`write_table` where the file's mark (`Files.mark`) still is ``mark``; whether it was."""
        dataset, _, path = name.partition("/")
        data = to_parquet(table)
        with self.seals.changing(dataset, {path: hash_bytes(data)}) as change:
            if not self.files.write_if(name, data, mark):
                change.drop()
                return False
        return True

    def exists(self, name: str) -> bool:
        """Whether a file of a collection exists, or should exist by the seal."""
        dataset, _, path = name.partition("/")
        if self.files.exists(name):
            return True
        return path in self.seals.due(dataset)

    def names(self, folder: str) -> list[str]:
        """The names of the files directly under a folder of a collection that are there, or should be."""
        dataset, _, inner = folder.partition("/")
        sealed = (path.rpartition("/") for path in self.seals.due(dataset))
        return sorted({*self.files.files(folder), *(name for parent, _, name in sealed if parent == inner)})

    def read(self, name: str) -> bytes:
        """The bytes of a file of a collection.

        Raises
        ------
        FileNotFoundError
            where there is no such file, and should be none.
        FormatError
            where the file does not hold what was written, or is missing.
        """
        dataset, _, path = name.partition("/")
        why = None
        for _ in range(_LOOKS):  # between the two looks another command may have replaced the file
            data = self._bytes(name)
            why = self.seals.why(dataset, path, data)
            if why is None:
                break
        if why is not None:
            raise FormatError(f"{self.files.show(name)} {why}; {remedy(dataset, path, why)}")
        if data is None:
            raise FileNotFoundError(name)
        return data

    def _bytes(self, name: str) -> bytes | None:
        try:
            return self.files.read(name)
        except FileNotFoundError:
            return None

    def write(self, contents: Mapping[str, bytes]) -> None:
        """Write files of one collection, in this order, each replaced as a whole; they are sealed."""
        dataset = next(iter(contents)).partition("/")[0]
        with self.seals.changing(dataset, {_inner(name): hash_bytes(data) for name, data in contents.items()}):
            for name, data in contents.items():
                self.files.write(name, data)

    def remove(self, name: str) -> None:
        """Remove a file or a folder of a collection, or all of it."""
        dataset, _, path = name.partition("/")
        if not path:
            self.files.remove(name)
            return
        entries = self.seals.entries(dataset) or {}
        with self.seals.changing(dataset, {entry: None for entry in entries if _is_under(entry, path)}):
            self.files.remove(name)

    def move(self, name: str, to: str) -> None:
        """Put a folder of a collection in the place of another, which is removed; FormatError for a damaged file."""
        dataset, _, target = to.partition("/")
        hashes: dict[str, str | None] = {
            entry: None
            for entry in self.seals.entries(dataset) or {}
            if _is_under(entry, target) or _is_under(entry, _inner(name))
        }
        hashes |= {f"{target}/{file}": hash_bytes(self.read(f"{name}/{file}")) for file in self.names(name)}
        with self.seals.changing(dataset, hashes):
            self.files.move(name, to)


def _inner(name: str) -> str:
    """A name in the store as a path in its collection."""
    return name.partition("/")[2]


def _is_under(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def check_writable(store: Store) -> None:
    """Raise before hours of work where the store cannot be written."""
    probe = ".writable"
    try:
        store.files.write(probe, b"")
        store.files.remove(probe)
    except StoreError as error:
        raise StoreError(f"the store {store.files.url} cannot be written: {error}") from error
