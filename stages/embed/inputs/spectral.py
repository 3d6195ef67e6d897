"""Spectrograms, batched on whatever device the samples lie on: arrays in, arrays out.

Import this module where a backbone needs it, never where options are listed: it brings torchaudio.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn


def torchaudio_transforms() -> Any:
    """`torchaudio.transforms`, also where torchaudio's compiled part does not fit the torch beside it.

    That part is made for one CUDA version: beside a CPU-only torch its import raises OSError, beside a torch of
    another CUDA version RuntimeError. The transforms are plain torch and need none of it, so what loads it is then
    replaced by a module that says it is absent, as in a torchaudio that was built without.
    """
    try:
        from torchaudio import transforms
    except (OSError, RuntimeError):
        absent = ModuleType("torchaudio._extension")
        absent._IS_TORCHAUDIO_EXT_AVAILABLE = False  # type: ignore[attr-defined]
        absent.fail_if_no_align = lambda function: function  # type: ignore[attr-defined]
        sys.modules[absent.__name__] = absent
        from torchaudio import transforms
    return transforms


@dataclass(frozen=True, slots=True, kw_only=True)
class Mel:
    """Settings of a mel spectrogram of power.

    Attributes
    ----------
    rate_hz : of the samples.
    fft, hop : length of the transform and the step between frames, in samples.
    window : length of the (periodic Hann) window; None is the transform's.
    bands : triangular filters from ``low_hz`` to ``high_hz``.
    scale : ``htk``, filters of height 1, edges mirrored (torchaudio's ways); or ``slaney``, filters of area 1, edges
        filled with zeros (librosa's).
    """

    rate_hz: int
    fft: int
    hop: int
    bands: int
    low_hz: float
    high_hz: float
    scale: Literal["htk", "slaney"] = "htk"
    window: int | None = None

    def frames(self, samples: int) -> int:
        """Columns of the spectrogram of so many samples; the first frame is centred on the first of them."""
        return 1 + samples // self.hop


@contextmanager
def _double_precision() -> Iterator[None]:
    """What is made meanwhile is float64; torchaudio's filters take no type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class Power(nn.Module):
    """``spectrum.abs() ** 2`` without the root, which takes four times as long."""

    def forward(self, spectrum: Complex[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        real, imaginary = torch.view_as_real(spectrum).unbind(-1)
        return torch.addcmul(real.square(), imaginary, imaginary)


def mel_spectrogram(mel: Mel) -> nn.Module:
    """A module from samples [batch, samples] to mel power [batch, bands, frames].

    Its parts have the names that they have in torchaudio's `MelSpectrogram`, and so in published checkpoints.
    """
    with _double_precision():
        spectrogram: nn.Module = torchaudio_transforms().Spectrogram(
            n_fft=mel.fft,
            win_length=mel.window,
            hop_length=mel.hop,
            power=None,
            pad_mode="constant" if mel.scale == "slaney" else "reflect",
        )
    parts = {"spectrogram": spectrogram.float(), "power": Power(), "mel_scale": mel_filters(mel)}
    return nn.Sequential(OrderedDict(parts))


def mel_filters(mel: Mel) -> nn.Module:
    """A module from power [batch, 1 + fft // 2, frames] to mel power [batch, bands, frames]."""
    transforms = torchaudio_transforms()
    with _double_precision():  # the edges of narrow filters, in single precision, are off by 2e-4
        module: nn.Module = transforms.MelScale(
            n_mels=mel.bands,
            sample_rate=mel.rate_hz,
            f_min=mel.low_hz,
            f_max=mel.high_hz,
            n_stft=1 + mel.fft // 2,
            norm="slaney" if mel.scale == "slaney" else None,
            mel_scale=mel.scale,
        )
    return module.float()


def decibels(power: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """``10 log10(power)``, at least -100 dB: torchaudio's AmplitudeToDB and librosa's power_to_db with reference 1.

    There is no ``top_db``: torchaudio counts it from the loudest clip of a batch, and a clip's numbers would depend
    on its neighbours.
    """
    return 10 * torch.log10(power.clamp(min=1e-10))
