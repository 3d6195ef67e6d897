"""CLAP: tiny towers in the published layout beside a slow transcription of the published ones."""

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

from stages.embed.backbones.clap import Clap, ClapConfig
from stages.embed.backbones.mfcc import Mfcc
from store.errors import RequestError
from tests.embed.transcription import Drawn, attend, gelu, linear, norm

SIDE, BANDS, WINDOW, PATCH, WIDTH = 64, 16, 4, 4, 8
RATIO, FRAMES = SIDE // BANDS, 201  # frames of 2 s
AUDIO = {
    "model_type": "clap_audio_model",
    "patch_embeds_hidden_size": WIDTH,
    "depths": [2, 2],
    "num_attention_heads": [2, 4],
    "num_hidden_layers": 2,
    "hidden_size": 2 * WIDTH,
    "spec_size": SIDE,
    "num_mel_bins": BANDS,
    "window_size": WINDOW,
    "patch_size": PATCH,
    "patch_stride": [PATCH, PATCH],
    "mlp_ratio": 2.0,
    "enable_fusion": False,
}
SYMBOLS = ["<s>", "<pad>", "</s>", "<unk>", "Ġ", *"abcdefghijklmnopqrstuvwxyz", "<mask>"]
TEXT = {
    "model_type": "clap_text_model",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 20,
    "vocab_size": len(SYMBOLS),
    "max_position_embeddings": 80,
    "layer_norm_eps": 1e-12,
}
CONFIG = {
    "model_type": "clap",
    "architectures": ["ClapModel"],
    "projection_dim": 12,
    "audio_config": AUDIO,
    "text_config": TEXT,
}
EXTRACTOR = {
    "feature_extractor_type": "ClapFeatureExtractor",
    "feature_size": BANDS,
    "sampling_rate": 48_000,
    "fft_window_size": 1024,
    "hop_length": 480,
    "frequency_min": 50,
    "frequency_max": 14_000,
    "max_length_s": 2,
    "truncation": "rand_trunc",
    "padding": "repeatpad",
    "return_attention_mask": False,
}


def weights() -> dict[str, Tensor]:
    """Drawn weights under the published names."""
    tensors = Drawn()
    state, draw, linear, norm = tensors.state, tensors.draw, tensors.linear, tensors.norm
    root = "audio_model.audio_encoder"
    norm(f"{root}.batch_norm", BANDS)
    state[f"{root}.batch_norm.running_mean"] = draw(BANDS) - 40
    state[f"{root}.batch_norm.running_var"] = 200 + draw(BANDS)
    state[f"{root}.batch_norm.num_batches_tracked"] = torch.tensor(1)
    state[f"{root}.patch_embed.proj.weight"] = draw(WIDTH, 1, PATCH, PATCH)
    state[f"{root}.patch_embed.proj.bias"] = draw(WIDTH)
    norm(f"{root}.patch_embed.norm", WIDTH)
    for stage, (depth, heads) in enumerate(zip(AUDIO["depths"], AUDIO["num_attention_heads"], strict=True)):
        dim = WIDTH * 2**stage
        for i in range(depth):
            name = f"{root}.layers.{stage}.blocks.{i}"
            norm(f"{name}.layernorm_before", dim)
            norm(f"{name}.layernorm_after", dim)
            for part in ("query", "key", "value"):
                linear(f"{name}.attention.self.{part}", dim, dim)
            state[f"{name}.attention.self.relative_position_bias_table"] = draw((2 * WINDOW - 1) ** 2, heads)
            state[f"{name}.attention.self.relative_position_index"] = relative_positions()
            linear(f"{name}.attention.output.dense", dim, dim)
            linear(f"{name}.intermediate.dense", dim, 2 * dim)
            linear(f"{name}.output.dense", 2 * dim, dim)
    norm(f"{root}.layers.0.downsample.norm", 4 * WIDTH)
    linear(f"{root}.layers.0.downsample.reduction", 4 * WIDTH, 2 * WIDTH, bias=False)
    norm(f"{root}.norm", 2 * WIDTH)
    for tower in ("audio", "text"):
        linear(f"{tower}_projection.linear1", 16, 12)
        linear(f"{tower}_projection.linear2", 12, 12)
    dim, embeddings = 16, "text_model.embeddings"
    state[f"{embeddings}.word_embeddings.weight"] = draw(len(SYMBOLS), dim)
    state[f"{embeddings}.position_embeddings.weight"] = draw(80, dim)
    state[f"{embeddings}.token_type_embeddings.weight"] = draw(1, dim)
    state[f"{embeddings}.position_ids"] = torch.arange(80)[None]
    state[f"{embeddings}.token_type_ids"] = torch.zeros(1, 80, dtype=torch.long)
    norm(f"{embeddings}.LayerNorm", dim)
    for i in range(2):
        name = f"text_model.encoder.layer.{i}"
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            linear(f"{name}.{part}", dim, dim)
        norm(f"{name}.attention.output.LayerNorm", dim)
        linear(f"{name}.intermediate.dense", dim, 20)
        linear(f"{name}.output.dense", 20, dim)
        norm(f"{name}.output.LayerNorm", dim)
    linear("text_model.pooler.dense", dim, dim)
    for key, value in state.items():  # so that what is first in a sentence hears of the rest
        if key.startswith("text_model.encoder") and (".self." in key or ".dense." in key):
            state[key] = 4 * value
    return state | {"logit_scale_a": torch.tensor(2.0), "logit_scale_t": torch.tensor(2.0)}


def relative_positions() -> Tensor:
    """[cells, cells] the row of the bias table for each pair of cells of a window."""
    cells = [(y, x) for y in range(WINDOW) for x in range(WINDOW)]
    wide = 2 * WINDOW - 1
    return torch.tensor([[(a - c + WINDOW - 1) * wide + b - d + WINDOW - 1 for c, d in cells] for a, b in cells])


def published(folder: Path, state: dict[str, Tensor] | None = None, **changes: Any) -> None:
    """A folder as the hub has it."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    (folder / "preprocessor_config.json").write_text(json.dumps(EXTRACTOR))
    (folder / "vocab.json").write_text(json.dumps({symbol: i for i, symbol in enumerate(SYMBOLS)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    torch.save(state or weights(), folder / "pytorch_model.bin")


def opened(folder: Path) -> Clap:
    backbone = Clap(ClapConfig(**Clap.settings_of(folder), window_s=2.0, max_windows=2))
    backbone.load(folder)
    backbone.to(torch.device("cpu"))
    return backbone


def projected(state: dict[str, Tensor], tower: str, x: Tensor) -> Tensor:
    x = linear(state, f"{tower}_projection.linear2", linear(state, f"{tower}_projection.linear1", x).clamp(min=0))
    return x / x.norm()


def stretched(mel: Tensor, frames: int) -> Tensor:
    """[time, bands] -> [frames, bands] by cubic convolution (Keys 1981, a = -0.75), ends on ends."""

    def kernel(x: float) -> float:
        x, a = abs(x), -0.75
        if x <= 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0

    rows = []
    for i in range(frames):
        place = i * (len(mel) - 1) / (frames - 1)
        near = range(math.floor(place) - 1, math.floor(place) + 3)
        rows.append(sum(kernel(place - j) * mel[min(max(j, 0), len(mel) - 1)] for j in near))
    return torch.stack(rows)


def transcribed(state: dict[str, Tensor], wave: np.ndarray) -> Tensor:
    """[dim] of one window: librosa's mel spectrogram, laid out as a square (Chen et al. 2022, HTS-AT), and windows of
    attention that are shifted in every other block (Liu et al. 2021, Swin)."""
    root = "audio_model.audio_encoder"
    power = librosa.feature.melspectrogram(
        y=wave, sr=48_000, n_fft=1024, hop_length=480, n_mels=BANDS, fmin=50, fmax=14_000, pad_mode="reflect"
    )
    mel = torch.from_numpy(10 * np.log10(np.maximum(power, 1e-10))).double().T
    assert mel.shape == (FRAMES, BANDS)
    scale = (state[f"{root}.batch_norm.running_var"] + 1e-5).sqrt()
    mel = (mel - state[f"{root}.batch_norm.running_mean"]) / scale
    mel = mel * state[f"{root}.batch_norm.weight"] + state[f"{root}.batch_norm.bias"]
    mel = stretched(mel, SIDE * RATIO)
    image = torch.cat(
        [mel[SIDE * part : SIDE * (part + 1)].T for part in range(RATIO)]
    )  # parts of time, one below another
    kernel, bias = (state[f"{root}.patch_embed.proj.{part}"] for part in ("weight", "bias"))
    grid = torch.stack(
        [
            torch.stack(
                [(kernel[:, 0] * image[y : y + PATCH, x : x + PATCH]).sum((1, 2)) + bias for x in range(0, SIDE, PATCH)]
            )
            for y in range(0, SIDE, PATCH)
        ]
    )
    grid = norm(state, f"{root}.patch_embed.norm", grid)
    for stage, heads in enumerate(AUDIO["num_attention_heads"]):
        for i in range(2):
            grid = swin(state, f"{root}.layers.{stage}.blocks.{i}", grid, heads, WINDOW // 2 if i else 0)
        if stage == 0:
            corners = torch.cat([grid[::2, ::2], grid[1::2, ::2], grid[::2, 1::2], grid[1::2, 1::2]], dim=-1)
            grid = norm(state, f"{root}.layers.0.downsample.norm", corners)
            grid = grid @ state[f"{root}.layers.0.downsample.reduction.weight"].T
    return projected(state, "audio", norm(state, f"{root}.norm", grid).mean((0, 1)))


def swin(state: dict[str, Tensor], name: str, grid: Tensor, heads: int, shift: int) -> Tensor:
    """A block on [height, width, dim]: each cell attends to those of its window that are its neighbours unrolled."""
    side, dim = len(grid), grid.shape[-1]
    x = norm(state, f"{name}.layernorm_before", grid)
    q, k, v = (linear(state, f"{name}.attention.self.{part}", x) for part in ("query", "key", "value"))
    table, places = state[f"{name}.attention.self.relative_position_bias_table"], relative_positions()
    out = torch.zeros_like(grid)
    for top in range(0, side, WINDOW):
        for left in range(0, side, WINDOW):
            rolled = [(top + y, left + x) for y in range(WINDOW) for x in range(WINDOW)]
            cells = [((y + shift) % side, (x + shift) % side) for y, x in rolled]
            wrapped = [(y + shift >= side, x + shift >= side) for y, x in rolled]
            apart = torch.tensor([[-100.0 if a != b else 0.0 for b in wrapped] for a in wrapped])
            a, b, c = (torch.stack([y[cell] for cell in cells]) for y in (q, k, v))
            size, parts = dim // heads, []
            for h in range(heads):
                own = slice(h * size, (h + 1) * size)
                logits = a[:, own] @ b[:, own].T / math.sqrt(size) + table[places, h] + apart
                parts.append(torch.softmax(logits, dim=1) @ c[:, own])
            for cell, row in zip(cells, torch.cat(parts, dim=1), strict=True):
                out[cell] = row
    grid = grid + linear(state, f"{name}.attention.output.dense", out)
    x = linear(state, f"{name}.intermediate.dense", norm(state, f"{name}.layernorm_after", grid))
    return grid + linear(state, f"{name}.output.dense", gelu(x))


def transcribed_words(state: dict[str, Tensor], words: str) -> Tensor:
    """[dim] of some words, a token a letter (Liu et al. 2019, RoBERTa: positions are counted from 2)."""
    letters = [SYMBOLS.index("Ġ" if letter == " " else letter) for letter in words]
    tokens = [0, *letters[:75], 2]
    embeddings = "text_model.embeddings"
    x = state[f"{embeddings}.word_embeddings.weight"][tokens] + state[f"{embeddings}.token_type_embeddings.weight"]
    x = x + state[f"{embeddings}.position_embeddings.weight"][2 : 2 + len(tokens)]
    x = norm(state, f"{embeddings}.LayerNorm", x, 1e-12)
    for i in range(2):
        name = f"text_model.encoder.layer.{i}"
        q, k, v = (linear(state, f"{name}.attention.self.{part}", x) for part in ("query", "key", "value"))
        y = linear(state, f"{name}.attention.output.dense", attend(q, k, v, 2))
        x = norm(state, f"{name}.attention.output.LayerNorm", x + y, 1e-12)
        y = linear(state, f"{name}.output.dense", gelu(linear(state, f"{name}.intermediate.dense", x)))
        x = norm(state, f"{name}.output.LayerNorm", x + y, 1e-12)
    return projected(state, "text", torch.tanh(linear(state, "text_model.pooler.dense", x[0])))


def test_it_gives_what_the_published_towers_give(tmp_path: Path) -> None:
    published(tmp_path / "clap")
    backbone = opened(tmp_path / "clap")
    assert (backbone.shape, backbone.input.audio.rate_hz) == ((12,), 48_000)
    time_s = np.arange(2 * 48_000) / 48_000
    rng = np.random.default_rng(0)
    waves = [(0.3 * np.sin(700 * (i + 1) * time_s) + 0.05 * rng.standard_normal(96_000)) for i in range(2)]
    waves = [wave.astype(np.float32) for wave in waves]
    windows = torch.from_numpy(np.stack([prepared(backbone, wave) for wave in waves]))
    vectors = backbone.encode(windows)
    state = {key: value.double() for key, value in weights().items()}
    for wave, vector in zip(waves, vectors, strict=True):
        torch.testing.assert_close(vector.double(), transcribed(state, wave), atol=1e-4, rtol=0)
    torch.testing.assert_close(backbone.encode(windows[1:]), vectors[1:], atol=1e-6, rtol=0)
    for words in ("slow jazz", "z", "many words " * 20):
        vector = backbone.encode_text(words)
        torch.testing.assert_close(vector.double(), transcribed_words(state, words), atol=1e-4, rtol=0)


def prepared(backbone: Clap, wave: np.ndarray) -> np.ndarray:
    from stages.embed.backbones import hf

    return backbone.input._prepare(hf._extractor(backbone.input.extractor), wave)


def test_a_model_with_fusion_reads_windows_whole(tmp_path: Path) -> None:
    """And alike in any batch: its own extractor declares a random one of a batch to be longer."""
    import transformers

    fusion = {**AUDIO, "enable_fusion": True, "fusion_type": None}
    config = transformers.ClapConfig(text_config=TEXT, audio_config=fusion, projection_dim=12)
    torch.manual_seed(0)
    transformers.ClapModel(config).save_pretrained(tmp_path / "clap")
    (tmp_path / "clap" / "preprocessor_config.json").write_text(json.dumps({**EXTRACTOR, "truncation": "fusion"}))
    backbone = opened(tmp_path / "clap")
    wave = (0.1 * np.random.default_rng(0).standard_normal(96_000)).astype(np.float32)
    window = torch.from_numpy(prepared(backbone, wave))[None]
    assert window.shape[1] == 4
    vector = backbone.encode(window)
    torch.testing.assert_close(backbone.encode(window.repeat(3, 1, 1, 1)), vector.repeat(3, 1), atol=1e-6, rtol=0)


def test_every_weight_is_read_or_named(tmp_path: Path) -> None:
    published(tmp_path / "strange", {**weights(), "video_model.weight": torch.zeros(3)})
    with pytest.raises(RequestError, match=r"'video_model.weight' has no place in clap"):
        opened(tmp_path / "strange")
    for key, ask in (("audio_projection.linear1.weight", False), ("text_projection.linear2.bias", True)):
        state = weights()
        del state[key]
        published(tmp_path / key, state)
        backbone = opened(tmp_path / key) if ask else None
        with pytest.raises(RequestError, match=f"'{key}' is missing"):
            backbone.encode_text("words") if backbone else opened(tmp_path / key)


def test_a_broken_text_tower_is_refused_and_audio_works(tmp_path: Path) -> None:
    """One whose last layer forgets what it was given, so that any words get one vector."""
    state = weights()
    state["text_model.pooler.dense.weight"] *= 1e-3
    published(tmp_path / "clap", state)
    backbone = opened(tmp_path / "clap")
    with pytest.raises(RequestError, match=r"text tower of this model is broken: .*larger_clap_music .*by a song"):
        backbone.encode_text("slow jazz")


def test_what_words_need(tmp_path: Path) -> None:
    published(tmp_path / "clap")
    (tmp_path / "clap" / "vocab.json").unlink()
    with pytest.raises(RequestError, match="has no tokenizer"):
        opened(tmp_path / "clap").encode_text("words")
    (tmp_path / "clap" / "vocab.json").write_text("{")
    with pytest.raises(RequestError, match="tokenizer cannot be read"):
        opened(tmp_path / "clap").encode_text("words")
    with pytest.raises(RequestError, match="random weights"):
        Clap(ClapConfig(**Clap.settings_of(tmp_path / "clap"), window_s=2.0)).encode_text("words")
    with pytest.raises(RequestError, match="mfcc takes no words"):
        Mfcc(Mfcc.Config()).encode_text("words")


def test_what_is_no_clap_is_refused(tmp_path: Path) -> None:
    published(tmp_path / "other", model_type="wavlm")
    with pytest.raises(RequestError, match="clap reads clap, not 'wavlm': --backbone hf"):
        opened(tmp_path / "other")
    published(tmp_path / "clap")
    with pytest.raises(RequestError, match="window_s must be at most 2, what the model reads, not 3"):
        Clap(ClapConfig(**Clap.settings_of(tmp_path / "clap"), window_s=3.0))
    with pytest.raises(RequestError, match="clap takes by --weights the folder"):
        Clap(ClapConfig())
