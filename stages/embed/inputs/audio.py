"""Recordings as windows of samples: decode, mix down to one channel, resample, cut.

Only the wanted stretch is decoded, whatever the length of the file, and a block of it at a time, so that
memory depends on the windows alone and never on what a header claims.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import soxr

from stages.embed.inputs import Clip, Kind
from store.errors import ClipError, RequestError
from store.words import counted

AUDIO_SUFFIXES = frozenset(
    {".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64"}
)

SILENCE_DB = -90.0  # below full scale: one step of 16 bits, what dither leaves of a song that holds nothing
RATES_HZ = (1_000, 768_000)  # what a recording can have; a header with anything else is not one's

_LOUDEST = 1e6  # 120 dB above full scale: no recording, and its power would overflow single precision
_SYSTEM_ERROR = 2  # libsndfile's SF_ERR_SYSTEM
_BLOCK_SAMPLES = 1 << 20  # of all channels together

# An MP3 frame may borrow bits from frames before it, of more of them the smaller they are: started cold, a decoder
# gave other samples for the first 0.2 s of files of 8 kHz. The other formats are exact wherever one starts.
_MP3_LEAD_S = 1.0

Samples = np.ndarray[Any, np.dtype[np.float32]]
Place = tuple[int, int]  # first frame and how many, at the file's rate


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioInput:
    """Windows of one channel at one rate.

    A clip's stretch is cut first and resampled alone: nothing outside it counts. One that is longer than a window
    gives as many windows as fit without overlap, `max_windows` at most, each from the middle of its equal share of
    the stretch. A shorter one is repeated until the window is full: networks that pool over time would otherwise
    answer to the amount of padding, and few have ever met digital silence.

    Attributes
    ----------
    rate_hz : samples a second that the backbone reads.
    window_samples : length of a window at that rate.
    max_windows : windows a clip has at most.
    min_s : shorter stretches are refused.
    """

    KIND: ClassVar[Kind] = "audio"
    REVISION: ClassVar[int] = 1

    rate_hz: int
    window_samples: int
    max_windows: int = 1
    min_s: float = 1.0

    def __post_init__(self) -> None:
        for name in ("rate_hz", "window_samples", "max_windows"):
            if getattr(self, name) < 1:
                raise RequestError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if not 0 <= self.min_s < math.inf:
            raise RequestError(f"min_s must be 0 or more, not {self.min_s}")

    def load(self, clip: Clip) -> Samples:
        """Decode the clip's stretch.

        Returns
        -------
        float32 [windows, window_samples], full scale is 1.

        Raises
        ------
        ClipError
            ``missing``, ``unreadable``, ``empty``, ``damaged``; ``short`` where less than `min_s` is there;
            ``silent`` where nothing rises above `SILENCE_DB`, ``constant`` where an offset does and nothing else;
            ``not-finite``.
        """
        return self._load(clip, lambda begin, end, need: spread(begin, end, need, self.max_windows))

    def draw(self, clip: Clip, count: int, rng: np.random.Generator) -> Samples:
        """``count`` windows from random places of the clip's stretch, for training; they may overlap.

        Otherwise as `load`: float32 [count, window_samples].
        """

        def places(begin: int, end: int, need: int) -> list[Place]:
            need = min(need, end - begin)
            return [(int(first), need) for first in rng.integers(begin, end - need, size=count, endpoint=True)]

        return self._load(clip, places)

    def _load(self, clip: Clip, places: Callable[[int, int, int], list[Place]]) -> Samples:
        with _opened(clip.path) as file:
            pieces = self._decode(file, file.frames, clip, places)
            if pieces is None:  # a header may promise too much: without an index, an MP3's length is a guess
                pieces = self._decode(file, _count_frames(file), clip, places)
            if pieces is None:
                raise ClipError("damaged", "its parts do not decode to the length of the whole")
            rate_hz = file.samplerate
        _check_loudness(pieces)
        return np.stack([self._fit(piece, rate_hz) for piece in pieces])

    def _decode(
        self, file: Any, frames: int, clip: Clip, places: Callable[[int, int, int], list[Place]]
    ) -> list[Samples] | None:
        """The mono pieces that become windows, at the file's rate; None where the file ends before one of them does."""
        begin, end = _stretch(clip, file.samplerate, frames)
        if end - begin < round(self.min_s * file.samplerate):
            have_s, at_s = (end - begin) / file.samplerate, begin / file.samplerate
            raise ClipError("short", f"{have_s:.2f} s from second {at_s:.2f}, and {self.min_s:g} s are the least")
        need = -(-self.window_samples * file.samplerate // self.rate_hz)
        pieces = []
        for first, count in places(begin, end, need):
            piece = _read_mono(file, first, count)
            if len(piece) < count:
                return None
            pieces.append(piece)
        return pieces

    def _fit(self, piece: Samples, rate_hz: int) -> Samples:
        at_rate = piece
        if rate_hz != self.rate_hz:
            # Resampled here, in the worker, so that a third of the bytes goes to the main process. This is what
            # librosa.resample does with res_type="soxr_hq", without librosa's import, which takes a second.
            at_rate = soxr.resample(piece, rate_hz, self.rate_hz, quality="HQ")
            rounded_up = math.ceil(len(piece) * (self.rate_hz / rate_hz))
            at_rate = np.pad(at_rate, (0, max(0, rounded_up - len(at_rate))))
        if not len(at_rate):
            raise ClipError(
                "short", f"{counted(len(piece), 'sample')} at {rate_hz} Hz: less than one at {self.rate_hz} Hz"
            )
        short = len(at_rate) < self.window_samples
        return np.resize(at_rate, self.window_samples) if short else at_rate[: self.window_samples]


def duration_s(path: Path) -> float:
    """Length of a recording in seconds, from its header; ClipError where there is none to be read.

    For an MP3 of variable bit rate without an index (Xing, VBRI) it is libsndfile's estimate. One that is too long is
    found out by `AudioInput.load`; behind the end of one that is too short nothing can be reached.
    """
    with _opened(path) as file:
        return float(file.frames / file.samplerate)


def spread(begin: int, end: int, need: int, most: int) -> list[Place]:
    """(first, count) of up to ``most`` windows of ``need`` frames in [begin, end), evenly spread, without overlap.

    One shorter window where the stretch is no longer than ``need``.
    """
    length = end - begin
    if length <= need:
        return [(begin, length)]
    windows = min(most, length // need)
    return [(begin + ((2 * i + 1) * length - windows * need) // (2 * windows), need) for i in range(windows)]


def _stretch(clip: Clip, rate_hz: int, frames: int) -> tuple[int, int]:
    """First frame of the clip's stretch and the one behind its last; at least one, and none that the file lacks."""
    start_s = 0.0 if clip.start_s is None else clip.start_s
    duration = math.inf if clip.duration_s is None else clip.duration_s
    if not 0 <= start_s * rate_hz <= frames - 1:
        raise ClipError("short", f"starts at second {start_s:g} of {frames / rate_hz:.2f}")
    begin = round(start_s * rate_hz)
    if not duration * rate_hz >= 1:
        raise ClipError("short", f"a stretch of {duration:g} s")
    return begin, frames if duration * rate_hz >= frames - begin else begin + round(duration * rate_hz)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file as `soundfile.SoundFile`, its header checked; what decoding raises becomes a ClipError."""
    import soundfile

    try:
        found = path.stat()
    except (OSError, ValueError) as error:  # ValueError: no path can hold a zero byte
        raise ClipError("missing", getattr(error, "strerror", None) or str(error)) from error
    if not stat.S_ISREG(found.st_mode):  # a pipe would wait for ever
        raise ClipError("missing", "is not a file")
    if not os.access(path, os.R_OK):
        raise ClipError("unreadable", "may not be read (permission denied)")
    if found.st_size == 0:
        raise ClipError("empty", "has no bytes")
    try:
        file = soundfile.SoundFile(path)
    except (soundfile.SoundFileError, TypeError) as error:  # TypeError: .raw wants to be told what it holds
        _raise_if_unreadable(error)
        raise ClipError("damaged", "is no audio of a format that can be read, or damaged at its start") from error
    with file:
        low, high = RATES_HZ
        if not low <= file.samplerate <= high:
            raise ClipError("damaged", f"claims {file.samplerate} samples a second; {low} to {high} are believed")
        if file.frames <= 0:
            raise ClipError("empty", "has a header and no samples")
        try:
            yield file
        except soundfile.SoundFileError as error:
            _raise_if_unreadable(error)
            raise ClipError("damaged", "cannot be decoded where it is wanted (cut off, or bytes changed)") from error


def _raise_if_unreadable(error: Exception) -> None:
    """ClipError where it is the disk that failed and not the file."""
    if getattr(error, "code", None) == _SYSTEM_ERROR:
        raise ClipError("unreadable", "the file system gave an error") from error


def _read_mono(file: Any, first: int, count: int) -> Samples:
    """``count`` frames from ``first`` on, mean over the channels; fewer where the file ends."""
    lead = min(first, round(_MP3_LEAD_S * file.samplerate)) if file.format == "MP3" else 0
    file.seek(first - lead)
    mono, have = np.empty(lead + count, np.float32), 0
    for block in _mono_blocks(file, lead + count):
        mono[have : have + len(block)] = block
        have += len(block)
    return mono[lead:have]


def _mono_blocks(file: Any, count: int) -> Iterator[Samples]:
    # Made floats here, whole numbers take a third of the time, and are the same floats.
    kind, full_scale = ("int16", 1 << 15) if file.subtype == "PCM_16" else ("float32", 1)
    while count > 0:
        block = file.read(min(count, _BLOCK_SAMPLES // file.channels), dtype=kind, always_2d=True)
        if not len(block):
            return
        count -= len(block)
        with np.errstate(invalid="ignore", over="ignore"):  # told apart from music in _check_loudness
            total = reduce(np.add, block.astype(np.float32, copy=False).T)  # block.sum(axis=1), many times as fast
            yield total / np.float32(full_scale * file.channels)


def _count_frames(file: Any) -> int:
    """The frames that are there to decode, found by decoding; takes about a second for an hour of MP3."""
    file.seek(0)
    frames = sum(len(block) for block in _mono_blocks(file, file.frames))
    if not frames:
        raise ClipError("damaged", "has a header, and nothing behind it decodes")
    return frames


def _check_loudness(pieces: list[Samples]) -> None:
    low, high = np.min([piece.min() for piece in pieces]), np.max([piece.max() for piece in pieces])
    if not -_LOUDEST < low <= high < _LOUDEST:
        raise ClipError("not-finite", f"samples from {low:g} to {high:g}, where full scale is 1")
    swing = max(float(piece.max() - piece.min()) / 2 for piece in pieces)  # an offset alone is no sound
    if swing < 10 ** (SILENCE_DB / 20):
        offset = max(high, low, key=abs)
        if abs(offset) >= 10 ** (SILENCE_DB / 20):
            raise ClipError("constant", f"all samples are {offset:.4g} in its one-channel mix: an offset and no sound")
        raise ClipError("silent", f"nothing above {SILENCE_DB:g} dB of full scale in its one-channel mix")
