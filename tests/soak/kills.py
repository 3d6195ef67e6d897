"""SIGKILL and Ctrl-C at random moments: the command goes on to the same answer, and never shows a traceback.

Only signals that come while a command is at work count.
"""

from __future__ import annotations

import json
import random
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.embed.trees import midi
from tests.soak import Line
from tests.soak._commands import embed, finished, interrupted, measured, write_table

COMMAND = "from pipeline.__main__ import main\nmain()"  # as it is installed, guarded from its first moment
_IN_A_ROW = 5
_LEAST_S = 0.05  # before that the soak itself is at work
_QUICK = ("--set", "epochs=4", "--set", "hidden=8")


def run(short: bool) -> Iterator[Line]:
    kinds = {signal.SIGKILL: 2 if short else 200, signal.SIGINT: 1 if short else 50}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = write_table(folder / "songs.csv", 200)
        songs = _write_songs(folder / "songs")
        commands = _commands(folder, table, songs)
        chosen = dict(list(commands.items())[:2]) if short else commands
        for command, make in chosen.items():
            whole = _whole(folder / command, folder, command, make)
            for number, count in kinds.items():
                yield _many(folder, command, make, whole, number, count if short else count // len(commands))


def _write_songs(folder: Path) -> Path:
    folder.mkdir()
    for i in range(24):
        (folder / f"{i}.mid").write_bytes(midi(20.0, 40 + i))
    lines = [f"{i}.mid,artist {i % 8},genre {i % 3},{('train', 'validation', 'test')[i % 3]}" for i in range(24)]
    (folder / "songs.csv").write_text("\n".join(["file,artist,labels,split", *lines]) + "\n")
    return folder


def _commands(folder: Path, table: Path, songs: Path) -> dict[str, Callable[[Path], tuple[object, ...]]]:
    """By name, what gives each command on a store; ``embed`` comes first on any."""

    def stage_two(*words: object) -> Callable[[Path], tuple[object, ...]]:
        return lambda store: (*words, "--store", store, "--json")

    train = ("train", "pianoroll-cnn", "--dataset", "folder", "--data", songs, "--table", "songs.csv", "--name", "own")
    return {
        "embed": lambda store: (*embed(table, store, "--workers", 1), "--json"),
        "head": stage_two("head", "hits", "--mode", "gnn", *_QUICK),
        "compare": stage_two("compare", "hits", "--modes", "song,artist,gated", "--regimes", "random", *_QUICK),
        "search": stage_two("search", "hits", "--mode", "gnn", "--trials", 3, *_QUICK),
        "train": lambda store: (*train, "--out", store / "w.pt", "--set", "epochs=2", "--workers", 0, "--json"),
    }


def _many(
    folder: Path,
    name: str,
    make: Callable[[Path], tuple[object, ...]],
    whole: tuple[Any, float],
    number: signal.Signals,
    total: int,
) -> Line:
    draw, wrong, count, late = random.Random(f"{name}{number}"), "", 0, 0
    expected, seconds = whole
    while count < total:
        store = _ready(folder / f"{name}-{number}-{count}-{late}", folder, name)
        for _ in range(min(_IN_A_ROW, total - count)):
            code, err, was_hit = interrupted(COMMAND, number, draw.uniform(_LEAST_S, seconds), *make(store))
            if "Traceback" in err or "defect in Encore" in err:
                wrong = f"it said {err.strip().splitlines()[-1]!r}"
            if code not in (0, -signal.SIGKILL if number == signal.SIGKILL else 130):
                wrong = f"it left with {code}: {err[-200:]}"
            if not was_hit:
                late += 1
                break
            if code == 0:
                wrong = f"{number.name} was lost: it went on to its end"
            count += 1
        code, out, err = finished(COMMAND, *make(store))
        if code:
            wrong = f"it does not go on: {err}"
        elif _scores(json.loads(out)) != expected:
            wrong = "it ends with other scores than an unbroken run"
    what = f"{count} x {number.name} while it was at work; {late} more that came after its end do not count"
    return Line(f"kills, {name}", what, wrong)


def _ready(store: Path, folder: Path, name: str) -> Path:
    store.mkdir()
    if name not in ("embed", "train"):
        code, _, err = finished(COMMAND, *embed(folder / "songs.csv", store, "--workers", 0))
        assert code == 0, err
    return store


def _whole(store: Path, folder: Path, name: str, make: Callable[[Path], tuple[object, ...]]) -> tuple[Any, float]:
    """What an unbroken run answers, and how many seconds of a processor it takes."""
    _ready(store, folder, name)
    code, out, err, seconds = measured(COMMAND, *make(store))
    assert code == 0, err
    return _scores(json.loads(out)), seconds


_SCORES = ("metrics", "best", "dataset", "clips", "songs", "failed", "validation", "losses", "best_epoch")


def _scores(document: Any) -> Any:
    """What of a document does not depend on the clock, the place, or on what was there before."""
    if isinstance(document, list):
        return [_scores(entry) for entry in document]
    return {key: value for key, value in document.items() if key in _SCORES}
