"""The pool of several experts: what it says, and whom validation lets it listen to."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stages.head.scores.task import MULTI_LABEL, REGRESSION, SINGLE_LABEL, Task
from stages.head.settings import Settings
from stages.head.training.losses import Loss
from stages.head.training.pool import Pool, Terms, pool_of

LABELS = 4
TASKS = [SINGLE_LABEL, MULTI_LABEL, REGRESSION]


def _clips(task: Task, clips: int, noise: list[float], seed: int = 0) -> tuple[Tensor, Tensor]:
    """[clips, experts * outputs] what experts say who know the truth through so much noise, and the truth."""
    draw = torch.Generator().manual_seed(seed)
    if task is REGRESSION:
        truth = torch.randn(clips, 1, generator=draw)
        known = truth
    else:
        truth = torch.eye(LABELS)[torch.randint(LABELS, (clips,), generator=draw)]
        known = 4 * truth - 2
    experts = [known + level * torch.randn(known.shape, generator=draw) for level in noise]
    return torch.cat(experts, dim=1), task.target(truth)


def _terms(task: Task) -> Terms:
    return Loss(torch.zeros(1, LABELS), task, Settings()).terms


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(TASKS),
    st.integers(1, 200),
    st.lists(st.floats(0.1, 20.0), min_size=1, max_size=5),
    st.integers(0, 5),
    st.integers(1, 50),
)
def test_the_order_of_clips_does_not_matter(
    task: Task, clips: int, noise: list[float], seed: int, artists: int
) -> None:
    outputs, target = _clips(task, clips, noise, seed)
    artist = torch.arange(clips) % artists
    pool, again = Pool(len(noise)), Pool(len(noise))
    pool.fit(outputs, target, artist, _terms(task))
    assert (pool.weights >= 0).all()
    assert pool.weights.isfinite().all()
    assert pool.weights.any()
    order = torch.randperm(clips, generator=torch.Generator().manual_seed(seed))
    again.fit(outputs[order], target[order], artist[order] + 7, _terms(task))
    torch.testing.assert_close(again.weights, pool.weights, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.NAME)
def test_the_expert_who_knows_speaks_nearly_alone(task: Task) -> None:
    outputs, target = _clips(task, 1000, [20.0, 0.3, 20.0])
    pool = Pool(3)
    pool.fit(outputs, target, torch.arange(1000) // 10, _terms(task))
    assert pool.weights[1] > 0
    assert (pool.weights[[0, 2]] < 0.02 * pool.weights[1]).all()


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.NAME)
def test_of_few_artists_nothing_is_concluded(task: Task) -> None:
    """Experts of equal knowledge, hundreds of clips, five artists with luck of their own: none speaks alone."""
    clips, artist = 500, torch.arange(500) % 5
    outputs, target = _clips(task, clips, [1.0, 1.0])
    luck = torch.randn(5, outputs.shape[1], generator=torch.Generator().manual_seed(3))
    pool = Pool(2)
    pool.fit(outputs + luck[artist], target, artist, _terms(task))
    assert (pool.weights > 0).all()


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.NAME)
def test_who_only_guesses_is_toned_down(task: Task) -> None:
    outputs, target = _clips(task, 400, [1.0])
    pool = Pool(1)
    pool.fit(
        torch.randn(outputs.shape, generator=torch.Generator().manual_seed(1)) * 9,
        target,
        torch.arange(400),
        _terms(task),
    )
    assert pool.weights[0] < 0.2


@pytest.mark.parametrize("task", [SINGLE_LABEL, MULTI_LABEL], ids=lambda task: task.NAME)
def test_what_weighs_more_in_training_does_so_in_the_pool(task: Task) -> None:
    """One expert knows the clips of the label that most carry, the other those of rare ones."""
    clip = torch.arange(400)
    label = torch.where(clip < 340, 0, 1 + clip % (LABELS - 1))
    truth = torch.eye(LABELS)[label]
    is_common = (label == 0).unsqueeze(1)
    outputs = torch.cat([(8 * truth - 4) * is_common, (8 * truth - 4) * ~is_common], dim=1)
    target = task.target(truth)
    weights = []
    for class_weights in ("none", "balanced"):
        pool = Pool(2)
        pool.fit(outputs, target, torch.arange(400), Loss(truth, task, Settings(class_weights=class_weights)).terms)
        weights.append(pool.weights / pool.weights.sum())
    assert weights[1][1] > weights[0][1]


def test_training_keeps_the_experts_apart() -> None:
    pool, outputs = Pool(2), torch.randn(2, 5, LABELS)
    assert torch.equal(pool(outputs), outputs)
    pool.eval()
    torch.testing.assert_close(pool(outputs), outputs.mean(dim=0))
    with pool.apart():
        torch.testing.assert_close(pool(outputs).unflatten(1, (2, LABELS)).transpose(0, 1), outputs)
    assert pool_of(torch.nn.Sequential(pool)) is pool
    assert pool_of(torch.nn.Linear(2, 2)) is None
