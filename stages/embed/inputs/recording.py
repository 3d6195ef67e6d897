"""Opening a recording, whatever its format and whatever its header claims, and reading stretches of it as one channel.

libsndfile decodes what it knows, ffmpeg the rest. Only what is asked for is decoded, a block at a time, so that memory
depends on the windows alone and never on what a header claims.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import reduce
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from stages.embed.inputs._silence import silenced
from stages.embed.inputs.ffmpeg import FFMPEG_SUFFIXES, FfmpegRecording, find_reader
from stages.embed.inputs.headers import layout
from stages.embed.inputs.views import Layout
from store.errors import ClipError

_MALFORMED = 3  # libsndfile's SF_ERR_MALFORMED_FILE: a format that it reads, and a file that is damaged
AUDIO_SUFFIXES = FFMPEG_SUFFIXES | {
    *(".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64"),
    ".rf64",
}
RATES_HZ = (1_000, 768_000)  # what a recording can have; a header with anything else is not one's
MAX_SAMPLES = 1 << 30  # of all channels, that are decoded to find out how many there are

_SYSTEM_ERROR = 2  # libsndfile's SF_ERR_SYSTEM
_UNKNOWN_FRAMES = 1 << 60  # libsndfile's largest number stands for a length that it does not know
_BLOCK_SAMPLES = 1 << 20  # of all channels together

# An MP3 frame may borrow bits from frames before it, of more of them the smaller they are: started cold, a decoder
# gave other samples for the first 0.2 s of files of 8 kHz. The other formats are exact wherever one starts.
_MP3_LEAD_S = 1.0

Samples = np.ndarray[Any, np.dtype[np.float32]]


class Recording(Protocol):
    """A recording that is open.

    Attributes
    ----------
    rate_hz : frames a second.
    frames : how many there are, as far as is known without decoding them.
    """

    rate_hz: int
    frames: int

    def read_mono(self, first: int, count: int) -> Samples:
        """``count`` frames from ``first`` on, mean over the channels; fewer where the recording ends."""
        ...

    def recount(self) -> int:
        """Set ``frames`` to what decodes, found by decoding, and return it."""
        ...


@contextmanager
def open_recording(path: Path) -> Iterator[tuple[Recording, float]]:
    """The recording, and how many times as long its header claims it to be (1.0 for an honest one).

    Raises
    ------
    ClipError
        ``missing``, ``unreadable``, ``empty``, ``damaged``, ``not-supported``; ``outside`` for one that is too long to
        be counted. What decoding raises within the context becomes one too.
    """
    _check_file(path)
    with ExitStack() as stack, silenced(), _decoding():
        plan = layout(path)
        recording = _open(path, plan, stack)
        yield recording, plan.header_share


def _check_file(path: Path) -> None:
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: no path can hold a zero byte
        raise ClipError("missing", getattr(error, "strerror", None) or str(error)) from error
    if not stat.S_ISREG(status.st_mode):  # a pipe would wait for ever
        raise ClipError("missing", "is not a file")
    if not os.access(path, os.R_OK):
        raise ClipError("unreadable", "may not be read (permission denied)")
    if status.st_size == 0:
        raise ClipError("empty", "has no bytes")


def _open(path: Path, plan: Layout, stack: ExitStack) -> Recording:
    import soundfile

    with path.open("rb") as file:
        magic = file.read(16)
    if magic[:4] == b"MThd" or (magic[:4] == b"RIFF" and magic[8:12] == b"RMID"):
        raise ClipError("not-supported", "is a MIDI file, and this backbone reads recordings")
    reader = find_reader(magic)
    for view in plan.views:
        stack.callback(view.close)
    try:
        parts = [stack.enter_context(soundfile.SoundFile(source)) for source in (plan.views or (path,))]
    except (soundfile.SoundFileError, TypeError) as error:  # TypeError: .raw does not say what it holds
        _raise_if_unreadable(error)
        # A damaged Ogg is none that ffmpeg is missing for; of other formats ffmpeg reads what libsndfile gives up.
        damaged = getattr(error, "code", None) == _MALFORMED and magic[:4] == b"OggS"
        if reader is not None and not (damaged and shutil.which("ffmpeg") is None):
            return FfmpegRecording(path, reader)
        if path.suffix and path.suffix.lower() not in AUDIO_SUFFIXES:
            raise ClipError("not-supported", f"{path.suffix} is no format of recordings that is read") from error
        raise ClipError("damaged", "is no audio of a format that can be read, or damaged at its start") from error
    # Of GSM 6.10 and G.721 libsndfile reads no stretch, only the whole.
    if reader is not None and any(part.frames >= _UNKNOWN_FRAMES or not part.seekable() for part in parts):
        return FfmpegRecording(path, reader)
    return JoinedRecording([SoundfileRecording(part) for part in parts])


@contextmanager
def _decoding() -> Iterator[None]:
    """What decoding raises as a ClipError."""
    import soundfile

    try:
        yield
    except soundfile.SoundFileError as error:
        _raise_if_unreadable(error)
        raise ClipError("damaged", "cannot be decoded where it is wanted (cut off, or bytes changed)") from error


def _raise_if_unreadable(error: Exception) -> None:
    """ClipError where it is the disk that failed and not the file."""
    if getattr(error, "code", None) == _SYSTEM_ERROR:
        raise ClipError("unreadable", "the file system gave an error") from error


class SoundfileRecording:
    """A `Recording` that libsndfile decodes."""

    def __init__(self, file: Any) -> None:
        low, high = RATES_HZ
        if not low <= file.samplerate <= high:
            raise ClipError("damaged", f"claims {file.samplerate} samples a second; {low} to {high} are believed")
        if file.frames <= 0:
            raise ClipError("empty", "has a header and no samples")
        self.rate_hz: int = file.samplerate
        self.frames: int = file.frames
        self._file = file

    def read_mono(self, first: int, count: int) -> Samples:
        file = self._file
        lead = min(first, round(_MP3_LEAD_S * self.rate_hz)) if file.format == "MP3" else 0
        file.seek(first - lead)
        mono, have = np.empty(lead + count, np.float32), 0
        for block in self._blocks(lead + count):
            mono[have : have + len(block)] = block
            have += len(block)
        return mono[lead:have]

    def recount(self) -> int:
        """See `Recording`; takes about a second for an hour of MP3."""
        self._file.seek(0)
        frames, most = 0, MAX_SAMPLES // self._file.channels
        for block in self._blocks(self.frames):
            frames += len(block)
            if frames > most:
                raise ClipError("outside", "its header does not say how long it is, and it is too long to find out")
        if not frames:
            raise ClipError("damaged", "has a header, and nothing behind it decodes")
        self.frames = frames
        return frames

    def _blocks(self, count: int) -> Iterator[Samples]:
        file = self._file
        # Made floats here, whole numbers take a third of the time, and are the same floats.
        kind, full_scale = ("int16", 1 << 15) if file.subtype == "PCM_16" else ("float32", 1)
        while count > 0:
            block = file.read(min(count, _BLOCK_SAMPLES // file.channels), dtype=kind, always_2d=True)
            if not len(block):
                return
            count -= len(block)
            with np.errstate(invalid="ignore", over="ignore"):  # told apart from music by AudioInput
                total = reduce(np.add, block.astype(np.float32, copy=False).T)  # block.sum(axis=1), many times as fast
                yield total / np.float32(full_scale * file.channels)


class JoinedRecording:
    """A `Recording` of several that follow each other in one file."""

    def __init__(self, parts: Sequence[Recording]) -> None:
        rates = sorted({part.rate_hz for part in parts})
        if len(rates) > 1:
            raise ClipError("not-supported", f"joins recordings of {' and '.join(map(str, rates))} samples a second")
        self._parts = parts
        self.rate_hz = rates[0]
        self.frames = sum(part.frames for part in parts)

    def read_mono(self, first: int, count: int) -> Samples:
        pieces, at = [], 0
        for part in self._parts:
            begin, end = max(first, at), min(first + count, at + part.frames)
            if begin < end:
                pieces.append(part.read_mono(begin - at, end - begin))
            at += part.frames
        return pieces[0] if len(pieces) == 1 else np.concatenate([np.empty(0, np.float32), *pieces])

    def recount(self) -> int:
        self.frames = sum(part.recount() for part in self._parts)
        return self.frames
