"""MFCC against librosa."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch

from stages.embed.backbones.mfcc import Mfcc, MfccConfig
from store.errors import RequestError


@pytest.mark.parametrize("coefficients", [13, 20])
def test_coefficients_are_librosas_and_a_clip_does_not_depend_on_its_batch(coefficients: int) -> None:
    backbone = Mfcc(MfccConfig(coefficients=coefficients, window_s=2.0))
    backbone.to(torch.device("cpu"))
    rng = np.random.default_rng(0)
    time = np.arange(backbone.input.window_samples) / 22_050
    tones = np.sin(2 * np.pi * np.array([[220.0], [900.0], [90.0]]) * time)
    waves = (tones * [[0.5], [1e-3], [0.1]] + 1e-4 * rng.standard_normal(tones.shape)).astype(np.float32)
    waves[2, : len(time) // 2] = 0  # far below the loudest
    together = backbone.encode(torch.from_numpy(waves)).numpy()
    for wave, vector in zip(waves, together, strict=True):
        expected = librosa.feature.mfcc(y=wave, sr=22_050, n_mfcc=coefficients)
        frames = backbone.module(torch.from_numpy(wave)[None])[0].numpy()
        np.testing.assert_allclose(frames, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
        np.testing.assert_allclose(vector, np.r_[expected.mean(1), expected.std(1)], rtol=1e-4, atol=0.01)
        alone = backbone.encode(torch.from_numpy(wave)[None])[0].numpy()
        np.testing.assert_allclose(alone, vector, atol=1e-5 * np.abs(vector).max(), rtol=0)


@pytest.mark.parametrize("wrong", [{"coefficients": 0}, {"coefficients": 129}, {"window_s": 0.0}])
def test_settings_that_make_no_sense_are_refused(wrong: dict) -> None:
    with pytest.raises(RequestError, match=next(iter(wrong))):
        MfccConfig(**wrong)
