"""Losses against cases worked out by hand, and the rates of masking and learning."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn

from stages.embed.objectives import Labels, Training
from stages.embed.objectives.contrastive import Contrastive, info_nce
from stages.embed.objectives.masked import Masked, corrupt
from stages.embed.objectives.supervised import Supervised
from store.errors import RequestError


def test_colas_loss_by_hand() -> None:
    """Two clips in the plane: similarities [[2, 2], [1, 0]], each anchor's own on the diagonal."""
    anchors = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    positives = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    similarity = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    assert torch.equal(anchors @ similarity @ positives.T, torch.tensor([[2.0, 2.0], [1.0, 0.0]]))
    expected = (math.log(2) + math.log(1 + math.e)) / 2
    assert info_nce(anchors, positives, similarity).item() == pytest.approx(expected, abs=1e-6)


def test_cola_takes_the_two_segments_of_a_clip_as_a_pair() -> None:
    torch.manual_seed(0)
    objective = Contrastive(nn.Flatten(), 6, Training())
    windows = torch.randn(5, 2, 6)
    g = objective.projection
    expected = info_nce(g(windows[:, 0]), g(windows[:, 1]), objective.similarity)
    assert objective(windows, torch.empty(5, 0)).item() == pytest.approx(expected.item(), abs=1e-6)
    same = windows[:, :1].expand(-1, 2, -1) * 3
    with torch.no_grad():
        objective.similarity.copy_(torch.eye(512))
    assert objective(same, torch.empty(5, 0)) < 1e-3
    assert objective(torch.zeros(5, 2, 6), torch.empty(5, 0)).item() == pytest.approx(math.log(5), abs=1e-5)


def test_colas_similarity_begins_sharp_enough_for_a_fresh_networks_features() -> None:
    """These lie far from zero beside what tells clips apart; a dull similarity would take all clips for alike."""
    torch.manual_seed(0)
    objective = Contrastive(nn.Flatten(), 640, Training())
    clips = 4 + torch.randn(64, 1, 640)
    windows = clips + 1.5 * torch.randn(64, 2, 640)
    assert objective(windows, torch.empty(64, 0)).item() < 0.7 * math.log(64)


def labels(*rows: list[int]) -> Labels:
    carried = np.array(rows, dtype=bool)
    return Labels(tuple("abcdef"[: carried.shape[1]]), carried)


def test_supervised_losses_by_hand() -> None:
    one = labels([1, 0, 0], [0, 0, 1])
    several = labels([1, 1, 0], [0, 0, 1])
    windows = torch.tensor([[[1.0, 0.0, 0.0]], [[0.0, 2.0, 0.0]]])
    for truth in (one, several):
        objective = Supervised(nn.Identity(), 3, truth, Training())
        with torch.no_grad():
            objective.output.weight.copy_(torch.eye(3))
            objective.output.bias.zero_()
        carried = torch.from_numpy(truth.matrix).float()
        result = objective(windows, carried).item()
        if truth is one:
            expected = ((math.log(math.e + 2) - 1) + math.log(math.e**2 + 2)) / 2
        else:
            up, down = (lambda x: math.log1p(math.exp(-x))), (lambda x: math.log1p(math.exp(x)))
            expected = (up(1) + up(0) + down(0) + down(0) + down(2) + up(0)) / 6
        assert result == pytest.approx(expected, abs=1e-6)
    with pytest.raises(RequestError, match="two labels"):
        Supervised(nn.Identity(), 3, labels([1], [1]), Training())


def hide_every_second(tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Every second token's first field."""
    mask = torch.zeros_like(tokens, dtype=torch.bool)
    mask[:, ::2, 0] = True
    return torch.where(mask, 9, tokens), mask


class Chain(nn.Module):
    """Predicts the hidden field of `hide_every_second` with odds of 11 to 9."""

    def predict(self, tokens: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        assert bool((tokens[mask] == 9).all())
        right = torch.zeros(int(mask[..., 0].sum()), 10)
        right[:, 4] = math.log(11)
        return right, torch.empty(0, 10)


def test_only_hidden_fields_count() -> None:
    tokens = torch.full((2, 1, 6, 2), 4, dtype=torch.int16)
    loss = Masked(Chain(), hide_every_second, Training())(tokens, torch.empty(2, 0))
    assert loss.item() == pytest.approx(math.log(20 / 11), abs=1e-6)


def test_of_the_chosen_80_per_cent_are_masked_and_10_drawn() -> None:
    torch.manual_seed(0)
    tokens = torch.stack([torch.full((100_000,), 5), torch.full((100_000,), 7)], dim=1)
    draw, sizes = torch.rand(tokens.shape), torch.tensor([100, 200])
    result, picks = corrupt(tokens, draw, mask=-2, sizes=sizes)
    assert abs(picks.float().mean() - 0.15) < 4 * math.sqrt(0.15 * 0.85 / 200_000)
    assert torch.equal(result[~picks], tokens[~picks])
    for field in (0, 1):
        values = result[picks[:, field], field]
        masked, same = (values == -2), (values == tokens[0, field])
        spread = 4 / math.sqrt(len(values))
        assert abs(masked.float().mean() - 0.8) < 0.4 * spread
        assert abs(same.float().mean() - 0.1 * (1 + 1 / sizes[field])) < 0.3 * spread
        replacements = values[~masked & ~same]
        assert replacements.min() == 0
        assert replacements.max() == sizes[field] - 1


def test_the_rate_rises_and_falls() -> None:
    training = Training(learning_rate=2.0, warmup=4, schedule="linear")
    assert [training.rate(step, 14) for step in (0, 3, 4, 9, 14)] == pytest.approx([0.5, 2.0, 2.0, 1.0, 0.0])
    cosine = Training(learning_rate=2.0)
    assert [cosine.rate(step, 10) for step in (0, 5, 10)] == pytest.approx([2.0, 1.0, 0.0])
    assert Training(schedule="constant").rate(999, 1000) == Training().learning_rate


@pytest.mark.parametrize("optimizer", ["adamw", "rmsprop"])
def test_biases_do_not_decay(optimizer: Literal["adamw", "rmsprop"]) -> None:
    layer, frozen = nn.Linear(3, 2), nn.Linear(2, 2).requires_grad_(False)
    made = Training(optimizer=optimizer, learning_rate=1e-6, weight_decay=0.5).optimize(
        nn.Sequential(layer, frozen).parameters()
    )
    before = layer.weight.detach().clone(), layer.bias.detach().clone()
    layer.weight.grad, layer.bias.grad = torch.zeros(2, 3), torch.zeros(2)
    made.step()
    assert torch.equal(layer.bias, before[1])
    assert not torch.equal(layer.weight, before[0])
    assert sum(len(group["params"]) for group in made.param_groups) == 2


def test_rmsprop_divides_a_gradient_by_its_running_root_mean_square() -> None:
    weight = nn.Parameter(torch.tensor([[1.0]]))
    made = Training(optimizer="rmsprop", learning_rate=0.1, weight_decay=0.0).optimize([weight])
    expected, mean_square = 1.0, 0.0
    for gradient in (0.5, -2.0, 1.0):
        weight.grad = torch.tensor([[gradient]])
        made.step()
        mean_square = 0.9 * mean_square + 0.1 * gradient**2
        expected -= 0.1 * gradient / mean_square**0.5
    assert weight.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        *({name: 0} for name in ("epochs", "steps", "batch", "learning_rate", "max_norm", "patience")),
        *({name: -1} for name in ("weight_decay", "seed", "warmup")),
        {"learning_rate": math.nan},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict) -> None:
    with pytest.raises(RequestError, match=next(iter(wrong))):
        Training(**wrong)
