"""Tables of ready-made features, in every format in which people have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.embed.datasets.table import FeatureTable
from stages.embed.inputs.features import FeatureRows
from store.errors import RequestError
from store.schema import Catalog

TEXT = """artist,labels,title,tempo,year,key
The Band|Guest,rock|pop,"One,
two",120.5,1999,C
,folk,,98,2001,D
The Band,rock,Three,77.25,1980,E
"""


def read(path: Path, text: str | None = None, **options: Any) -> Catalog:
    if text is not None:
        path.write_text(text)
    return FeatureTable(table=str(path), name="own", **options).catalog()


def by_song(catalog: Catalog) -> dict[str, dict[str, Any]]:
    return {row["song_id"]: row for row in catalog.table.to_pylist()}


def test_a_row_is_a_song(tmp_path: Path) -> None:
    catalog = read(tmp_path / "songs.csv", TEXT)
    assert catalog.info.features == ("tempo", "year")
    assert (catalog.info.name, catalog.info.backbone, catalog.info.data_root) == ("own", "features", str(tmp_path))
    rows = by_song(catalog)
    first, second = rows["row-000000"], rows["row-000001"]
    assert first["artist_id"] == first["artist_name"] == "The Band"
    assert first["other_artist_ids"] == ["Guest"]
    assert first["labels"] == ["rock", "pop"]
    assert first["title"] == "One,\ntwo"
    assert (first["path"], first["source_row"]) == ("songs.csv", 0)
    assert second["artist_id"] is None
    assert second["title"] is None


@pytest.mark.parametrize(("suffix", "separator"), [("csv", ";"), ("csv", "\t"), ("tsv", ","), ("tsv", ";")])
def test_a_table_with_other_separators_than_its_name_says(tmp_path: Path, suffix: str, separator: str) -> None:
    """As spreadsheets of some countries write them, with commas in decimals too."""
    lines = ["artist,labels,tempo", "A,rock,120.5", "B,folk,98"]
    text = "\n".join(lines).replace(",", separator) + "\n"
    catalog = read(tmp_path / f"songs.{suffix}", text)
    assert catalog.info.features == ("tempo",)
    assert [row["artist_id"] for row in catalog.table.to_pylist()] == ["A", "B"]
    catalog = read(tmp_path / f"songs.{suffix}", text.replace("A", f'"x{separator} ""y"" z"'))
    assert [row["artist_id"] for row in catalog.table.to_pylist()] == ["B", f'x{separator} "y" z']
    with pytest.raises(RequestError, match="line 2: 4 columns where the header has 3"):
        read(tmp_path / f"songs.{suffix}", text.replace("A", f"x{separator} y"))
    if separator == ";":
        catalog = read(tmp_path / f"songs.{suffix}", "artist;labels;tempo;x\nA;rock;120,5;1\nB;folk;98,25;2\n")
        assert catalog.info.features == ("tempo", "x")
        rows = FeatureRows(tmp_path / f"songs.{suffix}", ["tempo"]).take(slice(0, 2))
        assert rows.tolist() == [[120.5], [98.25]]


def test_the_same_table_in_every_format(tmp_path: Path) -> None:
    columns = {
        "artist": ["é one", "two", "three"],
        "labels": ["rock|pop", "folk", "pop"],
        "tempo": [120.5, 98.0, 1e-3],
        "loud": [-7.25, float("nan"), 3.0],
    }
    table = pa.table(columns)
    names = list(columns)
    for suffix, gap in ((".csv", ","), (".tsv", "\t")):
        rows = "".join(gap.join(map(str, row)) + "\n" for row in zip(*columns.values(), strict=True))
        (tmp_path / f"t{suffix}").write_bytes(b"\xef\xbb\xbf" + (gap.join(names) + "\n" + rows).encode())
    pq.write_table(
        table.set_column(1, "labels", pa.array([["rock", "pop"], ["folk"], ["pop"]])).set_column(
            0, "artist", table["artist"].dictionary_encode()
        ),
        tmp_path / "t.parquet",
    )
    with h5py.File(tmp_path / "t.h5", "w") as file:
        for name, values in columns.items():
            file[name] = values
    catalogs = [read(tmp_path / f"t{suffix}") for suffix in (".csv", ".tsv", ".parquet", ".h5")]
    assert catalogs[0].info.features == ("tempo", "loud")
    for catalog in catalogs[1:]:
        # HDF5 lists its datasets by name
        assert sorted(catalog.info.features) == ["loud", "tempo"]
        same = catalog.table.drop_columns(["path", "source"])
        assert same.equals(catalogs[0].table.drop_columns(["path", "source"]))
    for suffix in (".csv", ".tsv", ".parquet", ".h5"):
        rows = FeatureRows(tmp_path / f"t{suffix}", ["tempo", "loud"]).take(slice(0, 3))
        expected = np.float32([[120.5, -7.25], [98.0, np.nan], [1e-3, 3.0]])
        assert np.array_equal(rows, expected, equal_nan=True)


def test_two_dimensional_features(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["features"] = np.arange(6.0).reshape(2, 3)
        file["artist"] = np.array([b"A", b"B"])
        file["labels"] = ["x", "y"]
    assert read(tmp_path / "t.h5").info.features == ("features[0]", "features[1]", "features[2]")
    assert read(tmp_path / "t.h5", columns="features=features").info.features[2] == "features[2]"
    assert read(tmp_path / "t.h5", columns="features=features[2]").info.features == ("features[2]",)


def test_hdf5_never_leaves_its_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["x"] = np.ones(2)
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["artist"], file["labels"], file["y"] = ["A", "B"], ["x", "y"], np.ones(2)
        file["linked"] = h5py.ExternalLink("secret.h5", "x")
        layout = h5py.VirtualLayout(shape=(2,), dtype="f8")
        layout[:] = h5py.VirtualSource("secret.h5", "x", shape=(2,))
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("outside", (2,), "f8", external=[(str(tmp_path / "secret.h5"), 0, 16)])
    assert read(tmp_path / "t.h5").info.features == ("y",)


def test_features_are_named_or_all_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = ",artist,labels,a,b,mostly,mixed\n0,A,x,1,,1,q\n1,A,x,2,nan,2,3\n2,B,y,3,5,none today,r\n"
    catalog = read(tmp_path / "t.csv", text)
    assert catalog.info.features == ("a", "b")  # no column without a name, none with text
    note, nameless = catalog.info.notes
    assert "mostly" in note
    assert "line 4" in note
    assert nameless.startswith("columns to which the header of t.csv gives no name are left out: 1;")
    assert f"{note}\n{nameless}\n" in capsys.readouterr().err
    assert read(tmp_path / "t.csv", columns="features=b|a").info.features == ("b", "a")
    with pytest.raises(RequestError, match="line 4: mostly is 'none today'"):
        read(tmp_path / "t.csv", columns="features=a|mostly")
    with pytest.raises(RequestError, match=r"unknown column .* 'c'"):
        read(tmp_path / "t.csv", columns="features=a|c")
    with pytest.raises(RequestError, match="names a twice"):
        read(tmp_path / "t.csv", columns="features=a|a")


def test_only_changed_numbers_change_a_row(tmp_path: Path) -> None:
    path = tmp_path / "songs.csv"
    before = by_song(read(path, TEXT))
    corrected = by_song(read(path, TEXT.replace("folk", "blues").replace("Three", "Four").replace(",E", ",F")))
    changed = by_song(read(path, TEXT.replace("98,", "99,")))
    appended = by_song(read(path, TEXT + "New,rock,,1,2,G\n"))
    sources = {song: row["source"] for song, row in before.items()}
    assert len(set(sources.values())) == 3
    assert {song: row["source"] for song, row in corrected.items()} == sources
    assert {song for song, row in changed.items() if row["source"] != sources[song]} == {"row-000001"}
    assert {song for song, row in appended.items() if row["source"] != sources.get(song)} == {"row-000003"}


def test_another_choice_of_features_is_no_other_song(tmp_path: Path) -> None:
    """What marks a row is all its numbers, so that they may be chosen anew; a change in any of them is seen."""
    path = tmp_path / "songs.csv"
    rows = by_song(read(path, TEXT))
    subset = read(path, columns="features=year")
    assert subset.info.features == ("year",)
    assert {song: row["source"] for song, row in by_song(subset).items()} == {
        song: row["source"] for song, row in rows.items()
    }
    changed = by_song(read(path, TEXT.replace("120.5", "121"), columns="features=year"))
    assert [song for song, row in changed.items() if row["source"] != rows[song]["source"]] == ["row-000000"]
    # A column with another role may be corrected, unless it is named as a feature too.
    for columns, changes in (("labels=year,features=tempo", []), ("labels=year,features=year", ["row-000002"])):
        before = by_song(read(path, TEXT, columns=columns))
        after = by_song(read(path, TEXT.replace("1980", "1981"), columns=columns))
        assert [song for song, row in after.items() if row["source"] != before[song]["source"]] == changes


def test_songs_may_have_ids_and_splits(tmp_path: Path) -> None:
    text = "song,artist,labels,split,x\ns1,A,l,train,1\ns2,A,l,VALID,2\ns3,B,l,val,3\ns4,B,l,validation,4\ns5,B,l,,5\n"
    rows = by_song(read(tmp_path / "t.csv", text))
    assert [rows[f"s{i}"]["split_official"] for i in range(1, 6)] == [
        "train",
        "validation",
        "validation",
        "validation",
        None,
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Artist,Genre,x\nA,l,1\n", "--columns artist=Artist,labels=Genre"),
        ("artist,labels,x\nA,nan,1\nA,|,2\n", r"labels gives no label to any of the songs \(2\)"),
        ("artist,labels,x\nA,l,1\nA,l\n", "line 3: 2 columns where the header has 3"),
        ('artist,labels,x\n"A\nB",l,1\nA,l\n', "line 4: 2 columns"),
        ("artist,labels,x,x\nA,l,1,2\n", "more than one column 'x'"),
        ("artist,labels,x\n", "has no rows"),
        ("", "is empty"),
        ("artist,labels,x\nA,l,one\n", "no column of numbers"),
        (
            "song,artist,labels,x\ns,A,l,1\ns,B,l,2\n",
            r"line 3: the song 's' has the artist 'B' here and 'A' in .*line 2",
        ),
        (
            "song,artist,labels,x\ns,A,l,1\ns,A,m,2\n",
            r"line 3: the song 's' has the labels 'm' here and 'l' in .*line 2",
        ),
        ("song,artist,labels,x\n,A,l,1\n", "line 2: song is empty"),
        ("artist,labels,split,x\nA,l,train,1\nA,l,tset,2\n", "line 3: split 'tset' is no split"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        read(tmp_path / "t.csv", text)


def test_text_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(TEXT.encode() + "Motörhead,rock,,1,2,G\n".encode("latin-1"))
    with pytest.raises(RequestError, match=r"line 6: the byte 0xf6 is not UTF-8; save the table as UTF-8"):
        read(path)
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"):
        path.write_bytes(TEXT.encode(encoding))
        assert by_song(read(path))["row-000000"]["title"] == "One,\ntwo"
    path.write_bytes(TEXT.encode("utf-16") + b"\0")
    with pytest.raises(RequestError, match="cannot be read as a table"):
        read(path)


@pytest.mark.parametrize("name", ["t.parquet", "t.h5"])
def test_damaged_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PAR1 no table at all")
    with pytest.raises(RequestError, match=f"{name} "):
        read(tmp_path / name)


def test_hdf5_columns_have_one_length(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["artist"], file["labels"], file["x"] = ["A", "B"], ["x", "y"], np.ones(3)
    with pytest.raises(RequestError, match="artist 2, labels 2, x 3"):
        read(tmp_path / "t.h5")


def test_names(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(TEXT)
    for name in ("mtg", "Own", "../own", "", None):
        with pytest.raises(RequestError, match="name"):
            FeatureTable(table=str(path), name=name).catalog()
    with pytest.raises(RequestError, match=r"unknown role in --columns 'artists'.*Did you mean artist"):
        read(path, columns="artists=artist")
    with pytest.raises(RequestError, match="no column 'Artist' for artist; it has: artist, labels"):
        read(path, columns="artist=Artist")
    with pytest.raises(RequestError, match="role=column"):
        read(path, columns="artist")


def test_a_table_is_looked_for_here_and_then_in_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/t.csv").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    catalog = FeatureTable(table="t.csv", data=Path("data"), name="own").catalog()
    assert catalog.info.data_root == str(tmp_path / "data")
    (tmp_path / "t.csv").write_text(TEXT)
    assert FeatureTable(table="t.csv", data=Path("data"), name="own").catalog().info.data_root == str(tmp_path)
    with pytest.raises(RequestError, match=r"there is no table: no\.csv and no data/no\.csv"):
        FeatureTable(table="no.csv", data=Path("data"), name="own").catalog()


def test_classic_hits(shared_data: Path) -> None:
    path = shared_data / "spotify" / "ClassicHit.csv"
    catalog = read(path, columns="artist=Artist,labels=Genre,title=Track")
    assert len(catalog) == 15_150
    assert len(set(catalog.strings("artist_id"))) == 3_083
    assert len({label for labels in catalog.column("labels").to_pylist() for label in labels}) == 19
    assert len(catalog.info.features) == 15
    assert {"Year", "Duration", "Popularity"} < set(catalog.info.features)
    rows = FeatureRows(path, catalog.info.features).take(slice(0, len(catalog)))
    assert np.isfinite(rows).all()


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(["rock", "", "nan", "-", None]), min_size=1, max_size=9), st.booleans(), st.integers(1, 3)
)
def test_songs_without_a_label_are_left_out_and_counted(
    tmp_path: Path, labels: list[str | None], unlabelled: bool, rows: int
) -> None:
    """In whichever row of a song it stands, and whoever says that there is none."""
    table = {"song": [], "artist": [], "labels": [], "a": []}  # type: dict[str, list[Any]]
    for i, label in enumerate(labels):
        for row in range(rows):
            values = (f"s{i}", "A" if row == 0 else None, label if row == rows - 1 else "", i + row / 8)
            for column, value in zip(table.values(), values, strict=True):
                column.append(value)
    pq.write_table(pa.table({**table, "labels": pa.array(table["labels"], pa.string())}), tmp_path / "t.parquet")
    count = labels.count("rock")
    path = str(tmp_path / "t.parquet")
    if not count and not unlabelled:
        with pytest.raises(RequestError, match=r"labels gives no label to any of the songs"):
            FeatureTable(table=path, name="own", columns="features=a").catalog()
        return
    catalog = FeatureTable(table=path, name="own", columns="features=a", unlabelled=unlabelled).catalog()
    songs = {f"s{i}": [label] if label == "rock" else [] for i, label in enumerate(labels)}
    rows_of = catalog.table.to_pylist()
    assert {row["song_id"]: row["labels"] for row in rows_of} == {k: v for k, v in songs.items() if v or unlabelled}
    assert {row["artist_id"] for row in rows_of} == {"A"}  # which the first row of a song says for all of them
    left_out = 0 if unlabelled else len(labels) - count
    assert sum(
        f"{left_out} of " in text and "left out: labels has no label" in text for text in catalog.info.notes
    ) == (left_out > 0)
