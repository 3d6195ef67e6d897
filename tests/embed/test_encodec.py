"""EnCodec: a tiny network in the published layout beside a slow transcription of the published encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.embed.backbones import hf
from stages.embed.backbones.encodec import Encodec, EncodecConfig
from store.errors import RequestError
from tests.embed.transcription import Drawn, conv1d

CONFIG = {
    "model_type": "encodec",
    "architectures": ["EncodecModel"],
    "audio_channels": 1,
    "codebook_size": 4,
    "codebook_dim": 16,
    "hidden_size": 16,
    "num_filters": 4,
    "upsampling_ratios": [4, 2],
    "kernel_size": 7,
    "last_kernel_size": 7,
    "residual_kernel_size": 3,
    "dilation_growth_rate": 2,
    "num_residual_layers": 1,
    "num_lstm_layers": 2,
    "compress": 2,
    "norm_type": "weight_norm",
    "normalize": False,
    "pad_mode": "reflect",
    "use_causal_conv": True,
    "use_conv_shortcut": True,
    "trim_right_ratio": 1.0,
    "sampling_rate": 24_000,
    "target_bandwidths": [12.0],
}
EXTRACTOR = {
    "feature_extractor_type": "EncodecFeatureExtractor",
    "feature_size": 1,
    "sampling_rate": 24_000,
    "padding_value": 0.0,
    "return_attention_mask": True,
}
RATIOS = (2, 4)  # of the encoder


def weights() -> dict[str, Tensor]:
    """Drawn weights under the published names: kernels as a length and a direction."""
    tensors = Drawn()

    def conv(name: str, size: int, out: int, taps: int, *, transposed: bool = False) -> None:
        shape = (size, out) if transposed else (out, size)
        tensors.state[f"{name}.conv.weight_g"] = 0.5 + tensors.draw(shape[0], 1, 1).abs()
        tensors.tensor(f"{name}.conv.weight_v", *shape, taps)
        tensors.tensor(f"{name}.conv.bias", out)

    def residual(name: str, size: int) -> None:
        conv(f"{name}.block.1", size, size // 2, 3)
        conv(f"{name}.block.3", size // 2, size, 1)
        conv(f"{name}.shortcut", size, size, 1)

    def lstm(name: str, size: int) -> None:
        for layer in range(2):
            for part in ("ih", "hh"):
                tensors.tensor(f"{name}.lstm.weight_{part}_l{layer}", 4 * size, size)
                tensors.tensor(f"{name}.lstm.bias_{part}_l{layer}", 4 * size)

    conv("encoder.layers.0", 1, 4, 7)
    residual("encoder.layers.1", 4)
    conv("encoder.layers.3", 4, 8, 4)
    residual("encoder.layers.4", 8)
    conv("encoder.layers.6", 8, 16, 8)
    lstm("encoder.layers.7", 16)
    conv("encoder.layers.9", 16, 16, 7)
    conv("decoder.layers.0", 16, 16, 7)
    lstm("decoder.layers.1", 16)
    conv("decoder.layers.3", 16, 8, 8, transposed=True)
    residual("decoder.layers.4", 8)
    conv("decoder.layers.6", 8, 4, 4, transposed=True)
    residual("decoder.layers.7", 4)
    conv("decoder.layers.9", 4, 1, 7)
    for i in range(2):  # 12 kbit/s in 3,000 frames of 2 bits
        book = f"quantizer.layers.{i}.codebook"
        tensors.state[f"{book}.inited"] = torch.ones(1)
        tensors.tensor(f"{book}.cluster_size", 4)
        tensors.tensor(f"{book}.embed", 4, 16)
        tensors.tensor(f"{book}.embed_avg", 4, 16)
    return tensors.state


def published(folder: Path, state: dict[str, Tensor] | None = None, **changes: Any) -> None:
    """A folder as the hub has it."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    (folder / "preprocessor_config.json").write_text(json.dumps(EXTRACTOR))
    torch.save(state or weights(), folder / "pytorch_model.bin")


def opened(folder: Path) -> Encodec:
    backbone = Encodec(EncodecConfig(**Encodec.settings_of(folder), window_s=0.1, max_windows=2, min_s=0.05))
    backbone.load(folder)
    backbone.to(torch.device("cpu"))
    return backbone


def transcribed(state: dict[str, Tensor], wave: Tensor) -> Tensor:
    """[dim] of one window: causal convolutions that reflect what lies before, halved and again, and an LSTM."""

    def conv(name: str, x: Tensor, stride: int = 1) -> Tensor:
        v, g = state[f"{name}.conv.weight_v"], state[f"{name}.conv.weight_g"]
        kernel = v / v.square().sum((1, 2), keepdim=True).sqrt() * g
        left = kernel.shape[2] - stride
        right = -x.shape[1] % stride
        x = F.pad(x, (left, right), mode="reflect") if left or right else x
        return conv1d(x, kernel, state[f"{name}.conv.bias"], stride)

    def elu(x: Tensor) -> Tensor:
        return torch.where(x > 0, x, x.exp() - 1)

    def residual(name: str, x: Tensor) -> Tensor:
        return conv(f"{name}.shortcut", x) + conv(f"{name}.block.3", elu(conv(f"{name}.block.1", elu(x))))

    def lstm(name: str, x: Tensor) -> Tensor:
        y = x.T
        for layer in range(2):
            h = c = torch.zeros(16, dtype=x.dtype)
            rows = []
            for row in y:
                gates = sum(
                    state[f"{name}.lstm.weight_{part}_l{layer}"] @ value + state[f"{name}.lstm.bias_{part}_l{layer}"]
                    for part, value in (("ih", row), ("hh", h))
                )
                enter, forget, cell, leave = gates.split(16)
                c = torch.sigmoid(forget) * c + torch.sigmoid(enter) * torch.tanh(cell)
                h = torch.sigmoid(leave) * torch.tanh(c)
                rows.append(h)
            y = torch.stack(rows)
        return x + y.T

    x = conv("encoder.layers.0", wave[None])
    for first, ratio in ((1, 2), (4, 4)):
        x = conv(f"encoder.layers.{first + 2}", elu(residual(f"encoder.layers.{first}", x)), ratio)
    return conv("encoder.layers.9", elu(lstm("encoder.layers.7", x))).mean(1)


@pytest.mark.parametrize("samples", [2_400, 2_397])
def test_it_gives_what_the_published_encoder_gives(tmp_path: Path, samples: int) -> None:
    published(tmp_path / "encodec")
    backbone = opened(tmp_path / "encodec")
    assert (backbone.shape, backbone.input.audio.rate_hz) == ((16,), 24_000)
    waves = (0.3 * np.random.default_rng(0).standard_normal((2, samples))).astype(np.float32)
    extract = hf._extractor(backbone.input.extractor)
    windows = torch.from_numpy(np.stack([backbone.input._prepare(extract, wave) for wave in waves]))
    vectors = backbone.encode(windows)
    state = {key: value.double() for key, value in weights().items()}
    for wave, vector in zip(waves, vectors, strict=True):
        expected = transcribed(state, torch.from_numpy(wave).double())
        torch.testing.assert_close(vector.double(), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(backbone.encode(windows[1:]), vectors[1:], atol=1e-6, rtol=0)


def test_every_weight_is_read(tmp_path: Path) -> None:
    published(tmp_path / "strange", {**weights(), "prior.weight": torch.zeros(3)})
    with pytest.raises(RequestError, match=r"'prior.weight' has no place in encodec"):
        opened(tmp_path / "strange")
    state = weights()
    del state["encoder.layers.7.lstm.weight_hh_l1"]
    published(tmp_path / "missing", state)
    with pytest.raises(RequestError, match=r"'encoder.layers.7.lstm.weight_hh_l1' is missing"):
        opened(tmp_path / "missing")


def test_what_it_does_not_read_is_refused(tmp_path: Path) -> None:
    published(tmp_path / "stereo", audio_channels=2, normalize=True)
    with pytest.raises(
        RequestError, match=r"reads one channel .* this model reads 2, levelled: take the one for 24 kHz"
    ):
        opened(tmp_path / "stereo")
    published(tmp_path / "other", model_type="hubert")
    with pytest.raises(RequestError, match="unknown kind of model for encodec 'hubert'"):
        opened(tmp_path / "other")
    with pytest.raises(RequestError, match="encodec takes by --weights the folder"):
        Encodec(EncodecConfig())
