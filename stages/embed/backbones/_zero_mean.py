"""Filters that do not hear how loud a recording is: their weights sum to zero.

J. Schlüter, B. Lehner: Zero-Mean Convolutions for Level-Invariant Singing Voice Detection. ISMIR 2018.

A gain adds one number to every value of a spectrogram in decibels, and a filter whose weights sum to zero answers to
differences alone. That holds for a plain logarithm only: behind ``log(1 + S)`` a gain is no constant. It ends where
`decibels` does, at bands below -100 dB. Padding with zeros would show the level at the edges, so these layers repeat
the value at the edge instead.
"""

from __future__ import annotations

from typing import TypeVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

Conv = TypeVar("Conv", nn.Conv1d, nn.Conv2d)


class ZeroMean(nn.Module):
    """From weights to weights whose mean over all of a filter's inputs is zero."""

    def forward(self, weight: Float[Tensor, "*filters"]) -> Float[Tensor, "*filters"]:
        return weight - weight.mean(dim=tuple(range(1, weight.dim())), keepdim=True)


def zero_mean(conv: Conv) -> Conv:
    """Constrain the filters of ``conv`` to zero mean, and let it pad with the values at the edge; returns ``conv``."""
    conv.padding_mode = "replicate"
    parametrize.register_parametrization(conv, "weight", ZeroMean())
    return conv
