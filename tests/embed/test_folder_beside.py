"""Labels, artists and splits in files beside the songs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from store.errors import RequestError
from tests.embed.folders import by_clip, read, songs


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
