"""OctupleMIDI: a note as eight small numbers, which is what MusicBERT reads.

After M. Zeng, X. Tan, R. Wang, Z. Ju, T. Qin, T.-Y. Liu: MusicBERT: Symbolic Music Understanding with Large-Scale
Pre-Training (Findings of ACL 2021), in the vocabulary and with the rounding of the authors' published encoder.
Time is counted in steps of 1/16 of a quarter note.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np

from stages.embed.inputs import Clip, Kind
from stages.embed.inputs.score import Floats, Ints, Score, read_score
from store.errors import ClipError, RequestError

FIELDS = ("bar", "position", "program", "pitch", "duration", "velocity", "time_signature", "tempo")
SIZES = (256, 128, 129, 256, 128, 32, 254, 49)  # how many values each field has
NOTES = 1024  # of a clip, at most
PAD = -1  # in all fields of a note that is none

STEPS_PER_QUARTER = 16
MAX_STEPS = 1 << 16
_DRUMS = 128  # the program of drums, and what is added to their pitch
_MAX_EXPONENT = 6  # of two in a time signature's denominator
_TEMPI_PER_OCTAVE = 12
_MIN_BPM, _MAX_BPM = 16.0, 256.0

# The shortest duration, in steps, of each code: sixteen for each doubling of the stride from 1 to 128 steps.
_DURATIONS: Ints = np.concatenate([16 * (2**octave - 1) + 2**octave * np.arange(16) for octave in range(8)])
_CODE_OF_DURATION: Ints = np.searchsorted(_DURATIONS, np.arange(_DURATIONS[-1] + 1), side="right") - 1
# The time signatures n/d in the order of their codes, and the steps of a bar of each.
_METERS = [(n, 1 << i) for i in range(_MAX_EXPONENT + 1) for n in range(1, 2 * (1 << i) + 1)]
_METER_CODES = {meter: code for code, meter in enumerate(_METERS)}
_BAR_STEPS = [n * 4 * STEPS_PER_QUARTER // d for n, d in _METERS]
_LONGEST_BAR = _METER_CODES[2, 1]

Octuples = np.ndarray[Any, np.dtype[np.int32]]


def encode(score: Score) -> Octuples:
    """The notes in order of bar, position, program, pitch, duration, velocity: ``int32 [notes, 8]``, as `FIELDS`.

    Position counts the steps from the bar's start. A bar is as long as the time signature in force at its first
    step has it, also where the next one comes before its end; a note has the time signature and the tempo in
    force at its own step. Notes from `MAX_STEPS` on are left out. All fields lie within `SIZES` but the bar,
    which counts on (see `window`).

    Raises
    ------
    ClipError
        ``outside`` for a time signature without a code (3/128), where it is in force.
    """
    start = _steps(score.start, score)
    length = _steps(score.end, score) - start
    program = np.where(score.is_drum, _DRUMS, score.program)
    pitch = score.pitch + _DRUMS * score.is_drum
    duration = _CODE_OF_DURATION[np.minimum(length, _DURATIONS[-1])]
    # One number a note sorts faster than eight: step (16 bits), program, pitch (8), duration (7), velocity (5).
    key = start << 28 | program << 20 | pitch << 12 | duration << 5 | score.velocity >> 2
    key.sort()
    if len(key) and key[-1] >> 28 >= MAX_STEPS:
        key = key[: np.searchsorted(key, MAX_STEPS << 28)]
    step = key >> 28
    steps = int(step[-1]) + 1 if len(step) else 0
    meter_at, change = _in_force(score.meter_at, score, steps)
    meters = [_meter(*pair) for pair in zip(score.numerator[change], score.denominator[change], strict=True)]
    if not meters or meter_at[0] > 0:
        meter_at, meters = np.insert(meter_at, 0, 0), [_meter(4, 4), *meters]
    tempo_at, change = _in_force(score.tempo_at, score, steps)
    bar, position = _bars(step, meter_at, meters, steps)
    octuples = np.empty((len(step), len(FIELDS)), dtype=np.int32)
    octuples[:, 0] = bar
    octuples[:, 1] = position
    octuples[:, 2] = key >> 20 & 0xFF
    octuples[:, 3] = key >> 12 & 0xFF
    octuples[:, 4] = key >> 5 & 0x7F
    octuples[:, 5] = key & 0x1F
    octuples[:, 6] = np.asarray(meters)[np.searchsorted(meter_at, step, side="right") - 1]
    octuples[:, 7] = _tempo(score.tempo_us[change])[np.searchsorted(tempo_at, step, side="right") - 1]
    return octuples


def decode(octuples: Octuples) -> Score:
    """The quantised notes, one tick a step, for which ``encode`` gives ``octuples`` again.

    A duration is the shortest of its code, a velocity the middle one; a note of duration 0 ends where it starts.
    Bars without notes say nothing of their length: they go on with the time signature before them. (So a piece
    of very many empty short bars can come out beyond `MAX_STEPS`, and is then not the same again.)

    Parameters
    ----------
    octuples : [notes, 8] as `encode` gives them.
    """
    x = octuples.astype(np.int64)
    bars, first = np.unique(x[:, 0], return_index=True)
    last = np.append(first, len(x))[1:] - 1
    bar_at, bar_meter = _lay_out(bars.tolist(), x[first].tolist(), x[last].tolist())
    start = np.repeat(bar_at, np.diff(np.append(first, len(x)))) + x[:, 1]
    at = np.concatenate([bar_at, start])
    meter = np.concatenate([bar_meter, x[:, 6]])
    order = np.argsort(at, kind="stable")  # at one step the bar comes first, and says the same
    at, meter = at[order], meter[order]
    changes = np.flatnonzero(np.diff(meter, prepend=-1))
    signs = np.asarray(_METERS)[meter[changes]]
    tempi = np.flatnonzero(np.diff(x[:, 7], prepend=-1))
    tempo_at = start[tempi]
    tempo_at[:1] = 0
    is_drum = x[:, 2] == _DRUMS
    return Score(
        pitch=x[:, 3] - _DRUMS * is_drum,
        velocity=x[:, 5] * 4 + 2,
        start=start,
        end=start + _DURATIONS[x[:, 4]],
        program=np.where(is_drum, 0, x[:, 2]),
        is_drum=is_drum,
        tempo_at=tempo_at,
        tempo_us=6e7 / (_MIN_BPM * 2 ** (x[tempi, 7] / _TEMPI_PER_OCTAVE)),
        meter_at=at[changes],
        numerator=signs[:, 0],
        denominator=signs[:, 1],
        ticks_per_quarter=STEPS_PER_QUARTER,
    )


def window(octuples: Octuples, first: int, notes: int = NOTES) -> Octuples:
    """At most ``notes`` notes from the one numbered ``first`` on, bars counted from theirs; all within `SIZES`.

    Notes from the 257th bar on are left out.
    """
    part = octuples[first : first + notes].copy()
    part[:, 0] -= part[:1, 0]
    return part[: np.searchsorted(part[:, 0], SIZES[0])]


def sampled(notes: int, length: int = NOTES) -> list[int]:
    """The first notes of a song's windows: one window for up to ``length`` notes, else three or four, spread evenly."""
    if notes <= length:
        return [0]
    count = 3 if notes <= 3 * length else 4
    return sorted({round(place * (notes - length) / (count - 1)) for place in range(count)})


@dataclass(frozen=True, slots=True, kw_only=True)
class OctupleInput:
    """The notes that begin within a clip, as `encode` gives them, in windows of ``notes`` (see `sampled`)."""

    KIND: ClassVar[Kind] = "midi"
    REVISION: ClassVar[int] = 2

    notes: int = NOTES

    def __post_init__(self) -> None:
        if not 1 <= self.notes <= NOTES:
            raise RequestError(f"notes must lie in 1..{NOTES}, not {self.notes}")

    def load(self, clip: Clip) -> np.ndarray[Any, np.dtype[np.int16]]:
        """``int16 [windows, notes, 8]``, `PAD` behind the last note; ClipError ``no-notes`` where none begins."""
        octuples = read_octuples(clip)
        firsts = sampled(len(octuples), self.notes)
        windows = np.full((len(firsts), self.notes, len(FIELDS)), PAD, dtype=np.int16)
        for row, first in zip(windows, firsts, strict=True):
            part = window(octuples, first, self.notes)
            row[: len(part)] = part
        return windows


def read_octuples(clip: Clip) -> Octuples:
    """The notes that begin within the clip, bars and positions as they are in the song; ClipError as `read_score`."""
    score = read_score(clip.path, every_note=True)
    if clip.start_s is not None or clip.duration_s is not None:
        start_s = clip.start_s or 0.0
        end_s = start_s + clip.duration_s if clip.duration_s is not None else np.inf
        score = score.between(start_s, end_s)
    octuples = encode(score)
    if not len(octuples):
        raise ClipError("no-notes", "no note begins in this stretch of the file")
    return octuples


def _steps(ticks: Ints, score: Score) -> Ints:
    return np.rint(ticks * STEPS_PER_QUARTER / score.ticks_per_quarter).astype(np.int64)


def _in_force(ticks: Ints, score: Score, steps: int) -> tuple[Ints, Ints]:
    """The steps below ``steps`` at which a change of tempo or time signature takes force, and which one it is."""
    at = _steps(ticks, score)
    last_at_its_step = np.append(at[1:] != at[:-1], True)[: len(at)]
    places = np.flatnonzero(last_at_its_step & (at < steps))
    return at[places], places


def _bars(step: Ints, meter_at: Ints, meters: list[int], steps: int) -> tuple[Ints, Ints]:
    """The bar and the position in it of each step. A change takes force at the end of the bar that it falls into."""
    changes = meter_at.tolist()
    runs: list[tuple[int, int, int]] = []  # of equal bars: first step, first bar, steps of a bar
    at = bar = 0
    while at < steps:
        index = bisect_right(changes, at) - 1
        length = _BAR_STEPS[meters[index]]
        until = changes[index + 1] if index + 1 < len(changes) else steps
        runs.append((at, bar, length))
        count = -((at - until) // length)
        at, bar = at + count * length, bar + count
    run_at, run_bar, run_length = np.asarray(runs, dtype=np.int64).reshape(-1, 3).T
    run = np.searchsorted(run_at, step, side="right") - 1
    bars, position = np.divmod(step - run_at[run], run_length[run])
    return run_bar[run] + bars, position


def _lay_out(bars: list[int], first: list[list[int]], last: list[list[int]]) -> tuple[Ints, Ints]:
    """The first step and the time signature of each bar that holds notes, given its first and last note."""
    starts, meters = [], []
    at, number, force = 0, 0, _meter(4, 4)
    for bar, (_, position, *_, own, _), (_, furthest, *_, latest, _) in zip(bars, first, last, strict=True):
        at += (bar - number) * _BAR_STEPS[force]
        # A bar's first note mostly says it. It cannot where the change came within a bar that was longer.
        fitting = (code for code in (own, force) if _BAR_STEPS[code] > furthest)
        meter = own if position == 0 else next(fitting, _LONGEST_BAR)
        starts.append(at)
        meters.append(meter)
        at, number, force = at + _BAR_STEPS[meter], bar + 1, latest
    return np.asarray(starts, dtype=np.int64), np.asarray(meters, dtype=np.int64)


@cache
def _meter(numerator: int, denominator: int) -> int:
    """The code of a time signature, reduced as the authors do it where there is none."""
    n, d = int(numerator), int(denominator)
    while d > 1 << _MAX_EXPONENT and d % 2 == n % 2 == 0:
        n, d = n // 2, d // 2
    while d > 0 and n > 2 * d:
        n //= next(divisor for divisor in range(2, n + 1) if n % divisor == 0)
    if (n, d) not in _METER_CODES:
        raise ClipError("outside", f"OctupleMIDI has no code for a time signature of {numerator}/{denominator}")
    return _METER_CODES[n, d]


def _tempo(micros: Floats) -> Ints:
    bpm = np.clip(6e7 / micros, _MIN_BPM, _MAX_BPM)
    codes: Ints = np.rint(_TEMPI_PER_OCTAVE * np.log2(bpm / _MIN_BPM)).astype(np.int64)
    return codes
