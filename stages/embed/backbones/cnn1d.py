"""A small 1-D network: three convolutions over time, which read the mel bands as channels.

Reads 22,050 Hz audio, 29 s at a time. No weights were published; ``encore train cnn1d`` makes them. The sizes of
channels, kernels, pools and layers are given; what they leave open is settled as follows. The convolutions do not pad:
of 1,249 frames (29 s) they leave three positions of 64 channels, the 192 values that the linear layer reads. S in
``log10(1 + 10 S)`` is mel power with librosa's filters. ReLU and dropout of one half follow the linear layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stages.embed.backbones import Backbone
from stages.embed.backbones._zero_mean import zero_mean
from stages.embed.inputs.audio import AudioInput
from stages.embed.inputs.spectral import Mel, decibels, mel_spectrogram
from stages.embed.objectives import Labels, Objective, Training
from stages.embed.objectives.supervised import Supervised

BLOCKS = ((32, 8, 8), (32, 8, 8), (64, 4, 4))  # channels, kernel and pool in frames
POSITIONS = 3  # of the window that remain after the last pool
DIM = 64
MEL = Mel(rate_hz=22_050, fft=1_024, hop=512, bands=128, low_hz=0.0, high_hz=11_025.0, scale="slaney")
WINDOW = 29 * MEL.rate_hz


@dataclass(frozen=True, slots=True, kw_only=True)
class Cnn1dConfig:
    """Settings.

    Attributes
    ----------
    max_windows : how many windows of 29 s, at most, a clip's vector is the mean of.
    min_s : shorter clips are refused.
    zero_mean : constrain the first layer's filters to zero mean, and read decibels instead of ``log10(1 + 10 S)``,
        behind which they would still hear the level (see `_zero_mean`).
    """

    max_windows: int = 1
    min_s: float = 1.0
    zero_mean: bool = False


class Cnn1d(Backbone):
    """``float32 [64]``, no value below 0: the input of the layer that gives labels."""

    NAME = "cnn1d"
    TITLE = "1-D CNN over mel bands"
    LICENSE = "MIT (this program's own; no published weights)"
    CITATION = (
        "S. Dieleman, B. Schrauwen: End-to-end Learning for Music Audio. ICASSP 2014 (convolutions over the time axis "
        "of mel spectrograms)"
    )
    WEIGHTS = "None are published. Make them: encore train cnn1d --dataset DATASET --out FILE."
    CPU_BATCH, GPU_BATCH = 1, 64  # on one core a clip takes 6 ms alone and 11 ms among 4
    Config = Cnn1dConfig

    module: Cnn1dNetwork

    def __init__(self, config: Cnn1dConfig) -> None:
        self.config = config
        self.input = AudioInput(
            rate_hz=MEL.rate_hz, window_samples=WINDOW, max_windows=config.max_windows, min_s=config.min_s
        )
        self.shape = (DIM,)
        self.module = Cnn1dNetwork(zero_mean_filters=config.zero_mean)

    def objectives(self) -> dict[str, Callable[[Labels], Objective]]:
        training = Training(batch=16, learning_rate=1e-3, patience=10)
        return {Supervised.NAME: lambda labels: Supervised(self.module, DIM, labels, training)}


class Cnn1dNetwork(nn.Module):
    """From samples to the input of an output layer."""

    def __init__(self, *, zero_mean_filters: bool) -> None:
        super().__init__()
        self.spec = mel_spectrogram(MEL)
        self.compress = decibels if zero_mean_filters else log_one_plus
        widths = [MEL.bands, *(channels for channels, _, _ in BLOCKS)]
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv1d(before, channels, kernel), nn.BatchNorm1d(channels), nn.MaxPool1d(pool), nn.ReLU()
                )
                for before, (channels, kernel, pool) in zip(widths, BLOCKS, strict=False)
            )
        )
        if zero_mean_filters:
            zero_mean(self.blocks[0][0])  # type: ignore[index]
        self.linear = nn.Linear(POSITIONS * BLOCKS[-1][0], DIM)
        self.dropout = nn.Dropout(0.5)

    def forward(self, wave: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch 64"]:
        with torch.autocast(wave.device.type, enabled=False):
            level = self.compress(self.spec(wave))
        vectors: Tensor = self.dropout(F.relu(self.linear(self.blocks(level).flatten(1))))
        return vectors


def log_one_plus(power: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """``log10(1 + 10 power)``."""
    return torch.log10(1 + 10 * power)
