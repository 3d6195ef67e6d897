"""Genres in files' tags: written, read again, and nothing else touched."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stages.embed.genre_tags import read_genres, write_genres
from stages.embed.reading import read_artist
from store.errors import ClipError, EncoreError

mutagen = pytest.importorskip("mutagen")


@pytest.fixture(params=["wav", "flac", "ogg", "mp3", "aiff"])
def song(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"sông.{request.param}"
    soundfile.write(path, 0.1 * np.sin(np.arange(16000) / 20), 8000)
    return path


def test_genres_are_written_and_all_else_stays(song: Path) -> None:
    samples, _ = soundfile.read(song)
    write_genres(song, ["jazz"])
    easy = mutagen.File(song, easy=True)
    if song.suffix in (".flac", ".ogg", ".mp3"):
        easy["artist"], easy["title"] = "Jo Nobody", "Quiet"
        easy.save()
        assert read_artist(song) == "Jo Nobody"
    write_genres(song, ["rock", "pop"])
    assert read_genres(song) == ("rock", "pop")
    np.testing.assert_array_equal(soundfile.read(song)[0], samples)
    if song.suffix in (".flac", ".ogg", ".mp3"):
        tags = mutagen.File(song, easy=True)
        assert (tags["artist"], tags["title"]) == (["Jo Nobody"], ["Quiet"])
    assert [path.name for path in song.parent.iterdir()] == [song.name]


def test_a_file_that_cannot_be_written_is_as_it_was(song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = song.read_bytes()

    def full(*_words: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(EncoreError, match=r"No space left on device; it is as it was"):
        write_genres(song, ["rock"])
    assert song.read_bytes() == before
    assert [path.name for path in song.parent.iterdir()] == [song.name]


@pytest.mark.parametrize("name", ["text.mp3", "song.mid", "nothing.flac"])
def test_files_without_tags(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"" if name == "nothing.flac" else b"no song")
    for attempt in (read_genres, lambda path: write_genres(path, ["rock"])):
        with pytest.raises(ClipError):
            attempt(path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert read_artist(path) is None


def test_the_version_of_a_real_file_s_tags_stays(shared_data: Path, tmp_path: Path) -> None:
    original = sorted((shared_data / "emotify" / "mp3").glob("*.mp3"))[0]
    path = tmp_path / "song.mp3"
    shutil.copy(original, path)
    before = mutagen.File(path).tags
    write_genres(path, ["rock", "pop"])
    after = mutagen.File(path).tags
    assert after.version == before.version
    assert read_genres(path) == ("rock", "pop")
    assert {key: str(frame) for key, frame in after.items() if key != "TCON"} == {
        key: str(frame) for key, frame in before.items() if key != "TCON"
    }
