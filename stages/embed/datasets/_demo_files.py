"""The demo collection on disk: one MIDI file and one FLAC file a song, and a stamp that says what they are."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stages.embed.datasets._demo_cast import Song
from stages.embed.datasets._demo_compose import compose, midi_bytes
from stages.embed.datasets._demo_render import RATE_HZ, render
from stages.progress import note, task
from store.errors import EncoreError, RequestError

LENGTH_S = 30.0
_STAMP = "demo.json"
_ENOUGH_FOR_WORKERS = 32  # songs; fewer are made sooner than worker processes start
_MOST_WORKERS = 8


def midi_path(song: Song) -> str:
    """Relative to the collection's folder, as `audio_path`."""
    return f"midi/{song.song_id}.mid"


def audio_path(song: Song) -> str:
    return f"audio/{song.song_id}.flac"


def generate(root: Path, songs: Sequence[Song], settings: dict[str, Any]) -> None:
    """Make the songs' files that are not there; files that were made with other ``settings`` go first.

    The stamp names the settings from the start and says "complete" at the end, and each file appears whole, so
    that an interrupted generation goes on where it stopped.

    Raises
    ------
    RequestError
        where ``root`` holds anything but a demo collection; nothing is touched then.
    EncoreError
        where a file cannot be written.
    """
    try:
        stamp = _stamped(root)
        if stamp is not None and stamp != settings | {"complete": stamp.get("complete")}:
            _clear(root)
        lacking = [song for song in songs if not all((root / path(song)).is_file() for path in (midi_path, audio_path))]
        if not lacking and stamp == settings | {"complete": True}:
            return
        root.mkdir(parents=True, exist_ok=True)
        _stamp(root, settings | {"complete": False})
        for folder in ("midi", "audio"):
            (root / folder).mkdir(exist_ok=True)
        note(f"generating the demo collection (synthetic music) in {root}")
        with task("generating", len(songs), "songs") as advance:
            advance(len(songs) - len(lacking))
            _make_all(lacking, root, advance)
        _stamp(root, settings | {"complete": True})
    except BrokenExecutor as error:
        raise EncoreError("a process that generated the demo collection was killed; run the same again") from error
    except OSError as error:
        raise EncoreError(f"the demo collection cannot be written to {root}: {error.strerror or error}") from error


def _make_all(songs: Sequence[Song], root: Path, advance: Callable[[int], None]) -> None:
    make = partial(_make, root)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(cores, _MOST_WORKERS)
    if len(songs) < _ENOUGH_FOR_WORKERS or workers == 1:
        for song in songs:
            make(song)
            advance(1)
        return
    # Ctrl-C reaches the whole group: the workers leave it to this process, which then drops what is queued.
    ignore = (signal.SIGINT, signal.SIG_IGN)
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=signal.signal, initargs=ignore)
    try:
        for _ in pool.map(make, songs, chunksize=4):
            advance(1)
    finally:
        pool.shutdown(cancel_futures=True)


def _make(root: Path, song: Song) -> None:
    import soundfile

    audio = io.BytesIO()
    parts = compose(song.recipe, LENGTH_S, np.random.default_rng(song.seed))
    with _whole(root / midi_path(song)) as path:
        path.write_bytes(midi_bytes(parts, song.recipe.bpm))
    soundfile.write(audio, render(parts, song.recipe.bpm, LENGTH_S), RATE_HZ, format="FLAC", subtype="PCM_16")
    with _whole(root / audio_path(song)) as path:
        path.write_bytes(audio.getbuffer())


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write to, which becomes ``path`` when all is written."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _stamped(root: Path) -> dict[str, Any] | None:
    """What the stamp holds; None where ``root`` is absent or empty, but for what another process begins just now."""
    if not root.exists() or (root.is_dir() and all(path.suffix == ".part" for path in root.iterdir())):
        return None
    try:
        stamp = json.loads((root / _STAMP).read_bytes())
    except (OSError, ValueError):
        stamp = None
    if not isinstance(stamp, dict) or "complete" not in stamp:
        raise RequestError(
            f"{root} holds something else than a demo collection; give an empty or a new folder: "
            f"--data DIR (make: DATA=DIR)"
        )
    return stamp


def _stamp(root: Path, stamp: dict[str, Any]) -> None:
    with _whole(root / _STAMP) as path:
        path.write_text(json.dumps(stamp, indent=1, sort_keys=True) + "\n")


def _clear(root: Path) -> None:
    for pattern in ("midi/song-*", "audio/song-*"):
        for path in root.glob(pattern):
            path.unlink()
