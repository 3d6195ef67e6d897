"""CoLA: EfficientNet-B0 over segments of 0.96 s, trained without labels to know two segments of one recording.

Reads 16 kHz audio. The representation is the mean over a clip's segments of the values in front of the projection
that training adds, 1,280 of them. No weights were published; ``encore train cola`` makes them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stages.embed.backbones import Backbone
from stages.embed.inputs.audio import AudioInput
from stages.embed.inputs.spectral import Mel, decibels, mel_spectrogram
from stages.embed.objectives import Labels, Objective, Training
from stages.embed.objectives.contrastive import Contrastive
from stages.embed.objectives.supervised import Supervised
from stages.embed.weights import load_into, read_state_dict
from store.errors import RequestError

# Share of EfficientNet-B0's width and of its depth, and the values that come out.
_SIZES = {"tiny": (0.5, 0.5, 640), "b0": (1.0, 1.0, 1280)}
FRAMES = 96
MEL = Mel(rate_hz=16_000, fft=512, window=400, hop=160, bands=64, low_hz=60.0, high_hz=7_800.0)
SEGMENT = FRAMES * MEL.hop  # 0.96 s

_MIDDLE_DB = (
    -30.0
)  # music's mel power lies about here, 30 dB up and down: so that the first layer sees numbers around 0
_RANGE_DB = 30.0

# Segments at once: on one core a segment takes 9 ms alone, 3.4 ms among 8 and no less among 32.
_AT_ONCE_CPU = 8
_AT_ONCE_GPU = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ColaConfig:
    """Settings.

    Attributes
    ----------
    size : ``b0`` is the paper's; ``tiny`` (half as wide and half as deep) is for trying things out: without a GPU it
        trains four times as fast.
    max_segments : of one clip whose vectors are averaged, evenly spread; 31 are all of 30 s.
    min_s : shorter clips are refused.
    """

    size: Literal["tiny", "b0"] = "b0"
    max_segments: int = 31
    min_s: float = 0.96

    def __post_init__(self) -> None:
        if self.size not in _SIZES:
            raise RequestError(f"size must be one of {', '.join(_SIZES)}, not {self.size!r}")


class ColaNetwork(nn.Module):
    """From samples to the highest values in EfficientNet's last feature maps, as the authors' code takes them."""

    def __init__(self, width: float, depth: float, dim: int) -> None:
        super().__init__()
        self.spec = mel_spectrogram(MEL)  # before transformers, which imports torchaudio without the stand-in
        from transformers import EfficientNetConfig, EfficientNetModel

        config = EfficientNetConfig(
            num_channels=1,
            hidden_dim=dim,
            width_coefficient=width,
            depth_coefficient=depth,
            # The library's 0.99 is the weight of the old mean; torch, which is handed it, means that of the new batch.
            batch_norm_momentum=0.1,
        )
        self.efficientnet = EfficientNetModel(config)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # twice as quick on a CPU

        _draw_weights(self.efficientnet)

    def forward(self, wave: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch dim"]:
        with torch.autocast(wave.device.type, enabled=False):
            level = decibels(self.spec(wave))[:, None, :, :FRAMES]
        maps = self.efficientnet((level - _MIDDLE_DB) / _RANGE_DB).last_hidden_state
        pooled: Tensor = maps.float().amax(dim=(2, 3))
        return pooled


def _draw_weights(network: nn.Module) -> None:
    """Draw the convolutions after He, and give the batch normalisations scale 1 and the statistics of drawn patches.

    The library draws all of them around 0, normalisation scales included, for weights to be loaded over: through a
    network of this depth nothing comes out, and little of a gradient comes back.
    """
    norms: list[nn.BatchNorm2d] = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
            norms.append(module)
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


class Cola(Backbone):
    """``float32 [1280]``; [640] for the tiny size."""

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
    Config = ColaConfig

    module: ColaNetwork

    def __init__(self, config: ColaConfig) -> None:
        self.config = config
        self.input = AudioInput(
            rate_hz=MEL.rate_hz, window_samples=SEGMENT, max_windows=config.max_segments, min_s=config.min_s
        )
        self.module = ColaNetwork(*_SIZES[config.size])
        self.shape = (_SIZES[config.size][2],)

    def load(self, weights: Path) -> None:
        """Read a checkpoint of ``encore train cola``."""
        load_into(self.module, read_state_dict(weights), str(weights))

    def objectives(self) -> dict[str, Callable[[Labels], Objective]]:
        (dim,) = self.shape
        # A batch's clips are each other's negatives: five numbers tell 32 apart, and trained on so few the network soon
        # said little more (640 values of effective rank 5.5, from which heads learned nothing).
        pretraining = Training(batch=128, learning_rate=1e-3, warmup=50, weight_decay=1e-4, epochs=100, patience=15)
        return {
            Contrastive.NAME: lambda _: Contrastive(self.module, dim, pretraining),
            Supervised.NAME: lambda labels: Supervised(self.module, dim, labels, Training(batch=64, patience=10)),
        }

    def encode(self, batch: Tensor) -> Tensor:
        """[batch, samples] -> [batch, dim], for single segments."""
        step = _AT_ONCE_CPU if batch.device.type == "cpu" else _AT_ONCE_GPU
        return torch.cat([self.module(part) for part in torch.split(batch, step)])
