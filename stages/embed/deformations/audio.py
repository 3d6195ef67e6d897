"""Recordings, deformed: level, noise, codecs, bands, time, pitch, length, room.

One channel in, one channel out, at the file's rate. Only ``gain``, ``noise`` and ``reverb`` change how loud a clip is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from stages.embed.inputs import Clip
from stages.embed.inputs.classical import compile_librosa
from stages.embed.inputs.recording import open_recording
from store.errors import ClipError, RequestError

Samples = np.ndarray[Any, np.dtype[np.float32]]
Rng = np.random.Generator

_LONGEST_S = 1200.0  # of a clip that is deformed
_CODEC_RATES_HZ = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
MP3_KBPS = (32.0, 320.0)
_CODECS = {"mp3": ("MP3", "MPEG_LAYER_III"), "ogg": ("OGG", "VORBIS")}


def check_codecs(kinds: Iterable[str]) -> None:
    """RequestError if libsndfile cannot write one of the codecs asked for."""
    import soundfile

    for kind, (form, subtype) in _CODECS.items():
        if kind in kinds and not soundfile.check_format(form, subtype):
            raise RequestError(
                f"libsndfile {soundfile.__libsndfile_version__} writes no {form}; install a newer soundfile, or leave "
                f"out {kind}"
            )


def gain(clip: Clip, amount: float, file: Path, rng: Rng) -> Clip:  # noqa: ARG001 - all have the same arguments
    """``amount`` dB louder, without clipping: the file holds floats."""
    samples, rate_hz = _read(clip)
    return _written(clip, samples * np.float32(10 ** (amount / 20)), rate_hz, file)


def noise(clip: Clip, amount: float, file: Path, rng: Rng) -> Clip:
    """White noise whose power is ``amount`` dB below that of the clip."""
    samples, rate_hz = _read(clip)
    level = _level(samples) * 10 ** (-amount / 20)
    return _written(clip, samples + np.float32(level) * rng.standard_normal(len(samples), np.float32), rate_hz, file)


def mp3(clip: Clip, amount: float, file: Path, rng: Rng) -> Clip:  # noqa: ARG001
    """Through MP3 at a constant rate of ``amount`` kbit/s."""
    low, high = MP3_KBPS
    level = min(0.99, (high - amount) / (high - low))
    return _through_codec(clip, file, "mp3", {"compression_level": level, "bitrate_mode": "CONSTANT"})


def ogg(clip: Clip, amount: float, file: Path, rng: Rng) -> Clip:  # noqa: ARG001
    """Through Ogg Vorbis of quality ``amount``, from 0 to 10 as oggenc counts it."""
    return _through_codec(clip, file, "ogg", {"compression_level": min(0.99, 1 - amount / 10)})


def low_pass(clip: Clip, amount: float, file: Path, rng: Rng) -> Clip:  # noqa: ARG001
    """A Butterworth filter of eighth order at ``amount`` Hz."""
    from scipy.signal import butter, sosfilt

    samples, rate_hz = _read(clip)
    if amount < rate_hz / 2:
        samples = sosfilt(butter(8, amount, fs=rate_hz, output="sos"), samples).astype(np.float32)
    return _written(clip, samples, rate_hz, file)


def stretch(clip: Clip, amount: float, file: Path, rng: Rng) -> Clip:  # noqa: ARG001
    """``amount`` times as fast, at the same pitch (phase vocoder)."""
    compile_librosa()
    from librosa.effects import time_stretch

    samples, rate_hz = _read(clip)
    return _written(clip, _as_loud(time_stretch(samples, rate=amount), samples), rate_hz, file)


def pitch(clip: Clip, amount: float, file: Path, rng: Rng) -> Clip:  # noqa: ARG001
    """``amount`` semitones higher, as fast as before (phase vocoder and resampling)."""
    compile_librosa()
    from librosa.effects import pitch_shift

    samples, rate_hz = _read(clip)
    result = pitch_shift(samples, sr=rate_hz, n_steps=amount, res_type="soxr_hq")
    return _written(clip, _as_loud(result, samples), rate_hz, file)


def cut(clip: Clip, amount: float, file: Path, rng: Rng) -> Clip:
    """A stretch with the share ``amount`` of the clip's length, at a random place."""
    samples, rate_hz = _read(clip)
    count = max(1, round(amount * len(samples)))
    first = int(rng.integers(0, len(samples) - count + 1))
    return _written(clip, samples[first : first + count], rate_hz, file)


def reverb(clip: Clip, amount: float, file: Path, rng: Rng) -> Clip:
    """A room: noise that falls by 60 dB in ``amount`` seconds, as loud as the clip itself, is its response."""
    from scipy.signal import fftconvolve

    samples, rate_hz = _read(clip)
    time_s = np.arange(round(amount * rate_hz)) / rate_hz
    response = rng.standard_normal(len(time_s)) * 10 ** (-3 * time_s / amount)
    response /= np.sqrt(np.square(response).sum()) or 1.0
    response[:1] += 1.0
    return _written(clip, fftconvolve(samples, response)[: len(samples)].astype(np.float32), rate_hz, file)


def _level(samples: Samples) -> float:
    """The root mean square."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def _as_loud(samples: Samples, original: Samples) -> Samples:
    """A phase vocoder loses level where phases no longer add up; this gives it back."""
    level = _level(samples)
    return samples * np.float32(_level(original) / level) if level > 0 else samples


def _read(clip: Clip) -> tuple[Samples, int]:
    """The samples of the clip's stretch in one channel, and their rate."""
    with open_recording(clip.path) as (recording, _):
        rate_hz = recording.rate_hz
        first = round((clip.start_s or 0.0) * rate_hz)
        length_s = min(_LONGEST_S, _LONGEST_S if clip.duration_s is None else clip.duration_s)
        count = min(recording.frames - first, round(length_s * rate_hz))
        if count < 1:
            raise ClipError("short", f"starts at second {clip.start_s or 0:g} of {recording.frames / rate_hz:.2f}")
        samples = recording.read_mono(first, count)
    if not len(samples):
        raise ClipError("damaged", "nothing decodes where the clip lies")
    return samples, rate_hz


def _written(clip: Clip, samples: Samples, rate_hz: int, file: Path) -> Clip:
    import soundfile

    path = file.with_suffix(".wav")
    soundfile.write(path, samples, rate_hz, subtype="FLOAT")
    return replace(clip, path=path, start_s=None, duration_s=None)


def _through_codec(clip: Clip, file: Path, kind: str, options: dict[str, Any]) -> Clip:
    import soundfile
    import soxr

    samples, rate_hz = _read(clip)
    if rate_hz not in _CODEC_RATES_HZ:
        samples, rate_hz = soxr.resample(samples, rate_hz, 44_100), 44_100
    form, subtype = _CODECS[kind]
    path = file.with_suffix(f".{kind}")
    soundfile.write(path, np.clip(samples, -1, 1), rate_hz, format=form, subtype=subtype, **options)
    return replace(clip, path=path, start_s=None, duration_s=None)
