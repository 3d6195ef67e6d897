"""Mel spectrograms against librosa, and torchaudio beside a torch that its compiled part does not fit."""

from __future__ import annotations

import sys
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch

from stages.embed.inputs import spectral
from stages.embed.inputs.spectral import Mel, decibels, mel_spectrogram

HTK = Mel(rate_hz=16_000, fft=512, hop=256, bands=96, low_hz=0.0, high_hz=8_000.0)
SLANEY = Mel(rate_hz=22_050, fft=2_048, hop=512, bands=128, low_hz=20.0, high_hz=10_000.0, scale="slaney")


def wave(rate_hz: int, batch: int = 2) -> np.ndarray:
    rng = np.random.default_rng(0)
    time = np.arange(2 * rate_hz) / rate_hz
    tones = [np.sin(2 * np.pi * 220 * (i + 1) * time) for i in range(batch)]
    return (0.3 * np.stack(tones) + 0.05 * rng.standard_normal((batch, len(time)))).astype(np.float32)


@pytest.mark.parametrize("mel", [HTK, SLANEY], ids=["htk", "slaney"])
def test_mel_power_is_librosas(mel: Mel) -> None:
    samples = wave(mel.rate_hz)
    htk = mel.scale == "htk"
    expected = librosa.feature.melspectrogram(
        y=samples,
        sr=mel.rate_hz,
        n_fft=mel.fft,
        hop_length=mel.hop,
        n_mels=mel.bands,
        fmin=mel.low_hz,
        fmax=mel.high_hz,
        htk=htk,
        norm=None if htk else "slaney",
        pad_mode="reflect" if htk else "constant",
    )
    values = mel_spectrogram(mel)(torch.from_numpy(samples)).numpy()
    assert values.shape == (2, mel.bands, mel.frames(samples.shape[1]))
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-8 * expected.max())


def test_filters_are_librosas() -> None:
    expected = librosa.filters.mel(sr=16_000, n_fft=512, n_mels=96, fmin=0, fmax=8_000, htk=True, norm=None)
    values = mel_spectrogram(HTK).get_buffer("mel_scale.fb").numpy().T
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-7)


def test_decibels_are_librosas_and_a_clip_does_not_depend_on_its_batch() -> None:
    power = torch.tensor([[0.0, 1e-12, 1e-10, 1e-3, 1.0, 2e5], [1e9, 1.0, 0.5, 0.1, 0.0, 3.0]])
    expected = librosa.power_to_db(power.numpy(), ref=1.0, amin=1e-10, top_db=None)
    np.testing.assert_allclose(decibels(power).numpy(), expected, rtol=1e-6)
    assert torch.equal(decibels(power)[:1], decibels(power[:1]))
    assert decibels(power).min() == -100


@pytest.mark.parametrize("error", ["OSError", "RuntimeError", None])
def test_torchaudio_beside_a_torch_it_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str | None
) -> None:
    package = tmp_path / "torchaudio"
    package.mkdir()
    (package / "__init__.py").write_text("from . import _extension, transforms\n")
    (package / "transforms.py").write_text("from torchaudio import _extension as used\n")
    (package / "_extension.py").write_text(f"raise {error}('another CUDA')\n" if error else "own = True\n")
    for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        used = spectral.torchaudio_transforms().used
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
            del sys.modules[name]
    assert getattr(used, "own", False) == (error is None)
    if error:
        assert used._IS_TORCHAUDIO_EXT_AVAILABLE is False
