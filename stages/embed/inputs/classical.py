"""Recordings as classical descriptors of harmony, timbre and loudness, summarised by statistics over time."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from filelock import FileLock
from jaxtyping import Float

from stages.embed.inputs import Clip, Kind
from stages.embed.inputs.audio import AudioInput

FFT, HOP = 2_048, 512
OCTAVES, NOTES = 7, 12
COEFFICIENTS = 20
STATISTICS = 7
# In librosa's terms: chroma of the constant-Q transform, its normalised form (CENS), chroma of the spectrogram, tonal
# centroids, MFCC, RMS of the windowed signal, zero crossings, spectral centroid, bandwidth, contrast (six octaves and
# the band below them) and rolloff.
ROWS = 3 * NOTES + 6 + COEFFICIENTS + 1 + 1 + 1 + 1 + 7 + 1
DIM = STATISTICS * ROWS

_CONSTANT = 1e-6  # a row whose deviation is a smaller share of its values counts as constant

Rows = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassicalInput:
    """The 518 features published with the FMA data set, for each window of a recording.

    M. Defferrard et al., FMA: A Dataset for Music Analysis, ISMIR 2017, section 3.3. librosa, which has no batches and
    runs on CPUs only, computes them in the worker processes.

    Attributes
    ----------
    audio : how recordings are cut into windows.
    """

    KIND: ClassVar[Kind] = "audio"
    REVISION: ClassVar[int] = 1

    audio: AudioInput

    def load(self, clip: Clip) -> np.ndarray[Any, Any]:
        """float32 [windows, 518]: the first of `statistics` of all rows, then the second, and so on.

        Raises
        ------
        ClipError
            as `AudioInput.load` does.
        """
        windows = self.audio.load(clip)
        compile_librosa()
        return np.stack([describe(window, self.audio.rate_hz) for window in windows])


@cache
def compile_librosa() -> None:
    """Let numba compile librosa's functions, in one process at a time, before any of them is imported or called.

    Processes that fill numba's cache at the same time can mix up each other's functions in it, and every later process
    then crashes (numba 0.68, librosa 0.11).
    """
    with FileLock(Path(tempfile.gettempdir()) / f"encore-librosa-{getattr(os, 'getuid', int)()}.lock"):
        describe(np.random.default_rng(0).standard_normal(44_100, dtype=np.float32), 22_050)


def describe(wave: Float[np.ndarray, " samples"], rate_hz: int) -> Float[np.ndarray, " features"]:
    """The features of one window, float32 [518]."""
    return np.concatenate([statistics(rows) for rows in _over_time(wave, rate_hz)], axis=1).ravel()


def _over_time(wave: Rows, rate_hz: int) -> Iterator[Rows]:
    """One descriptor after the other, each [rows, frames]."""
    from librosa import amplitude_to_db, cqt, feature, stft

    constant_q = np.abs(cqt(wave, sr=rate_hz, hop_length=HOP, n_bins=OCTAVES * NOTES, bins_per_octave=NOTES))
    spectrum = np.abs(stft(wave, n_fft=FFT, hop_length=HOP))
    of_notes: dict[str, Any] = {"sr": rate_hz, "n_chroma": NOTES}
    of_spectrum: dict[str, Any] = {"sr": rate_hz, "S": spectrum}
    of_octaves = {"C": constant_q, "n_octaves": OCTAVES, "bins_per_octave": NOTES, **of_notes}
    cens = feature.chroma_cens(**of_octaves)
    yield feature.chroma_cqt(**of_octaves)
    yield cens
    yield feature.chroma_stft(S=spectrum**2, **of_notes)
    yield feature.tonnetz(chroma=cens, sr=rate_hz)
    mel = feature.melspectrogram(S=spectrum**2, sr=rate_hz)
    yield feature.mfcc(S=amplitude_to_db(np.sqrt(mel), ref=1.0), sr=rate_hz, n_mfcc=COEFFICIENTS)
    yield feature.rms(S=spectrum)
    yield feature.zero_crossing_rate(wave, frame_length=FFT, hop_length=HOP)
    yield feature.spectral_centroid(**of_spectrum)
    yield feature.spectral_bandwidth(**of_spectrum)
    yield feature.spectral_contrast(**of_spectrum)
    yield feature.spectral_rolloff(**of_spectrum)


def statistics(rows: Float[np.ndarray, "rows frames"]) -> Float[np.ndarray, "seven rows"]:
    """Mean, deviation, skewness, excess kurtosis, median, minimum and maximum of each row, float32.

    Skewness and kurtosis of a constant row are 0.
    """
    values = rows.astype(np.float64)
    mean = values.mean(axis=1)
    centred = values - mean[:, None]
    deviation = centred.std(axis=1)
    varies = deviation > _CONSTANT * (np.abs(mean) + _CONSTANT)
    unit = centred / np.where(varies, deviation, 1.0)[:, None]
    third, fourth = ((unit**power).mean(axis=1) for power in (3, 4))
    shape = np.where(varies, third, 0.0), np.where(varies, fourth - 3, 0.0)
    ranks = np.median(values, axis=1), values.min(axis=1), values.max(axis=1)
    return np.stack([mean, deviation, *shape, *ranks]).astype(np.float32)
