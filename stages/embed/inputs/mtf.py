"""MIDI as text, a line an event, cut into patches of 64 characters: what CLaMP 3 reads.

After S. Wu et al.: CLaMP 3 (Findings of ACL 2025), with the words and the order of numbers that the authors' converter
gives (`mido`, all tracks merged, ticks since the event before): ``note_on 10 2 60 70``. Events of one kind in a row
share a patch as long as it has room. A clip's stretch keeps the events that begin in it, and before them all earlier
ones but notes, at no distance, so that instruments and tempo are what they were.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from stages.embed.inputs import Clip, Kind, remark
from stages.embed.inputs.score import read_bytes
from stages.embed.inputs.smf import MAX_REWRITTEN_BYTES, rewritten, unwrapped
from store.errors import ClipError, RequestError

CHARACTERS, PATCHES = 64, 512  # of a patch, of a segment
PAD, BEGIN, END = 0, 1, 2
MOST_SEGMENTS = 64

_LEFT_OUT = {  # texts, which the model was trained without
    *("text", "copyright", "track_name", "instrument_name", "lyrics", "marker", "cue_marker", "device_name")
}
_NOTES = ("note_on", "note_off")
_DEFAULT_TEMPO_US = 500_000

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True, slots=True, kw_only=True)
class MtfInput:
    """The patches of a clip in segments of `PATCHES`, the last of which reaches back to be as long as the others.

    Attributes
    ----------
    segments : how many of them are read at most, spread evenly over the clip.
    """

    KIND: ClassVar[Kind] = "midi"
    REVISION: ClassVar[int] = 1

    segments: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.segments <= MOST_SEGMENTS:
            raise RequestError(f"segments must lie in 1..{MOST_SEGMENTS}, not {self.segments}")

    def load(self, clip: Clip) -> Bytes:
        """One window: ``uint8 [1, segments, 513, 64]``, character codes, 0 where there is no patch.

        The first two numbers of a segment's last row are the patches that it adds to those before it, in 16 bits with
        the low ones first: how much it counts; 0 for a segment that is none.

        Raises
        ------
        ClipError
            as `read_bytes`; ``no-notes`` where no note begins in the clip; ``damaged``; ``not-supported`` for a piano
            roll; ``outside`` above `MAX_REWRITTEN_BYTES`.
        """
        table = patches(as_text(clip))
        firsts = np.arange(0, len(table), PATCHES)
        counts = np.minimum(PATCHES, len(table) - firsts)
        firsts[-1] = max(0, len(table) - PATCHES)
        if len(firsts) > self.segments:
            picks = np.linspace(0, len(firsts) - 1, self.segments).round().astype(int)
            firsts, counts = firsts[picks], counts[picks]
        window = np.zeros((1, self.segments, PATCHES + 1, CHARACTERS), dtype=np.uint8)
        for segment, first, count in zip(window[0], firsts.tolist(), counts.tolist(), strict=False):
            part = table[first : first + PATCHES]
            segment[: len(part)] = part
            segment[PATCHES, :2] = count & 0xFF, count >> 8
        return window


def as_text(clip: Clip) -> list[str]:
    """The lines of a clip, the first with the resolution; ClipError as `MtfInput.load`."""
    music = _parsed(clip.path)
    lines = [f"ticks_per_beat {music.ticks_per_beat}"]
    sounds = False
    for message in _within(music, clip):
        if message.type not in _LEFT_OUT:
            sounds |= message.type == "note_on" and message.velocity > 0
            words = " ".join(str(value) for value in message.dict().values())
            lines.append(words.strip().encode("unicode_escape").decode("ascii"))
    if not sounds:
        raise ClipError("no-notes", "no note begins in this stretch of the file")
    return lines


def patches(lines: list[str]) -> Bytes:
    """``uint8 [patches, 64]``: a patch that begins, those of the lines, and one that ends."""
    texts: list[str] = []
    patch = ""
    for line in (*(f"{line}\n" for line in lines[:-1]), lines[-1]):
        kind, _, numbers = line.partition(" ")
        if patch.startswith(kind) and len(patch) + len(numbers) <= CHARACTERS - 2:
            patch = f"{patch[:-1]}\t{numbers}"
        else:
            if patch:
                texts.append(patch)
            patch = line
    texts.append(patch)
    texts = [chr(BEGIN) * CHARACTERS, *texts, chr(END) * CHARACTERS]
    coded = (f"{chr(BEGIN)}{text}{chr(END)}"[:CHARACTERS].ljust(CHARACTERS, chr(PAD)) for text in texts)
    return np.frombuffer("".join(coded).encode("ascii"), dtype=np.uint8).reshape(-1, CHARACTERS)


def _parsed(path: Path) -> Any:
    import mido

    data = read_bytes(path)
    if data[:2] == b"PK":
        raise ClipError("not-supported", "is a piano roll, and this backbone reads MIDI files")
    data, around = unwrapped(data)
    if len(data) > MAX_REWRITTEN_BYTES:
        raise ClipError("outside", f"more than {MAX_REWRITTEN_BYTES >> 20} MiB of MIDI to write as text")
    if data[9] == 2 and data[11] > 1:
        raise ClipError("outside", "format 2 holds independent songs without a common time; save it as format 0 or 1")
    if not any(data[12:14]):
        raise ClipError("damaged", "the header gives no time unit (0 ticks)")
    for text in around:
        remark("mended", text)
    try:
        return mido.MidiFile(file=io.BytesIO(data))
    except Exception as error:  # the library raises what its reading leads to
        reason = str(error) or type(error).__name__
    try:
        music = mido.MidiFile(file=io.BytesIO(rewritten(data)))
    except ClipError:
        raise
    except Exception as error:
        raise ClipError("damaged", f"does not decode: {reason}") from error
    remark("mended", f"read after its events were written anew; as they were: {reason}")
    return music


def _within(music: Any, clip: Clip) -> Iterator[Any]:
    """The events of a clip's stretch, with the distances that they have in it."""
    if clip.start_s is None and clip.duration_s is None:
        yield from music.merged_track
        return
    start_s = clip.start_s or 0.0
    end_s = np.inf if clip.duration_s is None else start_s + clip.duration_s
    at_s, before, per_tick = 0.0, 0, _seconds_per_tick(music.ticks_per_beat, _DEFAULT_TEMPO_US)
    for message in music.merged_track:
        at_s += message.time * per_tick
        if message.type == "set_tempo":
            per_tick = _seconds_per_tick(music.ticks_per_beat, message.tempo)
        if at_s < start_s:
            if message.type not in _NOTES:
                yield message.copy(time=0)
            continue
        if at_s >= end_s:
            return
        if not before:  # the first event of the stretch lies as far from its start as it does in the song
            yield message.copy(time=round((at_s - start_s) / per_tick) if start_s and per_tick else message.time)
        else:
            yield message
        before += 1


def _seconds_per_tick(ticks: int, tempo_us: int) -> float:
    """Of a beat's ticks; below 0 they are frames a second and ticks a frame in two bytes, and know no tempo."""
    if ticks >= 0:
        return tempo_us / 1e6 / ticks
    frames_per_s, parts = -(ticks >> 8), ticks & 0xFF
    return 1 / ((30_000 / 1_001 if frames_per_s == 29 else frames_per_s) * max(parts, 1))
