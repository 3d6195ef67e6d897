"""Libraries whose files, tags and folders are damaged, or made to do harm."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.embed.content import audio_mark
from stages.embed.tags import read_tags
from tests.embed.test_library import by_path, read, record, song, tag


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short recording with tags in each of four formats."""
    root = tmp_path_factory.mktemp("tagged")
    for name in ("a.mp3", "b.ogg", "c.flac", "d.wav"):
        path = record(root / name, 0, 0.05)
        tag(path, **({"genre": "Rock"} if name[2:] in ("ogg", "flac") else {"TCON": "Rock", "TPE1": "A"}))
    return root


@given(damage=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=40))
def test_damaged_tags_never_end_the_run(
    tmp_path_factory: pytest.TempPathFactory, tagged: Path, damage: list[tuple[int, int]]
) -> None:
    root = tmp_path_factory.mktemp("damaged")
    for whole in sorted(tagged.iterdir()):
        path, content = root / whole.name, bytearray(whole.read_bytes())
        for place, byte in damage:
            content[place if place < 200 else -place] = byte
        path.write_bytes(content)
        read_tags(path)
        assert audio_mark(path)
        path.write_bytes(content[: damage[0][0]])
        read_tags(path)
        assert audio_mark(path)


def test_tags_that_are_too_large_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = song(tmp_path, "a.mp3", 0, TIT2="x" * 50_000)
    assert read_tags(path).title == "x" * 1000
    monkeypatch.setattr("stages.embed.tags._MOST_BYTES", 10_000)
    assert read_tags(path).broken.startswith("they take")


def test_a_few_bytes_do_not_become_gigabytes(tmp_path: Path) -> None:
    """A compressed frame of an MP3's tag, one that is as it should be and one that is a bomb."""
    path = record(tmp_path / "a.mp3", 0)
    music = path.read_bytes()

    def frame(name: bytes, text: bytes) -> bytes:
        body = (len(text) + 1).to_bytes(4, "big") + zlib.compress(b"\3" + text)
        return name + len(body).to_bytes(4, "big") + b"\0\x80" + body

    for text, artist in ((b"A", ("A",)), (b"A" * (2 << 20), ())):
        frames = frame(b"TPE1", text) + frame(b"TCON", b"Rock")
        size = bytes(len(frames) >> shift & 0x7F for shift in (21, 14, 7, 0))
        path.write_bytes(b"ID3\3\0\0" + size + frames + music)
        tags = read_tags(path)
        assert (tags.artist, tags.genre, tags.broken) == (artist, ("Rock",), "")


@pytest.mark.parametrize(
    "content", [b"fLaC", b"fLaC\0\0\0\x22" + bytes(10), b"OggS", b"RIFF", b"ID3\3\0\0\0\0\0\0fLaC", b""]
)
def test_files_that_end_in_their_first_bytes_are_songs_too(tmp_path: Path, content: bytes) -> None:
    song(tmp_path, "whole.mp3", 0)
    for suffix in ("flac", "ogg", "wav", "mp3"):
        (tmp_path / f"short.{suffix}").write_bytes(content)
    assert {"whole.mp3", "short.flac"} <= by_path(read(tmp_path, unlabelled=True, keep_copies=True)).keys()


def test_what_a_mark_is_made_of(tmp_path: Path) -> None:
    """The middle of a long file too; and parts of a WAV begin at even bytes."""
    music = bytearray(range(256)) * 4000
    (tmp_path / "a.mp3").write_bytes(music)
    music[len(music) // 2] ^= 1
    (tmp_path / "b.mp3").write_bytes(music)
    assert audio_mark(tmp_path / "a.mp3") != audio_mark(tmp_path / "b.mp3")
    plain = record(tmp_path / "c.wav", 0).read_bytes()
    (tmp_path / "d.wav").write_bytes(plain[:12] + b"LIST\5\0\0\0INFO?\0" + plain[12:])
    assert audio_mark(tmp_path / "c.wav") == audio_mark(tmp_path / "d.wav")


def test_folders_that_cannot_be_listed_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    song(tmp_path, "a.mp3", 0)
    song(tmp_path, "locked/b.mp3", 1)
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if os.path.basename(path) == "locked":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert by_path(read(tmp_path)).keys() == {"a.mp3"}
    assert f"1 folder in {tmp_path} cannot be read: 'locked'" in capsys.readouterr().err


def test_tags_give_a_terminal_no_orders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    song(tmp_path, "a.mp3", 0, genre="Ro\x1b[2Jck")
    read(tmp_path)
    assert "Ro\\x1b[2Jck 1" in capsys.readouterr().err


def test_an_mp4_of_boxes_without_music_is_not_taken_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each empty box of 8 bytes would become an object some thirty times as large."""
    path = tmp_path / "a.m4a"
    path.write_bytes(b"\0\0\0\x10ftypM4A \0\0\0\0" + b"\0\0\0\x08free" * 4000)
    assert read_tags(path).broken.startswith("MP4StreamInfoError")
    monkeypatch.setattr("stages.embed.tags._MOST_BYTES", 10_000)
    assert read_tags(path).broken.startswith("they take")
    assert audio_mark(path)
