"""SampleCNN: convolutions of three samples each over the waveform itself, without a spectrogram.

Reads 22,050 Hz audio in windows of 59,049 = 3^10 samples (2.68 s). The representation is the 512-vector in front of the
output layer, averaged over windows spread evenly over the clip. No published weights are known to fit; ``encore train
samplecnn`` makes them.

This is the paper's 3^9 model, layer by layer as in its table: a convolution with a stride of 3, nine convolutions with
pools of 3 behind them, and a last convolution over one sample. With 50 outputs the table's parameters sum to 1,863,986
(it says 1.9 million); batch normalisation, which the table leaves out, adds 5,888.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from stages.embed.backbones import Backbone
from stages.embed.inputs.audio import AudioInput
from stages.embed.objectives import Labels, Objective, Training
from stages.embed.objectives.supervised import Supervised

FIRST = 128  # channels of the convolution with a stride
POOLED = (128, 128, 256, 256, 256, 256, 256, 256, 512)  # channels of those with a pool behind them
DIM = 512
RATE_HZ = 22_050
WINDOW = 3 * 3 ** len(POOLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplecnnConfig:
    """Settings.

    Attributes
    ----------
    max_windows : how many windows of 2.68 s, at most, a clip's vector is the mean of; 10 cover 29 s, as in the paper.
    min_s : shorter clips are refused.
    """

    max_windows: int = 10
    min_s: float = 1.0


class Samplecnn(Backbone):
    """``float32 [512]``, no value below 0."""

    NAME = "samplecnn"
    TITLE = "SampleCNN"
    LICENSE = "MIT (no published weights)"
    CITATION = (
        "J. Lee, J. Park, K. L. Kim, J. Nam: Sample-level Deep Convolutional Neural Networks for Music Auto-tagging "
        "Using Raw Waveforms. SMC 2017 (arXiv 1703.01789)"
    )
    WEIGHTS = "No published ones are known to fit. Make them: encore train samplecnn --dataset DATASET --out FILE."
    CPU_BATCH, GPU_BATCH = 1, 64  # a window takes 10 MB after the first convolution
    Config = SamplecnnConfig

    module: SamplecnnNetwork

    def __init__(self, config: SamplecnnConfig) -> None:
        self.config = config
        self.input = AudioInput(
            rate_hz=RATE_HZ, window_samples=WINDOW, max_windows=config.max_windows, min_s=config.min_s
        )
        self.shape = (DIM,)
        self.module = SamplecnnNetwork()

    def objectives(self) -> dict[str, Callable[[Labels], Objective]]:
        training = Training(batch=23, learning_rate=1e-3, patience=8)
        return {Supervised.NAME: lambda labels: Supervised(self.module, DIM, labels, training)}


class Block(nn.Sequential):
    """Convolution, batch normalisation, max pooling (a pool of 1 leaves all samples), ReLU.

    The published order, ReLU first, gives the same numbers and takes longer.
    """

    def __init__(self, before: int, channels: int, kernel: int, *, stride: int = 1, pool: int = 1) -> None:
        padding = kernel // 2 if stride == 1 else 0
        conv = nn.Conv1d(before, channels, kernel, stride=stride, padding=padding)
        nn.init.kaiming_uniform_(conv.weight)  # He's rule, as in the authors' code
        pooling = nn.MaxPool1d(pool) if pool > 1 else nn.Identity()
        super().__init__(conv, nn.BatchNorm1d(channels), pooling, nn.ReLU())


class SamplecnnNetwork(nn.Module):
    """From samples to the input of an output layer."""

    def __init__(self) -> None:
        super().__init__()
        pooled = [
            Block(before, channels, 3, pool=3) for before, channels in zip((FIRST, *POOLED), POOLED, strict=False)
        ]
        self.blocks = nn.ModuleList([Block(1, FIRST, 3, stride=3), *pooled, Block(POOLED[-1], DIM, 1)])
        self.dropout = nn.Dropout(0.5)

    def forward(self, wave: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch 512"]:
        x = wave[:, None]
        for block in self.blocks:
            x = block(x)
        vectors: Tensor = self.dropout(x.flatten(1))
        return vectors
