"""Harmonic and percussive parts against librosa."""

from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stages.embed.inputs import Clip
from stages.embed.inputs.audio import AudioInput
from stages.embed.inputs.hpss import hpss, median


def spectrogram(seed: int, frames: int = 200) -> np.ndarray:
    rng = np.random.default_rng(seed)
    wave = 0.02 * rng.standard_normal(512 * (frames - 1))
    wave += 0.3 * np.sin(np.arange(len(wave)) * 0.2)
    wave[:: 512 * 20] += 1  # a click every twenty frames
    return np.abs(librosa.stft(wave.astype(np.float32), n_fft=1024, hop_length=512))


def parts(magnitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    harmonic, percussive = hpss(torch.from_numpy(magnitude)[None])
    return harmonic[0].numpy(), percussive[0].numpy()


def test_both_parts_are_librosas() -> None:
    magnitude = spectrogram(0)
    for part, expected in zip(parts(magnitude), librosa.decompose.hpss(magnitude), strict=True):
        np.testing.assert_allclose(part, expected, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_loudness_changes_nothing_but_loudness(scale: float) -> None:
    magnitude = spectrogram(1)
    for part, expected in zip(parts(magnitude * np.float32(scale)), parts(magnitude), strict=True):
        np.testing.assert_allclose(part / scale, expected, rtol=1e-4, atol=1e-9)


@settings(max_examples=20)
@given(
    arrays(
        np.float32,
        # Below three entries scipy's filter, which librosa calls, is not the median of the mirrored row.
        st.tuples(st.integers(3, 70), st.integers(3, 70)),
        elements=st.floats(0, 100, width=32) | st.just(0.0),
    )
)
def test_any_spectrogram_is_divided_without_remainder(magnitude: np.ndarray) -> None:
    harmonic, percussive = parts(magnitude)
    assert (harmonic >= 0).all()
    assert (percussive >= 0).all()
    np.testing.assert_allclose(harmonic + percussive, magnitude, rtol=1e-5, atol=1e-30)
    expected, _ = librosa.decompose.hpss(magnitude)
    np.testing.assert_allclose(harmonic, expected, rtol=1e-4, atol=1e-6 * max(1.0, magnitude.max()))


@pytest.mark.parametrize("dim", [1, 2])
def test_medians_on_a_gpu_go_the_same_way(dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What other devices do, done on this one: a window for each entry, and its median."""
    x = torch.from_numpy(np.stack([spectrogram(2, 60), spectrogram(3, 60)]))
    from stages.embed.inputs import hpss as module

    windows = module._padded(x, dim).unfold(dim, module.KERNEL, 1).median(dim=-1).values
    torch.testing.assert_close(median(x, dim), windows, rtol=0, atol=0)


def test_a_real_song(shared_data: Path) -> None:
    song = sorted((shared_data / "jamendo-lyrics/mp3").glob("*.mp3"))[0]
    reader = AudioInput(rate_hz=22_050, window_samples=5 * 22_050)
    wave = reader.load(Clip(clip_id="c", path=song, start_s=40.0, duration_s=5.0))[0]
    magnitude = np.abs(librosa.stft(wave, n_fft=1024, hop_length=512))
    for part, expected in zip(parts(magnitude), librosa.decompose.hpss(magnitude), strict=True):
        np.testing.assert_allclose(part, expected, rtol=1e-4, atol=1e-10)
