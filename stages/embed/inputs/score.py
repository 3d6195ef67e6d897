"""MIDI files as they are written: notes, tempos and time signatures in ticks.

symusic parses; what it does not decide is decided here. A note ends at the first note-off of its channel and
pitch after its start (one note-off ends every note that sounds there, as synthesizers do), and notes without
length are dropped. Tempos and time signatures count from whichever track they stand in; a tempo of 0 is passed over.
A file that symusic refuses is rewritten event by event (`smf`) and parsed again; a remark then says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from stages.embed.inputs import remark
from stages.embed.inputs.smf import MAX_REWRITTEN_BYTES, is_whole, rewritten, unwrapped, with_all_off
from store.errors import ClipError

MAX_BYTES = 1 << 24  # room for more than two million notes

_DEFAULT_TEMPO_US = 500_000  # microseconds per quarter note in files without a tempo: 120 a minute
_PITCHES = 128
_TICK_BITS = 32
_NOTE_COLUMNS = ("pitch", "velocity", "start", "end", "program", "is_drum")

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
Ints = np.ndarray[Any, np.dtype[np.int64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, kw_only=True)
class Score:
    """A song in ticks.

    Attributes
    ----------
    pitch, velocity, program : [notes] in the order of the file's tracks; 0..127, 1..127 and 0..127 (General MIDI).
    start, end : [notes], 0 <= start < end < 2^31.
    is_drum : [notes].
    tempo_at, tempo_us : [tempos] in order of time, the first at 0; microseconds per quarter note, above 0. Of several
        at the same time the last counts.
    meter_at, numerator, denominator : [time signatures] in order of time; of several at the same time the last counts.
    ticks_per_quarter : the resolution.
    ticks_per_s : None for files that count beats. Those that count frames have no tempo of their own: they get 120 a
        minute, and ``ticks_per_quarter`` is the resolution at that tempo.
    """

    pitch: Ints
    velocity: Ints
    start: Ints
    end: Ints
    program: Ints
    is_drum: Flags
    tempo_at: Ints
    tempo_us: Floats
    meter_at: Ints
    numerator: Ints
    denominator: Ints
    ticks_per_quarter: float
    ticks_per_s: float | None = None

    def __len__(self) -> int:
        return len(self.pitch)

    def seconds(self, ticks: Ints) -> Floats:
        """The times of these ticks in seconds, in double precision."""
        if self.ticks_per_s is not None:
            return ticks / self.ticks_per_s
        base, scale = self._tempo_map
        segment = np.searchsorted(self.tempo_at, ticks, side="right") - 1
        seconds: Floats = base[segment] + (ticks - self.tempo_at[segment]) * scale[segment]
        return seconds

    def between(self, start_s: float, end_s: float) -> Score:
        """The notes that begin at or after ``start_s`` and before ``end_s``, with unchanged times."""
        begin_s = self.seconds(self.start)
        inside = (begin_s >= start_s) & (begin_s < end_s)
        return replace(self, **{name: getattr(self, name)[inside] for name in _NOTE_COLUMNS})

    @cached_property
    def _tempo_map(self) -> tuple[Floats, Floats]:
        """The second at which each tempo begins, and its seconds per tick."""
        # The same order of operations as in pretty_midi, so that both round a note to the same column of a roll.
        scale = 60.0 / (6e7 / self.tempo_us * self.ticks_per_quarter)
        return np.concatenate([[0.0], np.cumsum(np.diff(self.tempo_at) * scale[:-1])]), scale


def read_score(path: Path, *, every_note: bool = False) -> Score:
    """The notes of a Standard MIDI File of format 0 or 1, timed by tempo or by SMPTE frames.

    Parameters
    ----------
    every_note : keep every note that a note-off ends. symusic ends one note for each note-off and drops those that are
        left over in the end, so that of several notes with one note-off between them the first stays.

    Raises
    ------
    ClipError
        ``missing``, ``unreadable``, ``empty``, ``damaged``, ``truncated``, ``not-supported``; ``outside`` for a file of
        more than `MAX_BYTES`, or of several independent songs (format 2).
    """
    score, ticks_per_s = _parse(read_bytes(path), every_note=every_note)
    tracks = list(score.tracks)
    parts = [track.notes.numpy() for track in tracks]
    counts = [len(part["time"]) for part in parts]

    def column(name: str) -> Ints:
        values = np.concatenate([part[name] for part in parts]) if parts else np.empty(0)
        return values.astype(np.int64)

    def each(values: list[int]) -> Ints:
        return np.repeat(np.asarray(values, dtype=np.int64), counts)

    start, pitch = column("time"), column("pitch")
    end = start + column("duration")
    if len(start) and (start.min() < 0 or (end < start).any() or end.max() >= 1 << (_TICK_BITS - 1)):
        raise ClipError("damaged", "note times overflow")
    end, sounds = _first_note_off(each(list(range(len(parts)))) * _PITCHES + pitch, start, end)
    columns: dict[str, Any] = {
        "pitch": pitch,
        "velocity": column("velocity"),
        "start": start,
        "end": end,
        "program": each([track.program for track in tracks]),
        "is_drum": each([track.is_drum for track in tracks]).astype(np.bool_),
    }
    if not sounds.all():
        columns = {name: values[sounds] for name, values in columns.items()}
    quarter = score.ticks_per_quarter if ticks_per_s is None else ticks_per_s * _DEFAULT_TEMPO_US / 1e6
    return Score(
        **columns, **_tempos(score, ticks_per_s), **_meters(score), ticks_per_quarter=quarter, ticks_per_s=ticks_per_s
    )


def _tempos(score: Any, ticks_per_s: float | None) -> dict[str, Any]:
    tempos = score.tempos.numpy() if ticks_per_s is None else {"time": [], "mspq": []}
    at = np.concatenate([[0], tempos["time"]]).astype(np.int64)
    tempo_us = np.concatenate([[_DEFAULT_TEMPO_US], tempos["mspq"]]).astype(np.float64)
    if (at < 0).any() or (tempo_us < 0).any():
        raise ClipError("damaged", "a tempo below 0 or at a negative time")
    if not tempo_us.all():
        remark("mended", "a tempo of 0 is passed over")
        at, tempo_us = at[tempo_us > 0], tempo_us[tempo_us > 0]
    order = np.argsort(at, kind="stable")
    return {"tempo_at": at[order], "tempo_us": tempo_us[order]}


def _meters(score: Any) -> dict[str, Any]:
    meters = {name: values.astype(np.int64) for name, values in score.time_signatures.numpy().items()}
    if (meters["time"] < 0).any():
        raise ClipError("damaged", "a time signature at a negative time")
    order = np.argsort(meters["time"], kind="stable")
    return {
        "meter_at": meters["time"][order],
        "numerator": meters["numerator"][order],
        "denominator": meters["denominator"][order],
    }


def read_bytes(path: Path) -> bytes:
    """A MIDI file as it is; ClipError ``missing``, ``unreadable``, or ``outside`` above `MAX_BYTES`."""
    if not path.is_file():
        raise ClipError("missing", "is not a file")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise ClipError("missing", "is not a file") from error
    except OSError as error:
        raise ClipError("unreadable", f"may not be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise ClipError("outside", f"a MIDI file above {MAX_BYTES >> 20} MiB")
    return data


def _parse(data: bytes, *, every_note: bool) -> tuple[Any, float | None]:
    """symusic's score in ticks, and the ticks a second where the file counts SMPTE frames instead of beats."""
    data, around = unwrapped(data)
    for text in around:
        remark("mended", text)
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
        score = _symusic(data)
    except ClipError as error:
        data = rewritten(data, close_all=every_note)
        score = _symusic(data)
        remark("mended", f"read after its events were written anew; as they were: {error.reason}")
        return score, ticks_per_s
    fuller = _with_hidden_tracks(score, data, every_note=every_note)
    if fuller is not None:
        remark("mended", "its header tells fewer tracks, or shorter ones, than there are")
        return fuller, ticks_per_s
    if every_note and _is_ambiguous(score, data):
        score = _symusic(rewritten(data, close_all=True))
    return score, ticks_per_s


def _with_hidden_tracks(score: Any, data: bytes, *, every_note: bool) -> Any | None:
    """The score with the tracks that its header does not count, or to which it gives no length; None without such."""
    is_odd = data.count(b"MTrk") > int.from_bytes(data[10:12], "big") or not (score.note_num() or is_whole(data))
    if not is_odd or len(data) > MAX_REWRITTEN_BYTES:
        return None
    try:
        full_score = _symusic(rewritten(data, close_all=every_note))
    except ClipError:
        return None
    return full_score if full_score.note_num() > score.note_num() else None


def _symusic(data: bytes) -> Any:
    from symusic import Score

    try:
        return Score.from_midi(data)
    except (RuntimeError, ValueError) as error:
        reason = str(error).removeprefix("MiniMidi: ").removesuffix(": iostream error")
        raise ClipError("damaged", f"not a whole MIDI file: {reason}") from error


def _is_ambiguous(score: Any, data: bytes) -> bool:
    """Whether symusic, which ends notes first in, first out, may have dropped or misled one.

    It drops notes for which no note-off is left in the end: more come out where all are ended there. That matters where
    a note-off came after they began; what nothing ends is no note. Notes without length, and notes that begin where one
    of several that sound ends, may have taken another's note-off. Files that are too large to be rewritten are left as
    they are.
    """
    if len(data) > MAX_REWRITTEN_BYTES:
        return False
    for track in score.tracks:
        notes = track.notes.numpy()
        start, duration, key = (notes[name].astype(np.int64) for name in ("time", "duration", "pitch"))
        starts, ends = (np.sort(key << _TICK_BITS | at) for at in (start, start + duration))
        if (duration == 0).any() or ((starts[1:] < ends[:-1]).any() and _meet_within(starts, ends)):
            return True
    ended = with_all_off(data)
    if ended is None:
        return True
    closed = _symusic(ended)
    return closed.note_num() > score.note_num() and any(_drops_ended(track.notes.numpy()) for track in closed.tracks)


def _drops_ended(notes: Any) -> bool:
    """Whether a note that only the last note-off of all ends began before another of its pitch was ended."""
    if not len(notes["time"]):
        return False
    start, key = notes["time"].astype(np.int64), notes["pitch"].astype(np.int64)
    end = start + notes["duration"]
    is_last = end == end.max()
    first_start = np.full(_PITCHES, end.max())
    np.minimum.at(first_start, key[is_last], start[is_last])
    return bool((end[~is_last] > first_start[key[~is_last]]).any())


def _meet_within(starts: Ints, ends: Ints) -> bool:
    """Whether a note begins at the end of another while yet another of its pitch sounds; both [notes], sorted."""
    meeting = np.isin(starts, ends)
    begun = np.searchsorted(starts, starts[meeting])  # before this tick
    ended = np.searchsorted(ends, starts[meeting], side="left")
    return bool((begun - ended > 1).any())


def _first_note_off(group: Ints, start: Ints, end: Ints) -> tuple[Ints, Flags]:
    """The first end after each start within its ``group`` (part and pitch), and which notes have a length.

    symusic pairs ends with starts first in, first out: a key struck twice before one release would sound until the
    next one.
    """
    sounds = end > start
    key = group << _TICK_BITS
    all_sound = bool(sounds.all())
    starts, ends = (np.sort(key + at if all_sound else (key + at)[sounds]) for at in (start, end))
    # If each start follows the end before it, no two notes of a key overlap and no end moves; most files are like that.
    overlaps = starts[1:] < ends[:-1]
    if not overlaps.any():
        return end, sounds
    has_overlaps = np.zeros(int(group.max()) + 1, dtype=np.bool_)
    has_overlaps[starts[1:][overlaps] >> _TICK_BITS] = True
    rows = np.flatnonzero(has_overlaps[group] & sounds)
    first = np.searchsorted(ends, key[rows] + start[rows], side="right")
    first_end = end.copy()
    first_end[rows] = ends[first] - key[rows]  # a note's own end is after its start, so there is one
    return first_end, sounds
