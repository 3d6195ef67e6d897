"""MTG-Jamendo: its official lists, in the layouts in which people have them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.embed.datasets.mtg import THESIS_GENRES, Mtg
from stages.head.open import from_catalog
from store.errors import RequestError
from store.schema import Catalog

HEADER = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS"


def line(song: int, *genres: str, artist: int = 1, length_s: float = 200.0) -> str:
    tags = "\t".join(f"genre---{genre}" for genre in genres)
    return f"track_{song:07d}\tartist_{artist:06d}\talbum_{artist:06d}\t{song % 100:02d}/{song}.mp3\t{length_s}\t{tags}"


def write_lists(folder: Path, train: list[str], validation: list[str], test: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for side, lines in (("train", train), ("validation", validation), ("test", test)):
        (folder / f"autotagging_genre-{side}.tsv").write_text("\n".join([HEADER, *lines]) + "\n")
    return folder


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    return write_lists(
        tmp_path,
        [line(141, "rock", "metal"), line(142, "metal")],
        [line(243, "pop", artist=2, length_s=20.5)],
        [line(344, "jazz", "rock", artist=3)],
    )


def test_a_song_is_one_clip_with_its_official_ids(lists: Path) -> None:
    rows = {row["clip_id"]: row for row in Mtg(data=lists, genres="all").catalog().table.to_pylist()}
    assert list(rows) == ["track_0000141", "track_0000142", "track_0000243", "track_0000344"]
    first = rows["track_0000141"]
    assert first["song_id"] == "track_0000141"
    assert (first["artist_id"], first["album_id"], first["path"]) == ("artist_000001", "album_000001", "41/141.mp3")
    assert first["labels"] == ["rock", "metal"]
    assert first["start_s"] is None
    assert [row["split_official"] for row in rows.values()] == ["train", "train", "validation", "test"]


def test_the_thesis_keeps_songs_and_labels_of_its_genres(lists: Path) -> None:
    catalog = Mtg(data=lists).catalog()
    assert catalog.column("labels").to_pylist() == [["rock"], ["pop"], ["jazz", "rock"]]
    assert len(THESIS_GENRES) == 15


def test_an_excerpt_is_the_middle_of_the_song(lists: Path) -> None:
    catalog = Mtg(data=lists, excerpt="30s").catalog()
    assert catalog.column("start_s").to_pylist() == [85.0, 0.0, 85.0]
    assert set(catalog.column("duration_s").to_pylist()) == {30.0}


def test_every_split_of_the_repository_is_found(tmp_path: Path) -> None:
    for number in range(5):
        write_lists(tmp_path / f"data/splits/split-{number}", [line(100 + number, "rock")], [], [])
    for number in range(5):
        assert Mtg(data=tmp_path, split=number).catalog().strings("song_id") == [f"track_{100 + number:07d}"]
    assert Mtg(data=tmp_path).catalog().strings("song_id") == ["track_0000100"]
    assert Mtg(data=tmp_path / "data/splits/split-3", split=3).catalog().info.version.startswith("split-3")


def test_lists_alone_do_not_say_which_split_they_are(lists: Path) -> None:
    with pytest.raises(RequestError, match="leave out --split"):
        Mtg(data=lists, split=3).catalog()


@pytest.mark.parametrize("on_disk", ["41/141.mp3", "41/141.low.mp3", "audio/41/141.mp3", "audio/41/141.low.mp3"])
def test_songs_are_found_as_the_disk_names_them(lists: Path, on_disk: str) -> None:
    (lists / on_disk).parent.mkdir(parents=True)
    (lists / on_disk).touch()
    paths = Mtg(data=lists).catalog().strings("path")
    assert paths[0] == on_disk
    assert paths[1] == on_disk.replace("41/141", "43/243")


def test_songs_may_lie_elsewhere(lists: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "another disk"
    (elsewhere / "41").mkdir(parents=True)
    (elsewhere / "41/141.low.mp3").touch()
    catalog = Mtg(data=lists, audio=elsewhere).catalog()
    assert catalog.info.data_root == str(elsewhere)
    assert catalog.strings("path")[0] == "41/141.low.mp3"


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("track_0000150\tartist_000001\talbum_000001\t50/150.mp3", "line 3: 4 columns"),
        (line(150, "rock").replace("200.0", "long"), "line 3: DURATION is 'long'"),
        (line(150, "rock").replace("50/150", "../150"), r"line 3: PATH is '\.\./150\.mp3'"),
        (line(150, "rock").replace("artist_000001", ""), "line 3: ARTIST_ID is ''"),
        (line(150, "rock").replace("genre---", "mood/theme---"), "line 3: TAGS is"),
        (line(150), "line 3: TAGS is ''"),
        ("", "line 3: TRACK_ID"),
        (line(141, "rock"), "line 3: track_0000141 stands in autotagging_genre-train.tsv, line 2"),
        (line(344, "rock"), r"test.tsv, line 2: track_0000344 stands in autotagging_genre-train.tsv, line 3"),
    ],
)
def test_a_line_that_no_official_list_has(lists: Path, bad: str, words: str) -> None:
    (lists / "autotagging_genre-train.tsv").write_text("\n".join([HEADER, line(141, "rock"), bad]) + "\n")
    with pytest.raises(RequestError, match=words):
        Mtg(data=lists).catalog()


def test_a_missing_column_is_named(lists: Path) -> None:
    (lists / "autotagging_genre-test.tsv").write_text(HEADER.replace("ALBUM_ID\t", "") + "\n")
    with pytest.raises(RequestError, match=r"test\.tsv, line 1: the header lacks ALBUM_ID"):
        Mtg(data=lists).catalog()


def test_a_list_in_another_encoding(lists: Path) -> None:
    (lists / "autotagging_genre-test.tsv").write_bytes(HEADER.encode("utf-16"))
    with pytest.raises(RequestError, match=r"test\.tsv cannot be read"):
        Mtg(data=lists).catalog()


def test_absent_files_are_named_with_where_they_come_from(lists: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (lists / "autotagging_genre-test.tsv").unlink()
    for data in (None, tmp_path / "empty", lists):
        with pytest.raises(RequestError, match=r"autotagging_genre-.*MTG/mtg-jamendo-dataset"):
            Mtg(data=data).catalog()


def test_choices_are_checked() -> None:
    with pytest.raises(RequestError, match="Did you mean thesis"):
        Mtg(genres="thesi")
    with pytest.raises(RequestError, match="30s, full"):
        Mtg(excerpt="10s")
    with pytest.raises(RequestError, match="0 to 4"):
        Mtg(split=5)
    with pytest.raises(RequestError, match="not a folder"):
        Mtg(audio=Path("nowhere"))


@cache
def official(folder: Path, **options: Any) -> Catalog:
    """The catalog of the official lists, read once for all tests."""
    return Mtg(data=folder, **options).catalog()


@pytest.mark.parametrize(
    ("genres", "songs", "artists", "labels"), [("all", 55_094, 3_546, 87), ("thesis", 48_590, 3_297, 15)]
)
def test_the_official_lists(shared_data: Path, genres: str, songs: int, artists: int, labels: int) -> None:
    catalog = official(shared_data / "mtg-jamendo", genres=genres)
    assert len(catalog) == songs
    assert len(set(catalog.strings("artist_id"))) == artists
    assert len({label for each in catalog.column("labels").to_pylist() for label in each}) == labels
    sides: dict[str, set[str]] = {}
    for artist, side in zip(catalog.strings("artist_id"), catalog.strings("split_official"), strict=True):
        sides.setdefault(str(side), set()).add(str(artist))
    assert sum(map(len, sides.values())) == artists  # no artist on two sides


@pytest.mark.parametrize("number", range(5))
def test_no_official_split_shares_an_artist(shared_data: Path, number: int) -> None:
    """Every split whose lists are at hand, in the repository's layout; bare lists are those of split 0."""
    repository = shared_data / "mtg-jamendo"
    is_there = (repository / f"data/splits/split-{number}").is_dir()
    if not is_there and number:
        pytest.skip(f"the lists of split-{number} are not at hand")
    data = from_catalog(official(repository, genres="all", **({"split": number} if is_there else {})))
    assert len(data) == 55_094
    shared = data.overlap(data.split("official", 0))["shared"]
    assert shared == {pair: {"songs": 0, "albums": 0, "artists": 0} for pair in shared}


@pytest.mark.parametrize(
    ("subset", "name", "tags", "labels"),
    [
        ("instrument", "instrument", "instrument---piano\tinstrument---bass", ["piano", "bass"]),
        ("mood", "moodtheme", "mood/theme---happy", ["happy"]),
        ("top50", "top50tags", "genre---rock\tmood/theme---happy", ["genre---rock", "mood/theme---happy"]),
    ],
)
def test_other_subsets_in_all_five_splits(tmp_path: Path, subset: str, name: str, tags: str, labels: list[str]) -> None:
    for number in range(5):
        folder = tmp_path / f"data/splits/split-{number}"
        folder.mkdir(parents=True)
        for i, side in enumerate(("train", "validation", "test")):
            text = line(100 * number + i, "x", artist=i).replace("genre---x", tags)
            (folder / f"autotagging_{name}-{side}.tsv").write_text(f"{HEADER}\n{text}\n")
    for number in range(5):
        catalog = Mtg(data=tmp_path, subset=subset, split=number).catalog()
        assert catalog.column("labels").to_pylist() == [labels] * 3
        assert catalog.strings("split_official") == ["train", "validation", "test"]
    other = "genre---rock" if subset != "top50" else "language---none"
    (tmp_path / f"data/splits/split-0/autotagging_{name}-test.tsv").write_text(
        f"{HEADER}\n{line(9, 'x').replace('genre---x', other)}\n"
    )
    with pytest.raises(RequestError, match="line 2: TAGS is"):
        Mtg(data=tmp_path, subset=subset).catalog()
    with pytest.raises(RequestError, match="leave it out with --subset"):
        Mtg(subset=subset, genres="all")


def test_songs_without_one_of_the_genres_where_asked(lists: Path) -> None:
    songs = Mtg(data=lists, unlabelled=True).catalog()
    assert songs.strings("song_id") == ["track_0000141", "track_0000142", "track_0000243", "track_0000344"]
    assert songs.column("labels").to_pylist() == [["rock"], [], ["pop"], ["jazz", "rock"]]
    assert songs.strings("split_official") == ["train", "train", "validation", "test"]


def test_the_thesis_songs_for_pre_training(shared_data: Path) -> None:
    """Those outside its 15 genres stand beside the 48,590 and change nothing for heads."""
    songs = from_catalog(Mtg(data=shared_data / "mtg-jamendo", unlabelled=True).catalog())
    assert (len(songs), songs.left_out["without labels"]) == (48_590, 55_094 - 48_590)
    plain = from_catalog(official(shared_data / "mtg-jamendo", genres="thesis"))
    np.testing.assert_array_equal(songs.split("artist", 0), plain.split("artist", 0))
