"""Losses by hand, and against what they become at their borders."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from stages.head.heads.song import Song
from stages.head.scores.task import MULTI_LABEL, SINGLE_LABEL, Task
from stages.head.settings import Settings
from stages.head.training.losses import Loss
from store.errors import RequestError
from tests.head.conftest import make_collection, train

FOCAL = Settings(loss="focal")
BALANCED = Settings(class_weights="balanced")
# Four clips: label a on three, b on one, c on none, d on all.
TARGETS = torch.tensor([[1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 0, 1], [0, 0, 0, 1]], dtype=torch.bool)


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_focal_loss_of_several_labels_by_hand() -> None:
    logits, target = torch.tensor([[logit(0.9), logit(0.2)]]), torch.tensor([[1.0, 1.0]])
    loss = Loss(TARGETS, MULTI_LABEL, FOCAL)(logits, target)
    assert float(loss) == pytest.approx((0.1**2 * -math.log(0.9) + 0.8**2 * -math.log(0.2)) / 2, rel=1e-5)
    absent = Loss(TARGETS, MULTI_LABEL, replace(FOCAL, gamma=1.0))(logits, torch.zeros(1, 2))
    assert float(absent) == pytest.approx((0.9 * -math.log(0.1) + 0.2 * -math.log(0.8)) / 2, rel=1e-5)


def test_focal_loss_of_one_label_by_hand() -> None:
    logits = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4]]).log()
    loss = Loss(TARGETS, SINGLE_LABEL, FOCAL)(logits, torch.tensor([0, 2]))
    assert float(loss) == pytest.approx((0.3**2 * -math.log(0.7) + 0.6**2 * -math.log(0.4)) / 2, rel=1e-5)


@pytest.mark.parametrize(
    ("task", "measure"), [(MULTI_LABEL, F.binary_cross_entropy_with_logits), (SINGLE_LABEL, F.cross_entropy)]
)
def test_gamma_of_zero_is_cross_entropy(task: Task, measure: Callable[..., Tensor]) -> None:
    logits, target = torch.randn(20, 4), task.target(F.one_hot(torch.randint(0, 4, (20,)), 4).bool())
    for settings in (Settings(), replace(FOCAL, gamma=0.0)):
        assert torch.equal(Loss(TARGETS, task, settings)(logits, target), measure(logits, target))


@pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])
def test_gradients_are_finite_where_decisions_are_certain(gamma: float) -> None:
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    for target in (torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])):
        loss = Loss(TARGETS, MULTI_LABEL, replace(FOCAL, gamma=gamma))(logits, target)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert torch.isfinite(gradient).all()


def test_weights_of_several_labels() -> None:
    """Each label's clips with and without it weigh the same in all, and a clip weighs 1 on average."""
    absent, present = MULTI_LABEL.balance(TARGETS)
    assert present.tolist() == pytest.approx([4 / 6, 4 / 2, 1, 1])
    assert absent.tolist() == pytest.approx([4 / 2, 4 / 6, 1, 1])
    logits, target = torch.zeros(1, 4), torch.tensor([[1.0, 0.0, 0.0, 1.0]])
    loss = Loss(TARGETS, MULTI_LABEL, BALANCED)(logits, target)
    assert float(loss) == pytest.approx(math.log(2) * (4 / 6 + 4 / 6 + 1 + 1) / 4, rel=1e-5)


def test_weights_of_one_label_are_those_of_sklearn() -> None:
    truth = np.array([0, 0, 0, 0, 1, 1, 3])
    targets = torch.from_numpy(np.eye(4, dtype=bool)[truth])  # nobody carries label 2
    present = SINGLE_LABEL.balance(targets)
    reference = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=truth)
    np.testing.assert_allclose(present[[0, 1, 3]], reference, rtol=1e-6)
    assert present[2] == 1
    assert float(present[torch.from_numpy(truth)].mean()) == pytest.approx(1)
    loss = Loss(targets, SINGLE_LABEL, BALANCED)(torch.zeros(2, 4), torch.tensor([0, 3]))
    assert float(loss) == pytest.approx(math.log(4) * (7 / 12 + 7 / 3) / 2, rel=1e-5)


def test_weighted_focal_loss_is_the_product() -> None:
    logits, target = torch.tensor([[logit(0.9), 0.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 1.0, 0.0]])
    loss = Loss(TARGETS, MULTI_LABEL, replace(FOCAL, class_weights="balanced"))(logits, target)
    half = 0.25 * math.log(2)
    assert float(loss) == pytest.approx((4 / 6 * 0.01 * -math.log(0.9) + 4 / 6 * half + 2 * half) / 4, rel=1e-5)


def test_balanced_weights_help_rare_labels() -> None:
    """One label in twenty clips, hard to hear: without weights it is never chosen."""
    data = make_collection(songs=400, clips=1, labels=3, multi=False)
    rng = np.random.default_rng(0)
    rare = rng.random(len(data)) < 0.05
    targets = np.stack([~rare, rare], axis=1)
    x = torch.from_numpy(rng.standard_normal((len(data), 4)).astype(np.float32) + rare[:, None])
    data = replace(data, x=x, labels=targets, label_names=("often", "rare"))
    part = data.split("random", 0)
    recall = {}
    for weights in ("none", "balanced"):
        decision = train(Song, data, part, epochs=15, class_weights=weights).prediction.decision
        recall[weights] = decision[rare & (part == 0), 1].mean()
    assert recall["balanced"] > recall["none"] + 0.3


def test_settings_that_cannot_be() -> None:
    with pytest.raises(RequestError, match="gamma is -1"):
        Settings(gamma=-1)
