"""MIDI files to octuples, beside pretty_midi's parse of the same files alone."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conftest import SHARED

WANTS = "the MIDI files of lakh/midi"
_TARGET = 50.0
_ROUNDS = 5


def measure() -> dict[str, dict[str, Any]]:
    """Seconds for all real files, the best of a few rounds; nothing where the files are not there."""
    import pretty_midi

    from stages.embed.inputs.octuple import encode
    from stages.embed.inputs.score import read_score

    files = sorted((SHARED / "lakh" / "midi").glob("*.mid"))
    if not files:
        return {}

    def best(work: Callable[[Path], object], rounds: int) -> float:
        seconds = []
        for _ in range(rounds):
            started = time.perf_counter()
            for path in files:
                work(path)
            seconds.append(time.perf_counter() - started)
        return min(seconds)

    ours = best(lambda path: encode(read_score(path, every_note=True)), _ROUNDS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tempo events outside the first track
        theirs = best(lambda path: pretty_midi.PrettyMIDI(str(path)), 1)
    notes = sum(len(encode(read_score(path, every_note=True))) for path in files)
    return {
        "midi-to-octuples": {
            "ours": ours,
            "peer": theirs,
            "ratio": theirs / ours,
            "target": _TARGET,
            "unit": "s",
            "note": f"{len(files)} Lakh files, {notes:,} notes, one core; peer: pretty_midi parsing alone",
        }
    }
