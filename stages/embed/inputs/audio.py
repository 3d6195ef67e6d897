"""Recordings as windows of samples: decode, mix down to one channel, resample, cut.

Only the windows are decoded, whatever the length of the file: `recording` opens it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import soxr

from stages.embed.inputs import Clip, Kind, remark
from stages.embed.inputs.recording import AUDIO_SUFFIXES, Recording, Samples, open_recording
from store.errors import ClipError, RequestError
from store.words import plural

__all__ = ["AUDIO_SUFFIXES", "AudioInput", "duration_s", "spread"]

SILENCE_DB = -90.0  # below full scale: one step of 16 bits, what dither leaves of a song that holds nothing

_LOUDEST = 1e6  # 120 dB above full scale: no recording, and its power would overflow single precision
_LOUD = 4.0  # 12 dB above full scale: floats that were not scaled to it, or clipped in the making
_MOSTLY = 0.9  # the share of silence from which on a clip is remarked on
_MISSING_S = 0.5  # that a header may claim in vain before it is remarked on

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
    REVISION: ClassVar[int] = 2

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
            as `open_recording`; ``short`` where less than `min_s` is there; ``silent`` where nothing rises above
            `SILENCE_DB`, ``constant`` where an offset does and nothing else; ``not-finite``.

        Remarks: ``truncated``, ``loud`` (12 dB above full scale), ``mostly-silent`` (90 % or more of its windows).
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
        with open_recording(clip.path) as (recording, claimed):
            pieces = self._decode(recording, clip, places)
            if pieces is None:  # a header may promise too much: without an index, an MP3's length is a guess
                recording.recount()
                pieces = self._decode(recording, clip, places)
            if pieces is None:
                raise ClipError("damaged", "its parts do not decode to the length of the whole")
            rate_hz = recording.rate_hz
            _remark_on_length(recording, claimed)
        _check_loudness(pieces)
        return np.stack([self._fit(piece, rate_hz) for piece in pieces])

    def _decode(
        self, recording: Recording, clip: Clip, places: Callable[[int, int, int], list[Place]]
    ) -> list[Samples] | None:
        """The mono pieces that become windows, at the file's rate; None where the file ends before one of them does."""
        rate_hz = recording.rate_hz
        begin, end = _stretch(clip, rate_hz, recording.frames)
        if end - begin < round(self.min_s * rate_hz):
            have_s, at_s = (end - begin) / rate_hz, begin / rate_hz
            raise ClipError("short", f"{have_s:.2f} s from second {at_s:.2f}, and {self.min_s:g} s are the least")
        need = -(-self.window_samples * rate_hz // self.rate_hz)
        pieces = []
        for first, count in places(begin, end, need):
            piece = recording.read_mono(first, count)
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
                "short", f"{plural(len(piece), 'sample')} at {rate_hz} Hz: less than one at {self.rate_hz} Hz"
            )
        short = len(at_rate) < self.window_samples
        return np.resize(at_rate, self.window_samples) if short else at_rate[: self.window_samples]


def duration_s(path: Path) -> float:
    """Length of a recording in seconds, as far as is known without decoding it; ClipError as `open_recording`.

    For an MP3 of variable bit rate without an index (Xing, VBRI) it can be too long; `AudioInput.load` finds that out.
    """
    with open_recording(path) as (recording, _):
        return recording.frames / recording.rate_hz


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


def _remark_on_length(recording: Recording, claimed: float) -> None:
    """Remark on a file of which a part is missing; ``claimed`` is its length over the one that is there."""
    there_s = recording.frames / recording.rate_hz
    if there_s * (claimed - 1) > _MISSING_S:
        remark("truncated", f"its header tells {there_s * claimed:.1f} s, and {there_s:.1f} s are there")


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
    if max(-low, high) > _LOUD:
        remark("loud", f"reaches {max(-low, high):.4g} times full scale")
    silence = sum(int((np.abs(piece) < 10 ** (SILENCE_DB / 20)).sum()) for piece in pieces)
    share = silence / sum(map(len, pieces))
    if share >= _MOSTLY:
        remark("mostly-silent", f"{share:.0%} of what is read of it is silence")
