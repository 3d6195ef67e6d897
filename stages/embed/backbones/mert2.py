"""MERT, version 2: ConvNeXt blocks over mel bands and a conformer with rotary positions, every layer of it.

Reads 24 kHz audio, in windows of 30 s, as 128 mel bands in decibels (2,048-point FFT, hop 240), each shifted and scaled
by numbers that come with the weights; blocks of convolutions leave 25 frames a second. The representation is the mean
over time of the output of each conformer layer, averaged over windows spread evenly over the clip.

``--weights DIR`` names the folder of a published model (``config.json`` and ``model.safetensors``); none of its code is
run. The model for full songs was trained on up to 360 s: ``--set window_s=360``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stages.embed.backbones import Backbone
from stages.embed.backbones._conformer import MEL, ConformerConfig
from stages.embed.backbones._pooling import pooled
from stages.embed.backbones.hf import fetch_model, read_json, read_weights
from stages.embed.inputs.spectral import decibels, mel_spectrogram
from stages.embed.weights import load_into, make_network
from store.errors import RequestError

_PUBLISHED: dict[str, Any] = {  # what a configuration says where it says nothing
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "subsampling_channels": [128, 512, 1024],
    "subsampling_depths": [3, 4, 5],
    "conv_depthwise_kernel_size": 31,
    "rotary_embedding_base": 10_000,
    "layer_norm_eps": 1e-5,
    "subsampling_layer_norm_eps": 1e-6,
}
_FRONT_END = {
    "sampling_rate": MEL.rate_hz,
    "n_fft": MEL.fft,
    "win_length": MEL.fft,
    "hop_length": MEL.hop,
    "num_mel_bins": MEL.bands,
}
_STRIDES = (1, 2, 2)
_UNREAD = ("feature_extractor.spectrogram.", "feature_extractor.mel_scale.")  # windows and filters, computed anew


@dataclass(frozen=True, slots=True, kw_only=True)
class Mert2Config(ConformerConfig):
    """Settings; ``architecture`` is the folder's ``config.json`` as far as it decides numbers."""


class Mert2(Backbone):
    """``float32 [layers, dim]``; [layers, 2 * dim] with deviations."""

    NAME = "mert2"
    TITLE = "MERT v2"
    LICENSE = "CC BY-NC 4.0 (the published weights)"
    CITATION = (
        "Y. Li et al.: MERT: Acoustic Music Understanding Model with Large-Scale Self-supervised Training. ICLR 2024, "
        "arXiv 2306.00107; and the second version's own page"
    )
    WEIGHTS = (
        "MERT v2 is published on the Hugging Face hub by m-a-p, for 30 s and for full songs: --backbone "
        "mert2:OWNER/MODEL downloads it, --weights DIR takes it from a local folder."
    )
    CPU_BATCH, GPU_BATCH = 1, 16
    FILES: ClassVar[tuple[str, ...]] = ("config.json", "model.safetensors or pytorch_model.bin")
    Config = Mert2Config

    module: Mert2Network

    @classmethod
    def fetch(cls, model: str) -> Path:
        """The folder of a model of the hub (`fetch_model`)."""
        return fetch_model(cls.NAME, model, ["config.json"], ("model.safetensors", "pytorch_model.bin"))

    @classmethod
    def settings_of(cls, weights: Path) -> dict[str, str]:
        """The settings that the folder decides; RequestError where it describes another network."""
        if not weights.is_dir():
            raise RequestError(f"{weights} is no folder; mert2 takes by --weights the folder of a published model")
        description = read_json(weights / "config.json")
        if description.get("model_type") != "mert2":
            raise RequestError(f"{weights}: mert2 reads mert2, not {description.get('model_type')!r}")
        for name, value in _FRONT_END.items():
            if description.get(name, value) != value:
                raise RequestError(f"{weights}: mert2 reads {name} {value}, and this model's is {description[name]}")
        decides = {name: description.get(name, value) for name, value in _PUBLISHED.items()}
        return {"architecture": json.dumps(decides, sort_keys=True)}

    def __init__(self, config: Mert2Config) -> None:
        architecture = config.layers(self.NAME, self.WEIGHTS)
        self.config = config
        self.input = config.audio()
        self.module = make_network(lambda: Mert2Network(architecture, deviation=config.deviation), self.NAME)
        self.shape = (architecture["num_hidden_layers"], architecture["hidden_size"] * (1 + config.deviation))
        self._spectrogram = mel_spectrogram(MEL)

    def load(self, weights: Path) -> None:
        """Read the folder's weights."""
        state = {key: value for key, value in read_weights(weights).items() if not key.startswith(_UNREAD)}
        load_into(self.module, state, str(weights))

    def to(self, device: torch.device) -> None:
        super().to(device)
        self._spectrogram.to(device)

    def forward(self, windows: Tensor) -> Tensor:
        """[batch, samples] -> [batch, *shape]."""
        with torch.autocast(windows.device.type, enabled=False):
            mel = decibels(self._spectrogram(windows))[..., :-1].transpose(1, 2)
            scale: Any = self.module.feature_extractor
            mel = (mel - scale.mel_mean) / scale.mel_std.clamp(min=1e-5)
        outputs: Tensor = self.module(mel)
        return outputs


class Mert2Network(nn.Module):
    """From mel bands to all layers, `pooled` over time; modules are named as in the published weights."""

    def __init__(self, architecture: dict[str, Any], *, deviation: bool = False) -> None:
        super().__init__()
        self._deviation = deviation
        self.feature_extractor = nn.Module()
        self.feature_extractor.register_buffer("mel_mean", torch.zeros(MEL.bands))
        self.feature_extractor.register_buffer("mel_std", torch.ones(MEL.bands))
        channels, eps = architecture["subsampling_channels"], architecture["subsampling_layer_norm_eps"]
        sizes = zip([MEL.bands, *channels[:-1]], channels, _STRIDES, architecture["subsampling_depths"], strict=True)
        self.subsampling_module = nn.Sequential(*(Block(*size, eps) for size in sizes))
        self.layers = nn.ModuleList(ConformerLayer(architecture) for _ in range(architecture["num_hidden_layers"]))
        self._half = architecture["hidden_size"] // architecture["num_attention_heads"] // 2
        self._base = float(architecture["rotary_embedding_base"])

    def forward(self, mel: Float[Tensor, "batch frames bands"]) -> Float[Tensor, "batch layers kept"]:
        x = self.subsampling_module(mel)
        place = torch.arange(self._half, device=x.device) / self._half
        angle = torch.arange(x.shape[1], device=x.device)[:, None] * self._base**-place  # [time, half a head]
        outputs = []
        for layer in self.layers:
            x = layer(x, angle)
            outputs.append(pooled(x, deviation=self._deviation))
        return torch.stack(outputs, dim=1)


class Across(nn.Module):
    """[batch, time, channels] <-> [batch, channels, time]."""

    def forward(self, x: Float[Tensor, "batch a b"]) -> Float[Tensor, "batch b a"]:
        return x.transpose(1, 2)


class Block(nn.Module):
    """A step to another width and rate, and ConvNeXt layers."""

    def __init__(self, size: int, out: int, stride: int, depth: int, eps: float) -> None:
        super().__init__()
        self.resampling_layer: nn.Module = nn.Identity()
        if size != out or stride > 1:
            norm, conv = nn.LayerNorm(size, eps=eps), nn.Conv1d(size, out, 2, stride=stride)
            self.resampling_layer = nn.Sequential(norm, Across(), conv, Across())
        self.convnext_layers = nn.Sequential(*(ConvNextLayer(out, eps) for _ in range(depth)))

    def forward(self, x: Float[Tensor, "batch time size"]) -> Float[Tensor, "batch time2 out"]:
        out: Tensor = self.convnext_layers(self.resampling_layer(x))
        return out


class ConvNextLayer(nn.Module):
    """S. Woo et al.: ConvNeXt V2 (CVPR 2023), over time."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        conv = nn.Conv1d(dim, dim, 7, padding=3, groups=dim)
        self.depthwise_block = nn.Sequential(Across(), conv, Across())
        self.pointwise_block = nn.Sequential(
            nn.LayerNorm(dim, eps=eps),
            nn.Linear(dim, 4 * dim),
            nn.GELU(),
            ResponseNorm(4 * dim),
            nn.Linear(4 * dim, dim),
        )

    def forward(self, x: Float[Tensor, "batch time dim"]) -> Float[Tensor, "batch time dim"]:
        out: Tensor = x + self.pointwise_block(self.depthwise_block(x))
        return out


class ResponseNorm(nn.Module):
    """Each channel by its length over time, relative to those of all channels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1, dim))
        self.bias = nn.Parameter(torch.zeros(1, 1, dim))

    def forward(self, x: Float[Tensor, "batch time dim"]) -> Float[Tensor, "batch time dim"]:
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        out: Tensor = self.weight * (x * (length / (length.mean(dim=-1, keepdim=True) + 1e-6))) + self.bias + x
        return out


class ConformerLayer(nn.Module):
    """A. Gulati et al.: Conformer (Interspeech 2020), with layer normalisation within its convolution."""

    def __init__(self, architecture: dict[str, Any]) -> None:
        super().__init__()
        dim, wide, eps = (architecture[name] for name in ("hidden_size", "intermediate_size", "layer_norm_eps"))
        self.ffn1_layer_norm, self.ffn2_layer_norm = nn.LayerNorm(dim, eps=eps), nn.LayerNorm(dim, eps=eps)
        self.attn_layer_norm, self.final_layer_norm = nn.LayerNorm(dim, eps=eps), nn.LayerNorm(dim, eps=eps)
        self.ffn1, self.ffn2 = FeedForward(dim, wide), FeedForward(dim, wide)
        self.attn = Attention(dim, architecture["num_attention_heads"])
        self.conv_module = Convolution(dim, architecture["conv_depthwise_kernel_size"], eps)

    def forward(self, x: Float[Tensor, "batch time dim"], angle: Tensor) -> Float[Tensor, "batch time dim"]:
        x = x + self.ffn1(self.ffn1_layer_norm(x)) / 2
        x = x + self.attn(self.attn_layer_norm(x), angle)
        x = x + self.conv_module(x)
        x = x + self.ffn2(self.ffn2_layer_norm(x)) / 2
        out: Tensor = self.final_layer_norm(x)
        return out


class FeedForward(nn.Module):
    def __init__(self, dim: int, wide: int) -> None:
        super().__init__()
        self.w_1, self.w_2 = nn.Linear(dim, wide), nn.Linear(wide, dim)

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        out: Tensor = self.w_2(F.gelu(self.w_1(x)))
        return out


class Convolution(nn.Module):
    def __init__(self, dim: int, taps: int, eps: float) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(dim, eps=eps)
        self.conv_block = nn.Sequential(
            Across(),
            nn.Conv1d(dim, 2 * dim, 1, bias=False),
            nn.GLU(dim=1),
            nn.Conv1d(dim, dim, taps, padding=taps // 2, groups=dim, bias=False),
            nn.Sequential(Across(), nn.LayerNorm(dim, eps=eps), Across()),
            nn.GELU(),
            nn.Conv1d(dim, dim, 1, bias=False),
            Across(),
        )

    def forward(self, x: Float[Tensor, "batch time dim"]) -> Float[Tensor, "batch time dim"]:
        out: Tensor = self.conv_block(self.layer_norm(x))
        return out


class Attention(nn.Module):
    """With rotary positions (J. Su et al. 2021, RoFormer): time turns queries and keys by an angle."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.query_proj, self.key_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.value_proj, self.out_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self._heads = heads

    def forward(self, x: Float[Tensor, "batch time dim"], angle: Tensor) -> Float[Tensor, "batch time dim"]:
        projections = (self.query_proj, self.key_proj, self.value_proj)
        q, k, v = (project(x).unflatten(2, (self._heads, -1)).transpose(1, 2) for project in projections)
        attended = F.scaled_dot_product_attention(_turned(q, angle), _turned(k, angle), v)
        out: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return out


def _turned(x: Float[Tensor, "batch heads time size"], angle: Tensor) -> Float[Tensor, "batch heads time size"]:
    a, b = x.chunk(2, dim=-1)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
