"""The store: round trips, commits, growth, checks."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.arrays import create_array, shard_rows
from store.errors import RequestError, StoreError
from store.files import Files
from store.layout import Store
from store.merge import merge
from store.reader import Representations
from store.schema import ShardRecord
from store.writer import RepresentationWriter
from tests.processes import Process
from tests.store.build import NAME, Array, catalog, names, numbers, open_writer, tree, write


@settings(max_examples=20)
@given(
    rows=st.integers(1, 5000),
    dim=st.integers(1, 3),
    dtype=st.sampled_from(["float32", "float16", "uint8", "int16"]),
    first=st.integers(0, 5000),
    length=st.integers(0, 5000),
)
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: int, dim: int, dtype: str, first: int, length: int
) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    songs, values = catalog(names(rows)), numbers(rows, dim, dtype)
    write(store, songs, values)
    opened = Representations(store, store.read_catalog("few"), NAME)
    np.testing.assert_array_equal(opened.read(), values)
    np.testing.assert_array_equal(opened.read(first, first + length), values[first : first + length])
    assert opened.verify() == []
    assert opened.encoded().all()


def test_retired_rows_are_encoded_when_they_come_back(tmp_path: Path) -> None:
    store = Store(tmp_path)
    ids, values = names(30), numbers(30)
    old, _ = merge(catalog(ids), catalog(ids[:20]))
    write(store, old, values)
    opened = Representations(store, old, NAME)
    assert opened.encoded().sum() == 20
    assert opened.failures().num_rows == 0
    back, growth = merge(old, catalog(ids))
    assert growth.revived == 10
    writer = open_writer(store, back, values)
    assert [list(shard.rows) for shard in writer.pending] == [list(range(20, 30))]
    assert not writer.is_complete
    before = Representations(store, back, NAME)
    writer.commit(writer.pending[0], values[20:30])
    assert np.isnan(before.read(20, 30)).all()  # until the writer has finished the state before stays readable
    np.testing.assert_array_equal(before.read(0, 20), values[:20])
    write(store, back, values)
    opened = Representations(store, back, NAME)
    assert opened.encoded().all()
    np.testing.assert_array_equal(opened.read(), values)


def test_an_older_run_does_not_shrink_a_newer_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    values = numbers(20)
    slow = open_writer(store, catalog(names(10)), values)
    slow.commit(slow.pending[0], values[:10])
    write(store, catalog(names(20)), values)
    late = open_writer(store, catalog(names(20)), values)
    assert late.is_complete
    manifest = slow.finish()
    assert manifest is not None
    assert manifest.rows == 20
    slow.commit(slow.pending[0], values[:10] + 1)  # the first to commit is believed
    assert slow.finish() == manifest
    opened = Representations(store, catalog(names(20)), NAME)
    np.testing.assert_array_equal(opened.read(), values)
    assert opened.verify() == []


def test_finishing_is_left_to_the_run_that_grew_the_collection(tmp_path: Path) -> None:
    store = Store(tmp_path)
    step = shard_rows((7,), "float32")
    values = numbers(step + 20)
    store.write_catalog(catalog(names(step + 10)))
    slow = open_writer(store, catalog(names(step + 10)), values)
    slow.commit(slow.pending[0], values[:step])
    store.write_catalog(catalog(names(step + 20)))
    quick = open_writer(store, catalog(names(step + 20)), values)
    (rest,) = quick.pending
    quick.commit(rest, values[step:])
    slow.commit(slow.pending[1], values[step : step + 10])
    assert slow.finish() is None
    manifest = quick.finish()
    assert manifest is not None
    assert slow.finish() == manifest
    opened = Representations(store, catalog(names(step + 20)), NAME)
    np.testing.assert_array_equal(opened.read(), values)
    assert opened.verify() == []


def test_numbers_are_read_to_where_copying_is_fast(tmp_path: Path) -> None:
    """numpy's own large arrays begin 16 bytes into a page."""
    store, songs, values = Store(tmp_path), catalog(names(3000)), numbers(3000, 128)
    write(store, songs, values)
    read = Representations(store, songs, NAME).read()
    np.testing.assert_array_equal(read, values)
    assert read.ctypes.data % 64 == 0
    assert read.flags.c_contiguous
    assert read.flags.writeable


def test_a_store_behind_a_url() -> None:
    store = Store("memory://encore-test/stores")
    songs, values = catalog(names(3000)), numbers(3000)
    write(store, songs, values, {17: "torn"})
    opened = Representations(Store("memory://encore-test/stores"), store.read_catalog("few"), NAME)
    np.testing.assert_array_equal(opened.read(), values)
    assert opened.verify() == []
    assert store.datasets() == ["few"]
    assert [str(name) for name in store.representations("few")] == [str(NAME)]
    store.files.remove("few")
    assert store.datasets() == []


def test_failures_are_recorded_and_marked(tmp_path: Path) -> None:
    store = Store(tmp_path)
    songs = catalog(names(10))
    write(store, songs, numbers(10), {3: "torn", 7: "gone"})
    opened = Representations(store, songs, NAME)
    assert np.flatnonzero(~opened.encoded()).tolist() == [3, 7]
    rows = opened.failures().to_pylist()
    assert [(row["row"], row["clip_id"], row["reason"]) for row in rows] == [
        (3, "song-00003", "torn"),
        (7, "song-00007", "gone"),
    ]


def test_growth_writes_only_what_is_new_and_keeps_rows(tmp_path: Path) -> None:
    store = Store(tmp_path)
    step = shard_rows((7,), "float32")
    first, values = names(step + 10), numbers(2 * step + 5)
    before = write(store, catalog(first), values[: step + 10], {2: "torn"})
    grown, growth = merge(store.read_catalog("few"), catalog(names(2 * step + 5)))
    assert (growth.added, growth.kept, growth.retired) == (step - 5, step + 10, 0)
    assert grown.strings("clip_id")[: step + 10] == first
    writer = open_writer(store, grown, values)
    assert [(s.index, s.rows[0]) for s in writer.pending] == [(1, step + 10), (2, 2 * step)]
    # Until the new manifest stands, the old one is valid, in every state between.
    for shard in writer.pending:
        writer.commit(shard, values[list(shard.rows)])
        assert Representations(store, grown, NAME).verify() == []
    after = writer.finish()
    assert after is not None
    assert after.rows == 2 * step + 5
    assert after.shards[0] == before.shards[0]
    opened = Representations(store, grown, NAME)
    np.testing.assert_array_equal(opened.read(), values)
    assert opened.failures().num_rows == 1


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_a_shard_without_its_record_is_done_again(tmp_path: Path, dtype: str) -> None:
    store = Store(tmp_path)
    step = shard_rows((7,), dtype)
    songs, values = catalog(names(3 * step)), numbers(3 * step, dtype=dtype)
    store.write_catalog(songs)
    writer = open_writer(store, songs, values)
    writer.commit(writer.pending[0], values[:step])
    with pytest.raises(RequestError, match="not complete"):
        Representations(store, songs, NAME)
    again = open_writer(store, songs, values)
    assert [shard.index for shard in again.pending] == [1, 2]
    assert again.finish() is None
    # A record whose numbers were torn (power went before they reached the disk) is not believed.
    chunk = tmp_path / "few" / str(NAME) / "representations.zarr" / "c" / "0" / "0"
    torn = bytearray(chunk.read_bytes())
    torn[100] ^= 1
    chunk.write_bytes(torn)
    assert [shard.index for shard in open_writer(store, songs, values).pending] == [0, 1, 2]


def test_parts_by_several_writers_make_one_representation(tmp_path: Path) -> None:
    store = Store(tmp_path)
    step = shard_rows((7,), "float32")
    songs, values = catalog(names(3 * step + 1)), numbers(3 * step + 1)
    store.write_catalog(songs)
    writers = [open_writer(store, songs, values) for _ in range(2)]
    for part, writer in enumerate(writers):
        for shard in writer.pending[part::2]:
            writer.commit(shard, values[list(shard.rows)])
    assert writers[0].finish() is not None
    np.testing.assert_array_equal(Representations(store, songs, NAME).read(), values)


def test_a_writer_reads_what_others_committed_once_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it finds on opening it reads back; what others commit while it works they have brought to the disk."""
    store = Store(tmp_path)
    step = shard_rows((7,), "float32")
    songs, values = catalog(names(4 * step)), numbers(4 * step)
    store.write_catalog(songs)
    reads: list[int] = []
    read = RepresentationWriter._read_numbers

    def counted(writer: RepresentationWriter, record: ShardRecord) -> Array | None:
        reads.append(record.rows[0] // step)
        return read(writer, record)

    monkeypatch.setattr(RepresentationWriter, "_read_numbers", counted)

    def commit(writer: RepresentationWriter, *shards: int) -> None:
        for shard in shards:
            writer.commit(writer.pending[shard], values[shard * step : (shard + 1) * step])

    first = open_writer(store, songs, values)
    commit(first, 0)
    assert reads == []
    second = open_writer(store, songs, values)
    assert reads == [0]
    assert [shard.index for shard in second.pending] == [1, 2, 3]
    commit(first, 1)
    third = open_writer(store, songs, values)
    assert reads == [0, 0, 1]
    assert first.finish() is None
    assert third.finish() is None
    for shard in (2, 3):
        third.commit(third.pending[shard - 2], values[shard * step : (shard + 1) * step])
    assert second.finish() is not None
    assert reads == [0, 0, 1]
    np.testing.assert_array_equal(Representations(store, songs, NAME).read(), values)


WORKER = """
import sys
import numpy as np
from tests.store.build import catalog, names, numbers, open_writer
from store.layout import Store
from store.arrays import shard_rows
root, rows = sys.argv[1], int(sys.argv[2])
store, held, values = Store(root), catalog(names(rows)), numbers(rows)
store.write_catalog(held)
writer = open_writer(store, held, values)
for shard in writer.pending:
    writer.commit(shard, values[list(shard.rows)])
    print("committed", shard.index, flush=True)
    sys.stdin.readline()
writer.finish()
"""


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    rows = 5 * shard_rows((7,), "float32") + 3
    reference, broken = tmp_path / "whole", tmp_path / "broken"
    process = Process(WORKER, reference, rows)
    process.communicate()
    assert process.returncode == 0
    with Process(WORKER, broken, rows) as process:
        assert process.stdout.readline() == "committed 0\n"
        process.kill()  # it waits for a line
    assert process.returncode == -signal.SIGKILL
    process = Process(WORKER, broken, rows)
    out, _ = process.communicate()
    assert out.split()[1::2] == ["1", "2", "3", "4", "5"]
    assert tree(broken) == tree(reference)


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(StoreError, match="cannot lock"):
        Store(blocked / "store").write_catalog(catalog(names(2)))
    with pytest.raises(RequestError, match="cannot open the store"):
        Store("nonsense://x")


def test_nothing_complete_is_lost_when_a_write_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    songs, values = catalog(names(20)), numbers(30)
    write(store, songs, values[:20])

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    grown = catalog(names(30))
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StoreError, match="No space left on device"):
        write(store, grown, values)
    monkeypatch.undo()
    opened = Representations(store, store.read_catalog("few"), NAME)
    assert opened.verify() == []
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_the_layout_is_asked_for_and_no_library_s_default(tmp_path: Path, dtype: str) -> None:
    """What zarr.json says of how numbers become bytes, which any release of Zarr must read."""
    create_array(Store(tmp_path), "few", NAME, (10, 3), dtype, 8)
    about = json.loads((tmp_path / "few" / str(NAME) / "representations.zarr" / "zarr.json").read_text())
    size = np.dtype(dtype).itemsize
    codecs = {codec["name"]: codec.get("configuration", {}) for codec in about["codecs"]}
    assert about["zarr_format"] == 3
    assert about["chunk_grid"]["configuration"] == {"chunk_shape": [8, 3]}
    assert list(codecs) == (["bytes"] if dtype == "float32" else ["bytes", "blosc"])
    if "blosc" in codecs:
        packed = {"typesize": size, "cname": "zstd", "clevel": 3, "shuffle": "bitshuffle", "blocksize": 0}
        assert codecs["blosc"] == packed


def test_what_was_left_half_done_is_swept(tmp_path: Path) -> None:
    """But for what may be at work, and for nothing that is whole."""
    store = Store(tmp_path)
    songs = catalog(names(3))
    write(store, songs, numbers(3))
    files = tree(tmp_path)
    (tmp_path / "gone.0123abcd.removed" / "deep").mkdir(parents=True)
    (tmp_path / "few" / f"{NAME}.0123abcd.removed").mkdir()
    (tmp_path / "few" / f"{NAME}.0123abcd.removed" / "manifest.json").write_bytes(b"{}")
    old, new = tmp_path / "few" / ".catalog.parquet.1-2.partial", tmp_path / "few" / ".splits.parquet.3-4.partial"
    of_zarr = tmp_path / "few" / str(NAME) / "representations.zarr" / "c" / "0" / f"0.{'0a' * 16}.partial"
    for path in (old, new, of_zarr):
        path.write_bytes(b"half")
    anew = tmp_path / ".compact-few" / "few"
    anew.mkdir(parents=True)
    for path in (old, of_zarr):
        os.utime(path, (0, 0))
    store.files.sweep("few")
    assert tree(tmp_path) == files | {"few/.splits.parquet.3-4.partial": b"half"}
    assert (tmp_path / "gone.0123abcd.removed").is_dir()
    for path in (new, anew.parent):
        os.utime(path, (0, 0))
    store.files.sweep()
    assert tree(tmp_path) == files
    assert {path.name for path in tmp_path.iterdir()} == {"few"}
    Files("memory://nowhere").sweep()


def test_what_others_keep_in_a_store_is_not_swept(tmp_path: Path) -> None:
    theirs = (
        "old.removed/song.txt",
        "0123abcd.removed/x",
        "a.0123ABCD.removed/x",
        "few/.x.partial",
        "few/x.1-2.partial",
    )
    for name in theirs:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"theirs")
        os.utime(path, (0, 0))
    files = Files(tmp_path)
    files.sweep()
    assert set(tree(tmp_path)) == set(theirs)
    assert {"old.removed", "few"} < set(files.folders())
    assert files.files("few") == [".x.partial", "x.1-2.partial"]
