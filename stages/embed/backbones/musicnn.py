"""musicnn: vertical filters for timbre and horizontal ones for rhythm over mel spectrograms of 3 s.

Reads 16 kHz audio. The representation is the 200-vector before the output layer, averaged over windows spread evenly
over the clip. Published weights are MIT licensed; see `_taggers.WEIGHTS`. Those trained on the Million Song Dataset are
of a wider network, which is not this one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stages.embed.backbones import Backbone, _taggers, _zero_mean
from stages.embed.inputs.spectral import Mel
from stages.embed.objectives import Labels, Objective
from stages.embed.objectives.supervised import Supervised

VERTICAL = (204, ((67, 7), (38, 7)))  # channels, and (bands, frames) of the filters
HORIZONTAL = (51, (129, 65, 33))  # channels, and frames
FRONT = VERTICAL[0] * len(VERTICAL[1]) + HORIZONTAL[0] * len(HORIZONTAL[1])  # 561
MIDDLE = 64
DIM = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class MusicnnConfig(_taggers.TaggerConfig):
    """Settings; the authors of the weights scored with 16 windows."""

    window_s: float = 3.0
    max_windows: int = 16


class Musicnn(Backbone):
    """``float32 [200]``, no value below 0."""

    NAME = "musicnn"
    TITLE = "musicnn (Pons)"
    LICENSE = _taggers.LICENSE
    CITATION = (
        "J. Pons, O. Nieto, M. Prockup, E. Schmidt, A. Ehmann, X. Serra: End-to-end Learning for Music Audio Tagging "
        "at Scale. ISMIR 2018; J. Pons, X. Serra: musicnn: Pre-trained Convolutional Neural Networks for Music Audio "
        "Tagging. arXiv 1909.06654"
    )
    WEIGHTS = _taggers.WEIGHTS.format(name="musicnn")
    JAMENDO_TAGS = _taggers.JAMENDO_TAGS
    # On a CPU a window is fastest alone (29 ms on one core, 48 ms in a batch of 9), and its numbers are then the same
    # to the bit in any batch. It takes 9 MB after the widest convolution.
    CPU_BATCH, GPU_BATCH = 1, 64
    Config = MusicnnConfig

    module: MusicnnNetwork

    def __init__(self, config: MusicnnConfig) -> None:
        self.config = config
        self.input = config.audio()
        self.shape = (DIM,)
        self.module = MusicnnNetwork(config.mel, len(self.JAMENDO_TAGS), zero_mean=config.zero_mean)

    def objectives(self) -> dict[str, Callable[[Labels], Objective]]:
        return {Supervised.NAME: lambda labels: Supervised(self.module, DIM, labels, _taggers.TRAINING)}

    def tags(self, representation: Float[Tensor, "batch 200"]) -> Float[Tensor, "batch tags"]:
        """The published network's score of each tag, in (0, 1), from representations.

        With weights trained on MTG-Jamendo, the tags are `JAMENDO_TAGS` in that order.
        """
        return torch.sigmoid(self.module.dense2(representation))


class Vertical(nn.Module):
    """Filters that span bands: in each frame, the strongest response over all positions."""

    def __init__(self, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, channels, size, padding=(0, size[1] // 2))
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Float[Tensor, "batch 1 bands frames"]) -> Float[Tensor, "batch channels frames"]:
        return F.relu(self.bn(self.conv(x)).amax(dim=2))


class Horizontal(nn.Module):
    """Filters over time, which read the mean of a spectrogram over its bands."""

    def __init__(self, channels_in: int, channels: int, frames: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels_in, channels, frames, padding=frames // 2)
        self.bn = nn.BatchNorm1d(channels)

    def forward(self, x: Float[Tensor, "batch channels_in frames"]) -> Float[Tensor, "batch channels frames"]:
        return F.relu(self.bn(self.conv(x)))


class MusicnnNetwork(_taggers.Tagger):
    """From samples to the input of ``dense2``, the output layer."""

    def __init__(self, mel: Mel, tags: int, *, zero_mean: bool) -> None:
        super().__init__(mel)
        channels, sizes = VERTICAL
        vertical = [Vertical(channels, size) for size in sizes]
        channels, lengths = HORIZONTAL
        horizontal = [Horizontal(1, channels, frames) for frames in lengths]
        self.layers = nn.ModuleList([*vertical, *horizontal])
        if zero_mean:
            for layer in vertical:
                _zero_mean.zero_mean(layer.conv)
            for filters in horizontal:
                _zero_mean.zero_mean(filters.conv)
        self.layer1 = Horizontal(FRONT, MIDDLE, 7)
        self.layer2 = Horizontal(MIDDLE, MIDDLE, 7)
        self.layer3 = Horizontal(MIDDLE, MIDDLE, 7)
        self.dense1 = nn.Linear(2 * (FRONT + 3 * MIDDLE), DIM)
        self.bn = nn.BatchNorm1d(DIM)
        self.dense2 = nn.Linear(DIM, tags)

    def forward(self, wave: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch 200"]:
        x = self.spectrogram(wave)
        rhythm = x.mean(dim=2)
        front = torch.cat([layer(x if isinstance(layer, Vertical) else rhythm) for layer in self.layers], dim=1)
        first = self.layer1(front)
        second = self.layer2(first) + first
        third = self.layer3(second) + second
        every = torch.cat([front, first, second, third], dim=1)
        pooled = torch.cat([every.amax(dim=2), every.mean(dim=2)], dim=1)
        return F.relu(self.bn(self.dense1(pooled)))
