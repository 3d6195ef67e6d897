"""FCN-4, the smallest of Choi's fully convolutional taggers: four 3 x 3 convolutions with up to 2,048 channels.

Reads 12 kHz audio, 29.1 s at a time, which is 96 x 1,366 mel values. The representation is the 2,048-vector in front of
the output layer, which in the paper has 50 sigmoids. No weights were published; ``encore train fcn4`` makes them.

Channels and pools are those of the paper's table. The shapes that follow from them are 48 x 341, 12 x 68, 4 x 8 and
1 x 1. What the table leaves out is taken from the paper's text (batch normalisation, ReLU, and dropout of one half
behind every pool) and from `fcn` (normalisation of the spectrogram by one mean and one variance).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stages.embed.backbones import Backbone, _taggers
from stages.embed.backbones.fcn import ConvBlock
from stages.embed.inputs.audio import AudioInput
from stages.embed.inputs.spectral import Mel
from stages.embed.objectives import Labels, Objective
from stages.embed.objectives.supervised import Supervised

# Output channels of each block, and its max pooling over (bands, frames).
BLOCKS = ((128, (2, 4)), (384, (4, 5)), (768, (3, 8)), (2048, (4, 8)))
DIM = BLOCKS[-1][0]
FRAMES = 1_366
MEL = Mel(rate_hz=12_000, fft=512, hop=256, bands=96, low_hz=0.0, high_hz=6_000.0, scale="slaney")
WINDOW = (FRAMES - 1) * MEL.hop


@dataclass(frozen=True, slots=True, kw_only=True)
class Fcn4Config:
    """Settings.

    Attributes
    ----------
    max_windows : how many windows of 29.1 s, at most, a clip's vector is the mean of.
    min_s : shorter clips are refused.
    zero_mean : constrain the first layer's filters to zero mean (see `_zero_mean`).
    """

    max_windows: int = 1
    min_s: float = 1.0
    zero_mean: bool = False


class Fcn4(Backbone):
    """``float32 [2048]``, no value below 0."""

    NAME = "fcn4"
    TITLE = "FCN-4 (Choi)"
    LICENSE = "MIT (no published weights)"
    CITATION = (
        "K. Choi, G. Fazekas, M. Sandler: Automatic Tagging Using Deep Convolutional Neural Networks. ISMIR 2016 "
        "(arXiv 1606.00298)"
    )
    WEIGHTS = "None are published. Make them: encore train fcn4 --dataset DATASET --out FILE."
    # On a CPU a window alone gets the same numbers to the bit as in any batch. It takes 67 MB after the first
    # convolution.
    CPU_BATCH, GPU_BATCH = 4, 16  # on one core a clip takes 250 ms alone and 200 ms among 4
    Config = Fcn4Config

    module: Fcn4Network

    def __init__(self, config: Fcn4Config) -> None:
        self.config = config
        self.input = AudioInput(
            rate_hz=MEL.rate_hz, window_samples=WINDOW, max_windows=config.max_windows, min_s=config.min_s
        )
        self.shape = (DIM,)
        self.module = Fcn4Network(zero_mean=config.zero_mean)

    def objectives(self) -> dict[str, Callable[[Labels], Objective]]:
        return {Supervised.NAME: lambda labels: Supervised(self.module, DIM, labels, _taggers.TRAINING)}


class Fcn4Network(_taggers.Tagger):
    """From samples to the input of an output layer."""

    def __init__(self, *, zero_mean: bool) -> None:
        super().__init__(MEL)
        widths = [1, *(channels for channels, _ in BLOCKS)]
        self.blocks = nn.ModuleList(
            ConvBlock(before, *block, zero_mean=zero_mean and before == 1)
            for before, block in zip(widths, BLOCKS, strict=False)
        )
        self.dropout = nn.Dropout(0.5)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, wave: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch 2048"]:
        x = self.spectrogram(wave)
        for block in self.blocks:
            x = self.dropout(block(x))
        return x.flatten(1)
