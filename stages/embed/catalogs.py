"""From the name of a data set, or of a collection in the store, to its catalog."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from stages import registry
from stages.embed.content import AUDIO
from stages.embed.copies import join_copies
from stages.embed.datasets import Dataset
from stages.embed.inputs import song_file
from stages.embed.scan import scan
from stages.progress import note, task
from store.errors import ClipError, RequestError, unknown
from store.fingerprint import source_tag
from store.layout import Store
from store.schema import CATALOG_SCHEMA, Catalog

_THREADS = 8  # reading two small pieces of each file waits for the disk, not for the processor


def open_catalog(name: str, options: Mapping[str, Any], store: Store) -> Catalog:
    """Read the catalog of a data set from its files, or of a collection from the store (without retired songs).

    Parameters
    ----------
    options : of the data set, by field name; None for those that are not set.

    Raises
    ------
    RequestError
        for an unknown name, an option that the data set does not take, or any option of a collection in the store.
    """
    if name in registry.names("dataset"):
        merged = _with_remembered(name, options, store)
        dataset = make_dataset(name, merged)
        catalog = dataset.catalog()
        info = replace(
            catalog.info,
            keep_copies=dataset.keep_copies,
            first_artist=dataset.first_artist,
            origin=(name, *options_as_words(merged)),
            options=tuple(f"{option}={json.dumps(value)}" for option, value in dataset.remembered().items()),
        )
        return join_copies(Catalog(info, catalog.table))
    values = {key: value for key, value in options.items() if value is not None}
    if store.has_catalog(name):
        if values:
            raise RequestError(
                f"{name} is in the store already; to read its files again, name the reader that it came from: "
                f"encore embed folder --name {name} ... or encore embed table --name {name} ..."
            )
        return store.read_catalog(name).live()
    have = {*registry.names("dataset"), *store.datasets()}
    absent = "" if store.there_is_none() is None else " and is not there"
    raise RequestError(f"{unknown('data set', name, have)} The store looked in is {store.where()}{absent}")


def _with_remembered(name: str, options: Mapping[str, Any], store: Store) -> dict[str, Any]:
    """The options, and those that the collection of that name was read with before and that are not given now."""
    values = {key: value for key, value in options.items() if value is not None}
    kind: type[Dataset] = registry.find("dataset", name)
    collection = values.get("name")
    if kind.remembered is Dataset.remembered or collection is None or not store.has_catalog(collection):
        return values
    entries = (entry.partition("=") for entry in store.read_catalog(collection).info.options)
    before = {option: json.loads(value) for option, _, value in entries}
    old = {option: value for option, value in before.items() if option not in values}
    if old:
        undone = {
            option: False if value is True else ""
            for option, value in old.items()
            if value is True or isinstance(value, str)
        }
        without = f"; to read it without: {_shown(undone)}" if undone else ""
        note(f"{collection} is read with {_shown(old)}, as before{without}")
    return old | {option: value for option, value in values.items() if value != "" or option not in before}


def _shown(options: Mapping[str, Any]) -> str:
    return ", ".join(shlex.join(options_as_words({name: value})) for name, value in options.items())


def options_as_words(options: Mapping[str, Any]) -> list[str]:
    """The options of a data set that are set, as words of a command line."""
    words = []
    for key, value in options.items():
        name = key.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        elif value is not None:
            words += [f"--{name}", str(value)]
    return words


def make_dataset(name: str, options: Mapping[str, Any]) -> Dataset:
    """A data set with these options (None: not set); RequestError if it does not take one of them."""
    kind: type[Dataset] = registry.find("dataset", name)
    values = {key: value for key, value in options.items() if value is not None}
    names = {field.name for field in fields(kind)}
    unknown_options = [f"--{key.replace('_', '-')}" for key in values if key not in names]
    if unknown_options:
        offers = ", ".join(f"--{key.replace('_', '-')}" for key in sorted(names))
        raise RequestError(f"{name} takes no {', '.join(unknown_options)}; it takes: {offers}")
    return kind(**values)


def mark_sources(catalog: Catalog) -> Catalog:
    """The catalog with a mark of each file's content, so that a changed file is seen; None where a file is absent.

    A table of features marks its rows itself. Rows that are marked by their music alone stay so (`scan`).

    Raises
    ------
    RequestError
        where not a single file can be read.
    """
    table = catalog.table
    if table.column("source_row").null_count == 0 and table.num_rows:
        return catalog
    root = Path(catalog.info.data_root or ".").resolve()
    not_followed: set[str] = set()
    paths = catalog.strings("path")
    midi = catalog.strings("midi_path")
    files = sorted({path for path in (*paths, *midi) if path is not None})
    of_music = any((source or "").startswith(AUDIO) for source in catalog.strings("source"))
    songs = scan(root, files, follow_links=catalog.info.follow_links) if of_music else []
    music = {song.path: song.mark for song in songs}
    with task(f"looking at the files of {catalog.info.name}", len(files), "files") as advance:

        def mark(path: str) -> str | None:
            try:
                file = song_file(root, path, follow_links=catalog.info.follow_links)
                return music[path] if path in music else source_tag(file)
            except ClipError as error:  # encoding says so too
                if error.kind == "not-followed" and (root / path).exists():
                    not_followed.add(path)
                return None
            except OSError:
                return None
            finally:
                advance(1)

        with ThreadPoolExecutor(_THREADS) as pool:
            marks = dict(zip(files, pool.map(mark, files), strict=True))
    if files and len(not_followed) == len(files):
        raise RequestError(
            f"the files of {catalog.info.name} ({len(files):,}; {root / files[0]} is the first) are links out of "
            f"{root}, which are not followed; --follow-links follows them"
        )
    if files and not any(marks.values()):
        raise RequestError(
            f"none of the files of {catalog.info.name} ({len(files):,}) is under {root} (the first would be "
            f"{root / files[0]}). {_files_text(catalog.info.name)}"
            f"Give the folder that holds them: --data DIR (make: DATA=DIR)"
        )
    sources = [
        _join(marks[path or ""], marks[beside] if beside else "") for path, beside in zip(paths, midi, strict=True)
    ]
    index = table.schema.get_field_index("source")
    column = pa.array(sources, type=pa.string())
    return Catalog(catalog.info, table.set_column(index, CATALOG_SCHEMA.field("source"), column))


def _join(first: str | None, second: str | None) -> str | None:
    if first is None or second is None:
        return None
    return f"{first}+{second}" if second else first


def _files_text(name: str) -> str:
    if name not in registry.names("dataset"):
        return ""
    return f"{registry.find('dataset', name).FILES} "
