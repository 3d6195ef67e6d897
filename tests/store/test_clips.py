"""What is read of a catalog's file group by group is what the whole catalog holds."""

from __future__ import annotations

import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import store.clips
import store.tables
from store.clips import ClipKeys, Clips, StoredClips, failures_table, flags
from store.errors import FormatError, StoreError
from store.fingerprint import hash_ids
from store.layout import Store
from store.schema import ENCODED, Catalog
from tests.store.build import catalog, names

ROWS = 23


@pytest.fixture(params=[1, 4, 64])
def pair(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Catalog, Clips]:
    """A catalog with a retired row and one whose file was not seen, and its file in groups of a few rows."""
    monkeypatch.setattr(store.tables, "_ROW_GROUP", request.param)
    monkeypatch.setattr(store.clips, "_ROWS", 8)
    whole = catalog(names(ROWS))
    retired = pa.array([row == 5 for row in range(ROWS)])
    source = pa.array([None if row == 7 else f"{row}" for row in range(ROWS)])
    table = whole.table.set_column(
        whole.table.schema.get_field_index("retired"), whole.table.schema.field("retired"), retired
    )
    table = table.set_column(table.schema.get_field_index("source"), table.schema.field("source"), source)
    here = Store(tmp_path)
    here.write_catalog(Catalog(whole.info, table))
    clips = here.open_clips(whole.info.name)
    assert isinstance(clips, StoredClips)
    return here.read_catalog(whole.info.name), clips


def test_any_run_of_rows(pair: tuple[Catalog, Clips]) -> None:
    whole, clips = pair
    assert len(clips) == len(whole)
    assert clips.info == whole.info
    for first in range(ROWS + 2):
        for last in range(first, ROWS + 3):
            assert clips.clips(first, last).equals(whole.clips(first, last)), (first, last)
    assert clips.clips(3, 9).column_names == list(ENCODED)


def test_flags_hashes_and_failures(pair: tuple[Catalog, Clips]) -> None:
    whole, clips = pair
    for ours, theirs in zip(flags(clips), flags(whole), strict=True):
        assert ours.tolist() == theirs.tolist()
    assert flags(clips)[0].tolist() == whole.retired().tolist()
    keys = ClipKeys(clips)
    for first, last in [(0, 8), (8, 16), (5, 20), (0, ROWS), (16, 99), (30, 40)]:
        assert keys.hash(first, last) == hash_ids(whole.row_keys()[first:last])
    entries = [(row, "missing", f"{row}") for row in (0, 7, 8, 22)]
    assert failures_table(clips, entries).equals(failures_table(whole, entries))
    assert failures_table(clips, entries).column("clip_id").to_pylist() == [
        whole.strings("clip_id")[row] for row in (0, 7, 8, 22)
    ]
    assert len(failures_table(clips, [])) == 0


def test_in_another_process_and_after_the_file_was_replaced(pair: tuple[Catalog, Clips], tmp_path: Path) -> None:
    whole, clips = pair
    elsewhere = pickle.loads(pickle.dumps(clips))
    assert elsewhere.clips(0, ROWS).equals(whole.clips(0, ROWS))
    late = pickle.loads(pickle.dumps(clips))
    Store(tmp_path).write_catalog(catalog(names(ROWS + 1)))
    assert clips.clips(20, 99).equals(whole.clips(20, 99))  # the file that was opened
    with pytest.raises(StoreError, match="run the same command again"):
        late.clips(0, 1)


def test_columns_that_an_earlier_version_had_not(tmp_path: Path) -> None:
    whole = catalog(names(ROWS))
    path = tmp_path / "catalog.parquet"
    pq.write_table(whole.to_arrow().drop_columns(["midi_path", "other_artist_ids"]), path)
    for source in (path, path.read_bytes()):
        assert StoredClips(source).clips(2, 5).equals(whole.clips(2, 5))


def test_damage_is_named_as_where_all_is_read(tmp_path: Path) -> None:
    here = Store(tmp_path)
    here.write_catalog(catalog(names(ROWS)))
    (name,) = here.datasets()
    path = tmp_path / name / "catalog.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(FormatError, match=r"catalog\.parquet does not hold what was written"):
        Store(tmp_path).open_clips(name)
