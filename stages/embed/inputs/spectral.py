"""Spectrograms, computed in batches on the device of the samples: arrays in, arrays out.

Import this module in backbones only, not where options are listed: it imports torch and jaxtyping.
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
    """`torchaudio.transforms`, even if torchaudio's compiled part does not fit the installed torch.

    That part is built for one CUDA version: its import raises OSError beside a CPU-only torch, and RuntimeError beside
    a torch of another CUDA version. The transforms are plain torch and need none of it, so its loader is then replaced
    by a module that reports it as absent, as in a torchaudio built without extensions.
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
    rate_hz : sampling rate.
    fft, hop : length of the transform and step between frames, in samples.
    window : length of the periodic Hann window in samples; None for that of the transform.
    bands : number of triangular filters between ``low_hz`` and ``high_hz``.
    scale : ``htk`` has filters of height 1 and reflects the signal at its ends, as torchaudio does; ``slaney`` has
        filters of area 1 and pads with zeros, as librosa does.
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
        """The number of frames of so many samples; the first frame is centred on the first sample."""
        return 1 + samples // self.hop


@contextmanager
def _double_precision() -> Iterator[None]:
    """Tensors made within the block are float64 by default; torchaudio's filters have no parameter for it."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class Power(nn.Module):
    """``spectrum.abs() ** 2``, but without the square root, with which it takes four times as long."""

    def forward(self, spectrum: Complex[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        real, imaginary = torch.view_as_real(spectrum).unbind(-1)
        return torch.addcmul(real.square(), imaginary, imaginary)


def mel_spectrogram(mel: Mel) -> nn.Module:
    """A module from samples [batch, samples] to mel power [batch, bands, frames].

    Its submodules are named as those of torchaudio's `MelSpectrogram`, and so as in published checkpoints.
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
    with _double_precision():  # in single precision, the edges of narrow filters are off by 2e-4
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
    """``10 log10(power)``, but at least -100: torchaudio's AmplitudeToDB and librosa's power_to_db with reference 1.

    There is no ``top_db``: torchaudio measures it from the loudest clip of a batch, which would make a clip's numbers
    depend on the rest of its batch.
    """
    return 10 * torch.log10(power.clamp(min=1e-10))
