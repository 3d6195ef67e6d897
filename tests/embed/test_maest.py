"""MAEST: a tiny network in the published layout beside a slow transcription of the published one."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import torch
from torch import Tensor

from stages.embed.backbones.maest import Maest, MaestConfig
from store.errors import RequestError

FRAMES = 66
TINY = {
    "model_type": "audio-spectrogram-transformer",
    "architectures": ["ASTForAudioClassification"],
    "hidden_size": 12,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "patch_size": 16,
    "frequency_stride": 10,
    "time_stride": 10,
    "max_length": FRAMES,
    "num_mel_bins": 96,
    "qkv_bias": True,
}
EXTRACTOR = {
    "feature_extractor_type": "MAESTFeatureExtractor",
    "auto_map": {"AutoFeatureExtractor": "feature_extraction_maest.MAESTFeatureExtractor"},
    "sampling_rate": 16_000,
    "n_fft": 512,
    "hop_length": 256,
    "num_mel_bins": 96,
    "max_length": FRAMES,
    "log_compression": "logC",
    "do_normalize": True,
    "return_attention_mask": False,
    "mean": 2.06755686098554,
    "std": 1.268292820667291,
}
PATCHES = ((96 - 16) // 10 + 1) * ((FRAMES - 16) // 10 + 1)
ROOT = "audio_spectrogram_transformer"


def weights() -> dict[str, Tensor]:
    """Drawn weights under the published names."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return 0.3 * torch.randn(*shape, generator=generator)

    dim, wide = TINY["hidden_size"], TINY["intermediate_size"]
    state = {
        f"{ROOT}.embeddings.cls_token": draw(1, 1, dim),
        f"{ROOT}.embeddings.distillation_token": draw(1, 1, dim),
        f"{ROOT}.embeddings.position_embeddings": draw(1, PATCHES + 2, dim),
        f"{ROOT}.embeddings.patch_embeddings.projection.weight": draw(dim, 1, 16, 16),
        f"{ROOT}.embeddings.patch_embeddings.projection.bias": draw(dim),
        "classifier.dense.weight": draw(4, dim),
        "classifier.dense.bias": draw(4),
    }
    norms = [f"{ROOT}.layernorm", "classifier.layernorm"]
    for i in range(TINY["num_hidden_layers"]):
        name = f"{ROOT}.encoder.layer.{i}"
        norms += [f"{name}.layernorm_before", f"{name}.layernorm_after"]
        parts = {f"attention.attention.{part}": (dim, dim) for part in ("query", "key", "value")}
        parts |= {"attention.output.dense": (dim, dim), "intermediate.dense": (wide, dim), "output.dense": (dim, wide)}
        for part, shape in parts.items():
            state[f"{name}.{part}.weight"], state[f"{name}.{part}.bias"] = draw(*shape), draw(shape[0])
    for name in norms:
        state[f"{name}.weight"], state[f"{name}.bias"] = 1 + draw(dim), draw(dim)
    return state


def published(folder: Path, state: dict[str, Tensor] | None = None, **changes: Any) -> None:
    """A folder as the hub has it."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**TINY, **changes}))
    extractor = {key: changes.get(key, value) for key, value in EXTRACTOR.items()}
    (folder / "preprocessor_config.json").write_text(json.dumps(extractor))
    torch.save(state or weights(), folder / "pytorch_model.bin")


def opened(folder: Path) -> Maest:
    backbone = Maest(MaestConfig(**Maest.settings_of(folder)))
    backbone.load(folder)
    backbone.to(torch.device("cpu"))
    return backbone


def transcribed(state: dict[str, Tensor], wave: np.ndarray) -> Tensor:
    """[blocks, 3 * dim] of one window: librosa's mel spectrogram, patches one by one, and blocks that normalise first
    (Gong et al. 2021, AST; Dosovitskiy et al. 2021, ViT)."""
    power = librosa.feature.melspectrogram(
        y=wave, sr=16_000, n_fft=512, hop_length=256, n_mels=96, fmin=0, fmax=8_000, pad_mode="constant"
    )
    mel = (torch.from_numpy(np.log10(1 + 1e4 * power)) - 2.06755686098554) / (2 * 1.268292820667291)
    assert mel.shape == (96, FRAMES)
    embeddings = f"{ROOT}.embeddings"
    kernel, bias = (state[f"{embeddings}.patch_embeddings.projection.{part}"] for part in ("weight", "bias"))
    patches = [
        (kernel[:, 0] * mel[band : band + 16, frame : frame + 16]).sum((1, 2)) + bias
        for band in range(0, 96 - 15, 10)
        for frame in range(0, FRAMES - 15, 10)
    ]
    tokens = [state[f"{embeddings}.{name}"][0, 0] for name in ("cls_token", "distillation_token")]
    x = torch.stack([*tokens, *patches]) + state[f"{embeddings}.position_embeddings"][0]

    def norm(name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    blocks = []
    for i in range(3):
        name = f"{ROOT}.encoder.layer.{i}"
        y = norm(f"{name}.layernorm_before", x)
        q, k, v = (linear(f"{name}.attention.attention.{part}", y) for part in ("query", "key", "value"))
        heads = [
            torch.softmax(q[:, h : h + 4] @ k[:, h : h + 4].T / math.sqrt(4), dim=1) @ v[:, h : h + 4]
            for h in range(0, 12, 4)
        ]
        x = x + linear(f"{name}.attention.output.dense", torch.cat(heads, dim=1))
        y = linear(f"{name}.intermediate.dense", norm(f"{name}.layernorm_after", x))
        x = x + linear(f"{name}.output.dense", y * 0.5 * (1 + torch.erf(y / math.sqrt(2))))
        blocks.append(torch.cat([x[0], x[1], x[2:].mean(0)]))
    return torch.stack(blocks)


def test_it_gives_what_the_published_network_gives(tmp_path: Path) -> None:
    published(tmp_path / "maest")
    backbone = opened(tmp_path / "maest")
    assert backbone.shape == (3, 36)
    samples = (FRAMES - 1) * 256
    assert (backbone.input.rate_hz, backbone.input.window_samples) == (16_000, samples)
    waves = 0.2 * np.random.default_rng(0).standard_normal((2, samples))
    representations = backbone.encode(torch.from_numpy(waves.astype(np.float32)))
    state = {name: value.double() for name, value in weights().items()}
    for wave, blocks in zip(waves, representations, strict=True):
        torch.testing.assert_close(blocks.double(), transcribed(state, wave), atol=1e-4, rtol=0)


def test_a_window_is_as_long_as_the_model_was_trained_with(tmp_path: Path) -> None:
    """1,876 frames are 30 s, 626 are 10 s."""
    published(tmp_path / "maest", max_length=1876)
    backbone = Maest(MaestConfig(**Maest.settings_of(tmp_path / "maest")))
    assert backbone.input.window_samples == 30 * 16_000


def test_every_weight_is_read_or_named(tmp_path: Path) -> None:
    published(tmp_path / "strange", {**weights(), "head_dist.weight": torch.zeros(4)})
    with pytest.raises(RequestError, match=r"'head_dist.weight' has no place in maest"):
        opened(tmp_path / "strange")
    state = weights()
    del state[f"{ROOT}.embeddings.distillation_token"]
    published(tmp_path / "missing", state)
    with pytest.raises(RequestError, match=r"'embeddings.distillation_token' is missing"):
        opened(tmp_path / "missing")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "wavlm"}, "maest reads audio-spectrogram-transformer, not 'wavlm': --backbone hf"),
        ({"num_mel_bins": 128}, "num_mel_bins 96, and this model's has 128"),
        ({"log_compression": "log"}, "log_compression logC, and this model's has log"),
    ],
)
def test_what_is_no_maest_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    published(tmp_path / "other", **changes)
    with pytest.raises(RequestError, match=message):
        opened(tmp_path / "other")
    with pytest.raises(RequestError, match="maest takes by --weights the folder"):
        Maest(MaestConfig())
