"""What the soaks share: small synthetic collections, and commands that are interrupted."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from tests.family import descendants, signal_all
from tests.processes import COMMAND, Process
from tests.store.build import tree

# In shards of one row each; the engines' processes learn so from the driver.
SMALL_SHARDS = f"import store.arrays\nstore.arrays._SHARD_ROWS = (1, 1)\n{COMMAND}"


def write_table(path: Path, songs: int) -> Path:
    """A table of synthetic features."""
    draw = random.Random(0)
    lines = [f"artist {song % 37},genre {song % 4},{draw.gauss(song % 4, 1)},{draw.random()}" for song in range(songs)]
    path.write_text("\n".join(["artist,genre,tempo,energy", *lines]) + "\n")
    return path


def embed(table: Path, store: Path, *options: object) -> tuple[object, ...]:
    where = ("--table", table, "--name", "hits", "--columns", "labels=genre", "--store", store)
    return ("embed", "table", *where, *options)


def files_of(store: Path) -> dict[str, bytes]:
    """The bytes of a store, without locks and what killed processes left half written."""
    return {name: content for name, content in tree(store).items() if not name.endswith((".lock", ".partial"))}


def finished(script: str, *arguments: object) -> tuple[int, str, str]:
    """Exit code and streams of a command that nobody stops."""
    process = Process(script, *arguments)
    out, err = process.communicate()
    assert process.returncode is not None
    return process.returncode, out, err


def moments(draw: random.Random, most_s: float) -> Iterator[float]:
    while True:
        yield draw.uniform(0, most_s)


def interrupted(script: str, number: signal.Signals, after_s: float, *arguments: object) -> tuple[int, str]:
    """Exit code and messages of a command whose whole family gets a signal after some seconds."""
    process = Process(script, *arguments, new_session=True)
    time.sleep(after_s)
    if process.returncode is None:
        signal_all([process.pid, *descendants(process.pid)], number)
    _, err = process.communicate()
    assert process.returncode is not None
    return process.returncode, err
