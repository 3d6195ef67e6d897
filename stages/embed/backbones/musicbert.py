"""MusicBERT: a Transformer encoder over notes, pre-trained by predicting hidden ones.

Reads MIDI as OctupleMIDI. The authors published weights of the small and the base size (MIT licence), which `load`
reads unchanged; `encore train musicbert` makes others. Our training differs from theirs in that a hidden field is
predicted among its own values, not among all words, and that a random value is drawn from its own field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from stages.embed.backbones import Backbone
from stages.embed.backbones._musicbert_network import HIDDEN, POSITIONS, MusicBertNetwork
from stages.embed.inputs.octuple import NOTES, PAD, SIZES, OctupleInput
from stages.embed.objectives import Labels, Objective, Training
from stages.embed.objectives.masked import Masked, corrupt
from stages.embed.objectives.supervised import Supervised
from stages.embed.weights import load_into, read_state_dict
from store.errors import RequestError

# Layers, width, heads, width of the feed-forward part; the authors also call their smallest size "tiny".
_SIZES = {"tiny": (2, 128, 2, 512), "small": (4, 512, 8, 2048), "base": (12, 768, 12, 3072)}
_PROGRAMS = SIZES[2]

# The authors' settings but for batch (theirs: 256 of up to 1,000 notes) and warmup (25,000 of 125,000 updates), which
# suit the 170,000 files of Lakh.
_PRETRAINING = Training(epochs=40, batch=16, learning_rate=5e-4, schedule="linear", warmup=200, patience=10)
_FINE_TUNING = Training(epochs=20, batch=16, learning_rate=5e-5, schedule="linear", warmup=50, patience=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class MusicBertConfig:
    """Settings.

    Attributes
    ----------
    size : ``small`` and ``base`` are the published ones; ``tiny`` (2 layers, 128 wide) is for trying things out.
    notes : how many notes a window holds at most; longer clips become three or four windows whose vectors are averaged.
    """

    size: Literal["tiny", "small", "base"] = "small"
    notes: int = NOTES

    def __post_init__(self) -> None:
        if self.size not in _SIZES:
            raise RequestError(f"size must be one of {', '.join(_SIZES)}, not {self.size!r}")


class MusicBert(Backbone):
    """``float32 [7 * width]``, 3,584 in the small size; [5 * width] in the tiny one.

    In this order: the mean over the notes of the input of the first layer and of the outputs of the layers at each
    quarter of the depth (small: all four; base: 3, 6, 9, 12), then the last layer's start token, then the last layer's
    maxima over the notes. The paper does not say which representation to use: it fine-tunes the start token, which
    pre-training alone leaves untrained. Low layers keep which instruments, pitches and durations occur, high layers
    how they combine; a head can choose.
    """

    NAME = "musicbert"
    TITLE = "MusicBERT"
    LICENSE = "MIT (published weights and code of microsoft/muzic)"
    CITATION = (
        "M. Zeng, X. Tan, R. Wang, Z. Ju, T. Qin, T.-Y. Liu: MusicBERT: Symbolic Music Understanding with Large-Scale "
        "Pre-Training. Findings of ACL-IJCNLP 2021, arXiv 2106.05630"
    )
    WEIGHTS = (
        "The README of github.com/microsoft/muzic/tree/main/musicbert links checkpoint_last_musicbert_small.pt and "
        "..._base.pt (--set size=base); or train: encore train musicbert --dataset D."
    )
    # A window alone needs no padding, so its numbers are the same to the bit in any batch; a CPU is no slower for it.
    CPU_BATCH, GPU_BATCH = 1, 32
    Config = MusicBertConfig

    config: MusicBertConfig
    module: MusicBertNetwork

    def __init__(self, config: MusicBertConfig) -> None:
        self.config = config
        self.input = OctupleInput(notes=config.notes)
        self.module = MusicBertNetwork(*_SIZES[config.size])
        self.shape = (self.module.dim,)

    def load(self, weights: Path) -> None:
        """Read a checkpoint of ``encore train``, or a published one in fairseq's layout."""
        state = _published(read_state_dict(weights))
        self._check_size(state, weights)
        # The layers that predict notes decide no representation; fine-tuned checkpoints may lack them.
        load_into(self.module, state, str(weights), optional=("lm_head.*", "upsampling.*"))

    def objectives(self) -> dict[str, Callable[[Labels], Objective]]:
        """``masked`` predicts whole notes, ``masked-bar`` fields by bar and instrument, ``supervised`` labels."""
        return {
            "masked": lambda _: Masked(self.module, hide_notes, _PRETRAINING),
            "masked-bar": lambda _: Masked(self.module, hide_bars, _PRETRAINING),
            "supervised": lambda labels: Supervised(self.module, self.module.dim, labels, _FINE_TUNING),
        }

    def _check_size(self, state: Mapping[str, Tensor], path: Path) -> None:
        layers = len({key.split(".")[1] for key in state if key.startswith("layers.")})
        norm = state.get("emb_layer_norm.weight")
        width = norm.numel() if norm is not None else 0
        for size, dimensions in _SIZES.items():
            if dimensions[:2] == (layers, width) and size != self.config.size:
                raise RequestError(f"{path}: holds the {size} size of MusicBERT; say --set size={size}")


def hide_notes(tokens: Int[Tensor, "b n f"]) -> tuple[Int[Tensor, "b n f"], Bool[Tensor, "b n f"]]:
    """Octuple masking: hide 15 % of the notes, each with all its fields."""
    draw = torch.rand(tokens.shape[:2], device=tokens.device).unsqueeze(2).expand(tokens.shape)
    return _hide(tokens, draw)


def hide_bars(tokens: Int[Tensor, "b n f"]) -> tuple[Int[Tensor, "b n f"], Bool[Tensor, "b n f"]]:
    """Bar-level masking: hide 15 % of the fields, each in all the notes of one instrument in one bar."""
    window = torch.arange(len(tokens), device=tokens.device).unsqueeze(1)
    unit = (window * SIZES[0] + tokens[..., 0]) * _PROGRAMS + tokens[..., 2]
    units, index = torch.unique(unit, return_inverse=True)
    draw = torch.rand((len(units), tokens.shape[2]), device=tokens.device)
    return _hide(tokens, draw[index])


def _hide(
    tokens: Int[Tensor, "b n f"], draw: Float[Tensor, "b n f"]
) -> tuple[Int[Tensor, "b n f"], Bool[Tensor, "b n f"]]:
    padding = tokens == PAD
    sizes = torch.tensor(SIZES, device=tokens.device)
    return corrupt(tokens, draw.masked_fill(padding, 1.0), mask=HIDDEN, sizes=sizes)


def _published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``state`` with fairseq's names and shapes translated to ours; a checkpoint of another layout is left alone."""
    prefix = "encoder.sentence_encoder."
    if not any(key.startswith(prefix) for key in state):
        return dict(state)
    weights = {
        key.removeprefix(prefix).removeprefix("encoder."): value
        for key, value in state.items()
        if not key.startswith("classification_heads.") and key != "encoder.lm_head.weight"  # the embedding once more
    }
    positions = weights.get("embed_positions.weight")
    if positions is not None and positions.dim() == 2 and len(positions) > POSITIONS:
        weights["embed_positions.weight"] = positions[:POSITIONS]  # theirs has 8,194, most of them unused
    return weights
