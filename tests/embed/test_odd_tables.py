"""Tables that are called otherwise than they are, and columns whose role must be said."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import h5py
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.embed.datasets.table import FeatureTable
from stages.embed.tables import lists, read_table
from store.errors import RequestError

_CSV = "artist,labels,x\nA,rock,1\nB,pop,2\n"


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(RequestError) as caught:
        FeatureTable(table=str(path), name="own", **options).catalog()
    return str(caught.value)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (gzip.compress(_CSV.encode(), mtime=0), "gzip"),
        (_CSV.encode("utf-32"), "UTF-32"),
        (b"PAR1" + bytes(100), "Parquet"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "PNG"),
        (bytes(1000), "zero bytes"),
    ],
    ids=["gzip", "utf-32", "parquet", "png", "zeros"],
)
def test_what_is_no_text_is_called_what_it_is(tmp_path: Path, data: bytes, what: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    assert what in refusal(path)


def test_cells_of_megabytes(tmp_path: Path) -> None:
    """In any row; a row of more than 16 MiB is refused with its place."""
    path = tmp_path / "t.csv"
    path.write_text(f"artist,labels,title,x\nA,rock,{'t' * 5_000_000},1\nB,pop,,2\n")
    assert FeatureTable(table=str(path), name="own").catalog().strings("artist_id") == ["A", "B"]
    path.write_text(f"artist,labels,title,x\nA,rock,{'t' * 20_000_000},1\nB,pop,,2\n")
    assert "in the row behind line 1" in refusal(path)


def test_bars_separate_where_nothing_else_does(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(_CSV.replace(",", "|"))
    assert list(read_table(path).types) == ["artist", "labels", "x"]


@pytest.mark.parametrize("role", ["artist", "labels", "song"])
def test_vectors_under_the_name_of_a_role_are_no_features(tmp_path: Path, role: str) -> None:
    columns = {"artist": ["A", "B"], "labels": ["rock", "pop"], "x": [1.0, 2.0], role: [[1, 0], [0, 1]]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert f"the column '{role}' for {role} holds vectors of numbers" in refusal(tmp_path / "t.parquet")


def test_columns_of_parquet_without_a_name_are_passed_over(tmp_path: Path) -> None:
    columns = {"artist": ["A", "B"], "labels": ["rock", "pop"], "": [0, 1], "x": [1.0, 2.0]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert FeatureTable(table=str(tmp_path / "t.parquet"), name="own").catalog().info.features == ("x",)


def test_hdf5_without_columns(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file.create_group("df").create_dataset("x", data=[1.0, 2.0])
        file["n"] = 5
    assert "df is a group; n holds int64 of the shape ()" in refusal(tmp_path / "t.h5")


@pytest.mark.parametrize("blank", [" ", "\u00a0", "\u200b", "\ufeff", "\u3000", " \u200b\t"])
def test_what_is_not_seen_is_no_part_of_a_name(tmp_path: Path, blank: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"artist,labels,x\n{blank}A,rock,1\nA{blank},rock,2\n{blank},pop,3\n", encoding="utf-8")
    assert read_table(path).strings("artist") == ["A", "A", None]


@pytest.mark.parametrize("cell", ["A ft B", "A ft. B", "A FT B", "A (ft. B)"])
@pytest.mark.parametrize("separator", ["ft", "ft.", " ft. "])
def test_a_word_may_end_in_a_point(cell: str, separator: str) -> None:
    if separator[0] != " " or "(" not in cell:
        assert lists.split(cell, lists.separators(separator, ("artist",))["artist"]) == ["A", "B"]


@pytest.mark.parametrize("cell", ['[["A"], ["B"]]', "[{'id': 21, 'name': 'Rock'}]"])
def test_records_are_not_split_at_their_commas(tmp_path: Path, capsys: pytest.CaptureFixture[str], cell: str) -> None:
    quoted = cell.replace('"', '""')
    (tmp_path / "t.csv").write_text(f'artist,labels,x\n"{quoted}",rock,1\nB,pop,2\n')
    FeatureTable(table=str(tmp_path / "t.csv"), name="own").catalog()
    err = capsys.readouterr().err
    assert "look like records or lists in lists" in err
    assert "--separator" not in err
