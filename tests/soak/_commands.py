"""What the soaks share: small synthetic collections, and commands that are interrupted."""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import time
from pathlib import Path
from typing import NamedTuple

from tests.family import descendants, signal_all
from tests.processes import COMMAND, Process
from tests.store.build import tree

# In shards of one row each; the engines' processes learn so from the driver.
_LOOK_S = 0.05
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
    code, out, err, _ = measured(script, *arguments)
    return code, out, err


def measured(script: str, *arguments: object) -> tuple[int, str, str, float]:
    """The same, and how many seconds of a processor it and its processes took."""
    process = Process(script, *arguments)
    seconds = 0.0
    while process.returncode is None:
        seconds = max(seconds, _processor_s(process.pid))
        time.sleep(_LOOK_S)
    out, err = process.communicate()
    return process.returncode, out, err, seconds


class Interrupted(NamedTuple):
    """How a command ended that got a signal.

    Attributes
    ----------
    code, err : its exit code and messages.
    was_hit : whether it was at work when the signal came, and had not printed its answer.
    """

    code: int
    err: str
    was_hit: bool


def interrupted(script: str, number: signal.Signals, after_s: float, *arguments: object) -> Interrupted:
    """A command whose whole family gets a signal once it has taken so many seconds of a processor.

    The processor's time, since a clock would run on while other work has the machine.
    """
    process = Process(script, *arguments, new_session=True)
    while process.returncode is None and os.getsid(process.pid) != process.pid:  # the command has not begun
        time.sleep(_LOOK_S / 10)
    begun_s = _processor_s(process.pid)
    while process.returncode is None and _processor_s(process.pid) < begun_s + after_s:
        time.sleep(_LOOK_S)
    was_hit = False
    if process.returncode is None:
        family: list[int] = []
        while (known := sorted({process.pid, *descendants(process.pid)})) != family:  # one may have been started since
            family = known
            signal_all(family, signal.SIGSTOP)  # or it might answer between the look and the signal
        was_hit = not select.select([process.stdout], [], [], 0)[0]
        signal_all(family, number)
        signal_all(family, signal.SIGCONT)
    _, err = process.communicate()
    assert process.returncode is not None
    return Interrupted(process.returncode, err, was_hit)


def _processor_s(pid: int) -> float:
    """What a process, those that it has started, and those of them that have ended have had of a processor."""
    ticks = 0
    for each in [pid, *descendants(pid)]:
        with contextlib.suppress(OSError, IndexError):  # it has ended
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15] if each == pid else fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")
