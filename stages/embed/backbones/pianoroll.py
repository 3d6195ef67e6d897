"""The piano roll itself as the representation: five tracks of mean velocities, in 16 columns a clip by default.

Needs no weights. Scores on it are what a head reaches from the notes without any trained encoder.
"""

from __future__ import annotations

from torch import Tensor

from stages.embed.backbones import Backbone
from stages.embed.inputs.midi import PianoRollInput


class PianoRoll(Backbone):
    """``uint8 [tracks * pitches * frames]``, flattened in this order: drums, piano, guitar, bass, strings."""

    NAME = "pianoroll"
    TITLE = "Piano roll"
    LICENSE = "MIT (no weights)"
    CITATION = (
        "H.-W. Dong, W.-Y. Hsiao, L.-C. Yang, Y.-H. Yang: MuseGAN: Multi-track Sequential Generative Adversarial "
        "Networks for Symbolic Music Generation and Accompaniment. AAAI 2018 (the five tracks of LPD-5)"
    )
    WEIGHTS = None
    Config = PianoRollInput  # its settings are those of its input

    dtype = "uint8"

    def __init__(self, config: PianoRollInput) -> None:
        tracks, pitches, frames = config.shape
        self.config = config
        self.input = config
        self.shape = (tracks * pitches * frames,)

    def forward(self, windows: Tensor) -> Tensor:
        """``uint8 [batch, tracks, pitches, frames]``, flattened."""
        return windows.flatten(1)
