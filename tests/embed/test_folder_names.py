"""Names of files that differ by case or are no text, links, and folders without songs."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from stages.embed.datasets.folder import Folder
from store.errors import RequestError
from tests.embed.folders import midi, read, songs


@pytest.mark.parametrize(("on_disk", "in_table"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_accented_names_are_found_however_they_are_spelled(tmp_path: Path, on_disk: str, in_table: str) -> None:
    name = "Séculaire Nÿme.mp3"
    spelled = unicodedata.normalize(on_disk, name)
    songs(tmp_path, spelled)
    text = f"\ufefffile,artist,labels\n{unicodedata.normalize(in_table, name)},A,x\n"
    catalog = read(tmp_path, text)
    assert catalog.strings("path") == [spelled]
    assert catalog.strings("song_id") == [unicodedata.normalize("NFC", name)]


def test_absent_files_and_paths_within_the_folder(tmp_path: Path) -> None:
    songs(tmp_path, "a.mp3", "sub/b.mp3")
    text = f"file,artist,labels\nsub/../a.mp3,A,x\n{tmp_path}/sub/b.mp3,A,x\ngone.mp3,A,x\n"
    assert read(tmp_path, text).strings("path") == ["a.mp3", "gone.mp3", "sub/b.mp3"]


def test_a_folder_without_songs(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("song,label\na,x\n")
    with pytest.raises(RequestError, match="there is no song under"):
        read(tmp_path, labels="labels.csv")


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
