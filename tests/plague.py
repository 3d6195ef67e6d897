"""A collection with everything that goes wrong in real ones, and what Encore should make of each of its songs.

All of it is synthetic: 300 songs of two seconds by 30 artists in four genres. Each song has one plague (`PLAGUES`);
names of artists, labels and the table's columns have theirs besides.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

SONGS = 300
GENRES = ("rock", "jazz", "fado", "drum & bass")
HAS_FFMPEG = shutil.which("ffmpeg") is not None

_RATE_HZ = 16_000
_SECONDS = 2.0
_ARTISTS = 30
_NO_ARTIST = ("", "nan", "None", "NULL", "N/A", "-", "[]", "['nan']")
_NO_LABEL = ("", "NaN", "<NA>")


@dataclass(frozen=True)
class Song:
    """A row of the table.

    Attributes
    ----------
    path : of its file under the folder, in Unicode's composed form.
    artists, labels : what its cells say, in their order; none where they hold no value.
    fate : ``encoded``, or the kind of failure (`store.errors.ClipError`).
    remark : what is noted of an encoded song, if anything.
    copy_of : the path of the song whose music it holds too.
    """

    path: str
    artists: tuple[str, ...]
    labels: tuple[str, ...]
    fate: str = "encoded"
    remark: str | None = None
    copy_of: str | None = None


@dataclass(frozen=True)
class Plague:
    """How many songs have it, how their files are called, what becomes of them, and who writes them."""

    count: int
    suffix: str
    write: Callable[[Path, int], None]
    fate: str = "encoded"
    remark: str | None = None
    copy_of: str | None = None


def write(folder: Path) -> list[Song]:
    """Write the songs under ``folder/songs``, the tables beside them, and files outside that no one may read.

    ``songs.csv`` describes all of them; ``artists.json`` and ``labels.json`` say the same by the names of files.
    """
    root, rng = folder / "songs", random.Random(0)
    (folder / "outside").mkdir(parents=True)
    songs: list[Song] = []
    for name, plague in PLAGUES.items():
        for i in range(plague.count):
            # The disk has names as macOS gives them, the table as people type them.
            path = _path(name, i)
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            model = next(song for song in songs if song.path == _path(plague.copy_of, i)) if plague.copy_of else None
            number = next(n for n, song in enumerate(songs) if song is model) if model else len(songs)
            plague.write(root / unicodedata.normalize("NFD", path), number)
            artist = rng.randrange(_ARTISTS) if rng.random() < 0.9 else None
            artists = model.artists if model else _artists(artist, rng)
            labels = model.labels if model else _labels(artist, rng)
            songs.append(Song(path, artists, labels, plague.fate, plague.remark, model.path if model else None))
    assert len(songs) == SONGS
    (folder / "songs.csv").write_text("\n".join(_lines(songs, rng)) + "\n", encoding="utf-16")
    for name, values in (("artists", [s.artists for s in songs]), ("labels", [s.labels for s in songs])):
        keyed = {song.path: list(cell) for song, cell in zip(songs, values, strict=True)}
        (folder / f"{name}.json").write_text(json.dumps(keyed))
    return songs


def write_strays(folder: Path) -> None:
    """What lies in a folder and is no song: bytes for a name, links to folders, files of other formats."""
    root = folder / "songs"
    (folder / "outside" / "album").mkdir()
    _wav(folder / "outside" / "album" / "far.wav", 1)
    (root / "album").symlink_to(folder / "outside" / "album", target_is_directory=True)
    (root / "again").symlink_to(root, target_is_directory=True)
    (folder / "outside" / "album" / "far.wav").rename(root / os.fsdecode(b"caf\xe9.wav"))
    (root / "cover.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (root / ".hidden.wav").write_bytes(b"")


def kind(song: Song) -> str:
    """The plague that a song has: a key of `PLAGUES`."""
    return song.path.partition("/")[2].partition(" ñ ")[0]


def _path(plague: str, number: int) -> str:
    return f"disc {number % 3}/{plague} ñ {number}{PLAGUES[plague].suffix}"


def _artists(artist: int | None, rng: random.Random) -> tuple[str, ...]:
    if artist is None:
        return ()
    guests = (f"Guest {rng.randrange(5)}",) if rng.random() < 0.05 else ()
    return (f"Beyoncé {artist}", *guests)


def _labels(artist: int | None, rng: random.Random) -> tuple[str, ...]:
    if rng.random() < 0.05:
        return ()
    return (GENRES[rng.randrange(4) if artist is None or rng.random() < 0.2 else artist % 4],)


def _lines(songs: list[Song], rng: random.Random) -> Iterator[str]:
    """The table: separated by semicolons, with pandas' index, and cells in all the ways that people write them."""
    yield "Unnamed: 0;Path;Artist Name(s);Genre;BPM;"
    for row, song in enumerate(songs):
        cells = (str(row), song.path, _cell(song.artists, _NO_ARTIST, rng), _cell(song.labels, _NO_LABEL, rng))
        yield ";".join(f'"{cell}"' for cell in cells) + f";1{row % 10},5;"


def _cell(names: tuple[str, ...], none: tuple[str, ...], rng: random.Random) -> str:
    names = tuple(unicodedata.normalize(rng.choice(("NFC", "NFD")), name) for name in names)
    if not names:
        return rng.choice(none)
    ways = ["|".join(names), " | ".join(names), str(list(names)), json.dumps(names), repr(names)]
    return rng.choice([*ways, f"  {names[0]}\u00a0"] if len(names) == 1 else ways).replace('"', '""')


def _wave(number: int) -> np.ndarray:
    rng, seconds = np.random.default_rng(number), np.arange(int(_SECONDS * _RATE_HZ)) / _RATE_HZ
    wave = 0.3 * np.sin(2 * np.pi * (200 + 7 * number) * seconds) + 0.02 * rng.standard_normal(len(seconds))
    return np.asarray(wave)


def _wav(path: Path, number: int) -> None:
    soundfile.write(path, _wave(number), _RATE_HZ, format="WAV")


def _encoded(format_: str, subtype: str | None = None) -> Callable[[Path, int], None]:
    def write_(path: Path, number: int) -> None:
        soundfile.write(path, _wave(number), _RATE_HZ, format=format_, subtype=subtype)

    return write_


def _holding(data: bytes) -> Callable[[Path, int], None]:
    def write_(path: Path, number: int) -> None:
        path.write_bytes(data)

    return write_


def _changed(format_: str, change: Callable[[bytes], bytes]) -> Callable[[Path, int], None]:
    def write_(path: Path, number: int) -> None:
        _encoded(format_)(path, number)
        path.write_bytes(change(path.read_bytes()))

    return write_


def _link_inside(path: Path, number: int) -> None:
    """A link to a hidden file beside it."""
    _wav(path.with_name(f".{number}"), number)
    path.symlink_to(f".{number}")


def _link_out(path: Path, number: int) -> None:
    """A link to a file outside of the root."""
    target = path.parents[2] / "outside" / f"{number}.wav"
    _wav(target, number)
    path.symlink_to(target)


def _silent(path: Path, number: int) -> None:
    soundfile.write(path, np.zeros(int((_SECONDS + number / 1000) * _RATE_HZ)), _RATE_HZ)


def _tagged(data: bytes) -> bytes:
    """An MP3 with tags in front (ID3v2) and behind (ID3v1)."""
    return b"ID3\4\0\0\0\0\0\x0a" + bytes(10) + data + (b"TAG" + b"another title").ljust(128, b"\0")


def _without_length(data: bytes) -> bytes:
    """A FLAC whose header counts no samples, as one that was written to a pipe."""
    return data[:21] + bytes([data[21] & 0xF0]) + bytes(4) + data[26:]


def _m4a(path: Path, number: int) -> None:
    if not HAS_FFMPEG:
        path.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
        return
    command = ["ffmpeg", "-v", "error", "-y", "-f", "s16le", "-ar", str(_RATE_HZ), "-ac", "1", "-i", "pipe:0"]
    samples = (_wave(number) * 32767).astype("<i2").tobytes()
    subprocess.run([*command, f"file:{path}"], input=samples, check=True)


def _listen(path: Path, number: int) -> None:
    """A socket; its name is bound from within its folder, since such names may have 108 bytes at most."""
    here = os.open(".", os.O_RDONLY)
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.fchdir(here)
        os.close(here)


_READ = "encoded" if HAS_FFMPEG else "not-supported"

PLAGUES = {
    "plain": Plague(60, ".wav", _wav),
    "upper case": Plague(10, ".WAV", _wav),
    "deep": Plague(10, ".wav", _encoded("WAV", "PCM_24")),
    "float": Plague(10, ".wav", _encoded("WAV", "FLOAT")),
    "flac": Plague(24, ".flac", _encoded("FLAC")),
    "mp3": Plague(30, ".mp3", _encoded("MP3")),
    "ogg": Plague(20, ".ogg", _encoded("OGG")),
    "aiff": Plague(10, ".aif", _encoded("AIFF")),
    "called otherwise": Plague(10, ".mp3", _wav),
    "copy": Plague(12, ".wav", _wav, copy_of="plain"),
    "tags": Plague(12, ".mp3", _changed("MP3", _tagged), copy_of="mp3"),
    "link": Plague(8, ".wav", _link_inside),
    "m4a": Plague(6, ".m4a", _m4a, _READ),
    "no length": Plague(10, ".flac", _changed("FLAC", _without_length)),
    "cut": Plague(10, ".wav", _changed("WAV", lambda data: data[: len(data) * 5 // 8]), remark="truncated"),
    "link out": Plague(8, ".wav", _link_out, "not-followed"),
    "text": Plague(10, ".mp3", _holding(b"<html>404 not found</html>"), "damaged"),
    "empty": Plague(10, ".ogg", _holding(b""), "empty"),
    "header": Plague(6, ".wav", _changed("WAV", lambda data: data[:44]), "empty"),
    "zeros": Plague(6, ".flac", _holding(bytes(5000)), "damaged"),
    "silent": Plague(5, ".wav", _silent, "silent"),
    "picture": Plague(4, ".jpg", _holding(b"\xff\xd8\xff\xe0"), "not-supported"),
    "folder": Plague(3, ".mp3", lambda path, _: path.mkdir(), "not-a-file"),
    "socket": Plague(3, ".wav", _listen, "not-a-file"),
    "gone": Plague(3, ".wav", lambda path, _: None, "missing"),
}
