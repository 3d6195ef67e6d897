"""MuQ and MusicFM: a tiny network in their published layouts beside a slow transcription of the published one."""

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

from stages.embed.backbones._conformer import Conformer
from stages.embed.backbones.muq import Muq, MuqConfig
from stages.embed.backbones.musicfm import Musicfm, MusicfmConfig
from stages.embed.choose import hash_weights
from store.errors import RequestError
from tests.embed.transcription import Drawn, attend, batch_norm, conv1d, linear, norm, swish

CHANNELS, DIM, WIDE, HEADS, TAPS, LAYERS = 3, 16, 20, 2, 5, 2
STATISTICS = {"melspec_2048_cnt": 14282760192, "melspec_2048_mean": 6.7684, "melspec_2048_std": 18.4179}
CONFIG = {
    "label_rate": 25,
    "num_codebooks": 1,
    "codebook_dim": 16,
    "codebook_size": 8,
    "features": ["melspec_2048"],
    "hop_length": 240,
    "n_mels": 128,
    "conv_dim": CHANNELS,
    "encoder_dim": DIM,
    "encoder_depth": LAYERS,
    "is_flash": False,
    "stat": STATISTICS,
    "w2v2_config": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": HEADS,
        "intermediate_size": WIDE,
        "hidden_act": "swish",
        "position_embeddings_type": "rotary",
        "rotary_embedding_base": 10_000,
        "conv_depthwise_kernel_size": TAPS,
        "layer_norm_eps": 1e-5,
        "num_conv_pos_embeddings": 128,
        "num_conv_pos_embedding_groups": 16,
    },
}


def weights() -> dict[str, Tensor]:
    """Drawn weights under the published names, with what training leaves beside them."""
    tensors = Drawn()
    for i, size in enumerate((1, CHANNELS)):
        for n, inner in ((1, size), (2, CHANNELS), (3, size)):
            name = f"model.conv.conv.{i}"
            tensors.tensor(f"{name}.conv{n}.weight", CHANNELS, inner, 3, 3)
            tensors.tensor(f"{name}.conv{n}.bias", CHANNELS)
            tensors.batch_norm(f"{name}.bn{n}", CHANNELS)
    tensors.linear("model.conv.linear", CHANNELS * 32, DIM)
    for i in range(LAYERS):
        name = f"model.conformer.layers.{i}"
        for part in ("ffn1", "ffn2"):
            tensors.norm(f"{name}.{part}_layer_norm", DIM)
            tensors.linear(f"{name}.{part}.intermediate_dense", DIM, WIDE)
            tensors.linear(f"{name}.{part}.output_dense", WIDE, DIM)
        tensors.norm(f"{name}.self_attn_layer_norm", DIM)
        for part in ("linear_q", "linear_k", "linear_v", "linear_out"):
            tensors.linear(f"{name}.self_attn.{part}", DIM, DIM)
        tensors.norm(f"{name}.conv_module.layer_norm", DIM)
        tensors.tensor(f"{name}.conv_module.pointwise_conv1.weight", 2 * DIM, DIM, 1)
        tensors.tensor(f"{name}.conv_module.depthwise_conv.weight", DIM, 1, TAPS)
        tensors.batch_norm(f"{name}.conv_module.batch_norm", DIM)
        tensors.tensor(f"{name}.conv_module.pointwise_conv2.weight", DIM, DIM, 1)
        tensors.norm(f"{name}.final_layer_norm", DIM)
    tensors.norm("model.conformer.layer_norm", DIM)
    tensors.state["model.conformer.embed_positions.inv_freq"] = 10_000.0 ** (-torch.arange(0, 8, 2) / 8)
    tensors.tensor("model.conformer.pos_conv_embed.conv.weight_v", DIM, 1, 128)
    tensors.tensor("model.quantizer_melspec_2048_0.codebook", 8, 16)
    tensors.tensor("model.preprocessor_melspec_2048.mel_stft.spectrogram.window", 2048)
    tensors.linear("model.linear", DIM, 8)
    tensors.tensor("model.cls_token", DIM)
    return tensors.state


def published_muq(folder: Path, state: dict[str, Tensor] | None = None, **changes: Any) -> Path:
    """A folder as the hub has it."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    save_file(weights() if state is None else state, folder / "model.safetensors")
    return folder


def published_musicfm(folder: Path, state: dict[str, Tensor] | None = None) -> Path:
    """A checkpoint as training left it, and its statistics."""
    folder.mkdir(parents=True)
    (folder / "msd_stats.json").write_text(json.dumps(STATISTICS))
    torch.save({"state_dict": weights() if state is None else state}, folder / "pretrained_msd.pt")
    return folder / "pretrained_msd.pt"


def opened(kind: type[Conformer], path: Path) -> Conformer:
    backbone = kind(kind.Config(**kind.settings_of(path), window_s=0.5, max_windows=2, min_s=0.1))
    backbone.load(path)
    backbone.to(torch.device("cpu"))
    return backbone


KINDS = {"muq": (Muq, published_muq), "musicfm": (Musicfm, published_musicfm)}


def transcribed(weights: dict[str, Tensor], wave: np.ndarray, strides: tuple[int, int]) -> Tensor:
    """[layers + 1, dim] of one window: librosa's mel spectrogram on the HTK scale, convolutions tap by tap, and
    conformer layers (Gulati et al. 2020) that turn what queries and keys are made of (Su et al. 2021, RoFormer)."""
    state = {key.removeprefix("model."): value.double() for key, value in weights.items()}
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
    x = torch.from_numpy(10 * np.log10(np.maximum(mel, 1e-10)))[None, :, :-1]
    x = (x - STATISTICS["melspec_2048_mean"]) / STATISTICS["melspec_2048_std"]
    for i, stride in enumerate(strides):
        name = f"conv.conv.{i}"

        def conv(n: int, x: Tensor, down: int, across: int, name: str = name) -> Tensor:
            kernel, padded = state[f"{name}.conv{n}.weight"], F.pad(x, (1, 1, 1, 1))
            taps = [(a, b) for a in range(3) for b in range(3)]
            height, width = -(-x.shape[1] // down), -(-x.shape[2] // across)
            out = sum(
                torch.einsum(
                    "oc,chw->ohw",
                    kernel[:, :, a, b],
                    padded[:, a : a + down * (height - 1) + 1 : down, b : b + across * (width - 1) + 1 : across],
                )
                for a, b in taps
            )
            return batch_norm(state, f"{name}.bn{n}", out + state[f"{name}.conv{n}.bias"][:, None, None])

        x = (conv(2, conv(1, x, 2, stride).clamp(min=0), 1, 1) + conv(3, x, 2, stride)).clamp(min=0)
    x = linear(state, "conv.linear", x.permute(2, 0, 1).flatten(1))
    means = [x.mean(0)]
    for i in range(LAYERS):
        x = conformer(state, f"conformer.layers.{i}", x)
        means.append((norm(state, "conformer.layer_norm", x) if i == LAYERS - 1 else x).mean(0))
    return torch.stack(means)


def conformer(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    def feed_forward(part: str, x: Tensor) -> Tensor:
        y = linear(state, f"{name}.{part}.intermediate_dense", norm(state, f"{name}.{part}_layer_norm", x))
        return linear(state, f"{name}.{part}.output_dense", swish(y))

    x = x + feed_forward("ffn1", x) / 2
    y = norm(state, f"{name}.self_attn_layer_norm", x)
    turned = torch.cat([turn(part) for part in y.split(DIM // HEADS, dim=1)], dim=1)
    q, k = (linear(state, f"{name}.self_attn.linear_{part}", turned) for part in "qk")
    y = attend(q, k, linear(state, f"{name}.self_attn.linear_v", y), HEADS)
    x = x + linear(state, f"{name}.self_attn.linear_out", y)
    y = norm(state, f"{name}.conv_module.layer_norm", x).T
    y, gate = conv1d(y, state[f"{name}.conv_module.pointwise_conv1.weight"], None).split(DIM)
    y = F.pad(y * torch.sigmoid(gate), (TAPS // 2, TAPS // 2))
    kernel = state[f"{name}.conv_module.depthwise_conv.weight"]
    y = torch.cat([conv1d(y[c : c + 1], kernel[c : c + 1], None) for c in range(DIM)])
    y = swish(batch_norm(state, f"{name}.conv_module.batch_norm", y))
    x = x + conv1d(y, state[f"{name}.conv_module.pointwise_conv2.weight"], None).T
    x = x + feed_forward("ffn2", x) / 2
    return norm(state, f"{name}.final_layer_norm", x)


def turn(x: Tensor) -> Tensor:
    """[time, size] each pair of numbers, half the size apart, by an angle that grows with time."""
    half = x.shape[1] // 2
    angle = torch.arange(len(x), dtype=x.dtype)[:, None] * 10_000.0 ** (-torch.arange(half, dtype=x.dtype) / half)
    a, b = x[:, :half], x[:, half:]
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], dim=1)


@pytest.mark.parametrize(("name", "rate"), [("muq", 25), ("muq", 50), ("musicfm", 25)])
def test_it_gives_what_the_published_network_gives(tmp_path: Path, name: str, rate: int) -> None:
    kind, publish = KINDS[name]
    changes = {"label_rate": rate} if name == "muq" else {}
    backbone = opened(kind, publish(tmp_path / name, **changes))
    assert (backbone.shape, backbone.input.rate_hz) == ((LAYERS + 1, DIM), 24_000)
    waves = (0.3 * np.random.default_rng(0).standard_normal((2, 12_000))).astype(np.float32)
    windows = torch.from_numpy(waves)
    representations = backbone.encode(windows)
    for wave, layers in zip(waves, representations, strict=True):
        expected = transcribed(weights(), wave, (2, 2) if rate == 25 else (2, 1))
        torch.testing.assert_close(layers.double(), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(backbone.encode(windows[1:]), representations[1:], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", KINDS)
def test_every_weight_is_read_or_named(tmp_path: Path, name: str) -> None:
    kind, publish = KINDS[name]
    strange = publish(tmp_path / "strange", {**weights(), "model.flash.weight": torch.zeros(3)})
    with pytest.raises(RequestError, match=r"'flash.weight' has no place"):
        opened(kind, strange)
    state = weights()
    del state["model.conformer.layers.1.conv_module.batch_norm.running_var"]
    with pytest.raises(RequestError, match=r"'conformer.layers.1.conv_module.batch_norm.running_var' is missing"):
        opened(kind, publish(tmp_path / "missing", state))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_mels": 80}, "reads 128 bands every 240 samples .* this model reads 80 every 240"),
        ({"label_rate": 100}, "makes 25 or 50 frames a second, and this .* makes 100"),
        ({"stat": {}}, "does not describe a MuQ: 'melspec_2048_mean' is missing"),
        ({"w2v2_config": {**CONFIG["w2v2_config"], "position_embeddings_type": "relative"}}, "has rotary positions"),
        ({"stat": {**STATISTICS, "melspec_2048_std": 0.0}}, "a deviation of 0.0 scales nothing"),
    ],
)
def test_what_is_no_muq_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        opened(Muq, published_muq(tmp_path / "muq", **changes))
    with pytest.raises(RequestError, match="muq has no layers without weights"):
        Muq(MuqConfig())


def test_musicfm_needs_its_statistics(tmp_path: Path) -> None:
    path = published_musicfm(tmp_path / "musicfm")
    settings = Musicfm.settings_of(path)
    (path.parent / "fma_stats.json").write_text(json.dumps({**STATISTICS, "melspec_2048_mean": 0.0}))
    assert Musicfm.settings_of(path) == settings
    other = path.rename(path.with_name("other.pt"))
    with pytest.raises(RequestError, match=r"needs the statistics .* msd_stats.json or fma_stats.json, one of them"):
        Musicfm.settings_of(other)
    torch.save({"weight": torch.zeros(2)}, path)
    with pytest.raises(RequestError, match=r"'conv.linear.bias' is missing; give a checkpoint of MusicFM"):
        Musicfm.settings_of(path)
    with pytest.raises(RequestError, match="is no file; musicfm takes"):
        Musicfm.settings_of(tmp_path)
    with pytest.raises(RequestError, match="musicfm has no layers without weights"):
        Musicfm(MusicfmConfig())


def test_models_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, list[str], str]] = []

    def snapshot_download(model: str, *, allow_patterns: list[str], revision: str = "") -> str:
        calls.append((model, allow_patterns, revision))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert Musicfm.fetch("fma@abc") == tmp_path / "pretrained_fma.pt"
    assert Muq.fetch("own/muq") == tmp_path
    assert calls[0] == ("minzwon/MusicFM", ["fma_stats.json", "pretrained_fma.pt"], "abc")
    assert [files for _, files, _ in calls[1:]] == [
        ["config.json", "model.safetensors"],
        ["config.json", "pytorch_model.bin"],
    ]
    with pytest.raises(RequestError, match="unknown MusicFM 'gtzan'"):
        Musicfm.fetch("gtzan")
    assert hash_weights(published_muq(tmp_path / "a")) == hash_weights(published_muq(tmp_path / "b"))
