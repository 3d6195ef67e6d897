"""Mixture of CNN: four views of 30 s, a small network for each, and a recurrent one that learns to mix their outputs.

Reads 22,050 Hz audio. The views are the spectrogram, its harmonic part, its percussive part and the modulation
spectrogram, all in mel bands. The representation is the outputs of the four networks before mixing. No weights were
published; ``encore train mixcnn`` makes them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stages.embed.backbones import Backbone
from stages.embed.backbones.fcn import ConvBlock
from stages.embed.inputs.audio import AudioInput
from stages.embed.inputs.hpss import hpss
from stages.embed.inputs.spectral import Mel, decibels, mel_filters
from stages.embed.objectives import Labels, Objective, Training
from stages.embed.objectives.supervised import Supervised
from store.fingerprint import ADDED_LATER

VIEWS = ("original", "harmonic", "percussive", "modulation")
DIM = 64  # of each view's network
BLOCKS = ((16, (2, 2)), (32, (2, 4)), (64, (2, 4)), (64, (2, 4)), (DIM, (2, 2)))  # channels, pooling (bands, frames)
MEL = Mel(rate_hz=22_050, fft=1_024, hop=512, bands=128, low_hz=0.0, high_hz=11_025.0, scale="slaney")
WINDOW = 30 * MEL.rate_hz  # 513 bins x 1,292 frames


@dataclass(frozen=True, slots=True, kw_only=True)
class MixcnnConfig:
    """Settings.

    Attributes
    ----------
    max_windows : how many windows of 30 s, at most, a clip's vector is the mean of.
    min_s : shorter clips are refused.
    zero_mean : constrain the first layer's filters, in each view's network, to zero mean (see `_zero_mean`).
    """

    max_windows: int = 1
    min_s: float = 1.0
    zero_mean: bool = field(default=False, metadata=ADDED_LATER)


class Mixcnn(Backbone):
    """``float32 [256]``: 64 values each of the original, harmonic, percussive and modulation spectrogram."""

    NAME = "mixcnn"
    TITLE = "Mixture of CNN"
    LICENSE = "MIT (no published weights)"
    CITATION = (
        "S. Lee: Improving the Performance of Music Genre Classification through Exploiting Artist Information. Seoul "
        "National University; D. Fitzgerald: Harmonic/Percussive Separation using Median Filtering. DAFx 2010"
    )
    WEIGHTS = "None are published. Make them: encore train mixcnn --dataset DATASET --out FILE."
    CPU_BATCH, GPU_BATCH = 1, 16
    Config = MixcnnConfig

    module: MixcnnNetwork

    def __init__(self, config: MixcnnConfig) -> None:
        self.config = config
        self.input = AudioInput(
            rate_hz=MEL.rate_hz, window_samples=WINDOW, max_windows=config.max_windows, min_s=config.min_s
        )
        self.shape = (len(VIEWS) * DIM,)
        self.module = MixcnnNetwork(zero_mean=config.zero_mean)

    def objectives(self) -> dict[str, Callable[[Labels], Objective]]:
        training = Training(batch=16, learning_rate=1e-3, patience=10)
        return {Supervised.NAME: lambda labels: Supervised(self.module, DIM, labels, training)}

    def forward(self, windows: Tensor) -> Tensor:
        """[batch, samples] -> [batch, 256]."""
        return self.module.outputs(windows).flatten(1)


class Views(nn.Module):
    """From samples to the four views in decibels."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(MEL.fft), persistent=False)
        self.mel = mel_filters(MEL)

    def forward(self, wave: Float[Tensor, "batch samples"]) -> list[Float[Tensor, "batch bands columns"]]:
        """Columns are 1,292 frames, and 647 modulation frequencies from 0 to half the frame rate (21.5 Hz)."""
        magnitude = torch.stft(
            wave, MEL.fft, MEL.hop, window=self.get_buffer("window"), pad_mode="constant", return_complex=True
        ).abs()
        parts = [magnitude, *hpss(magnitude), modulation(magnitude)]
        return [decibels(self.mel(part.square())) for part in parts]


def modulation(
    magnitude: Float[Tensor, "batch bins frames"],
) -> Float[Tensor, "batch bins frequencies"]:
    """How strongly each bin's magnitude fluctuates at each frequency.

    It is the magnitude of the Fourier transform over time, divided by the number of frames.
    """
    strength: Tensor = torch.fft.rfft(magnitude, dim=2, norm="forward").abs()
    return strength


class ViewNetwork(nn.Module):
    """Five convolution blocks, then the mean over the remaining bands and columns."""

    def __init__(self, *, zero_mean: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        widths = [1, *(channels for channels, _ in BLOCKS)]
        self.blocks = nn.Sequential(
            *(
                ConvBlock(before, *block, zero_mean=zero_mean and before == 1)
                for before, block in zip(widths, BLOCKS, strict=False)
            )
        )

    def forward(self, view: Float[Tensor, "batch bands columns"]) -> Float[Tensor, "batch 64"]:
        pooled: Tensor = self.blocks(self.norm(view[:, None])).mean(dim=(2, 3))
        return pooled


class MixcnnNetwork(nn.Module):
    """The four networks, and the layers that weigh their outputs."""

    def __init__(self, *, zero_mean: bool) -> None:
        super().__init__()
        self.views = Views()
        self.networks = nn.ModuleDict({view: ViewNetwork(zero_mean=zero_mean) for view in VIEWS})
        self.recurrent = nn.GRU(DIM, DIM // 2, batch_first=True, bidirectional=True)
        self.weigh = nn.Linear(DIM, 1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def outputs(self, wave: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch 4 64"]:
        """The output of each view's network."""
        with torch.autocast(wave.device.type, enabled=False):
            views = self.views(wave)
        networks = self.networks.values()
        return torch.stack([network(view) for network, view in zip(networks, views, strict=True)], dim=1)

    def forward(self, wave: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch 64"]:
        """The weighted mean of the four outputs; a recurrent network over them gives the weights, which sum to 1."""
        outputs = self.outputs(wave)
        weights = torch.softmax(self.weigh(self.recurrent(outputs)[0]), dim=1)
        return (weights * outputs).sum(dim=1)
