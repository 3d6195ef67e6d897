"""The store: what hashes, records and commits cost beside plain Zarr, how soon it knows that nothing is to be done."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
import zarr
from zarr.codecs import BytesCodec

from store.arrays import shard_rows
from store.layout import RepresentationName, Store
from store.schema import Catalog, CatalogInfo
from store.verify import verify
from store.writer import RepresentationWriter
from tests.bench import entry, median_seconds

_ROWS, _DIM = 32_768, 2_048  # 256 MiB, 64 shards
_ROUNDS = 5
_MILLION = 1_000_000
_NAME = RepresentationName("bench", "0123456789ab")


def measure() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        return _writing(Path(folder)) | _nothing_to_do(Path(folder)) | _dask(Path(folder))


def _catalog(rows: int) -> Catalog:
    ids = [f"{row:08}" for row in range(rows)]
    artists = [f"{row // 12:08}" for row in range(rows)]
    columns = {"clip_id": ids, "song_id": ids, "artist_id": artists, "labels": [["a"]] * rows, "path": ids}
    info = CatalogInfo(name="bench", title="", version="1", licence="", citation="", backbone="bench")
    return Catalog.build(info, columns | {"source": ids})


def _encode(store: Store, catalog: Catalog, values: np.ndarray[Any, Any]) -> None:
    writer = RepresentationWriter(
        store, catalog, _NAME, settings={"backbone": "bench"}, shape=values.shape[1:], dtype=str(values.dtype)
    )
    for shard in writer.pending:
        writer.commit(shard, values[shard.first : shard.last])
    writer.finish()


def _writing(folder: Path) -> dict[str, Any]:
    values = np.random.default_rng(0).standard_normal((_ROWS, _DIM)).astype(np.float32)
    catalog, rows = _catalog(_ROWS), shard_rows((_DIM,), "float32")
    numbers = count()

    def ours() -> None:
        _encode(Store(folder / f"ours-{next(numbers)}"), catalog, values)

    def plain() -> None:
        """Chunk by chunk, each brought to the disk as ours are."""
        root = folder / f"plain-{next(numbers)}"
        array = zarr.create_array(
            str(root), shape=values.shape, dtype="float32", chunks=(rows, _DIM), compressors=None, filters="auto",
            serializer=BytesCodec(endian="little"),
        )  # fmt: skip
        for shard in range(_ROWS // rows):
            array[shard * rows : (shard + 1) * rows] = values[shard * rows : (shard + 1) * rows]
            with (root / "c" / str(shard) / "0").open("rb") as file:
                os.fsync(file.fileno())

    rounds = []
    for _ in range(_ROUNDS):
        _clear(folder)  # what is written shares the memory of the page cache
        rounds.append(median_seconds(ours, plain, repeats=3))
    wrote, plainly = (statistics.median(seconds) for seconds in zip(*rounds, strict=True))
    ratios = sorted(theirs / mine for mine, theirs in rounds)
    root = next(folder.glob("ours-*"))
    store = Store(root)
    store.write_catalog(catalog)
    files = sorted(root.rglob("c/*/0"))

    def hashing() -> None:
        for file in files:
            xxhash.xxh3_128_hexdigest(file.read_bytes())

    checked, hashed = median_seconds(lambda: verify(store), hashing, clock=time.perf_counter)
    _clear(folder)
    what = (
        f"{_ROWS:,} x {_DIM} floats in {_ROWS // rows} shards, processor time, median of {_ROUNDS} rounds "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f})"
    )
    verified = "the same and its catalog verified in a thread a core, 4 at most, wall time"
    return {
        "store-write": entry(wrote, plainly, 1 / 1.15, "s", f"{what}; peer: plain Zarr, each chunk fsynced too"),
        "store-verify": entry(checked, hashed, 0.8, "s", f"{verified}; peer: reading and hashing its shards in one"),
    }


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path)


def _nothing_to_do(folder: Path) -> dict[str, Any]:
    store, catalog = Store(folder / "million"), _catalog(_MILLION)
    store.write_catalog(catalog)
    _encode(store, catalog, np.zeros((_MILLION, 4), dtype=np.float32))

    def look() -> None:
        again = Store(folder / "million")
        stored = again.read_catalog("bench")
        writer = RepresentationWriter(again, stored, _NAME, settings={"backbone": "bench"}, shape=(4,), dtype="float32")
        assert writer.is_complete

    (seconds,) = median_seconds(look, repeats=3)
    note = f"a finished store of {_MILLION:,} clips, found complete, songs not looked at, processor time; peer: 2 s"
    return {"store-nothing-to-do": entry(seconds, 2.0, 1.0, "s", note)}


def _dask(folder: Path) -> dict[str, Any]:
    """What a shard costs beside its own work, as a share of a second."""
    from tests.processes import Process
    from tests.soak._commands import SMALL_SHARDS, embed, write_table

    shards = 400
    table = write_table(folder / "songs.csv", shards)
    took = {}
    for name, options in {"local": ("--workers", 0), "dask": ("--engine", "dask", "--workers", 1)}.items():
        process = Process(SMALL_SHARDS, *embed(table, folder / name, *options))
        began = 0.0
        while process.returncode is None:
            records = len(list((folder / name).glob("hits/*/shards/*.json")))
            began = began or (time.monotonic() if records else 0.0)
            time.sleep(0.01)
        took[name] = time.monotonic() - began
        assert process.communicate() is not None
        assert process.returncode == 0
    beside = max(0.0, took["dask"] - took["local"]) / shards
    note = (
        f"{shards} shards of a row by one worker, from the first record on; what Dask adds to shards of 1 s; peer: 1 s"
    )
    return {"engine-dask": entry(1 + beside, 1.0, 0.95, "s", note)}
