"""A deep network over cepstral coefficients: six blocks of two 3 x 3 convolutions and a pool of 2.

Reads 22,050 Hz audio, 28.6 s at a time, which is 20 MFCCs (those of `mfcc`) x 1,231 frames. No weights were published;
``encore train mfcc-cnn`` makes them.

Settled here, because the description leaves it open: the blocks have 64, 160 and then four times 128 channels; pools
round up, for six of them would leave nothing of 20 coefficients otherwise (10, 5, 3, 2, 1, 1); ReLU follows every
convolution and the dense layer; each coefficient is first brought to mean 0 and deviation 1 by batch normalisation.

Training is as described: weights drawn by Xavier's rule, RMSProp, and 1e-3 times the sum of the squared weights of the
second and the fourth block on top of the loss. Left open are RMSProp's rate and decay (here 5e-4, falling, and 0.9).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stages.embed.backbones import Backbone
from stages.embed.backbones.mfcc import MEL, Coefficients
from stages.embed.inputs.audio import AudioInput
from stages.embed.objectives import Labels, Objective, Training
from stages.embed.objectives.supervised import Supervised

COEFFICIENTS, FRAMES = 20, 1_231
CHANNELS = (64, 160, 128, 128, 128, 128)
REMAINING = (1, 20)  # coefficients and frames after the last pool
DIM = 64
PENALISED, PENALTY = (1, 3), 1e-3  # blocks, counted from 0
WINDOW = (FRAMES - 1) * MEL.hop


@dataclass(frozen=True, slots=True, kw_only=True)
class MfccCnnConfig:
    """Settings.

    Attributes
    ----------
    max_windows : how many windows of 28.6 s, at most, a clip's vector is the mean of.
    min_s : shorter clips are refused.
    """

    max_windows: int = 1
    min_s: float = 1.0


class MfccCnn(Backbone):
    """``float32 [64]``, no value below 0: the input of the layer that gives labels."""

    NAME = "mfcc-cnn"
    TITLE = "CNN over MFCCs"
    LICENSE = "MIT (this program's own; no published weights)"
    CITATION = (
        "T. Li, A. Chan, A. Chun: Automatic Musical Pattern Feature Extraction Using Convolutional Neural Network. "
        "IMECS 2010 (convolutions over MFCCs); K. Simonyan, A. Zisserman: Very Deep Convolutional Networks for "
        "Large-Scale Image Recognition. ICLR 2015 (the blocks)"
    )
    WEIGHTS = "None are published. Make them: encore train mfcc-cnn --dataset DATASET --out FILE."
    CPU_BATCH, GPU_BATCH = 1, 32
    Config = MfccCnnConfig

    module: MfccNetwork

    def __init__(self, config: MfccCnnConfig) -> None:
        self.config = config
        self.input = AudioInput(
            rate_hz=MEL.rate_hz, window_samples=WINDOW, max_windows=config.max_windows, min_s=config.min_s
        )
        self.shape = (DIM,)
        self.module = MfccNetwork()

    def objectives(self) -> dict[str, Callable[[Labels], Objective]]:
        training = Training(optimizer="rmsprop", batch=16, learning_rate=5e-4, weight_decay=0.0, patience=10)
        return {Supervised.NAME: lambda labels: Supervised(self.module, DIM, labels, training, self.module.penalty)}


class MfccNetwork(nn.Module):
    """From samples to the input of an output layer."""

    def __init__(self) -> None:
        super().__init__()
        self.coefficients = Coefficients(COEFFICIENTS)
        self.norm = nn.BatchNorm1d(COEFFICIENTS, affine=False)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, channels, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(channels, channels, 3, padding=1),
                nn.MaxPool2d(2, ceil_mode=True),
                nn.ReLU(),  # in front of the maximum it would give the same numbers and take longer
            )
            for before, channels in zip((1, *CHANNELS), CHANNELS, strict=False)
        )
        self.dense = nn.Linear(CHANNELS[-1] * REMAINING[0] * REMAINING[1], DIM)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, wave: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch 64"]:
        with torch.autocast(wave.device.type, enabled=False):
            x = self.norm(self.coefficients(wave))[:, None]
        for block in self.blocks:
            x = block(x)
        return F.relu(self.dense(x.flatten(1)))

    def penalty(self) -> Tensor:
        """A scalar: ``PENALTY`` times the sum of the squared weights of the blocks that are penalised."""
        weights = [weight for i in PENALISED for weight in self.blocks[i].parameters() if weight.ndim > 1]
        return PENALTY * torch.stack([weight.square().sum() for weight in weights]).sum()
