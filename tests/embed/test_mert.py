"""MERT: a tiny network in the published layout beside a slow transcription of the published one."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.embed.backbones.hf import Hf
from stages.embed.backbones.mert import Mert, MertConfig
from store.errors import RequestError

CONV = {"conv_dim": [8, 8, 8], "conv_kernel": [10, 3, 2], "conv_stride": [5, 4, 4], "num_feat_extract_layers": 3}
TINY = {
    "model_type": "mert_model",
    "architectures": ["MERTModel"],
    "auto_map": {"AutoModel": "modeling_MERT.MERTModel"},
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
    "layer_norm_eps": 1e-5,
    "hidden_act": "gelu",
    "feat_extract_activation": "gelu",
    "conv_bias": False,
    "feat_extract_norm": "group",
    "do_stable_layer_norm": False,
    "feat_proj_layer_norm": True,
    "deepnorm": False,
    "feature_extractor_cqt": False,
    "attention_relax": -1.0,
    "sample_rate": 24_000,
    **CONV,
}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}  # as the larger model
EXTRACTOR = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": 24_000, "do_normalize": True}


def weights(config: dict[str, Any]) -> dict[str, Tensor]:
    """Drawn weights under the published names."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, scale: float = 0.3) -> Tensor:
        return scale * torch.randn(*shape, generator=generator)

    dim, wide = config["hidden_size"], config["intermediate_size"]
    state: dict[str, Tensor] = {"masked_spec_embed": draw(dim)}
    channels = 1
    for i, (out, kernel) in enumerate(zip(config["conv_dim"], config["conv_kernel"], strict=True)):
        name = f"feature_extractor.conv_layers.{i}"
        state[f"{name}.conv.weight"] = draw(out, channels, kernel)
        if config["conv_bias"]:
            state[f"{name}.conv.bias"] = draw(out)
        if i == 0 or config["feat_extract_norm"] == "layer":
            state[f"{name}.layer_norm.weight"], state[f"{name}.layer_norm.bias"] = 1 + draw(out), draw(out)
        channels = out

    def norm(name: str, size: int) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = 1 + draw(size), draw(size)

    def linear(name: str, size: int, out: int) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = draw(out, size), draw(out)

    norm("feature_projection.layer_norm", channels)
    linear("feature_projection.projection", channels, dim)
    taps, groups = config["num_conv_pos_embeddings"], config["num_conv_pos_embedding_groups"]
    state["encoder.pos_conv_embed.conv.weight_g"] = 1 + draw(1, 1, taps).abs()
    state["encoder.pos_conv_embed.conv.weight_v"] = draw(dim, dim // groups, taps)
    state["encoder.pos_conv_embed.conv.bias"] = draw(dim)
    norm("encoder.layer_norm", dim)
    for i in range(config["num_hidden_layers"]):
        name = f"encoder.layers.{i}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            linear(f"{name}.attention.{part}", dim, dim)
        norm(f"{name}.layer_norm", dim)
        linear(f"{name}.feed_forward.intermediate_dense", dim, wide)
        linear(f"{name}.feed_forward.output_dense", wide, dim)
        norm(f"{name}.final_layer_norm", dim)
    return state


def published(folder: Path, state: dict[str, Tensor] | None = None, **changes: Any) -> dict[str, Any]:
    """A folder as the hub has it; the configuration."""
    folder.mkdir(parents=True)
    config = {**TINY, **changes}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(EXTRACTOR))
    torch.save(state or weights(config), folder / "pytorch_model.bin")
    return config


def opened(folder: Path) -> Mert:
    backbone = Mert(MertConfig(**Mert.settings_of(folder), window_s=1.0, max_windows=2))
    backbone.load(folder)
    backbone.to(torch.device("cpu"))
    return backbone


def transcribed(config: dict[str, Any], state: dict[str, Tensor], wave: Tensor) -> Tensor:
    """[layers + 1, dim] means over time of one window, from the paper's description and the configuration.

    wav2vec 2.0's convolutions (Baevski et al. 2020), a convolution for positions with normalised weights, transformer
    layers that normalise after (or, with ``do_stable_layer_norm``, before) attention and feed-forward part.
    """
    eps, dim, heads = config["layer_norm_eps"], config["hidden_size"], config["num_attention_heads"]

    def norm(name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def gelu(x: Tensor) -> Tensor:
        return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))

    x = ((wave - wave.mean()) / (wave.var(unbiased=False) + 1e-7).sqrt())[None]  # [channels, time]
    for i, stride in enumerate(config["conv_stride"]):
        name = f"feature_extractor.conv_layers.{i}"
        kernel, bias = state[f"{name}.conv.weight"], state.get(f"{name}.conv.bias")
        frames = x.unfold(1, kernel.shape[2], stride)  # [channels, time, taps]
        x = torch.einsum("ctk,ock->ot", frames, kernel) + (0 if bias is None else bias[:, None])
        if config["feat_extract_norm"] == "layer":
            x = norm(f"{name}.layer_norm", x.T).T
        elif i == 0:  # each channel by itself over time
            centred = x - x.mean(1, keepdim=True)
            x = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
            x = x * state[f"{name}.layer_norm.weight"][:, None] + state[f"{name}.layer_norm.bias"][:, None]
        x = gelu(x)
    x = linear("feature_projection.projection", norm("feature_projection.layer_norm", x.T))  # [time, dim]

    taps, groups = config["num_conv_pos_embeddings"], config["num_conv_pos_embedding_groups"]
    v = state["encoder.pos_conv_embed.conv.weight_v"]
    kernel = v / v.square().sum((0, 1), keepdim=True).sqrt() * state["encoder.pos_conv_embed.conv.weight_g"]
    padded = F.pad(x.T, (taps // 2, taps // 2 - (1 - taps % 2)))
    width = dim // groups
    places = torch.cat(
        [
            torch.einsum(
                "ctk,ock->ot",
                padded[g * width : (g + 1) * width].unfold(1, taps, 1),
                kernel[g * width : (g + 1) * width],
            )
            for g in range(groups)
        ]
    )
    x = x + gelu(places + state["encoder.pos_conv_embed.conv.bias"][:, None]).T

    def attention(name: str, x: Tensor) -> Tensor:
        q, k, v = (linear(f"{name}.{part}", x) for part in ("q_proj", "k_proj", "v_proj"))
        size = dim // heads
        parts = []
        for h in range(heads):
            a, b, c = (y[:, h * size : (h + 1) * size] for y in (q, k, v))
            parts.append(torch.softmax(a @ b.T / math.sqrt(size), dim=1) @ c)
        return linear(f"{name}.out_proj", torch.cat(parts, dim=1))

    def feed_forward(name: str, x: Tensor) -> Tensor:
        return linear(f"{name}.output_dense", gelu(linear(f"{name}.intermediate_dense", x)))

    before = config["do_stable_layer_norm"]
    x = x if before else norm("encoder.layer_norm", x)
    means = [x.mean(0)]
    for i in range(config["num_hidden_layers"]):
        name = f"encoder.layers.{i}"
        if before:
            x = x + attention(f"{name}.attention", norm(f"{name}.layer_norm", x))
            x = x + feed_forward(f"{name}.feed_forward", norm(f"{name}.final_layer_norm", x))
        else:
            x = norm(f"{name}.layer_norm", x + attention(f"{name}.attention", x))
            x = norm(f"{name}.final_layer_norm", x + feed_forward(f"{name}.feed_forward", x))
        last = before and i == config["num_hidden_layers"] - 1
        means.append((norm("encoder.layer_norm", x) if last else x).mean(0))
    return torch.stack(means)


@pytest.mark.parametrize("changes", [{}, LARGE], ids=["base", "large"])
def test_it_gives_what_the_published_network_gives(tmp_path: Path, changes: dict[str, Any]) -> None:
    config = published(tmp_path / "mert", **changes)
    state = torch.load(tmp_path / "mert" / "pytorch_model.bin", weights_only=True)
    backbone = opened(tmp_path / "mert")
    assert backbone.input.audio.rate_hz == 24_000
    assert backbone.shape == (4, 16)
    rng = np.random.default_rng(0)
    waves = (0.3 * rng.standard_normal((2, 24_000)) + 0.1).astype(np.float32)
    windows = torch.from_numpy(np.stack([backbone.input._prepare(_extractor(backbone), wave) for wave in waves]))
    representations = backbone.encode(windows)
    for wave, layers in zip(waves, representations, strict=True):
        expected = transcribed(config, {k: v.double() for k, v in state.items()}, torch.from_numpy(wave).double())
        torch.testing.assert_close(layers.double(), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(backbone.forward(windows), representations, atol=1e-6, rtol=0)


def _extractor(backbone: Mert) -> Any:
    from stages.embed.backbones import hf

    return hf._extractor(backbone.input.extractor)


@pytest.mark.parametrize("flag", ["deepnorm", "feature_extractor_cqt"])
def test_other_networks_are_refused(tmp_path: Path, flag: str) -> None:
    published(tmp_path / "mert", **{flag: True})
    with pytest.raises(RequestError, match=f"this model has {flag}, which .* never run"):
        opened(tmp_path / "mert")


def test_every_weight_is_read_or_named(tmp_path: Path) -> None:
    state = weights(TINY)
    training = {"final_proj.weight": torch.zeros(4, 16), "label_embs_concat": torch.zeros(3, 4)}
    published(tmp_path / "trained", {**state, **training})
    opened(tmp_path / "trained")
    published(tmp_path / "strange", {**state, "encoder.cqt.weight": torch.zeros(3)})
    with pytest.raises(RequestError, match=r"'encoder.cqt.weight' has no place in mert"):
        opened(tmp_path / "strange")
    del state["encoder.layers.1.attention.q_proj.weight"]
    published(tmp_path / "missing", state)
    with pytest.raises(RequestError, match=r"'encoder.layers.1.attention.q_proj.weight' is missing"):
        opened(tmp_path / "missing")


def test_what_is_no_mert_is_refused(tmp_path: Path) -> None:
    published(tmp_path / "other", model_type="wavlm")
    with pytest.raises(RequestError, match="mert reads mert_model or hubert, not 'wavlm': --backbone hf"):
        opened(tmp_path / "other")
    with pytest.raises(RequestError, match="mert takes by --weights the folder"):
        Mert(MertConfig())
    with pytest.raises(RequestError, match="is no folder; mert takes"):
        Mert.settings_of(tmp_path / "absent")


def test_a_revision_of_a_model_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[tuple[str, str]] = []

    def snapshot_download(model: str, *, allow_patterns: list[str], revision: str = "") -> str:
        requests.append((model, revision))
        return str(tmp_path)

    (tmp_path / "model.safetensors").touch()
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert Hf.fetch("own/model@abc123") == tmp_path
    assert Mert.fetch("own/model") == tmp_path
    assert requests == [("own/model", "abc123"), ("own/model", "")]
