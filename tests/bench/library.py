"""A music library of 10,000 tagged files: the first look at it, and one that finds nothing changed."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import mutagen.easyid3
import numpy as np
import soundfile

from stages.embed.datasets.library import Library
from stages.progress import be_quiet
from tests.bench import entry

FILES = 10_000
DIFFERENT = 50  # recordings, of which all files are copies with a few bytes of their own
FIRST_S, AGAIN_S = 60.0, 2.0
_RATE_HZ, _SECONDS = 22_050, 20.0


def measure() -> dict[str, Any]:
    """Seconds from a folder to its catalog; the peer is the limit set for it."""
    be_quiet(True)
    try:
        # What was read is kept among its user's caches; here in one of its own, empty at first.
        with (
            tempfile.TemporaryDirectory() as folder,
            mock.patch.dict(os.environ, {"XDG_CACHE_HOME": f"{folder}/cache"}),
        ):
            return looks(Path(folder), FILES)
    finally:
        be_quiet(False)


def looks(folder: Path, files: int) -> dict[str, Any]:
    write_library(folder / "music", files)
    time.sleep(2.5)  # what was written just now counts as still changing
    library = Library(data=folder / "music", name="mine")
    first_s, clips = timed(library)
    again_s, same = timed(library)
    assert clips == same == files
    size = sum(path.stat().st_size for path in (folder / "music").rglob("*.mp3"))
    note = f"{files:,} MP3s of {size / files / 1024:,.0f} KiB in the page cache, no peer but the limit"
    return {
        "library-first": entry(first_s, FIRST_S * files / FILES, 1.0, "s", note),
        "library-again": entry(again_s, AGAIN_S * files / FILES, 1.0, "s", note),
    }


def timed(library: Library) -> tuple[float, int]:
    """Seconds of a look, and how many clips it found."""
    started = time.perf_counter()
    catalog = library.catalog()
    return time.perf_counter() - started, len(catalog)


def write_library(folder: Path, files: int) -> None:
    """Ten songs an album, two albums an artist; each file's music is its own by a few bytes behind it."""
    rng = np.random.default_rng(0)
    recordings = []
    folder.mkdir(parents=True)
    for number in range(min(DIFFERENT, files)):
        noise = np.cumsum(rng.standard_normal(int(_SECONDS * _RATE_HZ)))
        path = folder / f"{number}.mp3"
        soundfile.write(path, 0.5 * noise / np.abs(noise).max(), _RATE_HZ)
        tags = mutagen.easyid3.EasyID3()
        tags.save(path)
        recordings.append(path.read_bytes())
        path.unlink()
    for number in range(files):
        album = folder / f"artist {number // 20}" / f"album {number // 10}"
        album.mkdir(parents=True, exist_ok=True)
        path = album / f"{number:05d}.mp3"
        path.write_bytes(recordings[number % len(recordings)] + number.to_bytes(4, "little"))
        tags = mutagen.easyid3.EasyID3()
        tags["artist"], tags["album"] = f"Artist {number // 20}", f"Album {number // 10}"
        tags["title"], tags["genre"] = f"Song {number}", ["Rock", "Jazz", "Folk", "Pop"][number // 20 % 4]
        tags["date"], tags["tracknumber"] = str(1960 + number % 60), str(1 + number % 10)
        tags.save(path)
