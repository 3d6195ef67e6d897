"""Music2Vec: a tiny network in the published layout beside a slow transcription of the published one."""

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
from stages.embed.backbones.music2vec import Music2Vec, Music2VecConfig
from store.errors import RequestError
from tests.embed.transcription import Drawn, attend, conv1d, gelu, linear, norm

CONFIG = {
    "model_type": "data2vec-audio",
    "architectures": ["Data2VecAudioModel"],
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "conv_dim": [8, 8, 8],
    "conv_kernel": [10, 3, 2],
    "conv_stride": [5, 4, 4],
    "num_feat_extract_layers": 3,
    "conv_bias": False,
    "conv_pos_kernel_size": 5,
    "num_conv_pos_embeddings": 3,
    "num_conv_pos_embedding_groups": 4,
    "layer_norm_eps": 1e-5,
    "hidden_act": "gelu",
    "add_adapter": False,
}


def weights() -> dict[str, Tensor]:
    """Drawn weights under the published names."""
    tensors = Drawn()
    tensors.tensor("masked_spec_embed", 16)
    for i, (channels, taps) in enumerate(zip((1, 8, 8), (10, 3, 2), strict=True)):
        tensors.tensor(f"feature_extractor.conv_layers.{i}.conv.weight", 8, channels, taps)
        tensors.norm(f"feature_extractor.conv_layers.{i}.layer_norm", 8)
    tensors.norm("feature_projection.layer_norm", 8)
    tensors.linear("feature_projection.projection", 8, 16)
    for i in range(3):
        tensors.tensor(f"encoder.pos_conv_embed.layers.{i}.conv.weight", 16, 4, 5)
        tensors.tensor(f"encoder.pos_conv_embed.layers.{i}.conv.bias", 16)
    tensors.norm("encoder.layer_norm", 16)
    for i in range(2):
        name = f"encoder.layers.{i}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            tensors.linear(f"{name}.attention.{part}", 16, 16)
        tensors.norm(f"{name}.layer_norm", 16)
        tensors.linear(f"{name}.feed_forward.intermediate_dense", 16, 24)
        tensors.linear(f"{name}.feed_forward.output_dense", 24, 16)
        tensors.norm(f"{name}.final_layer_norm", 16)
    return tensors.state


def published(folder: Path, state: dict[str, Tensor] | None = None, **changes: Any) -> None:
    """A folder as the hub has it: no description of the feature extractor."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    torch.save(state or weights(), folder / "pytorch_model.bin")


def opened(folder: Path) -> Music2Vec:
    backbone = Music2Vec(Music2VecConfig(**Music2Vec.settings_of(folder), window_s=0.5, max_windows=2, min_s=0.1))
    backbone.load(folder)
    backbone.to(torch.device("cpu"))
    return backbone


def transcribed(state: dict[str, Tensor], wave: Tensor) -> Tensor:
    """[layers, dim] of one window (Baevski et al. 2022, data2vec): all convolutions are normalised over channels, and
    several in a row tell positions."""
    x = ((wave - wave.mean()) / (wave.var(unbiased=False) + 1e-7).sqrt())[None]
    for i, stride in enumerate((5, 4, 4)):
        name = f"feature_extractor.conv_layers.{i}"
        x = gelu(norm(state, f"{name}.layer_norm", conv1d(x, state[f"{name}.conv.weight"], None, stride).T).T)
    x = linear(state, "feature_projection.projection", norm(state, "feature_projection.layer_norm", x.T))
    places = x.T
    for i in range(3):
        name = f"encoder.pos_conv_embed.layers.{i}"
        kernel, bias = state[f"{name}.conv.weight"], state[f"{name}.conv.bias"]
        padded = F.pad(places, (2, 2))
        groups = [slice(4 * g, 4 * g + 4) for g in range(4)]
        places = torch.cat([conv1d(padded[group], kernel[group], bias[group]) for group in groups])
        places = gelu(norm(state, f"{name}.layer_norm", places.T).T)
    x = norm(state, "encoder.layer_norm", x + places.T)
    means = []
    for i in range(2):
        name = f"encoder.layers.{i}"
        q, k, v = (linear(state, f"{name}.attention.{part}", x) for part in ("q_proj", "k_proj", "v_proj"))
        y = linear(state, f"{name}.attention.out_proj", attend(q, k, v, 4))
        x = norm(state, f"{name}.layer_norm", x + y)
        y = gelu(linear(state, f"{name}.feed_forward.intermediate_dense", x))
        x = norm(state, f"{name}.final_layer_norm", x + linear(state, f"{name}.feed_forward.output_dense", y))
        means.append(x.mean(0))
    return torch.stack(means)


def test_it_gives_what_the_published_network_gives(tmp_path: Path) -> None:
    published(tmp_path / "music2vec")
    backbone = opened(tmp_path / "music2vec")
    assert (backbone.shape, backbone.input.audio.rate_hz) == ((2, 16), 16_000)
    waves = (0.3 * np.random.default_rng(0).standard_normal((2, 8_000)) + 0.1).astype(np.float32)
    extract = hf._extractor(backbone.input.extractor)
    windows = torch.from_numpy(np.stack([backbone.input._prepare(extract, wave) for wave in waves]))
    representations = backbone.encode(windows)
    state = {key: value.double() for key, value in weights().items()}
    for wave, layers in zip(waves, representations, strict=True):
        expected = transcribed(state, torch.from_numpy(wave).double())
        torch.testing.assert_close(layers.double(), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(backbone.encode(windows[1:]), representations[1:], atol=1e-6, rtol=0)


def test_every_weight_is_read_or_named(tmp_path: Path) -> None:
    published(tmp_path / "strange", {**weights(), "lm_head.weight": torch.zeros(3)})
    with pytest.raises(RequestError, match=r"'lm_head.weight' has no place in music2vec"):
        opened(tmp_path / "strange")
    state = weights()
    del state["encoder.pos_conv_embed.layers.2.conv.bias"]
    published(tmp_path / "missing", state)
    with pytest.raises(RequestError, match=r"'encoder.pos_conv_embed.layers.2.conv.bias' is missing"):
        opened(tmp_path / "missing")


def test_what_is_no_music2vec_is_refused(tmp_path: Path) -> None:
    published(tmp_path / "other", model_type="hubert")
    with pytest.raises(RequestError, match="unknown kind of model for music2vec 'hubert'"):
        opened(tmp_path / "other")
