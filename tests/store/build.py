"""Small catalogs, representations of counted numbers, and the bytes of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from store.layout import RepresentationName, Store
from store.schema import Catalog, CatalogInfo, Manifest
from store.writer import RepresentationWriter

Array = np.ndarray[Any, Any]
NAME = RepresentationName("fcn", "0123456789ab")


def info(**changes: Any) -> CatalogInfo:
    fields = {
        "name": "few",
        "title": "A few songs",
        "version": "1",
        "licence": "CC0",
        "citation": "-",
        "backbone": "fcn",
    }
    return CatalogInfo(**(fields | changes))


def catalog(ids: list[str], **columns: Any) -> Catalog:
    base = {
        "clip_id": ids,
        "song_id": ids,
        "artist_id": ["a"] * len(ids),
        "labels": [["rock"]] * len(ids),
        "path": [f"{name}.mp3" for name in ids],
        "source": [f"tag-{name}" for name in ids],
    }
    return Catalog.build(info(), base | columns)


def write(store: Store, songs: Catalog, values: Array, failures: dict[int, str] | None = None) -> Manifest:
    """Commit ``values`` for all pending shards."""
    store.write_catalog(songs)
    writer = open_writer(store, songs, values)
    for shard in writer.pending:
        lost = [(row, "damaged", why) for row, why in (failures or {}).items() if row in shard.rows]
        writer.commit(shard, values[list(shard.rows)], lost)
    manifest = writer.finish()
    assert manifest is not None
    return manifest


def open_writer(store: Store, songs: Catalog, values: Array) -> RepresentationWriter:
    return RepresentationWriter(
        store, songs, NAME, settings={"backbone": "fcn"}, shape=values.shape[1:], dtype=str(values.dtype)
    )


def names(count: int) -> list[str]:
    return [f"song-{i:05d}" for i in range(count)]


def numbers(rows: int, dim: int = 7, dtype: str = "float32") -> Array:
    return (np.random.default_rng(0).standard_normal((rows, dim)) * 50).astype(dtype)


def tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}
