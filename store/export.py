"""A representation as plain files that other programs read, beside the catalog rows that its vectors belong to."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from store.errors import RequestError, StoreError, unknown
from store.layout import Store
from store.reader import Representations

FORMATS = ("npy", "parquet", "hf")


def export_representation(store: Store, dataset: str, backbone: str | None, to: str, folder: Path) -> list[Path]:
    """Write the encoded clips of a collection that are not retired, in the order of the catalog; returns the files.

    ``npy`` writes ``<dataset>-<representation>.npy``, [clips, *shape], and beside it a Parquet file whose row ``i``
    describes vector ``i``: the catalog's columns and ``row``, its row in the store. ``parquet`` writes one file with
    the same columns and ``representation``, a list of numbers (several axes one behind the other; ``shape`` in the
    schema's metadata tells them). ``hf`` writes a folder of the same rows that Hugging Face's ``datasets`` opens by
    ``load_from_disk``, with the targets as a JSON text, since it knows no maps. Memory holds one shard and the catalog.

    Raises
    ------
    RequestError
        where there is no such collection, representation or format.
    StoreError
        where a file cannot be written.
    FormatError
        where a shard does not hold what was committed.
    """
    if to not in FORMATS:
        raise unknown("format", to, FORMATS)
    catalog = store.read_catalog(dataset)
    representations = Representations(store, catalog, store.find(dataset, backbone))
    usable = representations.encoded() & ~catalog.retired()[: representations.rows]
    rows = np.flatnonzero(usable)
    if not len(rows):
        raise RequestError(f"{dataset}/{representations.name} has no clip that is encoded; there is nothing to export")
    table = catalog.to_arrow().take(pa.array(rows)).add_column(0, "row", pa.array(rows))
    name = f"{dataset}-{representations.name}"
    array, clips = folder / f"{name}.npy", folder / f"{name}.parquet"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if to == "hf":
            return _write_hf(representations, usable, table, folder / name)
        with _replaced(clips) as partial:
            if to == "npy":
                pq.write_table(table, partial)
            else:
                _write_parquet(representations, usable, table, partial)
        if to == "npy":
            with _replaced(array) as partial:
                _write_npy(representations, usable, partial)
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"{folder} cannot be written: {error.strerror or error}") from error
    return [array, clips] if to == "npy" else [clips]


@contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to, which takes its place when all is well, and is removed when not."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _shards(representations: Representations, usable: np.ndarray[Any, Any]) -> Iterator[np.ndarray[Any, Any]]:
    """The usable rows of each shard that has some: [rows, *shape]."""
    for shard in representations.manifest.shards:
        mask = usable[slice(*shard.rows)]
        if mask.any():
            yield representations.read(*shard.rows)[mask]


def _write_npy(representations: Representations, usable: np.ndarray[Any, Any], path: Path) -> None:
    header = {
        "descr": np.dtype(representations.manifest.dtype).newbyteorder("<").str,
        "fortran_order": False,
        "shape": (int(usable.sum()), *representations.shape),
    }
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for values in _shards(representations, usable):
            file.write(np.ascontiguousarray(values).data)


def _write_parquet(representations: Representations, usable: np.ndarray[Any, Any], table: pa.Table, path: Path) -> None:
    parts = _with_representations(representations, usable, table)
    first = next(parts)
    with pq.ParquetWriter(path, first.schema) as writer:
        for part in chain((first,), parts):
            writer.write_table(part)


def _write_hf(
    representations: Representations, usable: np.ndarray[Any, Any], table: pa.Table, folder: Path
) -> list[Path]:
    """The folder's format is that of ``Dataset.save_to_disk``; what is not told of the features it infers."""
    place = table.schema.get_field_index("targets")
    targets = [None if entry is None else json.dumps(dict(entry)) for entry in table.column("targets").to_pylist()]
    table = table.set_column(place, "targets", pa.array(targets, pa.string()))
    folder.mkdir(exist_ok=True)
    files = [folder / name for name in ("data-00000-of-00001.arrow", "dataset_info.json", "state.json")]
    parts = _with_representations(representations, usable, table)
    first = next(parts)
    with (
        _replaced(files[0]) as partial,
        pa.OSFile(str(partial), "wb") as sink,
        pa.ipc.new_stream(sink, first.schema) as writer,
    ):
        for part in chain((first,), parts):
            writer.write_table(part)
    state: dict[str, Any] = {
        "_data_files": [{"filename": files[0].name}],
        "_fingerprint": representations.name.fingerprint,
        "_split": None,
    }
    state |= {"_format_type": None, "_format_kwargs": {}, "_format_columns": None, "_output_all_columns": False}
    for file, document in zip(files[1:], ({"description": folder.name}, state), strict=True):
        with _replaced(file) as partial:
            partial.write_text(json.dumps(document, indent=1) + "\n")
    return files


def _with_representations(
    representations: Representations, usable: np.ndarray[Any, Any], table: pa.Table
) -> Iterator[pa.Table]:
    """The rows of the table with their vectors, shard by shard."""
    width = math.prod(representations.shape)
    numbers = pa.from_numpy_dtype(np.dtype(representations.manifest.dtype))
    column = pa.field("representation", pa.list_(numbers, width), nullable=False)
    metadata = {**(table.schema.metadata or {}), b"shape": json.dumps(representations.shape).encode()}
    first = 0
    for values in _shards(representations, usable):
        flat = pa.array(np.ascontiguousarray(values).reshape(-1), numbers)
        vectors = pa.FixedSizeListArray.from_arrays(flat, width)
        part = table.slice(first, len(values)).append_column(column, vectors)
        yield part.replace_schema_metadata(metadata)
        first += len(values)
