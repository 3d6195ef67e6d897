"""No head can learn from labels outside training: every head of the folder, several labels a clip and one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from stages import registry
from stages.head.collection import Collection
from stages.head.fit import fit
from stages.head.heads import Head
from stages.head.scores.prediction import Prediction
from stages.head.scores.task import MULTI_LABEL
from stages.splits.regimes import Split
from tests.head.conftest import CPU, make_collection, options

HEADS = registry.names("head")
POOLED = ("gated",)  # several experts, which validation weighs
QUICK = {"hidden": 16, "epochs": 2, "steps": 1, "batch": 64, "learning_rate": 3e-3}
DATA = {multi: make_collection(songs=150, multi=multi) for multi in (True, False)}


def learn(head: type[Head], data: Collection, part: Split, **changes: Any) -> tuple[Prediction, list[float]]:
    """The prediction by the first of its rules, and the training loss of each epoch."""
    first, *_ = fit(head, data, part, *options(head, **{**QUICK, **changes}), 0, CPU)
    return first.prediction, [epoch["loss"] for trained in first.networks for epoch in trained.history]


def turned(data: Collection, clips: np.ndarray) -> Collection:
    """Other labels for some clips: all that they lack, or the next one where a clip has one."""
    targets = data.labels.copy(order="K")
    targets[clips] = ~targets[clips] if data.task == MULTI_LABEL else np.roll(targets[clips], 1, axis=1)
    return replace(data, labels=targets)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("multi", [True, False])
def test_labels_outside_training_are_never_learned(name: str, multi: bool) -> None:
    """Other test labels change nothing at all; other validation labels no more than which epoch, or expert, counts."""
    data, head = DATA[multi], registry.find("head", name)
    part = data.split("random", 0)
    (prediction, losses), (other, _) = (learn(head, one, part) for one in (data, turned(data, part == 2)))
    np.testing.assert_array_equal(prediction.score, other.score)
    np.testing.assert_array_equal(prediction.decision, other.decision)
    validated = turned(data, part == 1)
    _, others = learn(head, validated, part)
    assert others == losses
    # One epoch, and so nothing to choose among but experts.
    (prediction, _), (other, _) = (learn(head, one, part, epochs=1) for one in (data, validated))
    assert np.array_equal(prediction.score, other.score) == (name not in POOLED)
    relearned, _ = learn(head, turned(data, part == 0), part, epochs=1)
    assert not np.array_equal(prediction.score, relearned.score)


@pytest.mark.parametrize("name", HEADS)
def test_a_head_sees_no_label_outside_training(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither when it learns its facts, nor when it is bound."""
    data, head = DATA[True], registry.find("head", name)
    part = data.split("artist", 0)
    collections: list[Collection] = []
    learns, binds = head.learn, head.__init__

    def learning(collection: Collection, *rest: object) -> object:
        collections.append(collection)
        return learns(collection, *rest)

    def binding(self: Head, collection: Collection, *rest: object) -> None:
        collections.append(collection)
        binds(self, collection, *rest)

    monkeypatch.setattr(head, "learn", learning)
    monkeypatch.setattr(head, "__init__", binding)
    learn(head, data, part, epochs=1)
    assert len(collections) == 2
    for masked in collections:
        assert not masked.labels[part != 0].any()
        np.testing.assert_array_equal(masked.labels[part == 0], data.labels[part == 0])
        assert masked.splits is None


def test_what_is_known_without_labels_stays() -> None:
    data = DATA[True]
    part = data.split("random", 0)
    several = data.labels.sum(axis=1) > 1
    single_in_train = replace(data, labels=np.where((several & (part == 0))[:, None], False, data.labels))
    masked = single_in_train.masked(part)
    assert masked.task == MULTI_LABEL
    assert torch.equal(masked.graph.order, data.graph.order)
    assert masked.label_names == data.label_names
    assert data.masked(part, (0, 1)).labels[part == 1].any()
    assert not data.masked(part, (0, 1)).labels[part == 2].any()
