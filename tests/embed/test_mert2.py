"""MERT, version 2: a tiny network in the published layout beside a slow transcription of the published one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.embed.backbones.mert2 import Mert2, Mert2Config
from store.errors import RequestError
from tests.embed.test_conformers import turn
from tests.embed.transcription import Drawn, State, attend, conv1d, gelu, linear, norm

WIDTHS, DEPTHS, DIM, WIDE, HEADS, TAPS, LAYERS = (128, 24, 16), (1, 2, 1), 16, 20, 2, 5, 2
CONFIG = {
    "model_type": "mert2",
    "architectures": ["MERT2Model"],
    "auto_map": {"AutoModel": "modeling_mert2.MERT2Model"},
    "hidden_size": DIM,
    "intermediate_size": WIDE,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_mel_bins": 128,
    "sampling_rate": 24_000,
    "n_fft": 2048,
    "win_length": 2048,
    "hop_length": 240,
    "subsampling_channels": list(WIDTHS),
    "subsampling_depths": list(DEPTHS),
    "conv_depthwise_kernel_size": TAPS,
    "rotary_embedding_base": 10_000,
    "layer_norm_eps": 1e-5,
    "subsampling_layer_norm_eps": 1e-6,
    "variant": "30s",
}


def weights() -> State:
    """Drawn weights under the published names."""
    tensors = Drawn()
    tensors.tensor("feature_extractor.mel_mean", 128)
    tensors.state["feature_extractor.mel_std"] = 20 + tensors.draw(128)
    tensors.tensor("feature_extractor.spectrogram.window", 2048)
    tensors.tensor("feature_extractor.mel_scale.fb", 1025, 128)
    for i, (size, out, depth) in enumerate(zip((128, *WIDTHS), WIDTHS, DEPTHS, strict=False)):
        name = f"subsampling_module.{i}"
        if i:
            tensors.norm(f"{name}.resampling_layer.0", size)
            tensors.tensor(f"{name}.resampling_layer.2.weight", out, size, 2)
            tensors.tensor(f"{name}.resampling_layer.2.bias", out)
        for j in range(depth):
            layer = f"{name}.convnext_layers.{j}"
            tensors.tensor(f"{layer}.depthwise_block.1.weight", out, 1, 7)
            tensors.tensor(f"{layer}.depthwise_block.1.bias", out)
            tensors.norm(f"{layer}.pointwise_block.0", out)
            tensors.linear(f"{layer}.pointwise_block.1", out, 4 * out)
            tensors.tensor(f"{layer}.pointwise_block.3.weight", 1, 1, 4 * out)
            tensors.tensor(f"{layer}.pointwise_block.3.bias", 1, 1, 4 * out)
            tensors.linear(f"{layer}.pointwise_block.4", 4 * out, out)
    for i in range(LAYERS):
        name = f"layers.{i}"
        for part in ("ffn1", "ffn2"):
            tensors.norm(f"{name}.{part}_layer_norm", DIM)
            tensors.linear(f"{name}.{part}.w_1", DIM, WIDE)
            tensors.linear(f"{name}.{part}.w_2", WIDE, DIM)
        for part in ("query_proj", "key_proj", "value_proj", "out_proj"):
            tensors.linear(f"{name}.attn.{part}", DIM, DIM)
        for part in ("attn_layer_norm", "conv_module.layer_norm", "conv_module.conv_block.4.1", "final_layer_norm"):
            tensors.norm(f"{name}.{part}", DIM)
        tensors.tensor(f"{name}.conv_module.conv_block.1.weight", 2 * DIM, DIM, 1)
        tensors.tensor(f"{name}.conv_module.conv_block.3.weight", DIM, 1, TAPS)
        tensors.tensor(f"{name}.conv_module.conv_block.6.weight", DIM, DIM, 1)
    return tensors.state


def published(folder: Path, state: State | None = None, **changes: Any) -> Path:
    """A folder as the hub has it."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    save_file(weights() if state is None else state, folder / "model.safetensors")
    return folder


def opened(folder: Path) -> Mert2:
    backbone = Mert2(Mert2Config(**Mert2.settings_of(folder), window_s=0.5, max_windows=2, min_s=0.1))
    backbone.load(folder)
    backbone.to(torch.device("cpu"))
    return backbone


def depthwise(state: State, name: str, x: Tensor, taps: int) -> Tensor:
    """[channels, time] each channel by itself, as long as before."""
    kernel, bias = state[f"{name}.weight"], state.get(f"{name}.bias")
    x = F.pad(x, (taps // 2, taps // 2))
    rows = [conv1d(x[c : c + 1], kernel[c : c + 1], None if bias is None else bias[c : c + 1]) for c in range(len(x))]
    return torch.cat(rows)


def transcribed(state: State, wave: np.ndarray) -> Tensor:
    """[layers, dim] of one window: librosa's mel spectrogram, ConvNeXt layers (Woo et al. 2023), conformer layers."""
    mel = librosa.feature.melspectrogram(
        y=wave.astype(np.float64),
        sr=24_000,
        n_fft=2048,
        hop_length=240,
        n_mels=128,
        fmin=0,
        fmax=12_000,
        htk=True,
        norm=None,
        pad_mode="reflect",
    )
    x = torch.from_numpy(10 * np.log10(np.maximum(mel, 1e-10)))[:, :-1].T
    x = (x - state["feature_extractor.mel_mean"]) / state["feature_extractor.mel_std"]
    for i, depth in enumerate(DEPTHS):
        name = f"subsampling_module.{i}"
        if i:
            kernel, bias = (state[f"{name}.resampling_layer.2.{part}"] for part in ("weight", "bias"))
            x = conv1d(norm(state, f"{name}.resampling_layer.0", x, 1e-6).T, kernel, bias, 2).T
        for j in range(depth):
            layer = f"{name}.convnext_layers.{j}"
            y = norm(
                state, f"{layer}.pointwise_block.0", depthwise(state, f"{layer}.depthwise_block.1", x.T, 7).T, 1e-6
            )
            y = gelu(linear(state, f"{layer}.pointwise_block.1", y))
            length = y.square().sum(0).sqrt()
            weight, bias = (state[f"{layer}.pointwise_block.3.{part}"][0, 0] for part in ("weight", "bias"))
            y = weight * y * length / (length.mean() + 1e-6) + bias + y
            x = x + linear(state, f"{layer}.pointwise_block.4", y)
    means = []
    for i in range(LAYERS):
        x = conformer(state, f"layers.{i}", x)
        means.append(x.mean(0))
    return torch.stack(means)


def conformer(state: State, name: str, x: Tensor) -> Tensor:
    def feed_forward(part: str, x: Tensor) -> Tensor:
        y = gelu(linear(state, f"{name}.{part}.w_1", norm(state, f"{name}.{part}_layer_norm", x)))
        return linear(state, f"{name}.{part}.w_2", y)

    x = x + feed_forward("ffn1", x) / 2
    y = norm(state, f"{name}.attn_layer_norm", x)
    q, k, v = (linear(state, f"{name}.attn.{part}_proj", y) for part in ("query", "key", "value"))
    q, k = (torch.cat([turn(part) for part in z.split(DIM // HEADS, dim=1)], dim=1) for z in (q, k))
    x = x + linear(state, f"{name}.attn.out_proj", attend(q, k, v, HEADS))
    block = f"{name}.conv_module.conv_block"
    y = conv1d(norm(state, f"{name}.conv_module.layer_norm", x).T, state[f"{block}.1.weight"], None)
    y = depthwise(state, f"{block}.3", y[:DIM] * torch.sigmoid(y[DIM:]), TAPS)
    x = x + conv1d(gelu(norm(state, f"{block}.4.1", y.T)).T, state[f"{block}.6.weight"], None).T
    x = x + feed_forward("ffn2", x) / 2
    return norm(state, f"{name}.final_layer_norm", x)


def test_it_gives_what_the_published_network_gives(tmp_path: Path) -> None:
    backbone = opened(published(tmp_path / "mert2"))
    assert (backbone.shape, backbone.input.rate_hz) == ((LAYERS, DIM), 24_000)
    waves = (0.3 * np.random.default_rng(0).standard_normal((2, 12_000))).astype(np.float32)
    representations = backbone.encode(torch.from_numpy(waves))
    state = {key: value.double() for key, value in weights().items()}
    for wave, layers in zip(waves, representations, strict=True):
        torch.testing.assert_close(layers.double(), transcribed(state, wave), atol=1e-4, rtol=0)
    torch.testing.assert_close(backbone.encode(torch.from_numpy(waves[1:])), representations[1:], atol=1e-6, rtol=0)


def test_every_weight_is_read_or_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"'decoder.weight' has no place"):
        opened(published(tmp_path / "strange", {**weights(), "decoder.weight": torch.zeros(3)}))
    state = weights()
    del state["feature_extractor.mel_std"]
    with pytest.raises(RequestError, match=r"'feature_extractor.mel_std' is missing"):
        opened(published(tmp_path / "missing", state))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mert_model"}, "not 'mert_model'"),
        ({"n_fft": 1024}, "reads n_fft 2048, and this model's is 1024"),
    ],
)
def test_what_is_no_mert2_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        opened(published(tmp_path / "other", **changes))
    with pytest.raises(RequestError, match="mert2 has no layers without weights"):
        Mert2(Mert2Config())
