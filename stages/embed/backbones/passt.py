"""PaSST: a Transformer over patches of a mel spectrogram, trained with patchout, every block of it.

Reads 32 kHz audio in windows of 10 s. A patch is 16 bands by 16 frames, one every 10 bands and frames: 12 rows of 99.
Each gets the embedding of its row and that of its column, which are learnt apart, so that whole rows and columns can be
left out: training drops 4 rows and 40 columns at random. The representation is, for each block, the mean of its two
tokens for the whole, ``cls`` and ``dist``, averaged over windows spread evenly over the clip. The last block's is
normalised, and is what the authors call the model's features.

``--weights FILE`` takes a published checkpoint of 10 s and a stride of 10, trained on AudioSet; its output layers are
not read. ``encore train passt --weights FILE`` goes on from there. Training follows the paper in patchout alone:
without its masks over bands and frames, its mixing of recordings and its average of weights.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stages.embed.backbones import Backbone
from stages.embed.inputs.audio import AudioInput
from stages.embed.inputs.spectral import Power, torchaudio_transforms
from stages.embed.objectives import Labels, Objective, Training
from stages.embed.objectives.supervised import Supervised
from stages.embed.weights import load_into, read_state_dict
from store.errors import RequestError

_SIZES = {"base": (768, 12, 12), "tiny": (192, 4, 3)}  # width, blocks, heads of attention
RATE_HZ = 32_000
WINDOW = 10 * RATE_HZ
BANDS, FFT, HANN, HOP = 128, 1_024, 800, 320
LOW_HZ, HIGH_HZ = 0.0, 15_000.0
PATCH, STRIDE = 16, 10
ROWS, COLUMNS = 12, 99
ROWS_OUT, COLUMNS_OUT = 4, 40  # of them, in training

# From the published names of a block's weights to torch's.
_RENAMED = (
    (r"(blocks\.\d+)\.attn\.qkv\.(weight|bias)", r"\1.self_attn.in_proj_\2"),
    (r"(blocks\.\d+)\.attn\.proj\.", r"\1.self_attn.out_proj."),
    (r"(blocks\.\d+)\.mlp\.fc([12])\.", r"\1.linear\2."),
)
_OUTPUTS = ("head.", "head_dist.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PasstConfig:
    """Settings.

    Attributes
    ----------
    size : ``base`` is the paper's; ``tiny``, a third of its blocks and a quarter as wide, is for trying things out.
    max_windows : how many windows of 10 s, at most, a clip's vector is the mean of.
    min_s : shorter clips are refused.
    """

    size: Literal["base", "tiny"] = "base"
    max_windows: int = 3
    min_s: float = 1.0

    def __post_init__(self) -> None:
        if self.size not in _SIZES:
            raise RequestError(f"size must be one of {', '.join(_SIZES)}, not {self.size!r}")


class Passt(Backbone):
    """``float32 [12, 768]``, or [4, 192] in the tiny size."""

    NAME = "passt"
    TITLE = "PaSST"
    LICENSE = "Apache 2.0 (the repository that publishes code and weights)"
    CITATION = (
        "K. Koutini, J. Schlüter, H. Eghbal-zadeh, G. Widmer: Efficient Training of Audio Transformers with Patchout. "
        "Interspeech 2022 (arXiv 2110.05069)"
    )
    WEIGHTS = (
        "github.com/kkoutini/PaSST publishes them under its releases (v0.0.1-audioset): "
        "passt-s-f128-p16-s10-ap.476-swa.pt. Or make them: encore train passt --dataset DATASET --out FILE."
    )
    FILES = ("passt-s-f128-p16-s10-ap.476-swa.pt, or another of 10 s and stride 10",)
    CPU_BATCH, GPU_BATCH = 1, 32
    Config = PasstConfig

    module: PasstNetwork

    def __init__(self, config: PasstConfig) -> None:
        self.config = config
        self.input = AudioInput(
            rate_hz=RATE_HZ, window_samples=WINDOW, max_windows=config.max_windows, min_s=config.min_s
        )
        dim, blocks, heads = _SIZES[config.size]
        self.shape = (blocks, dim)
        self.module = PasstNetwork(dim, blocks, heads)

    def load(self, weights: Path) -> None:
        """Read a checkpoint, by the published names or by those of ``encore train``."""
        state = read_state_dict(weights)
        load_into(
            self.module, {renamed(key): state[key] for key in state if not key.startswith(_OUTPUTS)}, str(weights)
        )

    def objectives(self) -> dict[str, Callable[[Labels], Objective]]:
        dim = self.shape[1]
        rate = 2e-5 if self.config.size == "base" else 5e-4  # the paper's, from trained weights on
        training = Training(batch=12, learning_rate=rate, warmup=100, weight_decay=1e-4)
        return {Supervised.NAME: lambda labels: Supervised(self.module, dim, labels, training)}

    def forward(self, windows: Tensor) -> Tensor:
        """[batch, samples] -> [batch, blocks, dim]."""
        return torch.stack(self.module.blocks_of(windows), dim=1)


def renamed(key: str) -> str:
    """The name that one of the published weights has here."""
    for pattern, name in _RENAMED:
        key = re.sub(f"^{pattern}", name, key)
    return key


class Spectrogram(nn.Module):
    """From samples to the logarithm of mel power, scaled to lie around 0.

    Pre-emphasis, symmetric Hann window, reflection at the ends; triangular filters as Kaldi has them, straight over the
    mel scale.
    """

    def __init__(self) -> None:
        super().__init__()
        torchaudio_transforms()  # makes torchaudio importable
        from torchaudio.compliance.kaldi import get_mel_banks

        filters, _ = get_mel_banks(BANDS, FFT, float(RATE_HZ), LOW_HZ, HIGH_HZ, 100.0, -500.0, 1.0)
        self.register_buffer("filters", nn.functional.pad(filters, (0, 1)), persistent=False)  # none hears the last bin
        self.register_buffer("window", torch.hann_window(HANN, periodic=False), persistent=False)
        self.power = Power()

    def forward(self, wave: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch 128 frames"]:
        emphasised = wave[:, 1:] - 0.97 * wave[:, :-1]
        spectrum = torch.stft(
            emphasised, FFT, HOP, win_length=HANN, window=self.get_buffer("window"), return_complex=True
        )
        mel: Tensor = self.get_buffer("filters") @ self.power(spectrum)
        return ((mel + 1e-5).log() + 4.5) / 5


class PasstNetwork(nn.Module):
    """From samples to the mean of the two tokens, under the published names as far as torch's blocks allow."""

    def __init__(self, dim: int, blocks: int, heads: int) -> None:
        super().__init__()
        self.spectrogram = Spectrogram()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(1, dim, PATCH, stride=STRIDE)})
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.dist_token = nn.Parameter(torch.empty(1, 1, dim))
        self.new_pos_embed = nn.Parameter(torch.empty(1, 2, dim))  # of the two tokens
        self.freq_new_pos_embed = nn.Parameter(torch.empty(1, dim, ROWS, 1))
        self.time_new_pos_embed = nn.Parameter(torch.empty(1, dim, 1, COLUMNS))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                dim,
                heads,
                4 * dim,
                dropout=0.0,
                activation="gelu",
                layer_norm_eps=1e-6,
                batch_first=True,
                norm_first=True,
            )
            for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1 and not name.startswith("patch_embed"):
                nn.init.trunc_normal_(parameter, std=0.02)
            elif name.startswith("blocks") and name.endswith("bias"):
                nn.init.zeros_(parameter)

    def tokens(self, wave: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch tokens dim"]:
        """The two tokens, then the patches, row by row; in training, without some rows and columns."""
        with torch.autocast(wave.device.type, enabled=False):
            level = self.spectrogram(wave)[:, None]
        patches = self.patch_embed["proj"](level) + self.time_new_pos_embed + self.freq_new_pos_embed
        if self.training:
            rows, columns = (
                torch.randperm(count, device=wave.device)[out:].sort().values
                for count, out in ((ROWS, ROWS_OUT), (COLUMNS, COLUMNS_OUT))
            )
            patches = patches[:, :, rows][..., columns]
        whole = torch.cat([self.cls_token, self.dist_token], dim=1) + self.new_pos_embed
        return torch.cat([whole.expand(len(wave), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)

    def blocks_of(self, wave: Float[Tensor, "batch samples"]) -> list[Float[Tensor, "batch dim"]]:
        """The mean of the two tokens behind each block, the last one's normalised."""
        x = self.tokens(wave)
        means = []
        for block in self.blocks:
            x = block(x)
            means.append(x[:, :2].mean(dim=1))
        means[-1] = self.norm(x[:, :2]).mean(dim=1)
        return means

    def forward(self, wave: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch dim"]:
        return self.blocks_of(wave)[-1]
