"""A music library without a table: tags of small generated files, and what renaming, moving and tagging change."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from stages.embed import scan as _scan
from stages.embed.catalogs import mark_sources, open_catalog
from stages.embed.content import audio_mark
from stages.embed.datasets.library import Library
from stages.embed.tags import read_tags
from store.errors import RequestError
from store.layout import Store
from store.merge import merge
from store.schema import Catalog

ABBA = "d87e52c5-bb8d-4da8-b941-9f4928627dc8"
QUEEN = "0383dadf-2a4e-4d10-a46a-e9e041da8eb3"
VARIOUS = "89ad4ac3-39f7-470e-9410-963566e08709"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def record(path: Path, seed: int, seconds: float = 0.3) -> Path:
    """A short recording of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = 0.1 * np.random.default_rng(seed).standard_normal(int(seconds * 44_100))
    soundfile.write(path, noise, 44_100)
    return path


def tag(path: Path, **tags: Any) -> Path:
    """ID3 frames for an MP3, WAV or AIFF (``TXXX_name`` for user text), comments or atoms for other formats."""
    import mutagen
    from mutagen import id3

    file: Any = mutagen.File(path)
    if file.tags is None:
        file.add_tags()
    for name, value in tags.items():
        if not isinstance(file.tags, id3.ID3):
            file.tags[name] = value
        elif name.startswith("TXXX_"):
            file.tags.add(id3.TXXX(encoding=3, desc=name[5:], text=value))
        else:
            file.tags.add(id3.Frames[name](encoding=3, text=value))
    file.save()
    return path


def song(root: Path, name: str, seed: int, artist: Any = "A", genre: Any = "Rock", **tags: Any) -> Path:
    frames = {"TPE1": artist, "TCON": genre, **tags}
    return tag(record(root / name, seed), **{key: value for key, value in frames.items() if value is not None})


def read(root: Path, **options: Any) -> Catalog:
    return Library(**{"data": root, "name": "mine", **options}).catalog()


def by_path(catalog: Catalog) -> dict[str, dict[str, Any]]:
    return {row["path"]: row for row in catalog.table.to_pylist()}


@pytest.mark.parametrize(
    ("name", "tags"),
    [
        ("a.mp3", {"TPE1": "A", "TALB": "First", "TIT2": "One", "TDRC": "1999-05-01", "TRCK": "3/12", "TCON": "(17)"}),
        ("a.wav", {"TPE1": "A", "TALB": "First", "TIT2": "One", "TDRC": "1999", "TRCK": "03", "TCON": "Rock"}),
        (
            "a.flac",
            {"artist": "A", "album": "First", "title": "One", "date": "1999", "tracknumber": "3", "genre": "Rock"},
        ),
        ("a.ogg", {"ARTIST": "A", "ALBUM": "First", "TITLE": "One", "DATE": "1999", "TRACKNUMBER": "3", "GENRE": "17"}),
    ],
)
def test_tags_of_every_format_say_the_same(tmp_path: Path, name: str, tags: dict[str, str]) -> None:
    tags_ = read_tags(tag(record(tmp_path / name, 0), **tags))
    assert (tags_.artist, tags_.album, tags_.title, tags_.year, tags_.track) == (("A",), "First", "One", 1999, 3)
    assert tags_.genre == ("Rock",)
    assert not tags_.broken


def test_a_song_is_a_row(tmp_path: Path) -> None:
    song(
        tmp_path,
        "sub/a.mp3",
        0,
        "A feat. B",
        ["Rock;Pop / Blues", "Jazz"],
        TALB="Hits",
        TIT2="None",
        TDRC="1999",
        TXXX_replaygain_track_gain="-6.20 dB",
    )
    (row,) = read(tmp_path).table.to_pylist()
    assert (row["artist_id"], row["artist_name"], row["other_artist_ids"]) == ("A", "A", ["B"])
    assert row["labels"] == ["Rock", "Pop", "Blues", "Jazz"]
    assert (row["title"], row["album_id"]) == ("None", "A / Hits")
    assert dict(row["targets"]) == {"year": 1999.0, "replaygain_db": -6.2}


@pytest.mark.parametrize(
    ("tags", "artist", "others", "album"),
    [
        ({"TPE1": ["A", "B"]}, "A", ["B"], "A / Hits"),
        ({"TPE1": "A\0B"}, "A", ["B"], "A / Hits"),
        ({"TPE1": "A; B (feat. C)"}, "A", ["B", "C"], "A / Hits"),
        ({"TPE1": "AC/DC"}, "AC/DC", None, "AC/DC / Hits"),
        ({"TPE1": "Earth, Wind & Fire"}, "Earth, Wind & Fire", None, "Earth, Wind & Fire / Hits"),
        ({"TPE1": "A & B", "TXXX_ARTISTS": ["A", "B"]}, "A", ["B"], "A / Hits"),
        ({"TPE1": "A & B", "TPE2": "A"}, "A", ["B"], "A / Hits"),
        ({"TPE1": "Abba", "TPE2": "A"}, "Abba", None, "A / Hits"),
        ({"TPE2": "A"}, "A", None, "A / Hits"),
        ({"TPE1": "B", "TPE2": "Various Artists"}, "B", None, "Various Artists / Hits"),
        ({"TPE2": "various artists"}, None, None, "Various Artists / Hits"),
        ({"TPE1": "B", "TCMP": "1"}, "B", None, "Various Artists / Hits"),
        ({"TPE1": "Abba", "TXXX_MusicBrainz Artist Id": ABBA}, ABBA, None, "Abba / Hits"),
        ({"TPE1": "Abba & Queen", "TXXX_MusicBrainz Artist Id": [ABBA, QUEEN]}, ABBA, [QUEEN], "Abba & Queen / Hits"),
        ({"TPE1": "Abba", "TXXX_MusicBrainz Artist Id": "no id"}, "Abba", None, "Abba / Hits"),
        ({"TPE1": "Abba; Queen", "TXXX_MusicBrainz Artist Id": ABBA}, ABBA, ["Queen"], "Abba / Hits"),
        ({"TPE1": "A (feat. B)", "TPE2": "A"}, "A", ["B"], "A / Hits"),
        ({"TPE1": "A (with B)", "TPE2": "A"}, "A", ["B"], "A / Hits"),
        ({"TPE1": "A [With. B]", "TPE2": "A"}, "A", ["B"], "A / Hits"),
        ({"TPE1": "A (B)", "TPE2": "A"}, "A", ["B"], "A / Hits"),
        ({"TPE1": "A & B (UK)", "TPE2": "A"}, "A", ["B (UK)"], "A / Hits"),
        ({"TPE1": "A x X", "TPE2": "A"}, "A", ["X"], "A / Hits"),
        (
            {"TPE1": "Abba & Diverse", "TXXX_MusicBrainz Artist Id": [ABBA, VARIOUS]},
            ABBA,
            None,
            "Abba & Diverse / Hits",
        ),
    ],
)
def test_who_made_it(tmp_path: Path, tags: dict[str, Any], artist: str | None, others: Any, album: str) -> None:
    song(tmp_path, "a.mp3", 0, None, TALB="Hits", **tags)
    (row,) = read(tmp_path).table.to_pylist()
    assert (row["artist_id"], row["other_artist_ids"], row["album_id"]) == (artist, others, album)


def test_a_name_stands_for_the_identifier_that_it_has_elsewhere(tmp_path: Path) -> None:
    song(tmp_path, "a.mp3", 0, "Abba", **{"TXXX_MusicBrainz Artist Id": ABBA})
    song(tmp_path, "b.mp3", 1, "Queen; Abba")
    rows = by_path(read(tmp_path))
    assert rows["a.mp3"]["artist_id"] == ABBA
    assert (rows["b.mp3"]["artist_id"], rows["b.mp3"]["other_artist_ids"]) == ("Queen", [ABBA])


def test_a_name_of_two_artists_stands_for_neither(tmp_path: Path) -> None:
    for number, artist in enumerate((ABBA, QUEEN, None)):
        ids = {} if artist is None else {"TXXX_MusicBrainz Artist Id": artist}
        song(tmp_path, f"{number}.mp3", number, "Nirvana", **ids)
    rows = by_path(read(tmp_path))
    assert [rows[f"{number}.mp3"]["artist_id"] for number in range(3)] == [ABBA, QUEEN, "Nirvana"]


def test_genres_can_be_given_names_of_ones_own(tmp_path: Path) -> None:
    song(tmp_path, "a.mp3", 0, genre="Hip-Hop/Rap")
    song(tmp_path, "b.mp3", 1, genre="hip hop;Other")
    (tmp_path / "map.csv").write_text("genre,label\nHIP HOP,rap|urban\nRap,rap\nOther,\n")
    rows = by_path(read(tmp_path, genre_map="map.csv"))
    assert {path: row["labels"] for path, row in rows.items()} == {"a.mp3": ["rap", "urban"], "b.mp3": ["rap", "urban"]}


def test_options_hold_the_next_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a library was read with needs to be said once; it ends where it is said."""
    root, elsewhere, store = tmp_path / "music", tmp_path / "elsewhere", Store("memory://remembered")
    song(root, "a.wav", 1, genre="Rock & Roll")
    song(root, "b.wav", 2, genre="Techno")
    song(elsewhere, "c.wav", 3, genre="Rock & Roll")
    (root / "linked").symlink_to(elsewhere)
    (tmp_path / "genres.csv").write_text("genre,label\nrock & roll,rock\n")

    def labels(**options: Any) -> dict[str, list[str]]:
        catalog = mark_sources(open_catalog("library", {"data": root, "name": "mine", **options}, store))
        store.write_catalog(catalog)
        return {path: row["labels"] for path, row in by_path(catalog).items()}

    mapping = str(tmp_path / "genres.csv")
    first = labels(genre_map=mapping, follow_links=True)
    assert first == {"a.wav": ["rock"], "b.wav": ["Techno"], "linked/c.wav": ["rock"]}
    assert "as before" not in capsys.readouterr().err
    assert labels() == labels(merge_spellings=True) == first
    said = capsys.readouterr().err
    assert f"mine is read with --genre-map {mapping}, --follow-links, as before" in said
    assert "to read it without: --genre-map '', --no-follow-links" in said
    assert set(labels(follow_links=False)) == {"a.wav", "b.wav"}
    assert labels(genre_map="") == {"a.wav": ["Rock & Roll"], "b.wav": ["Techno"]}
    capsys.readouterr()
    labels()
    said = capsys.readouterr().err
    assert "--merge-spellings, as before" in said
    assert "--genre-map" not in said


def test_a_library_of_links_out_of_it_says_what_follows_them(tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "a.wav").symlink_to(song(tmp_path, "elsewhere/a.wav", 1))
    with pytest.raises(RequestError, match="links out of this folder, which --follow-links follows"):
        read(tmp_path / "music")
    assert len(read(tmp_path / "music", follow_links=True)) == 1


def test_what_the_tags_told_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    song(tmp_path, "a.mp3", 0, "AC/DC", TIT2="One")
    song(tmp_path, "b.mp3", 1, "ACDC", TIT2="Two", TALB="Hits", TDRC="1980")
    song(tmp_path, "c.mp3", 2, None, None)
    catalog = read(tmp_path)
    message = capsys.readouterr().err
    assert "tags of 3 songs: 2 artists, 1 genre (Rock 2)" in message
    assert "songs whose tags lack it: artist 1, genre 1, album 2, title 1, year 2" in message
    assert "1 song without a genre left out; --unlabelled keeps such songs" in message
    assert "1 artist is written like another" in message
    assert len(catalog) == 2
    assert len(read(tmp_path, unlabelled=True)) == 3


def test_a_library_without_genres_is_refused(tmp_path: Path) -> None:
    song(tmp_path, "a.mp3", 0, genre=None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match=r"has a genre in its tags.*--unlabelled"):
        read(tmp_path)
    with pytest.raises(RequestError, match="there is no song under"):
        read(tmp_path / "empty")
    with pytest.raises(RequestError, match="needs a folder of songs: --data DIR"):
        Library(name="mine").catalog()


@pytest.mark.parametrize("name", ["a.mp3", "a.wav", "a.aiff", "a.flac", "a.ogg"])
def test_tags_are_no_part_of_the_music(tmp_path: Path, name: str) -> None:
    path = record(tmp_path / name, 0)
    plain = audio_mark(path)
    comments = name.endswith(("flac", "ogg"))
    for text in ("A", "B" * 70_000, "C"):  # the long one takes an Ogg several pages
        tag(path, **({"artist": text} if comments else {"TPE1": text}))
        assert audio_mark(path) == plain
    assert audio_mark(record(tmp_path / f"other-{name}", 1)) != plain


def rescan(root: Path, old: Catalog | None = None) -> tuple[Catalog, tuple[int, int, int, int]]:
    """The catalog after another look at the library, and clips added, kept, retired and revived."""
    current = mark_sources(open_catalog("library", {"data": root, "name": "mine"}, Store("memory://lib")))
    catalog, growth = merge(old, current)
    return catalog, (growth.added, growth.kept, growth.retired, growth.revived)


def test_moving_and_tagging_encodes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "music"
    for i, name in enumerate(("a.mp3", "sub/b.ogg", "c.flac", "d.wav")):
        path = record(root / name, i)
        tag(path, **({"genre": "Rock"} if name.endswith(("ogg", "flac")) else {"TCON": "Rock"}))
    catalog, counts = rescan(root)
    assert counts == (4, 0, 0, 0)
    (root / "new").mkdir()
    (root / "a.mp3").rename(root / "new" / "x.mp3")
    tag(root / "new" / "x.mp3", TPE1="Somebody", TCON="Jazz")
    tag(root / "sub" / "b.ogg", artist="Else")
    tag(root / "c.flac", artist="Else")
    tag(root / "d.wav", TPE1="Else")
    catalog, counts = rescan(root, catalog)
    assert counts == (0, 4, 0, 0)
    rows = by_path(catalog)
    assert (rows["new/x.mp3"]["artist_id"], rows["new/x.mp3"]["labels"]) == ("Somebody", ["Jazz"])
    (root / "new" / "x.mp3").rename(tmp_path / "away.mp3")
    catalog, counts = rescan(root, catalog)
    assert counts == (0, 3, 1, 0)
    (tmp_path / "away.mp3").rename(root / "back.mp3")
    catalog, counts = rescan(root, catalog)
    assert counts == (0, 4, 0, 1)
    record(root / "back.mp3", 9)
    tag(root / "back.mp3", TCON="Jazz")
    _, counts = rescan(root, catalog)
    assert counts == (1, 3, 1, 0)


def test_a_stored_library_is_marked_by_its_music_too(tmp_path: Path) -> None:
    root = tmp_path / "music"
    song(root, "a.mp3", 0)
    store = Store(tmp_path / "store")
    store.write_catalog(mark_sources(open_catalog("library", {"data": root, "name": "mine"}, store)))
    tag(root / "a.mp3", TPE1="Other")
    stored = store.read_catalog("mine")
    assert mark_sources(open_catalog("mine", {}, store)).table.equals(stored.table)


def test_equal_files_are_one_song(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    song(tmp_path, "a.mp3", 0, None, None)
    shutil.copy(tmp_path / "a.mp3", tmp_path / "b.mp3")
    tag(tmp_path / "b.mp3", TPE1="B", TCON="Rock")
    (row,) = read(tmp_path).table.to_pylist()
    assert (row["path"], row["artist_id"]) == ("b.mp3", "B")
    assert "1 file holds the same music as another and is left out; --keep-copies" in capsys.readouterr().err
    both = read(tmp_path, keep_copies=True, unlabelled=True)
    assert sorted(by_path(both)) == ["a.mp3", "b.mp3"]


def test_what_did_not_change_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "music"
    for i in range(3):
        song(root, f"{i}.mp3", i)
    looked: list[str] = []

    def look(path: Path) -> str:
        looked.append(path.name)
        return audio_mark(path)

    monkeypatch.setattr(_scan, "audio_mark", look)
    monkeypatch.setattr(_scan, "_FRESH_NS", -(10**18))
    first = read(root)
    assert sorted(looked) == ["0.mp3", "1.mp3", "2.mp3"]
    looked.clear()
    assert read(root).table.equals(first.table)
    assert looked == []
    times = (root / "1.mp3").stat()
    tag(root / "1.mp3", TPE1="New")
    os.utime(root / "1.mp3", ns=(times.st_atime_ns, times.st_mtime_ns))  # as some programs that write tags do
    assert by_path(read(root))["1.mp3"]["artist_id"] == "New"
    assert looked == ["1.mp3"]
    (cache,) = (tmp_path / "cache").rglob("*.parquet")
    cache.write_bytes(b"PAR1 damaged")
    looked.clear()
    assert len(read(root)) == 3
    assert len(looked) == 3


def test_a_file_that_is_just_being_written_is_not_trusted_to_stay(tmp_path: Path) -> None:
    song(tmp_path / "music", "a.mp3", 0)
    read(tmp_path / "music")
    (cache,) = (tmp_path / "cache").rglob("*.parquet")
    assert not _scan._read(cache)


def test_no_file_and_no_clock_decides_a_mark(tmp_path: Path) -> None:
    one = record(tmp_path / "a.mp3", 0)
    mark = audio_mark(one)
    shutil.copy(one, tmp_path / "b.mp3")
    os.utime(tmp_path / "b.mp3", (time.time() - 1e6,) * 2)
    assert audio_mark(tmp_path / "b.mp3") == mark


def test_real_tags(shared_data: Path) -> None:
    """201 songs of the Emotify set: what their tags say stands in its table too."""
    import csv

    catalog = read(shared_data / "emotify" / "mp3")
    with (shared_data / "emotify" / "songs.csv").open(encoding="utf-8") as file:
        table = {row["file"]: row for row in csv.DictReader(file)}
    rows = by_path(catalog)
    assert len(rows) == len(table) == 201
    for path, row in rows.items():
        assert row["artist_name"] == table[path]["artist"]
        assert row["title"] == table[path]["title"]
