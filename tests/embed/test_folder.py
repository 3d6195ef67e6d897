"""People's own songs: folders with a table, and folders with files of labels and artists beside them."""

from __future__ import annotations

import json
import os
import unicodedata
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.embed.datasets._songs import clip_id, spread
from stages.embed.datasets.folder import Folder
from stages.embed.tables.missing import Missing
from store.errors import RequestError
from store.schema import Catalog


def songs(root: Path, *names: str) -> Path:
    """Files that are there; whole recordings are never opened for a catalog."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def midi(path: Path, length_s: float) -> None:
    """A MIDI file with one note of that length: 1,000 ticks a second."""
    ticks = round(length_s * 1000)
    delta = bytes([0x80 | ticks >> 14, 0x80 | ticks >> 7 & 0x7F, ticks & 0x7F])
    track = b"\0\xff\x51\x03\x0f\x42\x40" + b"\0\x90\x3c\x40" + delta + b"\x80\x3c\x40" + b"\0\xff\x2f\0"
    path.write_bytes(
        b"MThd\0\0\0\6\0\0\0\1" + (1000).to_bytes(2, "big") + b"MTrk" + len(track).to_bytes(4, "big") + track
    )


def read(root: Path, text: str | None = None, **options: Any) -> Catalog:
    if text is not None:
        (root / "songs.csv").write_text(text, encoding="utf-8")
        options.setdefault("table", "songs.csv")
    return Folder(**{"data": root, "name": "own", **options}).catalog()


def by_clip(catalog: Catalog) -> dict[str, dict[str, Any]]:
    return {row["clip_id"]: row for row in catalog.table.to_pylist()}


def test_a_row_is_a_song(tmp_path: Path) -> None:
    songs(tmp_path, "a.mp3", "sub dir/b c.FLAC")
    catalog = read(
        tmp_path,
        "file,artist,labels,album,title,split\n"
        "a.mp3,One | Two|Three,rock|pop|rock,First,A title,train\n"
        "sub dir/b c.FLAC,,jazz,,,test\n",
    )
    rows = by_clip(catalog)
    first, second = rows["a.mp3"], rows["sub dir/b c.FLAC"]
    assert (first["song_id"], first["path"], first["start_s"], first["duration_s"]) == ("a.mp3", "a.mp3", None, None)
    assert (first["artist_id"], first["artist_name"], first["other_artist_ids"]) == ("One", "One", ["Two", "Three"])
    assert (first["labels"], first["album_id"], first["title"]) == (["rock", "pop"], "One / First", "A title")
    assert (second["artist_id"], second["other_artist_ids"], second["album_id"]) == (None, None, None)
    assert [first["split_official"], second["split_official"]] == ["train", "test"]
    assert (catalog.info.name, catalog.info.backbone, catalog.info.data_root) == ("own", "fcn", str(tmp_path))


def test_albums_belong_to_their_artists(tmp_path: Path) -> None:
    songs(tmp_path, *(f"{i}.mp3" for i in range(7)))
    artists = ("Queen", "Queen|Bowie", "Abba", "Various Artists", "VARIOUS|Queen", "", "")
    text = "file,artist,labels,album\n" + "".join(f"{i}.mp3,{name},pop,Hits\n" for i, name in enumerate(artists))
    rows = by_clip(read(tmp_path, text))
    albums = [rows[f"{i}.mp3"]["album_id"] for i in range(len(artists))]
    assert albums == [
        "Queen / Hits",
        "Queen / Hits",
        "Abba / Hits",
        "Various Artists / Hits",
        "VARIOUS / Hits",
        "Hits",
        "Hits",
    ]


def test_columns_of_other_names_and_lists(tmp_path: Path) -> None:
    songs(tmp_path, "a.mp3", "b.mp3")
    table = pa.table(
        {
            "Path": ["a.mp3", "b.mp3"],
            "Who": pa.array([["One", "Two"], []], pa.list_(pa.string())),
            "Genre": [["rock"], ["jazz", "pop"]],
            "Nr": [12, 7],
        }
    )
    pq.write_table(table, tmp_path / "songs.parquet")
    catalog = read(tmp_path, table="songs.parquet", columns="file=Path,artist=Who,labels=Genre,song=Nr")
    rows = by_clip(catalog)
    assert (rows["12"]["artist_id"], rows["12"]["other_artist_ids"]) == ("One", ["Two"])
    assert (rows["7"]["artist_id"], rows["7"]["labels"]) == (None, ["jazz", "pop"])


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp"), exclude_characters="|"))
LABELS = WORDS.filter(lambda word: word not in Missing() and unicodedata.is_normalized("NFC", word) and word[0] != "[")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(WORDS, LABELS), min_size=1, max_size=5))
def test_csv_and_parquet_say_the_same(tmp_path: Path, cells: list[tuple[str, str]]) -> None:
    songs(tmp_path, *(f"{i}.ogg" for i in range(len(cells))))
    table = pa.table(
        {
            "file": [f"{i}.ogg" for i in range(len(cells))],
            "artist": [artist for artist, _ in cells],
            "labels": [label for _, label in cells],
        }
    )
    pq.write_table(table, tmp_path / "songs.parquet")
    quoted = (",".join('"' + str(v).replace('"', '""') + '"' for v in row.values()) for row in table.to_pylist())
    catalog = read(tmp_path, "file,artist,labels\n" + "".join(f"{line}\n" for line in quoted))
    assert catalog.table.equals(read(tmp_path, table="songs.parquet").table)
    assert catalog.column("labels").to_pylist() == [
        [dict(enumerate(label for _, label in cells))[int(song.removesuffix(".ogg"))]]
        for song in map(str, catalog.strings("song_id"))
    ]


@pytest.mark.parametrize(("on_disk", "in_table"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_accented_names_are_found_however_they_are_spelled(tmp_path: Path, on_disk: str, in_table: str) -> None:
    name = "Séculaire Nÿme.mp3"
    spelled = unicodedata.normalize(on_disk, name)
    songs(tmp_path, spelled)
    text = f"\ufefffile,artist,labels\n{unicodedata.normalize(in_table, name)},A,x\n"
    catalog = read(tmp_path, text)
    assert catalog.strings("path") == [spelled]
    assert catalog.strings("song_id") == [unicodedata.normalize("NFC", name)]


def test_a_row_with_times_is_one_stretch(tmp_path: Path) -> None:
    songs(tmp_path, "a.mp3")
    rows = by_clip(
        read(
            tmp_path,
            "file,artist,labels,start_s,duration_s\n"
            "a.mp3,A,x,30,29\na.mp3,A,x,0.25,2.5\na.mp3,A,x,100,\na.mp3,A,x,,7\na.mp3,A,x,,\n",
        )
    )
    assert {row["song_id"] for row in rows.values()} == {"a.mp3"}
    assert {clip: (row["start_s"], row["duration_s"]) for clip, row in rows.items()} == {
        "a.mp3@30+29": (30.0, 29.0),
        "a.mp3@0.25+2.5": (0.25, 2.5),
        "a.mp3@100": (100.0, None),
        "a.mp3@0+7": (None, 7.0),
        "a.mp3": (None, None),
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "path,artist,genre\na.mp3,A,x\n",
            "no column named file or labels; it has: path, artist, genre.*file=path,lab",
        ),
        ("file;artist;genre\na.mp3;A;x\n", "no column named labels; it has: file, artist, genre"),
        (
            "file,artist,labels\na.mp3,A,x\na.mp3,B,y\n",
            r"line 3: the song 'a\.mp3' has the artist 'B' here and 'A' in ",
        ),
        ("file,artist,labels,song\na.mp3,A,x,s\nb.mp3,A,x,s\n", "line 3: 's' stands in .*line 2"),
        ("file,artist,labels\na.mp3,A,\n", r"labels gives no label to any of the songs \(1\).* --unlabelled"),
        ("file,artist,labels\n,A,x\n", "line 2: file is empty"),
        ("file,artist,labels,split\na.mp3,A,x,dev\n", "line 2: split 'dev' is no split; have: train"),
        (
            "file,artist,labels\n/etc/a.mp3,A,x\n",
            r"none of the files .*\(1\) can be read: 1 path leads out of .*/etc/a\.mp3",
        ),
        ("file,artist,labels\n../a.mp3,A,x\n", r"1 path leads out of .* \('\.\./a\.mp3' is the first\)"),
        ("file,artist,labels\nb/../../a.mp3,A,x\n", "1 path leads out of"),
        ("file,artist,labels\na.txt,A,x\n", r"1 file is of no format that is read \('a\.txt' is the first\); have: "),
        (
            "file,artist,labels\nc.mp3,A,x\nd.mp3,A,x\n",
            r"none of the files .*\(2\) .*c\.mp3' is the first\)\. Give the folder",
        ),
        ("file,artist,labels,start_s\na.mp3,A,x,-1\n", "line 2: start_s '-1' is no time in seconds"),
        ("file,artist,labels,start_s\na.mp3,A,x,soon\n", "line 2: start_s 'soon' is no time"),
        ("file,artist,labels,duration_s\na.mp3,A,x,0\n", "line 2: duration_s '0' is no time in seconds, above 0"),
        ("file,artist,labels,duration_s\na.mp3,A,x,inf\n", "line 2: duration_s 'inf' is no time"),
        (
            "file,artist,labels,start_s,split\na.mp3,A,x,0,train\na.mp3,A,x,9,test\n",
            "line 3: the song 'a.mp3' has the split 'test' here and 'train' in .*line 2",
        ),
        ("file,artist,labels,start_s\na.mp3,A,x,0\na.mp3,B,x,9\n", "the artist 'B' here and 'A' in"),
        (
            "file,artist,labels,start_s\na.mp3,A,x|y,0\na.mp3,A,y|x,5\na.mp3,A,y,9\n",
            r"line 4: the song 'a.mp3' has the labels 'y' here and 'x\|y' in .*line 2; .* an id of its own in",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    root = songs(tmp_path / "root", "a.mp3", "b.mp3", "a.txt")
    songs(tmp_path, "a.mp3")
    with pytest.raises(RequestError, match=words):
        read(root, text)


def test_numbers_that_are_none_in_parquet(tmp_path: Path) -> None:
    songs(tmp_path, "a.mp3", "b.mp3")
    table = pa.table({"file": ["a.mp3", "b.mp3"], "artist": ["A", "A"], "labels": ["x", "x"]})
    empty = table.append_column("start_s", pa.array([None, 2.0]))
    pq.write_table(empty, tmp_path / "songs.parquet")
    assert set(by_clip(read(tmp_path, table="songs.parquet"))) == {"a.mp3", "b.mp3@2"}
    pq.write_table(table.append_column("start_s", pa.array([float("nan"), 2.0])), tmp_path / "songs.parquet")
    assert set(by_clip(read(tmp_path, table="songs.parquet"))) == {"a.mp3", "b.mp3@2"}
    pq.write_table(table.append_column("start_s", pa.array([2.0, float("inf")])), tmp_path / "songs.parquet")
    with pytest.raises(RequestError, match=r"row 1 \(from 0\): start_s inf is no time"):
        read(tmp_path, table="songs.parquet")


def test_absent_files_and_paths_within_the_folder(tmp_path: Path) -> None:
    songs(tmp_path, "a.mp3", "sub/b.mp3")
    text = f"file,artist,labels\nsub/../a.mp3,A,x\n{tmp_path}/sub/b.mp3,A,x\ngone.mp3,A,x\n"
    assert read(tmp_path, text).strings("path") == ["a.mp3", "gone.mp3", "sub/b.mp3"]


def test_the_folder_is_that_of_the_table_where_none_is_given(tmp_path: Path) -> None:
    songs(tmp_path, "a.mp3")
    (tmp_path / "t.tsv").write_text('file\tartist\tlabels\na.mp3\t"Weird Al\tx\n')
    catalog = read(tmp_path, data=None, table=str(tmp_path / "t.tsv"))
    assert catalog.info.data_root == str(tmp_path)
    assert catalog.strings("artist_id") == ['"Weird Al']


def test_of_midi_files_stretches_are_cut(tmp_path: Path) -> None:
    midi(tmp_path / "long.mid", 100.0)
    midi(tmp_path / "two.mid", 40.0)
    midi(tmp_path / "short.mid", 10.0)
    songs(tmp_path, "damaged.mid", "recording.mp3")
    text = "file,artist,labels\n" + "".join(
        f"{name},A,x\n" for name in ("long.mid", "two.mid", "short.mid", "damaged.mid", "gone.mid", "recording.mp3")
    )
    catalog = read(tmp_path, text)
    assert catalog.info.backbone == "pianoroll"
    assert set(by_clip(catalog)) == {
        *(f"long.mid@{start}+15" for start in ("5", "30", "55", "80")),
        *(f"two.mid@{start}+15" for start in ("2.5", "22.5")),
        *("short.mid", "damaged.mid", "gone.mid", "recording.mp3"),
    }
    ids = {clip for clip in by_clip(read(tmp_path, text, clips=2, clip_s=20.0)) if clip.startswith("long")}
    assert ids == {"long.mid@15+20", "long.mid@65+20"}
    assert len(read(tmp_path, text, clips=0)) == 6


def test_of_recordings_where_asked(tmp_path: Path) -> None:
    import soundfile

    soundfile.write(tmp_path / "a.wav", np.zeros(8000 * 12), 8000)
    text = "file,artist,labels\na.wav,A,x\n"
    assert set(by_clip(read(tmp_path, text))) == {"a.wav"}
    assert set(by_clip(read(tmp_path, text, clips=3, clip_s=2.0))) == {"a.wav@1+2", "a.wav@5+2", "a.wav@9+2"}
    assert set(by_clip(read(tmp_path, text, clip_s=12.0))) == {"a.wav"}
    for wrong in ({"clips": -1}, {"clip_s": 0.0}, {"clip_s": float("nan")}):
        with pytest.raises(RequestError, match="--clip"):
            read(tmp_path, text, **wrong)


@given(st.floats(0, 1e4), st.integers(1, 20), st.floats(0.5, 60))
def test_stretches_lie_in_the_song_and_apart(length_s: float, count: int, clip_s: float) -> None:
    stretches = spread(length_s, count, clip_s)
    assert 1 <= len(stretches) <= count
    if stretches == [(None, None)]:
        assert length_s <= clip_s
        return
    assert len(stretches) == min(count, int(length_s // clip_s))
    starts = [start for start, _ in stretches if start is not None]
    assert starts[0] >= -1e-3
    assert starts[-1] + clip_s <= length_s + 1e-3
    assert all(after - before >= clip_s - 2e-3 for before, after in pairwise(starts))
    assert len({clip_id("s", *stretch) for stretch in stretches}) == len(stretches)


@pytest.fixture
def keyed(tmp_path: Path) -> Path:
    """Five songs with files of artists, labels and splits beside them, keyed in every way that is offered."""
    songs(tmp_path, "one.mp3", "sub/two.mp3", "sub/three.ogg", "four.mp3", ".hidden.mp3", "._one.mp3", "notes.txt")
    (tmp_path / "artists.tsv").write_text("song\tartist\none\tA|G\nsub/two.mp3\tB\nfour\t\nelsewhere\tZ\n")
    (tmp_path / "labels.json").write_text(
        json.dumps({"big": {"one": ["rock", "rock"], "sub/two": "pop", "three.ogg": ["jazz"], "other": ["x"]}, "n": {}})
    )
    (tmp_path / "splits.csv").write_text("file,split\none,train\ntwo,test\nthree,valid\n")
    return tmp_path


def test_labels_and_artists_beside_the_songs(keyed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    catalog = read(keyed, artists="artists.tsv", labels="labels.json:big", splits=str(keyed / "splits.csv"))
    rows = by_clip(catalog)
    assert {clip: row["labels"] for clip, row in rows.items()} == {
        "one.mp3": ["rock"],
        "sub/two.mp3": ["pop"],
        "sub/three.ogg": ["jazz"],
    }
    assert [rows[clip]["artist_id"] for clip in ("one.mp3", "sub/two.mp3", "sub/three.ogg")] == ["A", "B", None]
    assert rows["one.mp3"]["other_artist_ids"] == ["G"]
    assert [rows[clip]["split_official"] for clip in rows] == ["train", "test", "validation"]
    message = capsys.readouterr().err
    assert "1 of 4 songs left out: labels.json" in message
    assert "labels.json has labels for 1 more song that is not here ('other' is the first)" in message
    assert catalog.info.notes == ("1 of 4 songs left out: labels.json has no label for it",)


def test_files_beside_stand_in_for_a_column(keyed: Path) -> None:
    text = "file,artist\none.mp3,A\nfour.mp3,D\n"
    catalog = read(keyed, text, labels="labels.json:big")
    assert {clip: row["labels"] for clip, row in by_clip(catalog).items()} == {"one.mp3": ["rock"]}


def test_files_beside_say_the_same_of_all_files_of_a_song(keyed: Path) -> None:
    """Whose rows name several files, which stand under keys of their own."""
    text = "file,artist,song,start_s\none.mp3,A,s,0\nsub/two.mp3,A,s,1\n"
    (keyed / "l.csv").write_text("file,label\none.mp3,rock\nsub/two.mp3,pop\n")
    with pytest.raises(RequestError, match=r"sub/two.mp3: the song 's' has the labels 'pop' here and 'rock' in one"):
        read(keyed, text, labels="l.csv")
    (keyed / "l.csv").write_text("file,label\none.mp3,rock\nsub/two.mp3,rock\n")
    (keyed / "s.csv").write_text("file,split\none.mp3,train\nsub/two.mp3,test\n")
    with pytest.raises(RequestError, match="has the split 'test' here and 'train' in one"):
        read(keyed, text, labels="l.csv", splits="s.csv")
    assert len(read(keyed, text, labels="l.csv")) == 2


@pytest.mark.parametrize(
    ("name", "text", "options", "words"),
    [
        ("l.csv", "one,rock\ntwo,pop\n", {"labels": "l.csv"}, "line 1: 'one' is a song, and the first line must"),
        ("l.csv", "s,l\nfive,pop\n", {"labels": "l.csv"}, r"names none of the songs \(4\): its first key is 'five'"),
        ("l.csv", "s,l,m\none,pop,q\n", {"labels": "l.csv"}, "two columns, the song and its labels; it has: s, l, m"),
        ("l.csv", "s,l\n,pop\n", {"labels": "l.csv"}, "line 2: s is empty"),
        ("l.csv", "s,l\none,\n", {"labels": "l.csv"}, r"no label to any of the songs \(4\)"),
        ("l.json", '{"one": [1.5]}', {"labels": "l.json"}, "'one' holds"),
        ("l.json", '{"one":\n ["x"', {"labels": "l.json"}, "line 2: no JSON"),
        ("l.json", '{"one": "x"}', {"labels": "l.json:big"}, "leave out ':big'"),
        ("l.json", '["one"]', {"labels": "l.json"}, "must hold a map"),
        ("l.json", "{}", {"labels": "labels.json"}, "several maps; name one of them: labels.json:big"),
        ("l.json", "{}", {"labels": "labels.json:bg"}, "'bg'; have: big, n. Did you mean big"),
        ("s.csv", "s,split\nnine,test\none,train\n", {"splits": "s.csv"}, "s.csv, line 2: there is no song 'nine'"),
        ("s.csv", "s,split\none,test\none,train\n", {"splits": "s.csv"}, "line 2: .* 'one' to 'test' and 'train'"),
        ("s.csv", "s,split\none,dev\n", {"splits": "s.csv"}, "line 2: .* 'one' to 'dev'"),
        ("s.csv", "", {"labels": None}, "labels: --table FILE .* or --labels FILE"),
        ("s.csv", "", {"columns": "artist=A"}, "give --table"),
        ("s.csv", "", {"data": None}, "--data DIR"),
        ("s.csv", "", {"data": Path("nowhere")}, "no folder nowhere"),
        ("s.csv", "", {"labels": "no.csv"}, "there is no file of labels: no.csv and no "),
        ("s.csv", "", {"table": "no.csv"}, "there is no table: no.csv"),
    ],
)
def test_what_is_wrong_beside_the_songs(keyed: Path, name: str, text: str, options: dict[str, Any], words: str) -> None:
    (keyed / name).write_text(text)
    with pytest.raises(RequestError, match=words):
        read(keyed, **{"labels": "labels.json:big", **options})


def test_one_key_for_two_songs(keyed: Path) -> None:
    songs(keyed, "other/one.mp3")
    with pytest.raises(RequestError, match=r"'one' may be 'one.mp3' or 'other/one.mp3'; name songs by their path"):
        read(keyed, labels="labels.json:big")


def test_a_folder_without_songs(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("song,label\na,x\n")
    with pytest.raises(RequestError, match="there is no song under"):
        read(tmp_path, labels="labels.csv")


def test_real_lakh_files(shared_data: Path) -> None:
    lakh = shared_data / "lakh"
    catalog = read(lakh / "midi", artists="../artists.tsv", labels="../midi_genre_map.json:topmagd")
    assert catalog.info.backbone == "pianoroll"
    assert catalog.info.notes == ("8 of 64 songs left out: midi_genre_map.json has no label for them",)
    artists = dict(zip(catalog.strings("song_id"), catalog.strings("artist_id"), strict=True))
    assert len(artists) == 56
    assert len(catalog) == 56 * 4
    assert len({artist for artist in artists.values() if artist}) == 13
    assert artists["024bdf7815ae8b97ac8cac959cce3c5f.mid"] == "The Beatles"
    known = set(json.loads((lakh / "midi_genre_map.json").read_text())["topmagd"])
    assert {song.removesuffix(".mid") for song in map(str, artists)} <= known


def test_real_recordings(shared_data: Path) -> None:
    lyrics = shared_data / "jamendo-lyrics"
    catalog = read(lyrics / "mp3", table=str(lyrics / "songs.csv"), columns="labels=genre")
    assert len(catalog) == 5
    assert catalog.info.backbone == "fcn"
    assert all((lyrics / "mp3" / str(path)).is_file() for path in catalog.strings("path"))
    artists = catalog.strings("artist_id")
    assert "YUANAN “J.A.R”" in artists
    assert sorted(catalog.column("labels").to_pylist()) == [["Folk"], ["Folk"], ["Hip-Hop"], ["Pop"], ["Reggae"]]


def test_various_artists_are_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A compilation's artist joins no songs; one that differs by case only is told."""
    songs(tmp_path, *(f"{i}.mp3" for i in range(5)))
    text = "file,artist,labels\n0.mp3,Various Artists,rock\n1.mp3,VARIOUS ARTISTS,rock\n2.mp3,,rock\n"
    catalog = read(tmp_path, text + "3.mp3,Abba,rock\n4.mp3,ABBA,rock\n")
    assert catalog.strings("artist_id") == ["ABBA", "Abba", None, None, None]
    assert sorted(filter(None, catalog.strings("artist_name"))) == [
        "ABBA",
        "Abba",
        "VARIOUS ARTISTS",
        "Various Artists",
    ]
    assert "('ABBA' and 'Abba' are the first)" in capsys.readouterr().err
    assert read(tmp_path, text, various="").strings("artist_id") == ["VARIOUS ARTISTS", "Various Artists", None]


def test_a_song_that_differs_by_case_only_is_named(tmp_path: Path) -> None:
    songs(tmp_path, "a.mp3")
    (tmp_path / "splits.csv").write_text("song,split\na.mp3,train\nA.mp3,test\n")
    with pytest.raises(RequestError, match=r"no song 'A\.mp3' \(there is 'a\.mp3': letters differ by case\)"):
        read(tmp_path, "file,artist,labels\na.mp3,x,rock\n", splits="splits.csv")


def test_names_that_differ_by_case_only_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    songs(tmp_path, "a.mp3", "sub dir/Über.mp3")
    rows = "a.mp3,x,rock\nA.mp3,x,Rock\nsub dir/über.mp3,x,rock\ngone.mp3,x,pop\n"
    read(tmp_path, "file,artist,labels\n" + rows)
    message = capsys.readouterr().err
    assert "3 files are not under" in message
    assert "('A.mp3' is the first; there is 'a.mp3': letters differ by case)" in message
    assert "1 label is written like another but for case, blanks, accents or punctuation ('Rock' and 'rock'" in message


def test_links_out_of_the_folder_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    midi(tmp_path / "out.mid", 60.0)
    midi(tmp_path / "in" / "a.mid", 60.0)
    (tmp_path / "in" / "b.mid").symlink_to(tmp_path / "out.mid")
    rows = read(tmp_path / "in", "file,artist,labels\na.mid,x,rock\nb.mid,x,rock\n").table.to_pylist()
    assert [row["song_id"] for row in rows] == ["a.mid"] * 4 + ["b.mid"]


def test_rows_that_repeat_a_clip_are_one(keyed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the labels of all of them, however its file and its stretch are spelled."""
    table = (
        "file,artist,labels,start_s\none.mp3,A,rock,1\n./one.mp3,,pop|rock,1.0\nsub/../one.mp3,A,,1\nfour.mp3,D,x,\n"
    )
    rows = by_clip(read(keyed, table))
    assert {clip: row["labels"] for clip, row in rows.items()} == {"one.mp3@1": ["rock", "pop"], "four.mp3": ["x"]}
    assert (
        "2 rows repeat the file and stretch of another row: one clip, with the labels of both"
        in capsys.readouterr().err
    )


def test_paths_that_windows_wrote(keyed: Path) -> None:
    """Unless a file is called so here."""
    table = "file,artist,labels\nsub\\two.mp3,A,rock\n.\\one.mp3,B,pop\nodd\\name.mp3,C,pop\n"
    (keyed / "odd\\name.mp3").touch()
    assert set(by_clip(read(keyed, table))) == {"sub/two.mp3", "one.mp3", "odd\\name.mp3"}


def test_songs_without_a_label_where_asked(keyed: Path) -> None:
    """From a table with empty cells, beside a file of labels, and where nothing is known of the songs at all."""
    table = read(keyed, "file,artist,labels\none.mp3,A,rock\nfour.mp3,D,\n", unlabelled=True)
    assert {clip: row["labels"] for clip, row in by_clip(table).items()} == {"one.mp3": ["rock"], "four.mp3": []}
    beside = by_clip(read(keyed, labels="labels.json:big", unlabelled=True))
    assert [beside[clip]["labels"] for clip in ("one.mp3", "four.mp3")] == [["rock"], []]
    alone = read(keyed, unlabelled=True)
    assert alone.column("labels").to_pylist() == [[]] * 4


def test_one_file_never_refuses_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a table every row stays; what is not read is told by kind, and encoding says why of each."""
    (tmp_path / "in").mkdir()
    for name in ("out.mp3", "in/a.mp3", "in/cover.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "in" / "link.mp3").symlink_to(tmp_path / "out.mp3")
    (tmp_path / "in" / "inner.mp3").symlink_to("a.mp3")
    names = ["a.mp3", "inner.mp3", "link.mp3", "cover.jpg", "gone.mp3", "../out.mp3", "zero\0.mp3"]
    text = "file,artist,labels\n" + "".join(f"{name},x,rock\n" for name in names)
    catalog = read(tmp_path / "in", text)
    assert sorted(catalog.strings("path")) == sorted(names)
    message = capsys.readouterr().err
    assert "1 file is there through links out of" in message
    assert "('link.mp3' is the first), and not followed; --follow-links" in message
    assert "1 file is of no format that is read ('cover.jpg' is the first)" in message
    assert "2 files are not under" in message
    assert "1 path leads out of" in message
    followed = read(tmp_path / "in", text, follow_links=True)
    assert followed.info.follow_links
    assert "through links" not in capsys.readouterr().err


def test_a_snapshot_of_links_says_what_it_is(tmp_path: Path) -> None:
    """As the cache of a hub lays a data set out: every file is a link out of the folder."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshots" / "0ab1").mkdir(parents=True)
    for i in range(3):
        (tmp_path / "blobs" / f"beef{i}").touch()
        (tmp_path / "snapshots" / "0ab1" / f"{i}.mp3").symlink_to(f"../../blobs/beef{i}")
    text = "file,artist,labels\n" + "".join(f"{i}.mp3,x,rock\n" for i in range(3))
    with pytest.raises(RequestError, match=r"3 files are there through links out of .* --follow-links follows them"):
        read(tmp_path / "snapshots" / "0ab1", text)
    assert len(read(tmp_path / "snapshots" / "0ab1", text, follow_links=True)) == 3


def linked(tmp_path: Path) -> Path:
    """A folder of songs, one linked folder within it, one out of it, and links that lead in circles."""
    root = tmp_path / "lib"
    songs(root, "rock/a.mp3", "rock/b.mp3", "notes.txt", "odd.xyz")
    songs(tmp_path / "nas", "n.mp3", "deep/m.mp3")
    (root / "jazz").symlink_to("../nas")
    (root / "again").symlink_to("rock")
    (root / "rock" / "up").symlink_to("..")
    (tmp_path / "nas" / "back").symlink_to(tmp_path / "nas")
    return root


def test_linked_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = linked(tmp_path)
    labels = "file,label\nrock/a,rock\njazz/n.mp3,jazz\njazz/deep/m,jazz\nodd,pop\ngone,pop\n"
    (root / "labels.csv").write_text(labels)
    catalog = Folder(data=root, labels="labels.csv", name="own", unlabelled=True).catalog()
    assert sorted(catalog.strings("path")) == ["again/a.mp3", "again/b.mp3", "rock/a.mp3", "rock/b.mp3"]
    message = capsys.readouterr().err
    assert "1 link to a folder out of" in message
    assert "not followed: 'jazz'; --follow-links" in message
    assert "2 more songs that are behind links that are not followed ('jazz/n.mp3' is the first)" in message
    assert "1 more song that is here, and of no format that is read ('odd' is the first)" in message
    assert "1 file is of no format that is read: 1 .xyz" in message
    assert "1 more song that is not here ('gone' is the first)" in message
    assert any("not followed: 'jazz'" in text for text in catalog.info.notes)
    followed = Folder(data=root, labels="labels.csv", name="own", follow_links=True).catalog()
    assert sorted(followed.strings("path")) == ["jazz/deep/m.mp3", "jazz/n.mp3", "rock/a.mp3"]


def test_names_that_are_no_text_are_left_out_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    songs(tmp_path, "a.mp3", "b.mp3")
    try:
        os.rename(tmp_path / "b.mp3", os.fsencode(tmp_path) + b"/mod\x85.mp3")
    except OSError:
        pytest.skip("this file system holds no names but UTF-8")
    os.mkdir(os.fsencode(tmp_path) + b"/\xff")
    catalog = Folder(data=tmp_path, name="own", unlabelled=True).catalog()
    assert catalog.strings("path") == ["a.mp3"]
    message = capsys.readouterr().err
    assert "2 files or folders are left out, because the name is not UTF-8; rename:" in message
    assert r"'mod\x85.mp3'" in message
    assert any("UTF-8" in text for text in catalog.info.notes)
    with pytest.raises(RequestError, match=r"the name of the folder .*\\xff is not UTF-8"):
        Folder(data=Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")), name="own", unlabelled=True).catalog()
