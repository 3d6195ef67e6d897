"""What `tests.plague` writes passes through every command: each song is encoded, or counted under its true reason."""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from store.layout import Store
from tests import plague
from tests.pipeline.conftest import Encore
from tests.plague import SONGS, Song

_COLUMNS = "file=Path,artist=Artist Name(s),labels=Genre,targets=BPM"
_NO_FILES = ("folder", "gone", "picture")  # what stands in the table, and is no song in the folder
_QUICK = ("--backbone", "mfcc", "--set", "window_s=2")


@dataclass(frozen=True)
class Collection:
    encore: Encore
    folder: Path
    songs: list[Song]
    report: dict[str, Any]
    notes: str


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    folder = tmp_path_factory.mktemp("plague")
    songs = plague.write(folder)
    encore = Encore(folder / "stores")
    table = ("--table", folder / "songs.csv", "--columns", _COLUMNS, "--unlabelled")
    ran = encore("embed", "folder", "--data", folder / "songs", "--name", "own", *table, *_QUICK, "--json")
    return Collection(encore, folder, songs, ran.json, ran.err)


def test_every_song_is_encoded_or_counted_by_its_reason(collection: Collection) -> None:
    fates = Counter(song.fate for song in collection.songs)
    assert collection.report["encoded"] == fates.pop("encoded")
    assert collection.report["failed"] == fates
    assert collection.report["encoded"] + sum(collection.report["failed"].values()) == SONGS
    assert collection.report["noted"] == {"truncated": sum(song.remark == "truncated" for song in collection.songs)}


def test_every_failure_is_listed_by_its_file(collection: Collection) -> None:
    clips = collection.encore("store", "show", "own", "--failures", "--json").json["clips"]
    kinds = {clip["clip_id"]: clip["kind"] for clip in clips}
    strange = {
        song.path: song.remark or song.fate for song in collection.songs if song.remark or song.fate != "encoded"
    }
    assert kinds == strange


def test_cells_say_what_people_mean(collection: Collection) -> None:
    catalog = Store(collection.encore.store).read_catalog("own").table.to_pylist()
    rows = {row["song_id"]: row for row in catalog}
    assert len(catalog) == SONGS
    for number, song in enumerate(collection.songs):
        row = rows[song.path]
        others = row["other_artist_ids"] or []
        assert tuple(name for name in (row["artist_id"], *others) if name) == song.artists
        assert tuple(row["labels"]) == song.labels
        assert dict(row["targets"]) == {"BPM": 10.5 + number % 10}
    music = {song.path: song.copy_of for song in collection.songs if song.fate == "encoded"}
    recordings = {path: rows[path]["recording_id"] for path in music}
    assert all(recordings[path] == recordings[original] for path, original in music.items() if original)
    assert len(set(recordings.values()) - {None}) == sum(original is not None for original in music.values())


def test_audit_counts_the_songs_that_have_labels(collection: Collection) -> None:
    audit = collection.encore("audit", "own", "--json").json
    labelled = [song for song in collection.songs if song.labels]
    assert audit["songs"] == len(labelled)
    assert audit["artists"] == len({song.artists[0] for song in labelled if song.artists})
    for name in ("random", "artist"):
        shared = audit["regimes"][name]["shared"].values()
        assert {sides["recordings"] for sides in shared} == {0}
    assert {sides["any_artist"] for sides in audit["regimes"]["artist"]["shared"].values()} == {0}


def test_heads_are_compared(collection: Collection) -> None:
    args = ("compare", "own", "--modes", "song,gnn", "--set", "epochs=2", "--seeds", 1, "--json")
    rows = collection.encore(*args).json
    assert [row["mode"] for row in rows] == ["song", "gnn"]
    assert all(0 <= row["metrics"]["accuracy"]["mean"] <= 1 for row in rows)


@pytest.mark.parametrize("source", ["a table", "folders"])
def test_a_head_answers_for_every_song_or_says_why_not(collection: Collection, source: str) -> None:
    """Of a table, for each of its rows; of a folder, for what lies there and is called as songs are."""
    collection.encore("head", "own", "--mode", "song", "--set", "epochs=2", "--json")
    root = collection.folder / "songs"
    artists = ("--table", collection.folder / "songs.csv", "--columns", _COLUMNS.rpartition(",targets")[0])
    ran = collection.encore(
        *("predict", root, "--head", "own/song", "--json"), *(artists if source == "a table" else ()), code=1
    )
    songs = {
        unicodedata.normalize("NFC", Path(song["file"]).relative_to(root).as_posix()) for song in ran.json["songs"]
    }
    reasons = {
        unicodedata.normalize("NFC", Path(file).relative_to(root).as_posix()): reason
        for file, reason in ran.json["failures"].items()
    }
    candidates = [song for song in collection.songs if source == "a table" or plague.kind(song) not in _NO_FILES]
    assert len(songs) + len(reasons) == len(candidates)
    assert songs == {song.path for song in candidates if song.fate in ("encoded", "not-followed")}  # links of one's own
    fates = Counter(reason.partition(":")[0] for reason in reasons.values())
    assert fates == Counter(song.fate for song in candidates if song.path not in songs)
    assert {song["artist"] for song in ran.json["songs"]} <= {None, *(s.artists[0] for s in candidates if s.artists)}


def test_a_folder_without_a_table(collection: Collection) -> None:
    """Every file is encoded, failed, or left out with its count in a note; none refuses the others."""
    plague.write_strays(collection.folder)
    beside = ("--labels", collection.folder / "labels.json", "--artists", collection.folder / "artists.json")
    args = ("embed", "folder", "--data", collection.folder / "songs", "--name", "files", *beside, *_QUICK, "--json")
    ran = collection.encore(*args)
    absent = [song for song in collection.songs if plague.kind(song) in ("folder", "gone")]
    pictures = [song for song in collection.songs if plague.kind(song) == "picture"]
    here = [song for song in collection.songs if song not in absent and song not in pictures]
    unlabelled = sum(not song.labels for song in here)
    fates = Counter(song.fate for song in here if song.labels)
    assert ran.json["encoded"] == fates.pop("encoded")
    assert ran.json["failed"] == fates
    assert ran.json["clips"] + unlabelled + len(absent) + len(pictures) == SONGS
    for note in (
        f"{unlabelled} of {len(here)} songs left out: labels.json has no label for them",
        f"{len(pictures) + 1} files are of no format that is read: {len(pictures) + 1} .jpg",
        f"labels for {sum(bool(song.labels) for song in absent)} more songs that are not here",
        f"labels for {sum(bool(song.labels) for song in pictures)} more songs that are here, and of no format",
        "1 file or folder is left out, because the name is not UTF-8; rename: 'caf\\xe9.wav'",
        "1 link to a folder out of",
    ):
        assert note in ran.err
