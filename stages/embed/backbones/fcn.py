"""Choi's fully convolutional tagger: five 3 x 3 convolutions over a mel spectrogram of 29 s.

Reads 16 kHz audio. The representation is the 64-vector in front of the output layer. Published weights are MIT
licensed; see `_taggers.WEIGHTS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from stages.embed.backbones import Backbone, _taggers, _zero_mean
from stages.embed.inputs.spectral import Mel
from stages.embed.objectives import Labels, Objective
from stages.embed.objectives.supervised import Supervised
from store.errors import RequestError

# Output channels of each block, and its max pooling over (bands, frames).
BLOCKS = ((64, (2, 4)), (128, (2, 4)), (128, (2, 4)), (128, (3, 5)), (64, (4, 4)))


@dataclass(frozen=True, slots=True, kw_only=True)
class FcnConfig(_taggers.TaggerConfig):
    """Settings; the pooling reduces windows of 20.5 to 40.9 s to exactly one vector."""

    window_s: float = 29.0
    max_windows: int = 1

    def __post_init__(self) -> None:
        _taggers.TaggerConfig.__post_init__(self)  # super() without arguments does not find a class with slots
        sizes = (self.mel.bands, self.mel.frames(self.window_samples))
        for _, pooling in BLOCKS:
            sizes = (sizes[0] // pooling[0], sizes[1] // pooling[1])
        if sizes != (1, 1):
            raise RequestError(
                f"fcn pools {self.mel.bands} bands and {self.window_s:g} s to {sizes[0]} x {sizes[1]} vectors "
                f"where there must be one; set window_s to 29, or anything from 20.5 to 40.9"
            )


class Fcn(Backbone):
    """``float32 [64]``: the strongest response of each feature within the 29 s."""

    NAME = "fcn"
    TITLE = "Fully convolutional network (Choi)"
    LICENSE = _taggers.LICENSE
    CITATION = (
        "K. Choi, G. Fazekas, M. Sandler: Automatic Tagging Using Deep Convolutional Neural Networks. ISMIR 2016 "
        "(arXiv 1606.00298)"
    )
    WEIGHTS = _taggers.WEIGHTS.format(name="fcn")
    JAMENDO_TAGS = _taggers.JAMENDO_TAGS
    # A window takes 45 MB after the first convolution. On a CPU it is fastest alone (73 ms on one core, 80 ms in a
    # batch of 8), and its numbers are then the same to the bit in any batch.
    CPU_BATCH, GPU_BATCH = 1, 16
    Config = FcnConfig

    module: FcnNetwork

    def __init__(self, config: FcnConfig) -> None:
        self.config = config
        self.input = config.audio()
        self.shape = (BLOCKS[-1][0],)
        self.module = FcnNetwork(config.mel, len(self.JAMENDO_TAGS), zero_mean=config.zero_mean)

    def objectives(self) -> dict[str, Callable[[Labels], Objective]]:
        return {Supervised.NAME: lambda labels: Supervised(self.module, BLOCKS[-1][0], labels, _taggers.TRAINING)}

    def tags(self, representation: Float[Tensor, "batch 64"]) -> Float[Tensor, "batch tags"]:
        """The published network's score of each tag, in (0, 1), from representations.

        With weights trained on MTG-Jamendo, the tags are `JAMENDO_TAGS` in that order.
        """
        return torch.sigmoid(self.module.dense(representation))


class ConvBlock(nn.Module):
    """Convolution, batch normalisation, ReLU, max pooling; with ``zero_mean``, filters as of `_zero_mean`."""

    def __init__(self, channels_in: int, channels: int, pooling: tuple[int, int], *, zero_mean: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, 3, padding=1)
        if zero_mean:
            _zero_mean.zero_mean(self.conv)
        self.bn = nn.BatchNorm2d(channels)
        self.pooling = pooling

    def forward(self, x: Float[Tensor, "batch channels bands frames"]) -> Tensor:
        if self.training:
            x = self.bn(self.conv(x))
        else:  # one pass over the largest arrays instead of three: batch normalisation folded into the convolution ...
            bn = self.bn
            mean, variance = bn.get_buffer("running_mean"), bn.get_buffer("running_var")
            weight, bias = fuse_conv_bn_weights(
                self.conv.weight, self.conv.bias, mean, variance, bn.eps, bn.weight, bn.bias
            )
            x = self.conv._conv_forward(x, weight, bias)
        return F.relu(F.max_pool2d(x, self.pooling))  # ... and ReLU after the maximum, where it changes nothing


class FcnNetwork(_taggers.Tagger):
    """From samples to the vector in front of ``dense``, the output layer."""

    def __init__(self, mel: Mel, tags: int, *, zero_mean: bool) -> None:
        super().__init__(mel)
        channels_in = 1
        for number, (channels, pooling) in enumerate(BLOCKS, start=1):
            block = ConvBlock(channels_in, channels, pooling, zero_mean=zero_mean and number == 1)
            self.add_module(f"layer{number}", block)
            channels_in = channels
        self.dense = nn.Linear(channels_in, tags)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # a third faster on a CPU

    def forward(self, wave: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch 64"]:
        x = self.spectrogram(wave)
        for number in range(1, len(BLOCKS) + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return x.flatten(1)
