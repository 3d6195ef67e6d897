"""Several processes on one store at once."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from store.arrays import shard_rows
from store.errors import StoreError
from store.layout import Store
from store.merge import update
from store.reader import Representations
from store.schema import Catalog
from tests.processes import Process
from tests.store.build import NAME, Array, catalog, names, numbers, open_writer, tree

ROUNDS = 12
WIDTH = 7


def vectors(ids: list[str | None]) -> Array:
    """What each song's vector is, so that a row can be told to be its clip's."""
    return np.stack([np.frombuffer(f"{name:>28}".encode(), dtype="<u4").astype(np.float32) for name in ids])


def look(folder: Path) -> Catalog:
    return catalog(sorted(os.listdir(folder)))


def embed(store: Store, folder: Path) -> None:
    mark = store.catalog_mark("few")
    current, _ = update(store, look(folder), mark, lambda: look(folder))
    values = vectors(current.strings("clip_id"))
    writer = open_writer(store, current, values)
    for shard in writer.pending:
        writer.commit(shard, values[list(shard.rows)])
    writer.finish()


GROW = """
import sys
from pathlib import Path
from store.layout import Store
from tests.store.test_concurrency import ROUNDS, embed
name, root, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for i in range(ROUNDS):
    (folder / f"{name}-{i:03d}").touch()
    embed(Store(root), folder)
"""


def start(code: str, *args: object) -> Process:
    process = Process(code, *args)
    assert process.stdout.readline() == "ready\n", process.communicate()
    return process


def go(*processes: Process) -> None:
    """Let processes that are ready run at the same time, to their ends."""
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), errors


def test_two_runs_that_grow_a_collection_lose_nothing(tmp_path: Path) -> None:
    """Each adds a song and embeds, over and over; no song is lost or retired, and every row is its clip's."""
    folder = tmp_path / "songs"
    folder.mkdir()
    root = tmp_path / "store"
    go(*(start(GROW, name, root, folder) for name in ("one", "two")))
    store = Store(root)
    current = store.read_catalog("few")
    assert sorted(current.strings("clip_id")) == sorted(os.listdir(folder))  # type: ignore[type-var]
    assert len(current) == 2 * ROUNDS
    assert not current.retired().any()
    opened = Representations(store, current, NAME)
    assert opened.rows == len(current)
    assert opened.verify() == []
    np.testing.assert_array_equal(opened.read(), vectors(current.strings("clip_id")))


def test_songs_that_came_while_another_run_looked_are_not_retired(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    folder = tmp_path / "songs"
    folder.mkdir()
    (folder / "a").touch()
    mark = store.catalog_mark("few")
    early = look(folder)
    (folder / "b").touch()
    embed(store, folder)
    current, growth = update(store, early, mark, lambda: look(folder))
    assert growth.retired == 0
    assert current.strings("clip_id") == ["a", "b"]
    assert not current.retired().any()


def test_a_retry_while_another_run_grows_the_collection(tmp_path: Path) -> None:
    """The longer shard stands, and the row that could be read only by the shorter one is work again."""
    store, values = Store(tmp_path), numbers(5)
    unread = [(1, "unreadable", "Input/output error")]
    store.write_catalog(catalog(names(3)))
    first = open_writer(store, catalog(names(3)), values)
    first.commit(first.pending[0], values[:3], unread)
    first.finish()
    retry = open_writer(store, catalog(names(3)), values)
    assert [shard.rows for shard in retry.pending] == [(1,)]
    store.write_catalog(catalog(names(5)))
    grown = open_writer(store, catalog(names(5)), values)
    assert [shard.rows for shard in grown.pending] == [(1, 3, 4)]
    grown.commit(grown.pending[0], values[[1, 3, 4]], unread)
    grown.finish()
    retry.commit(retry.pending[0], values[[1]])
    manifest = retry.finish()
    assert manifest is not None
    assert manifest.rows == 5
    again = open_writer(store, catalog(names(5)), values)
    assert [shard.rows for shard in again.pending] == [(1,)]
    again.commit(again.pending[0], values[[1]])
    assert again.finish() is not None
    np.testing.assert_array_equal(Representations(store, catalog(names(5)), NAME).read(), values)


def test_behind_a_url_the_second_of_two_writers_is_refused() -> None:
    root = "memory://encore-test/two-writers"
    store, other = Store(root), Store(root)
    update(store, catalog(["a"]), store.catalog_mark("few"), lambda: catalog(["a"]))
    mark = store.catalog_mark("few")

    def slow() -> Catalog:
        """Another run comes while this one looks again."""
        other.write_catalog(catalog(["a", "b"]))
        return catalog(["a", "c"])

    with pytest.raises(StoreError, match=r"another run wrote the catalog of few .* run the same command again"):
        update(store, catalog(["a", "c"]), "older", slow)
    assert mark != store.catalog_mark("few")
    assert store.read_catalog("few").strings("clip_id") == ["a", "b"]
    current, _ = update(store, catalog(["a", "c"]), store.catalog_mark("few"), lambda: catalog(["a", "c"]))
    assert current.strings("clip_id") == ["a", "b", "c"]
    store.files.remove("few")


def test_a_lock_that_is_never_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.files._PATIENCE_S", 0.05)
    store = Store(tmp_path)
    with (
        store.lock("few"),
        pytest.raises(StoreError, match=r"another process has held .*few/\.lock"),
        Store(tmp_path).lock("few"),
    ):
        pass
    with store.lock("few"):
        pass


PART = """
import sys
from store.layout import Store
from tests.store.build import catalog, names, numbers, open_writer
root, rows, part, parts = sys.argv[1], *map(int, sys.argv[2:])
store, held, values = Store(root), catalog(names(rows)), numbers(rows)
print("ready", flush=True)
sys.stdin.readline()
writer = open_writer(store, held, values)
for shard in writer.pending:
    if shard.index % parts == part:
        writer.commit(shard, values[list(shard.rows)])
writer.finish()
"""


@pytest.mark.parametrize("parts", [2, 1])
def test_processes_share_the_shards_or_do_the_same_ones(tmp_path: Path, parts: int) -> None:
    rows = 9 * shard_rows((WIDTH,), "float32") + 5
    for root in (tmp_path / "alone", tmp_path / "together"):
        Store(root).write_catalog(catalog(names(rows)))
    go(start(PART, tmp_path / "alone", rows, 0, 1))
    go(*(start(PART, tmp_path / "together", rows, part % parts, parts) for part in range(2)))
    opened = Representations(Store(tmp_path / "together"), catalog(names(rows)), NAME)
    assert opened.verify() == []
    np.testing.assert_array_equal(opened.read(), numbers(rows))
    assert tree(tmp_path / "together") == tree(tmp_path / "alone")


BETWEEN = """
import os, sys, signal
from store.files import Files
from store.layout import Store
from tests.store.build import catalog, names, numbers, open_writer
root, rows, kept = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
store, held, values = Store(root), catalog(names(rows)), numbers(rows)
store.write_catalog(held)
writer = open_writer(store, held, values)
write = Files.write

def die(files, name, data, **how):
    if "/shards/" in name and len(files.files(name.rpartition("/")[0])) == kept:
        os.kill(os.getpid(), signal.SIGKILL)
    write(files, name, data, **how)

Files.write = die
print("ready", flush=True)
sys.stdin.readline()
for shard in writer.pending:
    writer.commit(shard, values[list(shard.rows)])
writer.finish()
"""


def test_a_kill_between_a_chunk_and_its_record(tmp_path: Path) -> None:
    """Numbers without a record count for nothing; the next run encodes them again, and ends with the same bytes."""
    rows = 3 * shard_rows((WIDTH,), "float32") + 5
    reference, broken = tmp_path / "whole", tmp_path / "broken"
    Store(reference).write_catalog(catalog(names(rows)))
    go(start(PART, reference, rows, 0, 1))
    process = start(BETWEEN, broken, rows, 1)
    process.communicate("\n")
    assert process.returncode == -signal.SIGKILL
    folder = broken / "few" / str(NAME)
    assert [path.name for path in sorted((folder / "shards").iterdir())] == ["00000.json"]
    assert (folder / "representations.zarr" / "c" / "1" / "0").exists()
    assert not (folder / "manifest.json").exists()
    again = open_writer(Store(broken), catalog(names(rows)), numbers(rows))
    assert [shard.index for shard in again.pending] == [1, 2, 3]
    go(start(PART, broken, rows, 0, 1))
    assert tree(broken) == tree(reference)


def test_the_layout_of_the_files_is_written_out(tmp_path: Path) -> None:
    """The reader takes numbers straight from the files, so names and bytes are stated, not a default."""
    store = Store(tmp_path)
    values = numbers(10)
    writer = open_writer(store, catalog(names(10)), values)
    writer.commit(writer.pending[0], values)
    metadata = json.loads((tmp_path / "few" / str(NAME) / "representations.zarr" / "zarr.json").read_text())
    assert metadata["zarr_format"] == 3
    assert metadata["chunk_key_encoding"] == {"name": "default", "configuration": {"separator": "/"}}
    assert metadata["codecs"] == [{"name": "bytes", "configuration": {"endian": "little"}}]
