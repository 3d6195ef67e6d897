"""CoLA: EfficientNet-B0 over segments of 0.96 s, trained without labels to match two segments of the same recording.

Reads 16 kHz audio. The representation is the mean, over a clip's segments, of the 1,280 values that training projects.
No weights were published; ``encore train cola`` makes them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stages.embed.backbones import Backbone, _zero_mean
from stages.embed.inputs.audio import AudioInput
from stages.embed.inputs.spectral import Mel, decibels, mel_spectrogram
from stages.embed.objectives import Labels, Objective, Training
from stages.embed.objectives.contrastive import Contrastive
from stages.embed.objectives.supervised import Supervised
from store.errors import RequestError
from store.fingerprint import ADDED_LATER

# Width and depth relative to EfficientNet-B0's, and how many values come out.
_SIZES = {"tiny": (0.5, 0.5, 640), "b0": (1.0, 1.0, 1280)}
FRAMES = 96
MEL = Mel(rate_hz=16_000, fft=512, window=400, hop=160, bands=64, low_hz=60.0, high_hz=7_800.0)
SEGMENT = FRAMES * MEL.hop  # 0.96 s

# The mel power of music lies around -30 dB, within 30 dB: scaled by these, the first layer sees numbers around 0.
_MIDDLE_DB = -30.0
_RANGE_DB = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ColaConfig:
    """Settings.

    Attributes
    ----------
    size : ``b0`` is the paper's; ``tiny``, half as wide and half as deep, is for trying things out and trains four
        times as fast on a CPU.
    max_segments : how many segments of a clip, evenly spread, are averaged; 31 cover 30 s.
    min_s : shorter clips are refused.
    zero_mean : constrain the first layer's filters to zero mean (see `_zero_mean`).
    """

    size: Literal["tiny", "b0"] = "b0"
    max_segments: int = 31
    min_s: float = 0.96
    zero_mean: bool = field(default=False, metadata=ADDED_LATER)

    def __post_init__(self) -> None:
        if self.size not in _SIZES:
            raise RequestError(f"size must be one of {', '.join(_SIZES)}, not {self.size!r}")


class Cola(Backbone):
    """``float32 [1280]``, or [640] in the tiny size."""

    NAME = "cola"
    TITLE = "CoLA (EfficientNet-B0)"
    LICENSE = "MIT (the network as Hugging Face transformers builds it is Apache 2.0; no published weights)"
    CITATION = (
        "A. Saeed, D. Grangier, N. Zeghidour: Contrastive Learning of General-Purpose Audio Representations. ICASSP "
        "2021 (arXiv 2010.10915); M. Tan, Q. Le: EfficientNet: Rethinking Model Scaling for Convolutional Neural "
        "Networks. ICML 2019"
    )
    WEIGHTS = "None are published. Make them: encore train cola --dataset DATASET --out FILE."
    REVISION = 2
    CPU_BATCH, GPU_BATCH = 8, 1024  # on one core a segment takes 9 ms alone, 3.4 ms among 8 and no less among 32
    Config = ColaConfig

    module: ColaNetwork

    def __init__(self, config: ColaConfig) -> None:
        self.config = config
        self.input = AudioInput(
            rate_hz=MEL.rate_hz, window_samples=SEGMENT, max_windows=config.max_segments, min_s=config.min_s
        )
        self.module = ColaNetwork(*_SIZES[config.size], zero_mean=config.zero_mean)
        self.shape = (_SIZES[config.size][2],)

    def objectives(self) -> dict[str, Callable[[Labels], Objective]]:
        (dim,) = self.shape
        # The clips of a batch are each other's negatives: a larger batch is a harder task.
        pretraining = Training(batch=128, learning_rate=1e-3, warmup=50, weight_decay=1e-4, epochs=100, patience=15)
        return {
            Contrastive.NAME: lambda _: Contrastive(self.module, dim, pretraining),
            Supervised.NAME: lambda labels: Supervised(self.module, dim, labels, Training(batch=64, patience=10)),
        }


class ColaNetwork(nn.Module):
    """From samples to the maxima of EfficientNet's last feature maps, as in the authors' code."""

    def __init__(self, width: float, depth: float, dim: int, *, zero_mean: bool) -> None:
        super().__init__()
        self.spec = mel_spectrogram(MEL)  # before transformers, which imports torchaudio without the stand-in
        from transformers import EfficientNetConfig, EfficientNetModel

        config = EfficientNetConfig(
            num_channels=1,
            hidden_dim=dim,
            width_coefficient=width,
            depth_coefficient=depth,
            # The library's 0.99 is the running mean's weight; torch, which it is passed to, expects the new batch's.
            batch_norm_momentum=0.1,
        )
        self.efficientnet = EfficientNetModel(config)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # twice as fast on a CPU

        _draw_convolutions(self.efficientnet)
        if zero_mean:
            stem = self.efficientnet.embeddings
            stem.padding = nn.ReplicationPad2d(stem.padding.padding)
            _zero_mean.zero_mean(stem.convolution)
        _draw_norms(self.efficientnet)

    def forward(self, wave: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch dim"]:
        with torch.autocast(wave.device.type, enabled=False):
            level = decibels(self.spec(wave))[:, None, :, :FRAMES]
        maps = self.efficientnet((level - _MIDDLE_DB) / _RANGE_DB).last_hidden_state
        pooled: Tensor = maps.float().amax(dim=(2, 3))
        return pooled


def _draw_convolutions(network: nn.Module) -> None:
    """Draw the convolutions by He's rule.

    The library, which expects weights to be loaded over its own, draws everything around 0, even the scales of batch
    normalisation: through a network this deep, hardly any signal comes out and hardly any gradient comes back.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)


def _draw_norms(network: nn.Module) -> None:
    """Give batch normalisation scale 1 and the statistics of random patches."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_parameters()
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.train().momentum = 1.0
    with torch.no_grad():
        network(
            F.interpolate(torch.randn(16, 1, 4, 6), (MEL.bands, FRAMES)) + 0.3 * torch.randn(16, 1, MEL.bands, FRAMES)
        )
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
