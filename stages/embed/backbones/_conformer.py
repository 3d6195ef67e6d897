"""The network that MusicFM and MuQ share: two convolutions over mel bands and a conformer with rotary positions.

Reads 24 kHz audio in windows of 30 s, as 128 mel bands (2,048-point FFT, hop 240) in decibels, shifted and scaled by
the mean and deviation of the collection that the model was trained on. The convolutions leave 25 frames a second, or
50. The representation is, for each layer, the mean over time: the input of the first conformer layer, then the output
of each, the last one normalised, averaged over windows spread evenly over the clip.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stages.embed.backbones import Backbone
from stages.embed.backbones._pooling import pooled
from stages.embed.inputs.audio import AudioInput
from stages.embed.inputs.spectral import Mel, decibels, mel_spectrogram, torchaudio_transforms
from stages.embed.weights import load_into, make_network
from store.errors import RequestError
from store.fingerprint import ADDED_LATER

MEL = Mel(rate_hz=24_000, fft=2048, hop=240, bands=128, low_hz=0.0, high_hz=12_000.0)
LARGE: dict[str, Any] = {  # the conformer of wav2vec2-conformer-rope-large-960h-ft, which both models take over
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "hidden_act": "swish",
    "position_embeddings_type": "rotary",
    "rotary_embedding_base": 10_000,
    "conv_depthwise_kernel_size": 31,
    "layer_norm_eps": 1e-5,
}
_UNREAD = (  # how the names of weights begin that no layer's output depends on: of training, or computed anew
    *("preprocessor_", "quantizer_", "rvq.", "linear.", "recon_proj.", "cls_token"),
    *("conformer.pos_conv_embed.", "conformer.embed_positions."),
)
_PREFIX = "model."


@dataclass(frozen=True, slots=True, kw_only=True)
class ConformerConfig:
    """Settings; the first comes with the weights.

    Attributes
    ----------
    architecture : as JSON: ``channels`` of the convolutions and their two ``strides`` in time, ``layers``, ``dim`` and
        what else decides the ``conformer``; ``mean`` and ``deviation`` of the decibels.
    window_s, max_windows : windows of a clip whose vectors are averaged.
    min_s : shorter clips are refused.
    deviation : keep of each layer, behind its mean over time, its deviation over time, averaged over windows as well.
    """

    architecture: str = "{}"
    window_s: float = 30.0
    max_windows: int = 3
    min_s: float = 1.0
    deviation: bool = field(default=False, metadata=ADDED_LATER)

    def __post_init__(self) -> None:
        if not 0.1 <= self.window_s <= 600:
            raise RequestError(f"window_s must be from 0.1 to 600, not {self.window_s}")

    def audio(self) -> AudioInput:
        """What a network of these settings reads."""
        return AudioInput(
            rate_hz=MEL.rate_hz,
            window_samples=round(self.window_s * MEL.rate_hz),
            max_windows=self.max_windows,
            min_s=self.min_s,
        )

    def layers(self, name: str, hint: str | None) -> dict[str, Any]:
        """``architecture`` as a dict; RequestError, with where weights come from, where there is none yet."""
        architecture: dict[str, Any] = json.loads(self.architecture)
        if not architecture:
            raise RequestError(f"{name} has no layers without weights: --weights. {hint}")
        return architecture


class Conformer(Backbone):
    """``float32 [layers + 1, dim]``; [layers + 1, 2 * dim] with deviations."""

    CPU_BATCH, GPU_BATCH = 1, 16
    Config: ClassVar[type[Any]] = ConformerConfig

    module: ConformerNetwork

    def __init__(self, config: ConformerConfig) -> None:
        architecture = config.layers(self.NAME, self.WEIGHTS)
        self.config = config
        self.input = config.audio()
        self.module = make_network(lambda: ConformerNetwork(architecture, deviation=config.deviation), self.NAME)
        self.shape = (architecture["layers"] + 1, architecture["dim"] * (1 + config.deviation))
        self._mean, self._deviation = float(architecture["mean"]), float(architecture["deviation"])
        if not self._deviation > 0:
            raise RequestError(f"{self.NAME}: a deviation of {self._deviation} scales nothing")
        self._spectrogram = mel_spectrogram(MEL)

    def fill(self, state: Mapping[str, Tensor], what: str) -> None:
        """Copy published weights; what has no part in any layer's output is passed over.

        Raises
        ------
        RequestError
            as `load_into`.
        """
        tensors = {key.removeprefix(_PREFIX): value for key, value in state.items()}
        weights = {key: value for key, value in tensors.items() if not key.startswith(_UNREAD)}
        load_into(self.module, weights, what, optional=("*num_batches_tracked", "*.inv_freq"))

    def to(self, device: torch.device) -> None:
        super().to(device)
        self._spectrogram.to(device)

    def forward(self, windows: Tensor) -> Tensor:
        """[batch, samples] -> [batch, *shape]."""
        with torch.autocast(windows.device.type, enabled=False):
            mel = decibels(self._spectrogram(windows))[..., :-1]
            mel = (mel - self._mean) / self._deviation
        outputs: Tensor = self.module(mel)
        return outputs


class ConformerNetwork(nn.Module):
    """From mel bands to all layers, `pooled` over time; modules are named as in the published weights.

    Parameters
    ----------
    architecture, deviation : see `ConformerConfig`.
    """

    def __init__(self, architecture: Mapping[str, Any], *, deviation: bool = False) -> None:
        super().__init__()
        self._deviation = deviation
        torchaudio_transforms()  # before transformers, which imports torchaudio without the stand-in
        from transformers.models.wav2vec2_conformer.modeling_wav2vec2_conformer import (
            Wav2Vec2ConformerConfig,
            Wav2Vec2ConformerEncoder,
        )

        dim, layers = architecture["dim"], architecture["layers"]
        sizes = {"hidden_size": dim, "num_hidden_layers": layers}
        # The library chooses by itself, and warns, where an encoder stands without a model around it.
        config = Wav2Vec2ConformerConfig(**sizes, **architecture["conformer"], attn_implementation="eager")
        self.conv = Subsampling(architecture["channels"], dim, architecture["strides"])
        self.conformer = Wav2Vec2ConformerEncoder(config)
        del self.conformer.pos_conv_embed  # it is made, and never used

    def forward(self, mel: Float[Tensor, "batch bands frames"]) -> Float[Tensor, "batch layers kept"]:
        encoder: Any = self.conformer
        x = self.conv(mel)
        positions = encoder.embed_positions(x)
        outputs = [pooled(x, deviation=self._deviation)]
        for number, layer in enumerate(encoder.layers, start=1):
            output = layer(x, relative_position_embeddings=positions)
            x = output[0] if isinstance(output, tuple) else output
            last = number == len(encoder.layers)
            outputs.append(pooled(encoder.layer_norm(x) if last else x, deviation=self._deviation))
        return torch.stack(outputs, dim=1)


class Subsampling(nn.Module):
    """[batch, bands, frames] -> [batch, frames / strides, dim]."""

    def __init__(self, channels: int, dim: int, strides: tuple[int, int]) -> None:
        super().__init__()
        first, second = strides
        self.conv = nn.Sequential(Residual(1, channels, first), Residual(channels, channels, second))
        self.linear = nn.Linear(channels * (MEL.bands // 4), dim)

    def forward(self, mel: Float[Tensor, "batch bands frames"]) -> Float[Tensor, "batch time dim"]:
        x = self.conv(mel[:, None])
        out: Tensor = self.linear(x.permute(0, 3, 1, 2).flatten(2))
        return out


class Residual(nn.Module):
    """Two convolutions beside a third, each normalised; bands are halved, and frames divided by ``stride``."""

    def __init__(self, size: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(size, out, 3, padding=1, stride=(2, stride))
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(out)
        self.conv3 = nn.Conv2d(size, out, 3, padding=1, stride=(2, stride))
        self.bn3 = nn.BatchNorm2d(out)

    def forward(self, x: Float[Tensor, "batch size bands frames"]) -> Float[Tensor, "batch out bands2 frames2"]:
        inner = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(inner + self.bn3(self.conv3(x)))
