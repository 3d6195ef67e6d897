"""A convolutional network over piano rolls, trained on labels.

Reads MIDI as five piano rolls (drums, piano, guitar, bass, strings; see `PianoRollInput`) of all 128 pitches. The
thesis cuts 7 or 8 clips from each song, which is up to the data set: ``lpd`` cuts up to 8, others do with ``--clips
8``. No weights were published; ``encore train pianoroll-cnn`` makes them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from stages.embed.backbones import Backbone
from stages.embed.inputs.midi import TRACKS, PianoRollInput
from stages.embed.objectives import Labels, Objective, Training
from stages.embed.objectives.supervised import Supervised
from store.errors import RequestError

DIM = 384
_CHANNELS = (16, 32, 64, 64, 96, 96)
_CELLS = (2, 4)  # pitches and frames that remain after the convolutions
_WIDTHS = (512, 512, DIM, DIM, DIM)
_LEAST_FRAMES = 1 << len(_CHANNELS)
_LOUDEST = 127.0

_TRAINING = Training(epochs=20, batch=32, learning_rate=1e-3, patience=6)


@dataclass(frozen=True, slots=True, kw_only=True)
class PianoRollCnnConfig:
    """Settings.

    Attributes
    ----------
    frames : how many columns a clip has; 256 in 15 s are two per sixteenth note at 128 beats a minute.
    """

    frames: int = 256

    def __post_init__(self) -> None:
        if self.frames < _LEAST_FRAMES:
            raise RequestError(f"frames must be {_LEAST_FRAMES} or more, not {self.frames}")


class PianoRollCnn(Backbone):
    """``float32 [384]``, no value below 0: the input of the layer that gives labels."""

    NAME = "pianoroll-cnn"
    TITLE = "Piano-roll CNN"
    LICENSE = "MIT (this program's own; no published weights)"
    CITATION = (
        "S. Lee: Improving the Performance of Music Genre Classification through Exploiting Artist Information. Seoul "
        "National University; H.-W. Dong, W.-Y. Hsiao, L.-C. Yang, Y.-H. Yang: MuseGAN: Multi-track Sequential "
        "Generative Adversarial Networks for Symbolic Music Generation and Accompaniment. AAAI 2018 (the five tracks)"
    )
    WEIGHTS = "None are published; make them: encore train pianoroll-cnn --dataset D."
    Config = PianoRollCnnConfig

    config: PianoRollCnnConfig
    module: PianoRollNetwork

    def __init__(self, config: PianoRollCnnConfig) -> None:
        self.config = config
        self.input = PianoRollInput(frames=config.frames, low_pitch=0, high_pitch=127)
        self.shape = (DIM,)
        self.module = PianoRollNetwork()

    def objectives(self) -> dict[str, Callable[[Labels], Objective]]:
        return {"supervised": lambda labels: Supervised(self.module, DIM, labels, _TRAINING)}


class PianoRollNetwork(nn.Module):
    """Six 3 x 3 convolutions, each halving pitch and time, then five linear layers; a sixth would give labels."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Sequential(nn.Conv2d(into, out, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(out))
            for into, out in zip((len(TRACKS), *_CHANNELS), _CHANNELS, strict=False)
        )
        flat = _CHANNELS[-1] * _CELLS[0] * _CELLS[1]
        self.linears = nn.ModuleList(
            nn.Sequential(nn.Linear(into, out), nn.LayerNorm(out))
            for into, out in zip((flat, *_WIDTHS), _WIDTHS, strict=False)
        )
        self.dropout = nn.Dropout(0.3)

    def forward(self, rolls: UInt8[Tensor, "batch tracks pitches frames"]) -> Float[Tensor, "batch 384"]:
        x = rolls / _LOUDEST
        for convolution in self.convolutions:
            x = F.relu(convolution(x))
        x = F.adaptive_avg_pool2d(x, _CELLS).flatten(1)
        for linear in self.linears:
            x = F.relu(linear(self.dropout(x)))
        return x
