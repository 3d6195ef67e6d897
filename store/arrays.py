"""The Zarr arrays of representations: how they are laid out, created and opened.

One chunk is one shard and one file, ``c/<shard>/0...``, in the Zarr 3 format; the reader takes numbers straight from
these files. The layout is requested explicitly when an array is created and depends on no library's defaults. Zarr's
sharding codec is not used inside a chunk: a shard is replaced as a whole and needs no index, and through the codec it
was read at less than half the rate.
"""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store as ZarrStore
from zarr.codecs import BloscCodec, BytesCodec, TransposeCodec
from zarr.errors import ContainsArrayError
from zarr.storage import FsspecStore, LocalStore

from store.errors import FormatError, StoreError
from store.files import is_of_service
from store.layout import RepresentationName, Store

_SHARD_BYTES = 4 << 20  # a few seconds of an encoder's work, and a good size for a disk and an object store
_SHARD_ROWS = (64, 4096)
_EVERY_CHUNK = {"array.write_empty_chunks": True}  # so that an absent chunk is known to be lost
_SEPARATOR = "/"


def shard_rows(shape: tuple[int, ...], dtype: str) -> int:
    """The number of rows in a shard of about 4 MiB: a power of two between 64 and 4096."""
    row_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    low, high = _SHARD_ROWS
    return min(high, max(low, 1 << max(0, round(math.log2(_SHARD_BYTES / row_bytes)))))


def has_layers(shape: tuple[int, ...]) -> bool:
    """Whether a representation of this shape is one vector a layer: [layers, dim]."""
    return len(shape) == 2


def fill_value(dtype: str) -> float | int:
    """The value of rows that could not be encoded: NaN in floats, 0 in integers."""
    return float("nan") if np.dtype(dtype).kind == "f" else 0


def create_array(
    store: Store, dataset: str, name: RepresentationName, shape: tuple[int, ...], dtype: str, rows_per_shard: int
) -> None:
    """Create the Zarr array of a representation, with rows first in ``shape``; an existing one is left alone."""
    where = f"{dataset}/{name}/representations.zarr"
    compressible = np.dtype(dtype).kind in "iub"
    with Disk(store.files.show(where)), contextlib.suppress(ContainsArrayError):
        zarr.create_array(
            _zarr_store(store, where, writable=True),
            shape=shape,
            dtype=dtype,
            # One file a shard: it is replaced as a whole, and read straight into memory.
            chunks=(rows_per_shard, *shape[1:]),
            chunk_key_encoding={"name": "default", "separator": _SEPARATOR},
            # Within a shard one layer lies behind the other, so that one can be read without the rest.
            filters=[TransposeCodec(order=(1, 0, 2))] if has_layers(shape[1:]) else "auto",
            serializer=BytesCodec(endian="little"),
            # Floats hardly compress and are read fastest uncompressed; piano rolls are mostly zeros.
            compressors=BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle") if compressible else None,
            fill_value=fill_value(dtype),
            zarr_format=3,
        )


def chunk_path(root: Path, dataset: str, name: RepresentationName, shape: tuple[int, ...], shard: int) -> Path:
    """The file of a shard in the local store at ``root``."""
    return root / chunk_name(dataset, name, shape, shard)


def chunk_name(dataset: str, name: RepresentationName, shape: tuple[int, ...], shard: int) -> str:
    """The file of a shard, in the store."""
    key = _SEPARATOR.join(("c", str(shard), *("0" for _ in shape)))
    return f"{dataset}/{name}/representations.zarr/{key}"


def open_array(store: Store, dataset: str, name: RepresentationName, *, writable: bool = False) -> zarr.Array[Any]:
    """The Zarr array of a representation.

    Raises
    ------
    FileNotFoundError
        if there is none.
    FormatError
        if its description is damaged.
    """
    where = f"{dataset}/{name}/representations.zarr"
    if not store.exists(f"{where}/zarr.json"):
        raise FileNotFoundError(where)
    try:
        with Disk(store.files.show(where)):
            store.read(f"{where}/zarr.json")
        with Disk(store.files.show(where)), zarr.config.set(_EVERY_CHUNK):
            return zarr.open_array(_zarr_store(store, where, writable=writable), mode="r+" if writable else "r")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError(f"{store.files.show(where)} is damaged: {error}") from error


def _zarr_store(store: Store, where: str, *, writable: bool) -> ZarrStore:
    if store.files.local is not None:
        return LocalStore(store.files.local / where, read_only=not writable)
    return FsspecStore.from_url(f"{store.files.url.rstrip('/')}/{where}", read_only=not writable)


class Disk:
    """Turn errors of the file system into a `StoreError` that names the place."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, StoreError | FileNotFoundError) or not isinstance(error, Exception):
            return
        if isinstance(error, OSError) or is_of_service(error):
            raise StoreError(f"cannot use {self.where}: {getattr(error, 'strerror', None) or error}") from error
