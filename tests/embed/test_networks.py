"""The networks of published tables: shapes layer by layer, parameters, and what each one reads."""

from __future__ import annotations

import itertools
from typing import Any

import librosa
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stages.embed.backbones import cnn1d, fcn4, mfcc_cnn
from stages.embed.backbones.cnn1d import Cnn1d
from stages.embed.backbones.fcn4 import Fcn4
from stages.embed.backbones.mfcc_cnn import MfccCnn
from stages.embed.backbones.samplecnn import Samplecnn
from stages.embed.objectives import Labels

FIFTY = Labels(tuple(f"{i}" for i in range(50)), np.eye(50, dtype=bool))


def build(kind: type[Any]) -> Any:
    torch.manual_seed(0)
    backbone = kind(kind.Config())
    backbone.to(torch.device("cpu"))
    return backbone


def waves(backbone: Any, count: int) -> Tensor:
    noise = torch.randn(count, backbone.input.window_samples, generator=torch.Generator().manual_seed(1))
    return 0.1 * noise * torch.linspace(0.1, 1.0, backbone.input.window_samples)


def parameters(module: nn.Module, kinds: tuple[type[nn.Module], ...] = (nn.Conv1d, nn.Conv2d, nn.Linear)) -> list[int]:
    """Of each layer of these kinds, in the order in which the network holds them."""
    return [sum(p.numel() for p in layer.parameters()) for layer in module.modules() if isinstance(layer, kinds)]


def shapes(backbone: Any, layers: list[nn.Module]) -> list[tuple[int, ...]]:
    """What comes out of each layer for one window."""
    sizes: list[tuple[int, ...]] = []
    hooks = [layer.register_forward_hook(lambda *call: sizes.append(tuple(call[2].shape[1:]))) for layer in layers]
    backbone.encode(waves(backbone, 1))
    for hook in hooks:
        hook.remove()
    return sizes


def test_samplecnn_is_the_papers_table() -> None:
    """Lee, Park, Kim, Nam 2017, table 1: output and parameters of every layer, 1.9 million in all."""
    backbone = build(Samplecnn)
    assert backbone.input.window_samples == 59_049
    assert shapes(backbone, list(backbone.module.blocks)) == [
        (128, 19_683),
        (128, 6_561),
        (128, 2_187),
        (256, 729),
        (256, 243),
        (256, 81),
        (256, 27),
        (256, 9),
        (256, 3),
        (512, 1),
        (512, 1),
    ]
    objective = backbone.objectives()["supervised"](FIFTY)
    published = [512, 49_280, 49_280, 98_560, *5 * [196_864], 393_728, 262_656, 25_650]
    assert parameters(objective) == published
    assert round(sum(published) / 1e6, 1) == 1.9
    assert sum(parameters(objective, (nn.BatchNorm1d,))) == 5_888


def test_fcn4_is_the_papers_table() -> None:
    """Choi, Fazekas, Sandler 2016, table 1: channels and pools, from 96 x 1,366 to 2,048 x 1 x 1."""
    backbone = build(Fcn4)
    assert backbone.module.spec(waves(backbone, 1)).shape == (1, 96, fcn4.FRAMES) == (1, 96, 1_366)
    blocks = [(128, 48, 341), (384, 12, 68), (768, 4, 8), (2_048, 1, 1)]
    assert shapes(backbone, list(backbone.module.blocks)) == blocks
    objective = backbone.objectives()["supervised"](FIFTY)
    widths = (1, 128, 384, 768, 2_048)
    convolutions = [(9 * before + 1) * after for before, after in itertools.pairwise(widths)]
    assert parameters(objective) == [*convolutions, 2_049 * 50]


def test_cnn1d_leaves_three_positions_of_64_channels() -> None:
    backbone = build(Cnn1d)
    assert shapes(backbone, list(backbone.module.blocks)) == [(32, 155), (32, 18), (64, 3)]
    assert parameters(backbone.module) == [32 * (8 * 128 + 1), 32 * (8 * 32 + 1), 64 * (4 * 32 + 1), 64 * (192 + 1)]


def test_cnn1d_reads_log10_of_one_plus_ten_times_mel_power() -> None:
    backbone = build(Cnn1d)
    wave = waves(backbone, 1)
    power = librosa.feature.melspectrogram(y=wave[0].numpy(), sr=22_050, n_fft=1_024, hop_length=512, n_mels=128)
    level = cnn1d.log_one_plus(backbone.module.spec(wave))[0]
    np.testing.assert_allclose(level, np.log10(1 + 10 * power), atol=1e-5)


def test_mfcc_cnn_halves_20_coefficients_and_1231_frames_six_times() -> None:
    backbone = build(MfccCnn)
    assert backbone.module.coefficients(waves(backbone, 1)).shape == (1, 20, 1_231)
    sizes = [(10, 616), (5, 308), (3, 154), (2, 77), (1, 39), mfcc_cnn.REMAINING]
    channels = (64, 160, 128, 128, 128, 128)
    assert shapes(backbone, list(backbone.module.blocks)) == [
        (width, *size) for width, size in zip(channels, sizes, strict=True)
    ]
    assert len(parameters(backbone.module, (nn.Conv2d,))) == 12


def test_cnn1d_learns_to_tell_a_low_tone_from_a_high_one() -> None:
    backbone = build(Cnn1d)
    backbone.module.requires_grad_(True).train()
    objective = backbone.objectives()["supervised"](Labels(("low", "high"), np.eye(2, dtype=bool)))
    time_s = torch.arange(backbone.input.window_samples) / backbone.input.rate_hz
    tones = torch.stack([torch.sin(2 * torch.pi * hertz * time_s) for hertz in (200.0, 3_000.0)])
    windows = (0.3 * tones).repeat(2, 1) + 0.01 * waves(backbone, 4)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        loss = objective(windows[:, None], torch.eye(2).repeat(2, 1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_mfcc_cnn_is_trained_as_it_was_published() -> None:
    """RMSProp, and the penalty of 1e-3 on the second and the fourth block, which training alone knows."""
    backbone = build(MfccCnn)
    backbone.module.requires_grad_(True)
    objective = backbone.objectives()["supervised"](FIFTY)
    optimizer = objective.settings.optimize(objective.parameters())
    assert isinstance(optimizer, torch.optim.RMSprop)
    assert all(group["weight_decay"] == 0 for group in optimizer.param_groups)
    windows, labels = waves(backbone, 2)[:, None], torch.eye(50)[:2]
    with torch.no_grad():
        training, validation = objective.train()(windows, labels), objective.eval()(windows, labels)
    backbone.module.penalty().backward()
    penalised = 0.0
    for name, weight in backbone.module.named_parameters():
        if name.startswith(("blocks.1", "blocks.3")) and name.endswith("weight"):
            penalised += weight.detach().double().square().sum().item()
            torch.testing.assert_close(weight.grad, 2e-3 * weight.detach())
        else:
            assert weight.grad is None
    assert penalised > 100
    assert backbone.module.penalty().item() == pytest.approx(1e-3 * penalised, rel=1e-5)
    assert (training - validation).item() > 0.9e-3 * penalised  # the rest is batch normalisation's


def test_mfcc_cnns_weights_are_drawn_by_xaviers_rule() -> None:
    for name, weight in build(MfccCnn).module.named_parameters():
        if weight.ndim < 2:
            assert not weight.any()
        else:
            inputs, outputs = (width * weight[0, 0].numel() for width in (weight.shape[1], weight.shape[0]))
            limit = (6 / (inputs + outputs)) ** 0.5
            assert 0.9 * limit < weight.abs().max() <= limit, name
