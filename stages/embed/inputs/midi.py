"""MIDI files as note arrays and piano rolls.

symusic parses; what it does not decide is decided here. A note ends at the first note-off of its channel and
pitch after its start (one note-off ends every note that sounds there, as synthesizers do), notes without length
are dropped, and times come from the tempo events of all tracks in double precision. `pretty_midi` answers the
same notes, but for these: it follows the tempo events of the first track alone, gives a note the program in
force at its end instead of its start, and keeps every note of several that began before one shared note-off,
where symusic keeps the first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from stages.embed.inputs import Clip, Kind
from stages.embed.inputs.rolls import ROLL_SUFFIX, read_roll
from store.errors import ClipError, RequestError

MIDI_SUFFIXES = frozenset({".mid", ".midi", ".kar"})
NOTE_SUFFIXES = MIDI_SUFFIXES | {ROLL_SUFFIX}  # whatever `read_notes` reads
MAX_BYTES = 1 << 24  # room for more than two million notes
MAX_HOURS = 24.0
MAX_FRAMES = 1 << 14  # columns of a clip
MAX_COLUMNS = 1 << 20  # of a whole song's roll: 1 GiB
TRACKS = ("drums", "piano", "guitar", "bass", "strings")

_DEFAULT_TEMPO_US = 500_000  # microseconds a quarter note where a file names no tempo: 120 a minute
_PITCHES = 128
_TICK_BITS = 32

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
Ints = np.ndarray[Any, np.dtype[np.int64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """The notes of a song, in order of their start; all arrays are [notes].

    ``pitch`` 0..127, ``velocity`` 1..127, ``program`` 0..127 (General MIDI), ``start_s`` < ``end_s`` in seconds.
    """

    pitch: Bytes
    velocity: Bytes
    start_s: Floats
    end_s: Floats
    program: Bytes
    is_drum: Flags

    def __len__(self) -> int:
        return len(self.pitch)


def read_notes(path: Path) -> Notes:
    """The notes of a Standard MIDI File of format 0 or 1, timed by tempo or by SMPTE frames; or of a piano roll (.npz).

    Raises
    ------
    ClipError
        ``missing``, ``damaged``, or ``outside`` for what is not read: above `MAX_BYTES`, longer than `MAX_HOURS`,
        several independent songs in one file (format 2).
    """
    contents = _contents(path)
    if path.suffix.lower() == ROLL_SUFFIX:
        return Notes(**read_roll(path))
    score, ticks_per_s = _parse(contents)
    parts = [track.notes.numpy() for track in score.tracks]
    counts = [len(part["time"]) for part in parts]

    def column(name: str) -> Ints:
        return np.concatenate([part[name] for part in parts] or [np.empty(0)]).astype(np.int64)

    def each(values: list[int]) -> Ints:
        return np.repeat(np.asarray(values, dtype=np.int64), counts)

    start, pitch = column("time"), column("pitch")
    end = start + column("duration")
    if len(start) and (start.min() < 0 or (end < start).any() or end.max() >= 1 << (_TICK_BITS - 1)):
        raise ClipError("damaged", "note times overflow")
    end, sounds = _first_note_off(each(list(range(len(parts)))) * _PITCHES + pitch, start, end)
    start_s, end_s = (_seconds(ticks, score, ticks_per_s) for ticks in (start, end))
    sounds &= end_s > start_s
    if sounds.any() and end_s[sounds].max() > MAX_HOURS * 3600:
        raise ClipError("outside", f"the notes reach beyond {MAX_HOURS:g} hours, so the file is likely damaged")
    order = np.flatnonzero(sounds)
    order = order[np.argsort(start_s[order], kind="stable")]
    return Notes(
        pitch=pitch[order].astype(np.uint8),
        velocity=column("velocity")[order].astype(np.uint8),
        start_s=start_s[order],
        end_s=end_s[order],
        program=each([track.program for track in score.tracks])[order].astype(np.uint8),
        is_drum=each([track.is_drum for track in score.tracks])[order].astype(np.bool_),
    )


def duration_s(path: Path) -> float:
    """Seconds until the last note of the file ends, 0 where it holds none; ClipError as `read_notes`."""
    return float(read_notes(path).end_s.max(initial=0.0))


def piano_roll(notes: Notes, rate_hz: float) -> Floats:
    """The sum of the velocities that sound in each column, ``float64 [128, int(rate_hz * end of the last note)]``.

    A note fills the columns from ``int(rate_hz * start_s)`` up to, not including, ``int(rate_hz * end_s)``, as in
    `pretty_midi.PrettyMIDI.get_piano_roll`, whose sum over instruments this equals with these differences: drums
    are not counted (there a drum track is a roll of zeros), neither the sustain pedal (``pedal_threshold=None``
    there) nor pitch bends move anything, and the roll ends with the last note, not the last event. ClipError
    ``outside`` above `MAX_COLUMNS`.
    """
    frames = int(rate_hz * notes.end_s.max(initial=0.0))
    if frames > MAX_COLUMNS:
        raise ClipError("outside", f"a piano roll of {frames:,} columns; {MAX_COLUMNS:,} are the most")
    first, last = ((rate_hz * times).astype(np.int64) for times in (notes.start_s, notes.end_s))
    velocity = np.where(notes.is_drum, 0.0, notes.velocity)
    row = notes.pitch.astype(np.int64) * (frames + 1)
    index = np.concatenate([row + first, row + last])
    steps = np.bincount(index, np.concatenate([velocity, -velocity]), minlength=_PITCHES * (frames + 1))
    return np.cumsum(steps.reshape(_PITCHES, frames + 1), axis=1, dtype=np.float64)[:, :frames]


@dataclass(frozen=True, slots=True, kw_only=True)
class PianoRollInput:
    """Five piano rolls of a clip: drums, piano, guitar, bass, strings.

    The tracks are those of LPD-5 (Dong et al., MuseGAN, AAAI 2018) by General MIDI program, from 0: piano 0-7,
    guitar 24-31, bass 32-39, strings everything else except synth effects (96-103), percussive (112-119) and
    sound effects (120-127), which belong nowhere; drums are channel 10.

    ``frames`` equal columns lie over the clip's stretch; pitches ``low_pitch`` to ``high_pitch`` are kept, the
    default being C1 to B7. A cell holds the mean over its time of the sounding velocities, rounded and at most 127.
    """

    KIND: ClassVar[Kind] = "midi"

    frames: int = 16
    low_pitch: int = 24
    high_pitch: int = 107

    def __post_init__(self) -> None:
        if not 1 <= self.frames <= MAX_FRAMES:
            raise RequestError(f"frames must lie in 1..{MAX_FRAMES}, not {self.frames}")
        if not 0 <= self.low_pitch <= self.high_pitch < _PITCHES:
            raise RequestError(
                f"low_pitch and high_pitch must be in order within 0..127, not {self.low_pitch} and {self.high_pitch}"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(tracks, pitches, frames)`` of one window."""
        return len(TRACKS), self.high_pitch - self.low_pitch + 1, self.frames

    def load(self, clip: Clip) -> Bytes:
        """``uint8 [1, tracks, pitches, frames]``; ClipError ``no-notes`` where nothing sounds in the stretch."""
        notes = read_notes(clip.path)
        start_s = clip.start_s or 0.0
        length_s = clip.duration_s if clip.duration_s is not None else float(notes.end_s.max(initial=0.0)) - start_s
        if not (math.isfinite(start_s) and math.isfinite(length_s)):
            raise ClipError("outside", f"a stretch of {length_s} s from {start_s} s on cannot be cut")
        roll = self.roll(notes, start_s, length_s) if length_s > 0 else None
        if roll is None:
            raise ClipError("no-notes", f"no note from {start_s:g} s on for {max(length_s, 0.0):g} s")
        return roll[None]

    def roll(self, notes: Notes, start_s: float, length_s: float) -> Bytes | None:
        """``uint8 [tracks, pitches, frames]`` over ``length_s`` seconds from ``start_s`` on; None if nothing sounds."""
        tracks, pitches, frames = self.shape
        track = np.where(notes.is_drum, TRACKS.index("drums"), _FAMILY[notes.program])
        low = notes.pitch.astype(np.int64) - self.low_pitch
        first, last = (np.clip((t - start_s) * (frames / length_s), 0, frames) for t in (notes.start_s, notes.end_s))
        heard = (track >= 0) & (low >= 0) & (low < pitches) & (last > first)
        if not heard.any():
            return None
        # The sum of velocities is a staircase in time. Its mean over each cell is the running sum of one step a
        # note's start and end, each shared between the cell that it falls into and the next.
        row = ((track * pitches + low) * (frames + 2))[heard]
        index, steps = [], []
        for edge, height in (
            (first[heard], notes.velocity[heard]),
            (last[heard], -notes.velocity[heard].astype(float)),
        ):
            cell = edge.astype(np.int64)
            index += [row + cell, row + cell + 1]
            steps += [height * (1 - (edge - cell)), height * (edge - cell)]
        size = tracks * pitches * (frames + 2)
        cells = np.bincount(np.concatenate(index), np.concatenate(steps), minlength=size)
        means = np.cumsum(cells.reshape(tracks, pitches, frames + 2), axis=2)[:, :, :frames]
        return np.rint(np.clip(means, 0, 127)).astype(np.uint8)


def _families() -> Ints:
    """The index into `TRACKS` of each General MIDI program, -1 for none."""
    family = np.full(_PITCHES, TRACKS.index("strings"))
    for name, first in (("piano", 0), ("guitar", 24), ("bass", 32)):
        family[first : first + 8] = TRACKS.index(name)
    family[96:104] = family[112:128] = -1
    return family


_FAMILY = _families()


def _contents(path: Path) -> bytes:
    if not path.is_file():
        raise ClipError("missing", "is not a file")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ClipError("missing", f"may not be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise ClipError("outside", f"a MIDI file above {MAX_BYTES >> 20} MiB")
    return data


def _parse(data: bytes) -> tuple[Any, float | None]:
    """symusic's score in ticks, and the ticks a second where the file counts SMPTE frames instead of beats."""
    from symusic import Score

    if not data:
        raise ClipError("empty", "a file of 0 bytes")
    if len(data) < 14 or data[:4] != b"MThd":
        raise ClipError("damaged", "not a Standard MIDI File: it does not begin with a MIDI header")
    if data[9] == 2 and data[11] > 1:
        raise ClipError("outside", "format 2 holds independent songs without a common time; save it as format 0 or 1")
    ticks_per_s = None
    if data[12] & 0x80:  # minus the frames a second, then the ticks a frame; symusic knows beats only
        frames_per_s = 256 - data[12]
        ticks_per_s = (30_000 / 1_001 if frames_per_s == 29 else frames_per_s) * data[13]
        data = data[:12] + b"\x01\xe0" + data[14:]
    if ticks_per_s == 0 or not any(data[12:14]):
        raise ClipError("damaged", "the header gives no time unit (0 ticks)")
    try:
        return Score.from_midi(data), ticks_per_s
    except (RuntimeError, ValueError) as error:
        reason = str(error).removeprefix("MiniMidi: ").removesuffix(": iostream error")
        raise ClipError("damaged", f"not a whole MIDI file: {reason}") from error


def _first_note_off(group: Ints, start: Ints, end: Ints) -> tuple[Ints, Flags]:
    """Ends moved to the first end after the start within ``group`` (part and pitch), and which notes sound at all.

    symusic pairs first in, first out, so that a key struck twice before one release would sound on to the next.
    """
    sounds = end > start
    key = group << _TICK_BITS
    ends = np.sort((key + end)[sounds])
    found = np.searchsorted(ends, key + start, side="right")
    sounds &= found < len(ends)
    moved = np.where(sounds, ends[np.minimum(found, len(ends) - 1)] - key, end) if len(ends) else end
    return moved, sounds


def _seconds(ticks: Ints, score: Any, ticks_per_s: float | None) -> Floats:
    if ticks_per_s is not None:
        return ticks / ticks_per_s
    tempos = score.tempos.numpy()
    at = np.concatenate([[0], tempos["time"]]).astype(np.int64)
    micros = np.concatenate([[_DEFAULT_TEMPO_US], tempos["mspq"]]).astype(np.float64)
    order = np.argsort(at, kind="stable")
    at, micros = at[order], micros[order]
    if at[0] < 0 or not (micros > 0).all():
        raise ClipError("damaged", "a tempo of 0 or at a negative time")
    # In pretty_midi's order of operations, so that both round a note to the same column of a roll.
    scale = 60.0 / (6e7 / micros * score.ticks_per_quarter)
    base = np.concatenate([[0.0], np.cumsum(np.diff(at) * scale[:-1])])
    segment = np.searchsorted(at, ticks, side="right") - 1
    seconds: Floats = base[segment] + (ticks - at[segment]) * scale[segment]
    return seconds
