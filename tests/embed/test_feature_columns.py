"""Which columns of a table are features, in every form in which numbers come, and songs that have several rows."""

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

from stages.embed.datasets._features import all_features
from stages.embed.datasets._segments import song_of
from stages.embed.datasets.table import FeatureTable
from stages.embed.inputs.features import FeatureRows
from store.errors import RequestError
from store.schema import Catalog

ROWS = 40
LABELS = [("rock", "jazz", "folk", "folk")[i * 7 % 4] for i in range(ROWS)]
SONGS = {"artist": [f"A{i % 9}" for i in range(ROWS)], "labels": LABELS}
NOISE = np.random.default_rng(0).standard_normal(ROWS).round(3)


def read(path: Path, content: dict[str, Any] | str, **options: Any) -> Catalog:
    if isinstance(content, str):
        path.write_text(content)
    else:
        pq.write_table(pa.table({**SONGS, **content}), path, row_group_size=16)
    return FeatureTable(table=str(path), name="own", **options).catalog()


@pytest.mark.parametrize(
    ("name", "values", "why"),
    [
        ("Unnamed: 0", NOISE, "called like an id"),
        ("track_id", NOISE, "called like an id"),
        ("trackID", NOISE, "called like an id"),
        ("index", NOISE, "called like an id"),
        ("count", np.arange(ROWS) * 3, "whole numbers that count the rows"),
        ("rank", np.arange(ROWS)[::-1] + 0.0, "whole numbers that count the rows"),
        ("shuffled", np.random.default_rng(1).permutation(ROWS), "whole numbers that count the rows"),
        ("answer", [{"rock": 4, "jazz": 2, "folk": 1}[label] for label in LABELS], "one value a label"),
        ("is_rock", [label == "rock" for label in LABELS], "one value a label"),
        ("followers", [(7 * (i % 9)) % 5 for i in range(ROWS)], "one value an artist"),
        ("is_band", [i % 9 < 4 for i in range(ROWS)], "one value an artist"),
        ("of_artist", [[i % 9 / 4, 1.0] for i in range(ROWS)], "one value an artist"),
        ("of_label", [[ord(label[0]), 1.0] for label in LABELS], "one value a label"),
    ],
)
def test_what_counts_rows_or_repeats_the_label_is_none(tmp_path: Path, name: str, values: Any, why: str) -> None:
    catalog = read(tmp_path / "t.parquet", {name: values, "a": NOISE})
    assert catalog.info.features == ("a",)
    assert catalog.info.notes[0].startswith(f"no features: {name} ({why}); if they are, name them")
    table = read(tmp_path / "t.parquet", {name: values, "a": NOISE}, columns=f"features={name}|a")
    numbers = [f"{name}[0]", f"{name}[1]"] if name.startswith("of_") else [name]
    assert table.info.features == (*numbers, "a")


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 1), st.sampled_from("xyz")), min_size=30, max_size=60),
    st.sampled_from(["Key", "Mode", "Year", "grid", "valid"]),
)
def test_small_whole_numbers_are_features(rows: list[tuple[int, int, str]], name: str) -> None:
    """Keys and modes: neither in order nor one value a label, unless every label has one."""
    keys = np.array([key for key, _, _ in rows], dtype=float)
    labels = [[label] for _, _, label in rows]
    table = _table_of(name, keys)
    features, _ = all_features(table, [], labels, [None] * len(rows), list(map(str, range(len(rows)))))
    keys_of = {name: {key for key, (label,) in zip(keys, labels, strict=True) if label == name} for name in "xyz"}
    present = [of_label for of_label in keys_of.values() if of_label]
    repeats = len(present) > 1 and len(set(keys)) > 1 and all(len(of_label) == 1 for of_label in present)
    assert features == ([] if repeats else [name])


@settings(max_examples=30)
@given(st.integers(2, 12), st.integers(1, 12), st.booleans(), st.randoms(use_true_random=False))
def test_what_an_artist_says_is_no_feature_where_chance_does_not(
    artists: int, songs: int, is_rare: bool, random: Any
) -> None:
    """A column with one value an artist is left out if artists have enough songs for that to be no accident."""
    of_artist = [float(artist == 0) if is_rare else random.random() for artist in range(artists)]
    rows = [(f"A{artist}", of_artist[artist]) for artist in range(artists) for _ in range(songs)]
    random.shuffle(rows)
    names, values = [name for name, _ in rows], np.array([value for _, value in rows])
    labels = [[random.choice("xyz")] for _ in rows]
    features, notes = all_features(_table_of("fame", values), [], labels, names, list(map(str, range(len(rows)))))
    share = sum((values == value).mean() ** 2 for value in set(values))
    bits = artists * (songs - 1) * -np.log2(share)
    if not any("one value a label" in text or "count the rows" in text for text in notes):
        assert features == ([] if bits >= 12 else ["fame"])
    other, _ = all_features(
        _table_of("fame", values + np.arange(len(rows)) % 2), [], labels, names, list(map(str, range(len(rows))))
    )
    if songs > 2 and len(rows) > 8:
        assert other == ["fame"]


def _table_of(name: str, values: np.ndarray[Any, Any]) -> Any:
    from stages.embed.tables import Table

    return Table(Path("t.parquet"), len(values), {name: pa.float64()}, lambda _: pa.chunked_array([values]))


def test_numbers_in_every_type(tmp_path: Path) -> None:
    text = [f"{value:.3f}" for value in NOISE]
    columns = {
        "text": text,
        "large": pa.array(text, pa.large_string()),
        "view": pa.array(text, pa.string_view()),
        "dictionary": pa.array(text).dictionary_encode(),
        "numbers": pa.array(NOISE).dictionary_encode(),
        "half": NOISE.astype(np.float16).astype(np.float32),
        "decimal": pa.array(text).cast(pa.decimal128(9, 3)),
    }
    catalog = read(tmp_path / "t.parquet", {**columns, "flag": NOISE > 0})
    assert catalog.info.features == (*columns, "flag")
    rows = FeatureRows(tmp_path / "t.parquet", catalog.info.features).take(slice(0, ROWS))
    np.testing.assert_allclose(rows[:, :-1], np.repeat(NOISE[:, None], len(columns), axis=1), atol=1e-3)
    np.testing.assert_array_equal(rows[:, -1], NOISE > 0)


def test_what_is_passed_over_is_named(tmp_path: Path) -> None:
    broken = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(np.array([0, 1, 2], dtype="<i4").tobytes()), pa.py_buffer(b"a\xff")]
    )
    columns = {
        "a": NOISE,
        "when": pa.array([0] * ROWS, pa.timestamp("s")),
        "tree": [{"leaf": 1}] * ROWS,
        "ragged": [[1.0] * (1 + (i == 20)) for i in range(ROWS)],
        "words": ["w"] * ROWS,
        "bytes": pa.concat_arrays([broken] * (ROWS // 2)),
    }
    catalog = read(tmp_path / "t.parquet", columns)
    assert catalog.info.features == ("a",)
    (note,) = catalog.info.notes
    for words in (
        "when holds timestamp[",
        "tree holds struct",
        "ragged holds lists of several lengths: 2 in row 20 (from 0), 1 before",
        "words holds text",
        "bytes holds bytes that are not UTF-8, in row 1 (from 0) first",
    ):
        assert words in note
    for role, name, words in (
        ("artist", "tree", r"the column 'tree' holds struct<leaf: int64>, in row 0 \(from 0\) first"),
        ("artist", "bytes", r"row 1 \(from 0\): the column 'bytes' holds bytes that are not UTF-8"),
        ("features", "tree", "tree is no feature: it holds struct"),
    ):
        with pytest.raises(RequestError, match=words):
            read(tmp_path / "t.parquet", columns, columns=f"{role}={name}")


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(2, 7), st.sampled_from(["list", "large", "fixed", "hdf5", "npy", "json", "numpy"]), st.randoms())
def test_vectors(tmp_path: Path, width: int, kind: str, random: Any) -> None:
    """One reading for all: any rows in any order, whatever the row groups."""
    vectors = np.random.default_rng(random.randrange(99)).standard_normal((ROWS, width)).astype(np.float32)
    path = tmp_path / ("t.h5" if kind == "hdf5" else "t.parquet")
    types = {"list": pa.list_(pa.float32()), "large": pa.large_list(pa.float64())}
    name, columns, options = "emb", {}, {}  # type: str, Any, dict[str, Any]
    if kind in types:
        columns["emb"] = pa.array(vectors.tolist(), types[kind])
    elif kind == "fixed":
        columns["emb"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), width)
    elif kind in ("json", "numpy"):
        path = tmp_path / "t.csv"
        cells = [str(each.tolist() if kind == "json" else each.astype(np.float64)) for each in vectors]
        rows = zip(SONGS["artist"], LABELS, cells, strict=True)
        columns = "artist,labels,emb\n" + "".join(f'{artist},{label},"{cell}"\n' for artist, label, cell in rows)
    elif kind == "npy":
        np.save(tmp_path / "emb.npy", vectors)
        name, options = "emb.npy", {"columns": "features=emb.npy"}
    if kind == "hdf5":
        with h5py.File(path, "w") as file:
            file["emb"], file["artist"], file["labels"] = vectors, SONGS["artist"], LABELS
        catalog = FeatureTable(table=str(path), name="own").catalog()
    else:
        catalog = read(path, columns, **options)
    assert catalog.info.features == tuple(f"{name}[{i}]" for i in range(width))
    rows = random.choices(range(ROWS), k=9)
    np.testing.assert_allclose(FeatureRows(path, catalog.info.features).take(rows), vectors[rows], atol=1e-6)


def test_arrays_beside_a_table(tmp_path: Path) -> None:
    np.save(tmp_path / "short.npy", np.zeros((3, 2)))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name, words in (
        ("short.npy", "has 3 rows and .* 40"),
        ("objects.npy", "no array of numpy's that can be read"),
        ("none.npy", "there is no file"),
        ("../short.npy", "does not lie beside"),
    ):
        with pytest.raises(RequestError, match=words):
            read(tmp_path / "t.parquet", {"a": NOISE}, columns=f"features={name}")


def test_names_with_commas_and_bars(tmp_path: Path) -> None:
    columns = {"a, b": NOISE, "c|d": -NOISE, 'e "f"': 2 * NOISE, "Genre, main": LABELS}
    option = 'features="a, b"|"c|d"|"e ""f""",labels="Genre, main"'
    catalog = read(tmp_path / "t.parquet", columns, columns=option)
    assert catalog.info.features == ("a, b", "c|d", 'e "f"')


def test_labels_in_columns_of_0_and_1(tmp_path: Path) -> None:
    text = "artist,genre_rock,genre_jazz,a\nA,1,0,0.5\nB,True,1,0.7\nC,0,,0.1\n"
    catalog = read(tmp_path / "t.csv", text.replace("True", "1"), labels_onehot="genre_*", unlabelled=True)
    assert catalog.column("labels").to_pylist() == [["rock"], ["rock", "jazz"], []]
    assert catalog.info.features == ("a",)
    rock = read(tmp_path / "t.csv", text.replace("True", "1"), labels_onehot="genre_rock")
    assert rock.column("labels").to_pylist() == [["genre_rock"], ["genre_rock"]]
    assert rock.info.notes[-1] == "1 of 3 songs left out: genre_rock has no label for it"
    with pytest.raises(RequestError, match="line 3: genre_rock is '2', and a column of --labels-onehot holds 0 or 1"):
        read(tmp_path / "t.csv", text.replace("True", "2"), labels_onehot="genre_*")
    with pytest.raises(RequestError, match=r"has no column 'style_\*' for --labels-onehot"):
        read(tmp_path / "t.csv", text, labels_onehot="style_*")


def test_targets(tmp_path: Path) -> None:
    text = 'artist,labels,bpm,plays,a\nA,x,120.5,"1,234,567",0.5\nB,y,n/a,12,0.7\n'
    catalog = read(tmp_path / "t.csv", text, columns="targets=bpm|plays")
    assert catalog.column("targets").to_pylist() == [[("bpm", 120.5), ("plays", 1234567.0)], [("plays", 12.0)]]
    assert catalog.info.features == ("a",)
    with pytest.raises(RequestError, match="labels is named as a target and as a label"):
        read(tmp_path / "t.csv", text, columns="targets=labels")
    with pytest.raises(RequestError, match="line 2: mood is 'x', and a target is a number"):
        read(tmp_path / "t.csv", "mood," + text.replace("\n", "\nx,", 2), columns="targets=mood")


def test_a_first_line_tells_the_separator(tmp_path: Path) -> None:
    for first in ("sep=;\r\n", '"sep=;"\n'):
        catalog = read(tmp_path / "t.csv", first + "artist;labels;a,b\nA;x;1,5\nB;y;2,25\nC;y\n".replace("C;y\n", ""))
        assert catalog.info.features == ("a,b",)
        with pytest.raises(RequestError, match="line 4: 2 columns where the header has 3"):
            read(tmp_path / "t.csv", first + "artist;labels;a,b\nA;x;1,5\nC;y\n")


def test_quotes_that_are_left_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"A,{title},rock,{i}.5" for i in range(30) for title in ['"Heroes' if i in (2, 20) else f"Song {i}"]]
    catalog = read(tmp_path / "t.csv", "\n".join(["artist,title,labels,a", *rows]) + "\n")
    assert len(catalog) < 30
    assert "line 4: a cell of the column title begins in this row and holds 19 lines" in capsys.readouterr().err
    with pytest.raises(RequestError, match="a quote is left open in the row that ends the file, behind line 2"):
        read(tmp_path / "t.csv", 'artist,labels,a\nA,x,1.5\nB,y,"2.5\n')


def test_the_rows_of_a_song_are_its_clips(tmp_path: Path) -> None:
    """Equal ones are one clip with the labels of all."""
    text = "song,labels,a\ns,rock,1\nt,folk,2\ns,pop,1\ns,rock|pop,3\n"
    catalog = read(tmp_path / "t.csv", text)
    rows = {row["clip_id"]: (row["song_id"], row["source_row"], row["labels"]) for row in catalog.table.to_pylist()}
    assert rows == {"s": ("s", 0, ["rock", "pop"]), "s#1": ("s", 3, ["rock", "pop"]), "t": ("t", 1, ["folk"])}
    with pytest.raises(
        RequestError, match=r"line 5: the song 's' has the labels 'jazz' here and 'pop\|rock' in .*line 2"
    ):
        read(tmp_path / "t.csv", text.replace("rock|pop", "jazz"))
    # Which numbers are features decides what is equal.
    other = "song,labels,a,b\ns,rock,1,5\ns,pop,1,6\n"
    assert len(read(tmp_path / "t.csv", other, columns="features=a")) == 1
    with pytest.raises(RequestError, match="line 3: the song 's' has the labels 'pop'"):
        read(tmp_path / "t.csv", other)


def test_numbered_pieces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [
        f"{genre}.{song:05d}.{piece}.wav" for genre in ("blues", "rock") for song in range(3) for piece in range(4)
    ]
    text = "filename,label,a\n" + "".join(f"{name},{name[:4]},{i}.25\n" for i, name in enumerate(names))
    apart = read(tmp_path / "t.csv", text, columns="labels=label")
    assert "filename looks like numbered pieces of songs ('blues.00000.0.wav')" in capsys.readouterr().err
    assert len(set(apart.strings("song_id"))) == len(apart)
    together = read(tmp_path / "t.csv", text, columns="labels=label,song=filename", segments=True)
    songs = {f"{genre}.{song:05d}" for genre in ("blues", "rock") for song in range(3)}
    assert set(together.strings("song_id")) == songs
    assert "pieces" not in capsys.readouterr().err
    table = "filename,label,a\n" + "".join(f"{g}.{i:05d}.wav,{g},{i}.5\n" for g in ("blues", "rock") for i in range(9))
    read(tmp_path / "t.csv", table, columns="labels=label,song=filename")
    assert "pieces" not in capsys.readouterr().err  # the songs of a genre, counted
    with pytest.raises(RequestError, match="line 2: song is 'x', and with --segments every name ends in the number"):
        read(tmp_path / "t.csv", "song,labels,a\nx,y,1\n", segments=True)
    assert song_of("a.wav") is None


def test_what_a_table_lacks_is_said_or_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert read(tmp_path / "t.csv", "labels,a\nx,1\ny,2\n").strings("artist_id") == [None, None]
    assert "t.csv has no column of artists: every artist is unknown" in capsys.readouterr().err
    assert read(tmp_path / "t.csv", "a,b\n1,3\n2,1\n").column("labels").to_pylist() == [[], []]
    assert "t.csv has no column of labels: it can be embedded" in capsys.readouterr().err
    with pytest.raises(RequestError, match=r"--columns artist=Track Artist \(or artist= where there is none\)"):
        read(tmp_path / "t.csv", "Track Artist,labels,a\nA,x,1\n")
    assert len(read(tmp_path / "t.csv", "Track Artist,labels,a\nA,x,1\n", columns="artist=")) == 1
    labelled = read(tmp_path / "t.csv", "labels,a\nx,1\nnan,2\n-,3\n,4\n")
    assert labelled.strings("song_id") == ["row-000000"]
    assert labelled.info.notes == ("3 of 4 songs left out: labels has no label for them",)
    assert "('row-000001' is the first); --unlabelled keeps them" in capsys.readouterr().err
    bare = read(tmp_path / "t.csv", "labels,a\nx,1\nnan,2\n", unlabelled=True)
    assert bare.column("labels").to_pylist() == [["x"], []]
    with pytest.raises(RequestError, match="the first line must name the columns, and holds numbers alone"):
        read(tmp_path / "t.csv", "1.5,2\n3,4\n")


def test_what_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("nan", "rock"), ("None", "rock"), ("A;B", "pop"), ("C;D", "pop"), ("BEYONCE", "Pop"), ("Beyoncé", "pop")]
    text = "artist,labels,a\n" + "".join(f"{artist},{label},{i}.5\n" for i, (artist, label) in enumerate(rows))
    catalog = read(tmp_path / "t.csv", text)
    message = capsys.readouterr().err
    assert "artist 2 (nan 1, None 1); where that is a name: --not-missing nan" in message
    assert "artist: 2 of 4 cells look like lists ('A;B', 'C;D')" in message
    assert "--separator 'artist=;'" in message
    assert "('BEYONCE' and 'Beyoncé' are the first)" in message
    assert catalog.strings("artist_id").count(None) == 2
    merged = read(tmp_path / "t.csv", text, merge_spellings=True, separator=";", not_missing="None")
    artists = dict(zip(merged.strings("song_id"), merged.strings("artist_id"), strict=True))
    assert [artists[f"row-{i:06d}"] for i in range(6)] == [None, "None", "A", "C", "BEYONCE", "BEYONCE"]
    assert {label for labels in merged.column("labels").to_pylist() for label in labels} == {"rock", "pop"}
    assert "look like lists" not in capsys.readouterr().err


def test_vectors_as_text(tmp_path: Path) -> None:
    """Missing ones fail their clips; lists of genres and what numpy cut short are none."""
    text = 'artist,labels,e,genres,long\nA,x,"[0.5, 1]","[21, 3]","[1. 2. ... 3.]"\nB,y,,[4],"[1. 2. ... 4.]"\n'
    catalog = read(tmp_path / "t.csv", text)
    assert catalog.info.features == ("e[0]", "e[1]")
    rows = FeatureRows(tmp_path / "t.csv", catalog.info.features).take(slice(0, 2))
    np.testing.assert_array_equal(rows, [[0.5, 1], [np.nan, np.nan]])
    assert "long holds vectors that were cut short when they were written (...)" in catalog.info.notes[0]
    labels = read(tmp_path / "t.csv", text, columns="labels=genres").column("labels").to_pylist()
    assert labels == [["21", "3"], ["4"]]


def test_labels_artists_and_splits_in_files_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of FMA's features stand in another table than the numbers."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.csv").write_text("track,genre\n2,Rock\n5,\"['Pop', 'Folk']\"\n9,Jazz\n")
    (tmp_path / "artists.json").write_text('{"2": "A", "5": ["B", "nan", "C"], "7": NaN}')
    (tmp_path / "splits.csv").write_text("track,split\n2,train\n5,test\n")
    text = "track_id,genre,a\n2,x,0.5\n5,y,0.25\n7,z,0.125\n"
    files = {"labels": "labels.csv", "artists": "artists.json", "splits": "splits.csv"}
    catalog = read(tmp_path / "t.csv", text, columns="song=track_id", **files)
    rows = {row["song_id"]: row for row in catalog.table.to_pylist()}
    assert {song: row["labels"] for song, row in rows.items()} == {"2": ["Rock"], "5": ["Pop", "Folk"]}
    assert [(rows[s]["artist_id"], rows[s]["other_artist_ids"]) for s in ("2", "5")] == [("A", None), ("B", ["C"])]
    assert [rows[s]["split_official"] for s in ("2", "5")] == ["train", "test"]
    assert "1 of 3 songs left out: labels.csv has no label for it" in catalog.info.notes
    every = read(tmp_path / "t.csv", text, columns="song=track_id", unlabelled=True, **files)
    assert every.info.features == ("a",)
    assert len(every) == 3
    several = text.replace("7,", "5,").replace("y,0.25", "y,0.125")
    assert len(read(tmp_path / "t.csv", several, columns="song=track_id", labels="labels.csv")) == 2
