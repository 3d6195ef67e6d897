"""CLaMP 3: the tower that reads MIDI, trained to lie near texts about the same music.

Reads MIDI as text in patches of 64 characters (`stages.embed.inputs.mtf`), 512 of them at a time, through a BERT over
patches. The representation is the projection of the mean over patches, averaged over segments by how many patches each
adds. ``--weights FILE`` names a published checkpoint; of its towers for audio and for text nothing is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from stages.embed.backbones import Backbone
from stages.embed.inputs.mtf import CHARACTERS, PATCHES, MtfInput
from stages.embed.inputs.spectral import torchaudio_transforms
from stages.embed.weights import load_into, read_state_dict
from store.errors import RequestError

_SIZES = {"tiny": (2, 64), "base": (12, 768)}  # layers, width; a head has 64 numbers
_HEAD, _CODES = 64, 128
_UNREAD = (  # how the names of weights begin that decide no number here
    *("text_model.", "text_proj.", "audio_model.", "audio_proj.", "logit_scale"),
    "symbolic_model.base.pooler.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clamp3Config:
    """Settings.

    Attributes
    ----------
    size : ``base`` is the published one; ``tiny`` (2 layers, 64 wide) is for trying things out.
    segments : how many segments of 512 patches a clip has at most (`MtfInput`).
    """

    size: Literal["tiny", "base"] = "base"
    segments: int = 8

    def __post_init__(self) -> None:
        if self.size not in _SIZES:
            raise RequestError(f"size must be one of {', '.join(_SIZES)}, not {self.size!r}")


class Clamp3(Backbone):
    """``float32 [768]``, or [64] in the tiny size."""

    NAME = "clamp3"
    TITLE = "CLaMP 3 (MIDI)"
    LICENSE = "MIT (published weights and code of sanderwood/clamp3)"
    CITATION = (
        "S. Wu, Z. Guo, R. Yuan, J. Jiang, S. Doh, G. Xia, J. Nam, X. Li, F. Yu, M. Sun: CLaMP 3: Universal Music "
        "Information Retrieval Across Unaligned Modalities and Unseen Languages. Findings of ACL 2025, arXiv 2502.10362"
    )
    WEIGHTS = (
        "CLaMP 3 is published on the Hugging Face hub as sander-wood/clamp3: give its checkpoint by --weights "
        "(weights_clamp3_c2_...pth is the one for scores and MIDI, weights_clamp3_saas_...pth the one for audio)."
    )
    CPU_BATCH, GPU_BATCH = 1, 8
    Config = Clamp3Config

    module: Clamp3Network

    def __init__(self, config: Clamp3Config) -> None:
        self.config = config
        self.input = MtfInput(segments=config.segments)
        self.module = Clamp3Network(*_SIZES[config.size])
        self.shape = (_SIZES[config.size][1],)

    def load(self, weights: Path) -> None:
        """Read a checkpoint of ``encore train``'s layout, or a published one."""
        state = {key: value for key, value in read_state_dict(weights).items() if not key.startswith(_UNREAD)}
        load_into(self.module, state, str(weights), optional=("*.position_ids", "*.token_type_ids"))


class Clamp3Network(nn.Module):
    """From segments of patches to a vector; modules are named as in the published weights."""

    def __init__(self, layers: int, dim: int) -> None:
        super().__init__()
        self.symbolic_model = PatchEncoder(layers, dim)
        self.symbolic_proj = nn.Linear(dim, dim)

    def forward(self, windows: Int[Tensor, "batch segments patches characters"]) -> Float[Tensor, "batch dim"]:
        marks = windows[:, :, PATCHES, :2].long()
        counts = marks[..., 0] + (marks[..., 1] << 8)  # [batch, segments] the patches that each adds
        owner, segment = torch.nonzero(counts, as_tuple=True)
        codes = windows[owner, segment, :PATCHES].long()
        mask = codes[:, :, 0] > 0
        codes, mask = codes[:, : int(mask.sum(1).max())], mask[:, : int(mask.sum(1).max())]
        hidden = self.symbolic_model(codes, mask)
        means = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        weights = counts[owner, segment].to(means.dtype)[:, None]
        vectors = self.symbolic_proj(means) * weights
        total = torch.zeros(len(windows), vectors.shape[1], dtype=vectors.dtype, device=vectors.device)
        return total.index_add(0, owner, vectors) / counts.sum(1, keepdim=True)


class PatchEncoder(nn.Module):
    """A BERT over patches, each of which is its characters side by side."""

    def __init__(self, layers: int, dim: int) -> None:
        super().__init__()
        torchaudio_transforms()  # before transformers, which imports torchaudio without the stand-in
        from transformers import BertConfig, BertModel

        config = BertConfig(
            vocab_size=1,
            hidden_size=dim,
            num_hidden_layers=layers,
            num_attention_heads=dim // _HEAD,
            intermediate_size=4 * dim,
            max_position_embeddings=PATCHES,
        )
        self.patch_embedding = nn.Linear(CHARACTERS * _CODES, dim)
        self.base = BertModel(config, add_pooling_layer=False)

    def forward(
        self, codes: Int[Tensor, "batch patches characters"], mask: Int[Tensor, "batch patches"]
    ) -> Float[Tensor, "batch patches dim"]:
        ones = F.one_hot(codes, _CODES).flatten(2).to(self.patch_embedding.weight.dtype)
        output: Any = self.base(inputs_embeds=self.patch_embedding(ones), attention_mask=mask.long())
        hidden: Tensor = output.last_hidden_state
        return hidden
