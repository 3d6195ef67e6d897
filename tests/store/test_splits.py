"""``splits.parquet``: what is kept of songs' parts, whatever is added later."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.errors import FormatError, RequestError, StoreError
from store.layout import Store
from store.splits import Dealing, keep_splits, read_dealings, read_splits, splits_mark

SONGS = ["a", "b", "ü c", "d"]


def songs(*names: str) -> pa.StringArray:
    return pa.array(names, type=pa.string())


def parts(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.int8)


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["random-0", "artist-1"]), st.dictionaries(st.sampled_from(SONGS), st.integers(-1, 2))
        ),
        max_size=6,
    )
)
def test_what_was_kept_last_is_read(writes: list[tuple[str, dict[str, int]]]) -> None:
    store = Store("memory://splits")
    store.files.remove("own")
    expected = {name: dict.fromkeys(SONGS, -1) for name, _ in writes}
    for name, dealt in writes:
        keep_splits(store, "own", songs(*dealt), {name: parts(*dealt.values())}, splits_mark(store, "own"), revision=2)
        expected[name] |= {song: part for song, part in dealt.items() if part >= 0}
    splits = read_splits(store, "own", ["random-0", "artist-1", "album-0"], songs(*SONGS))
    assert {name: dict(zip(SONGS, split.part.tolist(), strict=True)) for name, split in splits.items()} == expected


@pytest.mark.usefixtures("unsealed")
def test_a_damaged_file_is_not_dealt_over(tmp_path: Path) -> None:
    store = Store(tmp_path)
    keep_splits(store, "own", songs("a", "b"), {"random-0": parts(0, 2)}, None, revision=2)
    path = tmp_path / "own" / "splits.parquet"
    table = pq.read_table(path)
    assert table.schema.types == [pa.string(), pa.int8()]
    holes = table.set_column(1, "random-0", pa.array([None, 2], type=pa.int8()))
    wide = table.set_column(1, "random-0", pa.array([0, 2], type=pa.int64()))
    for other in (holes, wide, table.replace_schema_metadata(None), table.drop_columns(["song_id"])):
        pq.write_table(other, path)
        with pytest.raises(FormatError, match=r"splits\.parquet does not hold splits as its format says"):
            read_splits(store, "own", ["random-0"], songs("a"))
    pq.write_table(table.replace_schema_metadata({b"encore-splits": b"2"}), path)
    with pytest.raises(RequestError, match="a newer Encore"):
        keep_splits(store, "own", songs("a"), {"random-0": parts(0)}, splits_mark(store, "own"), revision=2)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FormatError, match="damaged"):
        read_splits(store, "own", ["random-0"], songs("a"))


def test_behind_a_url_the_second_of_two_dealers_is_refused() -> None:
    store = Store("memory://encore-test/two-dealers")
    mark = splits_mark(store, "own")
    keep_splits(store, "own", songs("a", "b"), {"random-0": parts(0, 2)}, mark, revision=2)
    with pytest.raises(StoreError, match=r"another run kept splits of own .* run the same command again"):
        keep_splits(store, "own", songs("a", "c"), {"random-1": parts(2, 0)}, mark, revision=2)
    keep_splits(store, "own", songs("a", "c"), {"random-1": parts(2, 0)}, splits_mark(store, "own"), revision=2)
    splits = read_splits(store, "own", ["random-0", "random-1"], songs("a", "b", "c"))
    assert {name: split.part.tolist() for name, split in splits.items()} == {
        "random-0": [0, 2, -1],
        "random-1": [2, -1, 0],
    }
    store.files.remove("own")


@pytest.mark.usefixtures("unsealed")
def test_a_split_remembers_how_it_was_dealt(tmp_path: Path) -> None:
    """Through whatever is kept later; files from before that was recorded are of revision 1."""
    store = Store(tmp_path)
    keep_splits(store, "own", songs("a", "b"), {"random-0": parts(0, 2)}, None, revision=1)
    path = tmp_path / "own" / "splits.parquet"
    pq.write_table(pq.read_table(path).replace_schema_metadata({b"encore-splits": b"1"}), path)
    assert read_dealings(store, "own") == {"random-0": Dealing(1, None)}
    new = keep_splits(store, "own", songs("a"), {"album-0": parts(1)}, splits_mark(store, "own"), revision=7)
    assert new["album-0"].revision == 7
    both = {"random-0": parts(1), "album-0": parts(1)}
    after = keep_splits(store, "own", songs("c"), both, splits_mark(store, "own"), revision=8)
    assert after == read_dealings(store, "own") == {"random-0": Dealing(1, None), **new}
    again = keep_splits(
        store, "own", songs("a"), {"album-0": parts(1)}, splits_mark(store, "own"), revision=8, anew=True
    )
    assert again == read_dealings(store, "own") == {"album-0": Dealing(8, new["album-0"].mark)}
    other = {"album-0": parts(2)}
    again = keep_splits(store, "own", songs("a"), other, splits_mark(store, "own"), revision=8, anew=True)
    assert again["album-0"].mark != new["album-0"].mark
    assert read_splits(store, "own", ["random-0"], songs("a")) == {}


@pytest.mark.usefixtures("unsealed")
@pytest.mark.parametrize("record", [b"[]", b"{", b'{"random-0": {"revision": "2"}}', b'{"random-0": {"rule": 2}}'])
def test_a_damaged_record_of_dealings_is_said(tmp_path: Path, record: bytes) -> None:
    store = Store(tmp_path)
    keep_splits(store, "own", songs("a"), {"random-0": parts(0)}, None, revision=2)
    path = tmp_path / "own" / "splits.parquet"
    metadata = {b"encore-splits": b"1", b"encore-dealings": record}
    pq.write_table(pq.read_table(path).replace_schema_metadata(metadata), path)
    with pytest.raises(FormatError, match=r"splits\.parquet does not hold splits as its format says"):
        read_dealings(store, "own")
