"""The store: round trips, commits, growth, checks."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.arrays import create_array, shard_rows
from store.errors import FormatError, RequestError, StoreError
from store.files import Files
from store.fingerprint import ADDED_LATER, canonical, fingerprint, hash_ids, hash_values, source_tag
from store.layout import RepresentationName, Store, check_name, match
from store.merge import merge
from store.reader import Representations
from store.schema import Catalog, CatalogInfo, Manifest, ShardRecord
from store.writer import RepresentationWriter
from tests.processes import Process

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


@pytest.mark.parametrize(("dtype", "fill"), [("float32", np.nan), ("uint8", 0)])
def test_a_lost_chunk_is_not_taken_for_fill_values(tmp_path: Path, dtype: str, fill: float) -> None:
    store = Store(tmp_path)
    values = np.full((5000, 3), fill, dtype=dtype)
    values[4500:] = 1
    write(store, catalog(names(5000)), values)
    opened = Representations(store, store.read_catalog("few"), NAME)
    np.testing.assert_array_equal(opened.read(), values)
    (tmp_path / "few" / str(NAME) / "representations.zarr" / "c" / "0" / "0").unlink()
    with pytest.raises(FormatError, match=r"rows 0-\d+ cannot be read"):
        opened.read()
    assert len(opened.verify()) == 1


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


def test_damage_is_not_grown_over(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write(store, catalog(names(10)), numbers(10))
    chunk = tmp_path / "few" / str(NAME) / "representations.zarr" / "c" / "0" / "0"
    torn = bytearray(chunk.read_bytes())
    torn[9] ^= 1
    chunk.write_bytes(torn)
    with pytest.raises(FormatError, match="rows 0-9 are damaged and cannot be added to"):
        write(store, catalog(names(12)), numbers(12))


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


def test_records_of_other_clips_are_refused(tmp_path: Path) -> None:
    """A longer record belongs to a catalog that grew, or to none that is there."""
    store = Store(tmp_path)
    values = numbers(20)
    write(store, catalog(names(20)), values)
    store.write_catalog(catalog(names(10)))
    with pytest.raises(FormatError, match="belongs to other clips"):
        open_writer(store, catalog(names(10)), values)


@settings(max_examples=20)
@given(st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=30, unique=True), st.data())
def test_a_catalog_survives_its_file(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], data: st.DataObject
) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    labels = [data.draw(st.lists(st.sampled_from(["a", "b", "ü"]), max_size=3)) for _ in ids]
    artists = [data.draw(st.none() | st.text(max_size=5)) for _ in ids]
    songs = catalog(ids, labels=labels, artist_id=artists, targets=[[("bpm", 1.5)]] * len(ids))
    store.write_catalog(songs)
    read = store.read_catalog("few")
    assert read.table.equals(songs.table)
    assert read.info == songs.info


def test_catalog_rows_are_sorted_by_artist_with_the_unknown_last() -> None:
    songs = catalog(["c", "b", "a", "d"], artist_id=["y", None, "y", "x"])
    assert songs.strings("artist_id") == ["x", "y", "y", None]
    assert songs.strings("clip_id") == ["d", "a", "c", "b"]


def test_numbers_are_read_to_where_copying_is_fast(tmp_path: Path) -> None:
    """numpy's own large arrays begin 16 bytes into a page."""
    store, songs, values = Store(tmp_path), catalog(names(3000)), numbers(3000, 128)
    write(store, songs, values)
    read = Representations(store, songs, NAME).read()
    np.testing.assert_array_equal(read, values)
    assert read.ctypes.data % 64 == 0
    assert read.flags.c_contiguous
    assert read.flags.writeable


@pytest.mark.parametrize(("field", "wrong"), [("version", 1), ("data_root", Path("songs")), ("notes", ["a list"])])
def test_a_catalog_that_could_not_be_read_is_not_written(tmp_path: Path, field: str, wrong: object) -> None:
    table = catalog(names(3)).table
    with pytest.raises(FormatError, match=f"its {field} is"):
        Store(tmp_path).write_catalog(Catalog(info(**{field: wrong}), table))
    assert not Store(tmp_path).has_catalog("few")


def test_a_catalog_refuses_what_breaks_its_rules() -> None:
    with pytest.raises(FormatError, match="'a' stands more than once"):
        catalog(["a", "a"])
    with pytest.raises(FormatError, match="unknown official split"):
        catalog(["a"], split_official=["dev"])


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


def test_merge_corrects_retires_and_revives() -> None:
    old = catalog(["a", "b", "c"])
    corrected, growth = merge(
        old, catalog(["a", "b", "c"], labels=[["jazz"], ["rock"], ["rock"]], artist_id=["z", "a", "a"])
    )
    assert (growth.added, growth.corrected, growth.retired) == (0, 1, 0)
    assert corrected.strings("clip_id") == ["a", "b", "c"]
    assert corrected.column("labels").to_pylist()[0] == ["jazz"]
    _, moved = merge(old, catalog(["a", "b", "c"], path=["x.mp3", "y.mp3", "z.mp3"], source_row=[3, 1, 2]))
    assert (moved.kept, moved.corrected) == (3, 0)
    gone, growth = merge(corrected, catalog(["a", "c"]))
    assert growth.retired == 1
    assert gone.column("retired").to_pylist() == [False, True, False]
    changed, growth = merge(gone, catalog(["a", "b", "c"], source=["tag-a", "tag-b", "other"]))
    assert (growth.revived, growth.retired, growth.added) == (1, 1, 1)
    assert changed.strings("clip_id") == ["a", "b", "c", "c"]
    assert changed.column("retired").to_pylist() == [False, False, True, False]
    back, growth = merge(changed, catalog(["a", "b", "c"]))
    assert back.column("retired").to_pylist() == [False, False, False, True]
    assert growth.revived == 1


def test_a_file_that_went_is_retired_and_not_appended() -> None:
    now = catalog(["a", "b"], source=["tag-a", None])
    merged, growth = merge(catalog(["a", "b"]), now)
    assert (growth.added, growth.retired) == (0, 1)
    assert merged.column("retired").to_pylist() == [False, True]
    again, growth = merge(merged, now)
    assert (growth.added, growth.retired) == (0, 0)
    assert again.table.equals(merged.table)


@settings(max_examples=30)
@given(
    st.lists(
        st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(["1", "2"]), min_size=1), min_size=1, max_size=5
    )
)
def test_rows_never_move(states: list[dict[str, str]]) -> None:
    """Whatever comes, goes, changes: a row keeps its clip and content, and the live rows are the last state."""
    current: Catalog | None = None
    for state in states:
        ids = sorted(state)
        before = current
        now = catalog(ids, source=[state[name] for name in ids])
        current, _ = merge(before, now)
        current.check()
        same, growth = merge(current, now)
        assert same.table.equals(current.table)
        assert (growth.added, growth.retired, growth.corrected) == (0, 0, 0)
        content = list(zip(current.strings("clip_id"), current.strings("source"), strict=True))
        if before is not None:
            old = list(zip(before.strings("clip_id"), before.strings("source"), strict=True))
            assert content[: len(old)] == old
        live = {c for c, retired in zip(content, current.column("retired").to_pylist(), strict=True) if not retired}
        assert live == set(state.items())


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


def test_a_damaged_shard_is_not_taken_over_until_it_is_encoded_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    step = shard_rows((7,), "float32")
    songs, values = catalog(names(2 * step)), numbers(2 * step)
    store.write_catalog(songs)
    writer = open_writer(store, songs, values)
    writer.commit(writer.pending[0], values[:step])
    chunk = tmp_path / "few" / str(NAME) / "representations.zarr" / "c" / "0" / "0"
    chunk.write_bytes(bytes(len(chunk.read_bytes())))
    second, third = (open_writer(store, songs, values) for _ in range(2))
    assert [shard.index for shard in second.pending] == [0, 1]
    second.commit(second.pending[1], values[step:])
    assert second.finish() is None  # the record of the first shard is there, its numbers are not
    third.commit(third.pending[0], values[:step])
    assert second.finish() is not None
    np.testing.assert_array_equal(Representations(store, songs, NAME).read(), values)


WORKER = """
import sys
import numpy as np
from tests.store.test_store import catalog, names, numbers, open_writer
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


def tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.mark.usefixtures("unsealed")
def test_the_reader_checks_what_it_opens(tmp_path: Path) -> None:
    store = Store(tmp_path)
    songs = catalog(names(100))
    write(store, songs, numbers(100))
    manifest = tmp_path / "few" / str(NAME) / "manifest.json"
    good = manifest.read_bytes()

    def change(**changes: Any) -> None:
        manifest.write_text(json.dumps(json.loads(good) | changes))

    change(shape=[8])
    with pytest.raises(FormatError, match=r"the manifest says 100 x \(8,\)"):
        Representations(store, songs, NAME)
    change(rows=99)
    with pytest.raises(FormatError, match="shards are not those of 99 rows"):
        Representations(store, songs, NAME)
    change(format=3)
    with pytest.raises(RequestError, match=r"manifest was written in format 3, .* format 2; update Encore"):
        Representations(store, songs, NAME)
    change(fingerprint="ffffffffffff")
    with pytest.raises(
        FormatError, match=r"holds the representation fcn-f{12}, so it was renamed; name the folder fcn-f{12} again"
    ):
        Representations(store, songs, NAME)
    manifest.write_text("{")
    with pytest.raises(FormatError, match="cannot be read"):
        Representations(store, songs, NAME)
    manifest.write_bytes(good)
    with pytest.raises(FormatError, match="belongs to other clips"):
        Representations(store, catalog([f"x{name}" for name in names(100)]), NAME)
    with pytest.raises(FormatError, match="100 rows and the catalog 50"):
        Representations(store, catalog(names(50)), NAME)
    chunk = tmp_path / "few" / str(NAME) / "representations.zarr" / "c" / "0" / "0"
    content = chunk.read_bytes()
    chunk.write_bytes(content[:999])
    with pytest.raises(FormatError, match="cut short"):
        Representations(store, songs, NAME).read()
    chunk.write_bytes(content[:40] + b"\x00\x00\x80\x3f" + content[44:])
    opened = Representations(store, songs, NAME)
    assert len(opened.verify()) == 1
    for rows in ((0, 100), (3, 5), (90, 100)):  # also where the damage lies among rows that nobody asked for
        with pytest.raises(FormatError, match="rows 0-99 do not hold the numbers that were committed"):
            opened.read(*rows)
    (tmp_path / "few" / str(NAME) / "representations.zarr" / "zarr.json").write_text("nonsense")
    with pytest.raises(FormatError, match="damaged"):
        Representations(store, songs, NAME)


@pytest.mark.usefixtures("unsealed")
def test_a_catalog_of_another_format_or_damaged(tmp_path: Path) -> None:
    store = Store(tmp_path)
    songs = catalog(names(3))
    store.write_catalog(songs)
    path = tmp_path / "few" / "catalog.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FormatError, match=r"damaged.*; put a copy of catalog\.parquet back, or encode again"):
        store.read_catalog("few")
    other = songs.to_arrow()
    text = other.schema.metadata[b"encore"].replace(b'"format": 1', b'"format": 9')
    store.write_table("few/catalog.parquet", other.replace_schema_metadata({b"encore": text}))
    with pytest.raises(RequestError, match=r"catalog was written in format 9, .* format 1; update Encore"):
        store.read_catalog("few")
    text = other.schema.metadata[b"encore"].replace(b'"format": 1', b'"format": 0')
    store.write_table("few/catalog.parquet", other.replace_schema_metadata({b"encore": text}))
    with pytest.raises(RequestError, match=r"format 0, .* open it with the release that wrote it"):
        store.read_catalog("few")
    more = other.append_column("mood", pa.nulls(3, pa.string())).append_column("key", pa.nulls(3, pa.string()))
    store.write_table("few/catalog.parquet", more)
    with pytest.raises(RequestError, match=r"does not know \(mood, key\); a newer release wrote it: update Encore"):
        store.read_catalog("few")
    store.write_table("few/catalog.parquet", pa.table({"x": [1]}))
    with pytest.raises(FormatError, match="not written by Encore"):
        store.read_catalog("few")


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


def test_a_name_means_the_same_everywhere() -> None:
    roll, other, cnn = f"roll-{'0' * 12}", f"roll-{'1' * 12}", f"roll-cnn-{'0' * 12}"
    names = [roll, cnn, "metadata"]
    assert match(names, None) == names
    assert match(names, "roll") == match(names, "roll-0") == match(names, roll) == [roll]
    assert match(names, "roll-cnn") == match(names, "roll-cnn-00") == [cnn]
    assert match(names, "metadata") == ["metadata"]
    for beginning in ("", "rol", "roll-", "roll-c", "roll-cnn-", "meta"):
        assert match(names, beginning) == []
    assert match([roll, other], "roll") == [roll, other]
    assert match([roll, other], "roll-1") == [other]


def test_find_says_what_there_is(tmp_path: Path) -> None:
    store = Store(tmp_path)
    songs = catalog(names(4))
    write(store, songs, numbers(4))
    assert store.find("few", None) == store.find("few", "fcn") == store.find("few", "fcn-0123") == NAME
    with pytest.raises(RequestError, match="no representation 'cola'; have: fcn-0123456789ab"):
        store.find("few", "cola")
    with pytest.raises(RequestError, match=r"unknown data set 'fex' in the store .*; have: few\. Did you mean few\?"):
        store.read_catalog("fex")
    for bad in ("../x", "", "Few", "runs", "a/b", "few.removed"):
        with pytest.raises(RequestError, match="cannot name a data set"):
            check_name(bad)


@pytest.mark.usefixtures("unsealed")
@pytest.mark.parametrize("to", ["few/fcn-old", "few/fcn-eeeeeeeeeeee", "many"])
def test_a_folder_that_was_renamed(tmp_path: Path, to: str) -> None:
    store = Store(tmp_path)
    write(store, catalog(names(10)), numbers(10))
    folder = tmp_path / "few" if to == "many" else tmp_path / "few" / str(NAME)
    folder.rename(tmp_path / to)
    dataset = to.partition("/")[0]
    with pytest.raises(FormatError, match=f"{to} holds .*, so it was renamed; name the folder {folder.name} again"):
        Representations(store, store.read_catalog(dataset), store.find(dataset, None))


def test_fingerprints_depend_on_numbers_alone() -> None:
    decides = {"backbone": "fcn", "config": {"a": 1, "b": (2, 3)}, "weights": None}
    base = fingerprint(decides)
    assert base == fingerprint({"config": {"b": [2, 3], "a": 1}, "weights": None, "backbone": "fcn"})
    others = {
        fingerprint(decides | change)
        for change in ({"backbone": "fcm"}, {"config": {"a": 2, "b": (2, 3)}}, {"weights": "x"}, {"revision": 1})
    }
    assert len(others) == 4
    assert base not in others

    @dataclass(frozen=True)
    class Inner:
        rate_hz: int = 16000

    @dataclass(frozen=True)
    class Revised(Inner):
        REVISION: ClassVar[int] = 2

    @dataclass(frozen=True)
    class Outer:
        inner: Inner

    assert canonical(Outer(Inner())) == {"inner": {"rate_hz": 16000}}
    assert canonical(Outer(Revised())) == {"inner": {"rate_hz": 16000, "REVISION": 2}}

    @dataclass(frozen=True)
    class Later(Inner):
        mono: bool = field(default=True, metadata=ADDED_LATER)

    assert canonical(Later()) == canonical(Inner())
    assert canonical(Later(mono=False)) == {"rate_hz": 16000, "mono": False}
    with pytest.raises(TypeError):
        canonical(lambda: None)
    with pytest.raises(TypeError):
        canonical(float("nan"))
    assert hash_ids(["ab", "c"]) != hash_ids(["a", "bc"])
    assert hash_values(np.arange(4, dtype=">f4")) == hash_values(np.arange(4, dtype="<f4"))


def test_a_source_tag_sees_content_not_place(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"x" * 200_000)
    two.write_bytes(b"x" * 200_000)
    os.utime(two, (time.time() - 9999,) * 2)
    assert source_tag(one) == source_tag(two)
    two.write_bytes(b"x" * 199_999 + b"y")
    assert source_tag(one) != source_tag(two)


def test_a_catalog_from_before_a_column_was_added() -> None:
    songs = catalog(["a", "b"], title=["x", None])
    older = songs.to_arrow().drop_columns(["recording_id"])
    assert Catalog.from_arrow(older).table.equals(songs.table)
    described = json.loads(songs.to_arrow().schema.metadata[b"encore"])
    less = json.dumps({key: value for key, value in described.items() if key not in ("keep_copies", "first_artist")})
    assert Catalog.from_arrow(songs.table.replace_schema_metadata({b"encore": less.encode()})).info == songs.info
    with pytest.raises(FormatError, match="columns are not those"):
        Catalog.from_arrow(songs.to_arrow().drop_columns(["song_id"]))


@pytest.mark.usefixtures("unsealed")
@pytest.mark.parametrize(
    ("change", "message"),
    [((r"little", "big"), "bytes swapped"), ((r'("chunk_shape": \[\s*)', r"\g<1>1"), "tells of chunks of")],
)
def test_verify_sees_another_layout(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    """Encore reads its files as it wrote them; other programs go by ``zarr.json``."""
    store, songs = Store(tmp_path), catalog(names(300))
    write(store, songs, numbers(300))
    described = tmp_path / "few" / str(NAME) / "representations.zarr" / "zarr.json"
    text = described.read_text()
    changed = re.sub(*change, text)
    assert changed != text
    described.write_text(changed)
    (line,) = Representations(store, songs, NAME).verify()
    assert message in line


@pytest.mark.usefixtures("unsealed")
def test_verify_sees_lost_failures_and_short_padding(tmp_path: Path) -> None:
    store = Store(tmp_path)
    songs = catalog(names(100))
    values = numbers(100)
    values[7] = np.nan
    write(store, songs, values, {7: "no header"})
    folder = tmp_path / "few" / str(NAME)
    opened = Representations(store, songs, NAME)
    assert opened.verify() == []
    table = store.read_table(f"few/{NAME}/failures.parquet")
    (folder / "failures.parquet").write_bytes(b"PAR1 nonsense")
    assert ["failures.parquet is damaged" in line for line in opened.verify()] == [True]
    store.write_table(f"few/{NAME}/failures.parquet", table.slice(1))
    assert ["does not hold the failures" in line for line in opened.verify()] == [True]
    (folder / "failures.parquet").unlink()
    assert ["is not there" in line for line in opened.verify()] == [True]
    store.write_table(f"few/{NAME}/failures.parquet", table)
    chunk = folder / "representations.zarr" / "c" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-4])
    assert ["should have" in line for line in opened.verify()] == [True]


@pytest.mark.parametrize("file", ["manifest.json", "representations.zarr/zarr.json"])
def test_deeply_nested_json_is_damage(tmp_path: Path, file: str) -> None:
    store = Store(tmp_path)
    songs = catalog(names(100))
    write(store, songs, numbers(100))
    (tmp_path / "few" / str(NAME) / file).write_text("[" * 200_000)
    with pytest.raises(FormatError):
        Representations(store, songs, NAME)


def test_one_bit_of_a_table_is_not_another_table(tmp_path: Path) -> None:
    """pyarrow reads many a changed page as other values where it does not check."""
    store = Store(str(tmp_path))
    table = pa.table({"song_id": [f"song {i}" for i in range(500)], "part": [i % 3 for i in range(500)]})
    store.write_table("t.parquet", table)
    content = (tmp_path / "t.parquet").read_bytes()
    refused = 0
    for place in range(4, len(content) - 1000, 23):
        damaged = bytearray(content)
        damaged[place] ^= 1
        (tmp_path / "t.parquet").write_bytes(damaged)
        try:
            assert store.read_table("t.parquet").equals(table), place
        except StoreError:
            refused += 1
    assert refused > 10


@pytest.mark.usefixtures("unsealed")
@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("rows", [-1, True, 1.5, "100", None, [100], 10**400, 10**30]),
        ("shard_rows", [0, -4, "64", 0.5, None, 10**30]),
        ("shape", [0, [0], [-7], [7.0], ["7"], [[7]], None, {"a": 1}, "7"]),
        ("dtype", ["nonsense", "O", "U4", 4, None, ["f4"]]),
        ("backbone", [5, None, ["fcn"]]),
        ("fingerprint", [123456789012, None]),
        ("settings", [7, [1], "x", None, {"a": math.nan}, {"a": math.inf}]),
        ("shards", [3, [3], ["ab"], [{}], None, {"rows": 1}, []]),
        ("format", [None, [], {}, "2", 2.5]),
    ],
)
def test_every_field_of_a_manifest_is_checked(tmp_path: Path, field: str, values: list[Any]) -> None:
    store = Store(tmp_path)
    write(store, catalog(names(100)), numbers(100))
    manifest = tmp_path / "few" / str(NAME) / "manifest.json"
    good = json.loads(manifest.read_text())
    for value in values:
        manifest.write_text(json.dumps(good | {field: value}))
        with pytest.raises((FormatError, RequestError), match=r"manifest\.json: .*(cannot be|shards are|in format)"):
            store.read_manifest("few", NAME)


@pytest.mark.usefixtures("unsealed")
@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("rows", [[0, 99], [1, 100], [0], [0, 100, 200], ["0", "100"], [0, 10**30], [-100, 0], "01", None]),
        ("clips", [5, None, ["a"]]),
        ("values", [5, None]),
        ("failures", [5, [5], [[0, "damaged"]], [[100, "damaged", "x"]], [[-1, "damaged", "x"]], [[0, 1, 2]], ["abc"]]),
    ],
)
def test_every_field_of_a_shard_is_checked(tmp_path: Path, field: str, values: list[Any]) -> None:
    store = Store(tmp_path)
    write(store, catalog(names(100)), numbers(100))
    manifest = tmp_path / "few" / str(NAME) / "manifest.json"
    good = json.loads(manifest.read_text())
    for value in values:
        manifest.write_text(json.dumps(good | {"shards": [good["shards"][0] | {field: value}]}))
        with pytest.raises(FormatError, match=r"cannot be|shards are"):
            store.read_manifest("few", NAME)


@pytest.mark.usefixtures("unsealed")
@pytest.mark.parametrize("nested", ['{"format": 2, "a": ' + "[" * 100_000, "[" * 100_000, "7", "null", '"a"', "[]", ""])
def test_a_manifest_of_nested_nonsense(tmp_path: Path, nested: str) -> None:
    store = Store(tmp_path)
    write(store, catalog(names(3)), numbers(3))
    (tmp_path / "few" / str(NAME) / "manifest.json").write_text(nested)
    with pytest.raises(FormatError, match="the manifest cannot be read"):
        store.read_manifest("few", NAME)


@pytest.mark.parametrize("field", ["name", "title", "data_root", "synthetic", "features", "notes"])
def test_a_catalog_says_of_itself_what_its_format_says(field: str) -> None:
    table = catalog(names(3)).to_arrow()
    facts = json.loads(table.schema.metadata[b"encore"])
    for wrong in (7, [[1]], {"a": 1}):
        metadata = json.dumps(facts | {field: wrong}).encode()
        with pytest.raises(FormatError, match=f"its {field} is"):
            Catalog.from_arrow(table.replace_schema_metadata({b"encore": metadata}))
    metadata = json.dumps({"format": 1, "name": "few"}).encode()
    with pytest.raises(FormatError, match="lacks something"):
        Catalog.from_arrow(table.replace_schema_metadata({b"encore": metadata}))
