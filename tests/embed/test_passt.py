"""PaSST: a small network under the published names beside a slow transcription of the published one."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.embed.backbones.passt import Passt, PasstConfig
from stages.embed.objectives import Labels
from stages.embed.testing import undrawn_weights
from store.errors import RequestError

Numbers = NDArray[np.float64]
DIM, BLOCKS, HEADS = 192, 4, 3
TINY = PasstConfig(size="tiny")


def published(dim: int = DIM, blocks: int = BLOCKS) -> dict[str, Tensor]:
    """Drawn weights under the published names, output layers included."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, scale: float = 0.05) -> Tensor:
        return scale * torch.randn(*shape, generator=generator)

    state = {
        "cls_token": draw(1, 1, dim, scale=0.5),
        "dist_token": draw(1, 1, dim, scale=0.5),
        "new_pos_embed": draw(1, 2, dim, scale=0.5),
        "freq_new_pos_embed": draw(1, dim, 12, 1, scale=0.5),
        "time_new_pos_embed": draw(1, dim, 1, 99, scale=0.5),
        "patch_embed.proj.weight": draw(dim, 1, 16, 16),
        "patch_embed.proj.bias": draw(dim),
    }
    for i in range(blocks):
        for name, (after, before) in {
            "attn.qkv": (3 * dim, dim),
            "attn.proj": (dim, dim),
            "mlp.fc1": (4 * dim, dim),
            "mlp.fc2": (dim, 4 * dim),
        }.items():
            state[f"blocks.{i}.{name}.weight"] = draw(after, before, scale=0.1)
            state[f"blocks.{i}.{name}.bias"] = draw(after)
    for name in ("norm", "head.0", *(f"blocks.{i}.norm{j}" for i in range(blocks) for j in (1, 2))):
        state[f"{name}.weight"], state[f"{name}.bias"] = 1 + draw(dim), draw(dim)
    for name in ("head.1", "head_dist"):
        state[f"{name}.weight"], state[f"{name}.bias"] = draw(527, dim), draw(527)
    return state


def opened(folder: Path, state: dict[str, Tensor], config: PasstConfig = TINY) -> Passt:
    torch.save(state, folder / "passt.pt")
    backbone = Passt(config)
    backbone.load(folder / "passt.pt")
    backbone.to(torch.device("cpu"))
    return backbone


def level_of(wave: Numbers) -> Numbers:
    """[128, frames] log mel power as published: frame by frame, and filters from the formula of the mel scale."""
    emphasised = wave[1:] - 0.97 * wave[:-1]
    padded = np.pad(emphasised, 512, mode="reflect")
    window = np.zeros(1024)
    window[112:912] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(800) / 799)
    frames = range(0, len(padded) - 1023, 320)
    power = np.array([np.abs(np.fft.rfft(window * padded[first : first + 1024])) ** 2 for first in frames]).T

    def mel(hertz: float) -> float:
        return 1127 * math.log(1 + hertz / 700)

    filters = np.zeros((128, 513))
    for band in range(128):
        low, middle, high = (mel(15_000) * (band + i) / 129 for i in range(3))
        for bin_ in range(512):
            at = mel(bin_ * 32_000 / 1024)
            filters[band, bin_] = max(0.0, min((at - low) / (middle - low), (high - at) / (high - middle)))
    return (np.log(filters @ power + 1e-5) + 4.5) / 5


def transcribed(state: dict[str, Tensor], wave: Numbers) -> Numbers:
    """[blocks, dim] of one window: patches one by one, a head of attention at a time."""
    w = {name: value.double().numpy() for name, value in state.items()}
    level = level_of(wave)
    kernel, bias = w["patch_embed.proj.weight"][:, 0].reshape(DIM, -1), w["patch_embed.proj.bias"]
    patches = [
        kernel @ level[10 * row : 10 * row + 16, 10 * column : 10 * column + 16].ravel()
        + bias
        + w["freq_new_pos_embed"][0, :, row, 0]
        + w["time_new_pos_embed"][0, :, 0, column]
        for row in range(12)
        for column in range(99)
    ]
    tokens = [w[f"{name}_token"][0, 0] + w["new_pos_embed"][0, i] for i, name in enumerate(("cls", "dist"))]
    x = np.array([*tokens, *patches])

    def norm(name: str, x: Numbers) -> Numbers:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
        product: Numbers = scaled * w[f"{name}.weight"] + w[f"{name}.bias"]
        return product

    def linear(name: str, x: Numbers) -> Numbers:
        product: Numbers = x @ w[f"{name}.weight"].T + w[f"{name}.bias"]
        return product

    means = []
    for i in range(BLOCKS):
        name = f"blocks.{i}"
        q, k, v = np.split(linear(f"{name}.attn.qkv", norm(f"{name}.norm1", x)), 3, axis=1)
        heads = []
        for head in np.split(np.arange(DIM), HEADS):
            strength = np.exp(q[:, head] @ k[:, head].T / math.sqrt(len(head)))
            heads.append(strength / strength.sum(1, keepdims=True) @ v[:, head])
        x = x + linear(f"{name}.attn.proj", np.concatenate(heads, axis=1))
        y = linear(f"{name}.mlp.fc1", norm(f"{name}.norm2", x))
        error = torch.erf(torch.from_numpy(y / math.sqrt(2))).numpy()
        x = x + linear(f"{name}.mlp.fc2", y * 0.5 * (1 + error))
        means.append((x[0] + x[1]) / 2)
    cls, dist = norm("norm", x[:2])
    means[-1] = (cls + dist) / 2  # the published features
    return np.array(means)


def waves(count: int) -> Tensor:
    noise = torch.randn(count, 320_000, generator=torch.Generator().manual_seed(1))
    return 0.2 * noise * torch.linspace(0.05, 1.0, 320_000)


def test_it_gives_what_the_published_network_gives(tmp_path: Path) -> None:
    state = published()
    backbone = opened(tmp_path, state)
    assert (backbone.input.rate_hz, backbone.input.window_samples) == (32_000, 320_000)
    pair = waves(2)
    representations = backbone.encode(pair)
    assert representations.shape == (2, *backbone.shape) == (2, BLOCKS, DIM)
    for wave, blocks in zip(pair, representations, strict=True):
        np.testing.assert_allclose(blocks, transcribed(state, wave.double().numpy()), atol=1e-4, rtol=0)


def test_it_reads_the_published_spectrogram() -> None:
    wave = waves(1)
    level = Passt(TINY).module.spectrogram(wave)[0]
    assert level.shape == (128, 1_000)
    np.testing.assert_allclose(level, level_of(wave[0].double().numpy()), atol=1e-4, rtol=0)


def test_the_published_size_is_the_papers() -> None:
    """The published file has two output layers of 527 events beside, 86.2 million parameters in all."""
    with undrawn_weights():
        backbone = Passt(PasstConfig())
    assert backbone.shape == (12, 768)
    weights = {name: tuple(value.shape) for name, value in published(768, 12).items() if not name.startswith("head")}
    assert len(weights) == len(backbone.module.state_dict())
    assert sum(p.numel() for p in backbone.module.parameters()) == sum(map(math.prod, weights.values())) == 85_341_696


def test_training_leaves_4_rows_and_40_columns_out() -> None:
    module = Passt(TINY).module
    pair = waves(2)
    with torch.no_grad():
        whole, again = module.eval().tokens(pair), module.tokens(pair)
        torch.manual_seed(0)
        part, other = module.train().tokens(pair), module.tokens(pair)
    assert torch.equal(whole, again)
    assert whole.shape == (2, 2 + 12 * 99, DIM)
    assert part.shape == (2, 2 + 8 * 59, DIM)
    assert not torch.equal(part, other)
    places = [int((whole[0, 2:] == token).all(dim=1).nonzero()) for token in part[0, 2:]]
    assert places == sorted(places)
    rows, columns = {place // 99 for place in places}, {place % 99 for place in places}
    assert (len(rows), len(columns)) == (8, 59)
    assert places == [99 * row + column for row in sorted(rows) for column in sorted(columns)]


def test_it_reads_what_it_was_trained_to(tmp_path: Path) -> None:
    """By the names that encore train writes, as by the published ones."""
    backbone = opened(tmp_path, published())
    objective = backbone.objectives()["supervised"](Labels(("a", "b"), np.eye(2, dtype=bool)))
    assert objective.settings.learning_rate > 0
    again = opened(tmp_path, backbone.module.state_dict())
    wave = waves(1)
    assert torch.equal(again.encode(wave), backbone.encode(wave))


def test_other_models_are_refused(tmp_path: Path) -> None:
    state = published()
    longer = {**state, "time_new_pos_embed": torch.zeros(1, DIM, 1, 200)}
    with pytest.raises(RequestError, match=r"'time_new_pos_embed' has shape \(1, 192, 1, 200\) and should have"):
        opened(tmp_path, longer)
    with pytest.raises(RequestError, match=r"'blocks.4.norm1.weight' has no place"):
        opened(tmp_path, {**state, "blocks.4.norm1.weight": torch.ones(DIM)})
    del state["dist_token"]
    with pytest.raises(RequestError, match=r"'dist_token' is missing"):
        opened(tmp_path, state)
    with pytest.raises(RequestError, match="size must be one of base, tiny"):
        PasstConfig(size="huge")  # type: ignore[arg-type]
