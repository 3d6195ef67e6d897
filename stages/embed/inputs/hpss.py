"""The harmonic and percussive parts of spectrograms: arrays in, arrays out.

D. Fitzgerald: Harmonic/Percussive Separation using Median Filtering. DAFx 2010; with the soft masks and default
settings of ``librosa.decompose.hpss``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

KERNEL = 31  # bins or frames; odd


def hpss(
    magnitude: Float[Tensor, "batch bins frames"],
) -> tuple[Float[Tensor, "batch bins frames"], Float[Tensor, "batch bins frames"]]:
    """The harmonic and the percussive part of a spectrogram, which sum to ``magnitude``.

    The median over `KERNEL` frames around a value is its harmonic energy h, that over `KERNEL` bins its percussive
    energy p. The harmonic part is ``h^2 / (h^2 + p^2)`` of the value, and half of it if both are 0.
    """
    tiny = torch.finfo(magnitude.dtype).tiny
    along_time, along_bins = (median(magnitude, dim).clamp_(min=tiny) for dim in (2, 1))
    # (p / h)^2, limited so that neither the harmonic part nor the percussive one, computed from it, underflows.
    ratio = along_bins.div_(along_time).clamp_(max=1e9).square_()
    harmonic = magnitude / (ratio + 1)
    return harmonic, ratio.mul_(harmonic)


def median(x: Float[Tensor, "batch bins frames"], dim: int) -> Float[Tensor, "batch bins frames"]:
    """The running median over `KERNEL` entries of dimension 1 or 2, mirrored at the ends including the last entry."""
    if x.device.type != "cpu":
        return _padded(x, dim).unfold(dim, KERNEL, 1).median(dim=-1).values
    import bottleneck

    values = _padded(x, dim).numpy()
    medians: np.ndarray[Any, Any] = bottleneck.move_median(values, KERNEL, axis=dim)
    return torch.from_numpy(medians).narrow(dim, KERNEL - 1, x.shape[dim])


def _padded(x: Tensor, dim: int) -> Tensor:
    """``x`` extended by half a kernel of its mirror image on both sides, with the last entry repeated."""
    size, half = x.shape[dim], KERNEL // 2
    places = torch.arange(-half, size + half, device=x.device) % (2 * size)
    return x.index_select(dim, torch.where(places < size, places, 2 * size - 1 - places))
