"""The table of clips: what it refuses, how it grows, and what of it survives."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.errors import FormatError, RequestError, StoreError
from store.fingerprint import source_tag
from store.layout import Store
from store.merge import merge
from store.schema import Catalog
from tests.store.build import catalog, info, names


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
