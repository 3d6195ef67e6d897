"""Mel-frequency cepstral coefficients, as means and deviations over time: the classical description of timbre.

Reads 22,050 Hz audio and needs no weights. Scores on it are what a head reaches without any trained encoder.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stages.embed.backbones import Backbone
from stages.embed.inputs.audio import AudioInput
from stages.embed.inputs.spectral import Mel, decibels, mel_spectrogram, torchaudio_transforms
from store.errors import RequestError

MEL = Mel(rate_hz=22_050, fft=2_048, hop=512, bands=128, low_hz=0.0, high_hz=11_025.0, scale="slaney")
RANGE_DB = 80.0  # below a clip's loudest band; softer bands count as this far below


@dataclass(frozen=True, slots=True, kw_only=True)
class MfccConfig:
    """Settings.

    Attributes
    ----------
    coefficients : how many; the first is loudness.
    window_s : length of one window.
    max_windows : how many windows, at most, a clip's numbers are the mean of.
    min_s : shorter clips are refused.
    """

    coefficients: int = 20
    window_s: float = 30.0
    max_windows: int = 1
    min_s: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.coefficients <= MEL.bands:
            raise RequestError(f"coefficients must be from 1 to {MEL.bands}, not {self.coefficients}")
        if not 0.1 <= self.window_s <= 600:
            raise RequestError(f"window_s must be from 0.1 to 600, not {self.window_s}")


class Mfcc(Backbone):
    """``float32 [2 * coefficients]``: all means, then all standard deviations."""

    NAME = "mfcc"
    TITLE = "MFCC statistics"
    LICENSE = "MIT (no weights)"
    CITATION = (
        "S. Davis, P. Mermelstein: Comparison of Parametric Representations for Monosyllabic Word Recognition in "
        "Continuously Spoken Sentences. IEEE Transactions on Acoustics, Speech and Signal Processing 28(4), 1980"
    )
    WEIGHTS = None
    CPU_BATCH = GPU_BATCH = 8
    Config = MfccConfig

    module: Coefficients

    def __init__(self, config: MfccConfig) -> None:
        self.config = config
        self.input = AudioInput(
            rate_hz=MEL.rate_hz,
            window_samples=round(config.window_s * MEL.rate_hz),
            max_windows=config.max_windows,
            min_s=config.min_s,
        )
        self.shape = (2 * config.coefficients,)
        self.module = Coefficients(config.coefficients)

    def forward(self, windows: Tensor) -> Tensor:
        """[batch, samples] -> [batch, 2 * coefficients]."""
        coefficients = self.module(windows)
        return torch.cat([coefficients.mean(2), coefficients.std(2, correction=0)], dim=1)


class Coefficients(nn.Module):
    """``librosa.feature.mfcc`` with its defaults."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.spec = mel_spectrogram(MEL)
        torchaudio_transforms()
        from torchaudio.functional import create_dct

        self.register_buffer("cosines", create_dct(count, MEL.bands, "ortho").T)

    def forward(self, wave: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch coefficients frames"]:
        level = decibels(self.spec(wave))
        floor = level.amax(dim=(1, 2), keepdim=True) - RANGE_DB
        return self.get_buffer("cosines") @ torch.maximum(level, floor)
