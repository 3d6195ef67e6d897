"""FMA: its official tracks.csv with three header rows, and the official folders."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest

from stages.embed.datasets.fma import BROKEN, Fma
from store.errors import RequestError

FIELDS = [
    *(("album", "comments"), ("album", "id"), ("artist", "bio"), ("artist", "id"), ("artist", "name")),
    *(("set", "split"), ("set", "subset"), ("track", "genre_top"), ("track", "genres"), ("track", "title")),
]
GENRES = "genre_id,#tracks,parent,title,top_level\n12,1,0,Rock,12\n25,1,12,Punk,12\n21,1,0,Hip-Hop,21\n"


def song(id_: int, **changed: str) -> dict[str, str]:
    row = {
        "track_id": str(id_),
        "album.comments": "0",
        "album.id": "7",
        "artist.bio": "Two\nlines, and a comma",
        "artist.id": "3",
        "artist.name": "Bañera",
        "set.split": "training",
        "set.subset": "small",
        "track.genre_top": "Rock",
        "track.genres": "[25]",
        "track.title": 'A "title"',
    }
    return row | {key.replace("__", "."): value for key, value in changed.items()}


def write(data: Path, *songs: dict[str, str], drop: str = "") -> Path:
    folder = data / "fma_metadata"
    folder.mkdir(parents=True, exist_ok=True)
    fields = [field for field in FIELDS if ".".join(field) != drop]
    with (folder / "tracks.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["", *(group for group, _ in fields)])
        writer.writerow(["", *(name for _, name in fields)])
        writer.writerow(["track_id", *("" for _ in fields)])
        writer.writerows([row["track_id"], *(row[".".join(field)] for field in fields)] for row in songs)
    (folder / "genres.csv").write_text(GENRES)
    return data


def rows(data: Path, **options: Any) -> dict[str, dict[str, Any]]:
    return {row["song_id"]: row for row in Fma(data=data, **options).catalog().table.to_pylist()}


def test_the_first_songs_of_the_official_file(shared_data: Path, tmp_path: Path) -> None:
    shutil.copy(shared_data / "fma" / "tracks_first_rows.csv", tmp_path / "tracks.csv")
    small = rows(tmp_path)
    assert len(small) == 58
    first = small["2"]
    assert (first["artist_id"], first["artist_name"], first["album_id"]) == ("1", "AWOL", "1")
    assert (first["title"], first["labels"], first["split_official"]) == ("Food", ["Hip-Hop"], "train")
    assert first["path"] == "fma_small/000/000002.mp3"
    assert {len(row["labels"]) for row in small.values()} == {1}
    assert len(rows(tmp_path, subset="medium")) == 58 + 136
    large = Fma(data=tmp_path, subset="large").catalog()
    assert len(large) == 682 - 51
    assert "51 songs left out: the collection gives them no top genre" in large.info.notes[0]
    assert large.strings("album_id").count("-1") == 0
    sides: dict[str, set[str]] = {}
    for artist, side in zip(large.strings("artist_id"), large.strings("split_official"), strict=True):
        sides.setdefault(str(side), set()).add(str(artist))
    assert set(sides) == {"train", "validation", "test"}
    assert sum(map(len, sides.values())) == len(set.union(*sides.values()))  # no artist on two sides
    assert large.info.notes[1] == "tracks.csv names 682 songs of --subset large, and the official file 106,574"


def test_genres_by_the_hierarchy(tmp_path: Path) -> None:
    write(tmp_path, song(5, track__genres="[25, 21, 12]", track__genre_top=""), song(6))
    assert list(rows(tmp_path)) == ["6"]
    assert rows(tmp_path, genres="roots")["5"]["labels"] == ["Rock", "Hip-Hop"]
    assert rows(tmp_path, genres="all")["5"]["labels"] == ["Punk", "Hip-Hop", "Rock"]


def test_broken_clips_are_left_out_and_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, song(98565), song(133297), song(133298))
    catalog = Fma(data=tmp_path).catalog()
    assert catalog.strings("song_id") == ["133298"]
    assert "2 songs left out" in capsys.readouterr().err
    assert catalog.info.notes[0].endswith(": 98565, 133297")
    assert len(BROKEN) == 21


def test_an_artist_that_is_nobody(tmp_path: Path) -> None:
    write(tmp_path, song(1, artist__name="various  ARTISTS".replace("  ", " ")), song(2, artist__id=""), song(3))
    songs = rows(tmp_path)
    assert [songs[key]["artist_id"] for key in "123"] == [None, None, "3"]
    assert songs["1"]["artist_name"] == "various ARTISTS"
    assert rows(tmp_path, various="Bañera")["3"]["artist_id"] is None
    assert rows(tmp_path, various="Bañera")["1"]["artist_id"] == "3"


@pytest.mark.parametrize(
    ("on_disk", "subset", "path"),
    [
        ("fma_small/000", "small", "fma_small/000/000005.mp3"),
        ("fma_large/000", "small", "fma_large/000/000005.mp3"),
        ("fma_small/000", "medium", "fma_medium/000/000005.mp3"),
        ("fma_full/000", "small", "fma_full/000/000005.mp3"),
        ("000", "small", "000/000005.mp3"),
    ],
)
def test_songs_in_any_archive_that_holds_them(tmp_path: Path, on_disk: str, subset: str, path: str) -> None:
    (write(tmp_path, song(5)) / on_disk).mkdir(parents=True)
    assert rows(tmp_path, subset=subset)["5"]["path"] == path


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (song(2, set__split="train"), r"line 6: set.split is 'train'"),
        (song(2, set__subset="tiny"), r"line 6: set.subset is 'tiny'"),
        (song(1), r"line 6: song 1 stands in .*line 4 already"),
        (song(2) | {"track_id": "../2"}, r"line 6: track_id is '\.\./2'"),
        (song(2, track__genres="21"), r"line 6: track.genres is '21'"),
        (song(2, track__genres="[99]"), r"line 6: genre 99 does not stand in .*genres\.csv"),
    ],
)
def test_what_no_official_file_has(tmp_path: Path, bad: dict[str, str], words: str) -> None:
    write(tmp_path, song(1), bad)
    with pytest.raises(RequestError, match=words):
        Fma(data=tmp_path, genres="all").catalog()


def test_another_release_and_absent_files(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"no tracks\.csv in .*fma_metadata\.zip"):
        Fma(data=tmp_path).catalog()
    with pytest.raises(RequestError, match="--data DIR"):
        Fma().catalog()
    write(tmp_path, song(1), drop="set.subset")
    with pytest.raises(RequestError, match=r"not the tracks\.csv of FMA's release of 2017: it lacks set\.subset"):
        Fma(data=tmp_path).catalog()
    (tmp_path / "fma_metadata/tracks.csv").write_text("track_id,title\n1,x\n2,y\n")
    with pytest.raises(RequestError, match="release of 2017"):
        Fma(data=tmp_path).catalog()
    (tmp_path / "fma_metadata/tracks.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(RequestError, match="cannot be read"):
        Fma(data=tmp_path).catalog()
    with pytest.raises(RequestError, match="Did you mean small"):
        Fma(subset="smal")
    with pytest.raises(RequestError, match="all, roots, top"):
        Fma(genres="some")


def test_songs_without_a_genre_where_asked(tmp_path: Path) -> None:
    write(tmp_path, song(5, track__genre_top=""), song(6), song(1486, track__genre_top=""))
    songs = Fma(data=tmp_path, unlabelled=True).catalog()
    assert {row["song_id"]: row["labels"] for row in songs.table.to_pylist()} == {"5": [], "6": ["Rock"]}
    assert not any("no top genre" in text for text in songs.info.notes)
    write(tmp_path, song(5, track__genre_top=""))
    with pytest.raises(RequestError, match="that has a genre"):
        Fma(data=tmp_path, unlabelled=True).catalog()
