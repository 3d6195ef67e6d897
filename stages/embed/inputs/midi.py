"""MIDI files as notes in seconds and as piano rolls.

`score.read_score` reads the file; times come from the tempo events of all tracks in double precision.
`pretty_midi` answers the same notes, but for these: it follows the tempo events of the first track alone, gives a
note the program in force at its end instead of its start, and keeps every note of several that began before one
shared note-off, where symusic keeps the first (octuples keep them all: `read_score`'s ``every_note``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from stages.embed.inputs import Clip, Kind
from stages.embed.inputs.rolls import ROLL_SUFFIX, read_roll
from stages.embed.inputs.score import Bytes, Flags, Floats, Ints, read_score
from store.errors import ClipError, RequestError

MIDI_SUFFIXES = frozenset({".mid", ".midi", ".kar"})
NOTE_SUFFIXES = MIDI_SUFFIXES | {ROLL_SUFFIX}  # whatever `read_notes` reads
MAX_HOURS = 24.0
MAX_FRAMES = 1 << 14  # columns of a clip
TRACKS = ("drums", "piano", "guitar", "bass", "strings")

_PITCHES = 128


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


def has_notes(path: Path) -> bool:
    """Whether a file holds notes: as its name says, or its first bytes where the name has no ending."""
    if path.suffix:
        return path.suffix.lower() in NOTE_SUFFIXES
    if not path.is_file():  # a pipe would be waited for
        return False
    with path.open("rb") as file:
        magic = file.read(12)
    return magic[:4] == b"MThd" or (magic[:4] == b"RIFF" and magic[8:12] == b"RMID")


def read_notes(path: Path) -> Notes:
    """The notes of a MIDI file, as `read_score` reads them, or of a piano roll (.npz).

    Raises
    ------
    ClipError
        as `read_score`, and ``outside`` for notes beyond `MAX_HOURS`.
    """
    if _is_archive(path):  # by its content: a link's target can be called anything
        return Notes(**read_roll(path))
    score = read_score(path)
    start_s, end_s = score.seconds(score.start), score.seconds(score.end)
    if end_s.max(initial=0.0) > MAX_HOURS * 3600:
        raise ClipError("outside", f"the notes reach beyond {MAX_HOURS:g} hours, so the file is likely damaged")
    order = np.argsort(start_s, kind="stable")
    order = order[end_s[order] > start_s[order]]
    return Notes(
        pitch=score.pitch[order].astype(np.uint8),
        velocity=score.velocity[order].astype(np.uint8),
        start_s=start_s[order],
        end_s=end_s[order],
        program=score.program[order].astype(np.uint8),
        is_drum=score.is_drum[order],
    )


def _is_archive(path: Path) -> bool:
    """Whether a file is a zip archive, as piano rolls are; what cannot be opened is left to `read_score`."""
    if path.suffix.lower() == ROLL_SUFFIX:
        return True
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PK\x03\x04"
    except (OSError, ValueError):
        return False


def duration_s(path: Path) -> float:
    """Seconds until the last note of the file ends, 0 where it holds none; ClipError as `read_notes`."""
    return float(read_notes(path).end_s.max(initial=0.0))


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
    REVISION: ClassVar[int] = 2

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
        sounds = (track >= 0) & (low >= 0) & (low < pitches) & (last > first)
        if not sounds.any():
            return None
        # The sum of velocities is a staircase in time. Its mean over each cell is the running sum of one step a
        # note's start and end, each shared between the cell that it falls into and the next.
        row = ((track * pitches + low) * (frames + 2))[sounds]
        index, steps = [], []
        for edge, height in (
            (first[sounds], notes.velocity[sounds]),
            (last[sounds], -notes.velocity[sounds].astype(float)),
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
