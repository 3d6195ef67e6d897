"""No head can learn from labels outside training: every head of the folder, several labels a clip and one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from stages import registry
from stages.head.collection import Collection
from stages.head.heads import CountedHead, Head, TrainedHead
from stages.head.scores.prediction import Prediction
from stages.head.scores.task import MULTI_LABEL
from stages.head.settings import Settings
from stages.head.training import loop as training
from stages.splits.regimes import Split
from tests.head.conftest import make_collection

HEADS = registry.names("head")
SETTINGS = Settings(hidden=16, epochs=4, batch=64, learning_rate=3e-3)
CPU = torch.device("cpu")
DATA = {multi: make_collection(songs=150, multi=multi) for multi in (True, False)}


def fit(head: type[Head], data: Collection, part: Split, settings: Settings) -> tuple[Prediction, list[float]]:
    """What the head says, and the training loss of each epoch."""
    if issubclass(head, CountedHead):
        return next(iter(head().predict(data, part).values())), []
    assert issubclass(head, TrainedHead)
    trained = training.train(head, data, part, settings, seed=0, device=CPU)
    return trained.prediction, [epoch["loss"] for epoch in trained.history]


def turned(data: Collection, clips: np.ndarray) -> Collection:
    """Other labels for some clips: all that they lack, or the next one where a clip has one."""
    targets = data.targets.copy()
    targets[clips] = ~targets[clips] if data.task == MULTI_LABEL else np.roll(targets[clips], 1, axis=1)
    return replace(data, targets=targets)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("multi", [True, False])
def test_labels_outside_training_are_never_learned(name: str, multi: bool) -> None:
    """Other test labels change nothing at all; other validation labels no more than which epoch is kept."""
    data, head = DATA[multi], registry.find("head", name)
    part = data.split("random", 0)
    (found, losses), (other, _) = (fit(head, one, part, SETTINGS) for one in (data, turned(data, part == 2)))
    np.testing.assert_array_equal(found.score, other.score)
    np.testing.assert_array_equal(found.chosen, other.chosen)
    validated = turned(data, part == 1)
    _, others = fit(head, validated, part, SETTINGS)
    assert others == losses
    one_epoch = replace(SETTINGS, epochs=1)  # and so nothing to choose among
    (found, _), (other, _) = (fit(head, one, part, one_epoch) for one in (data, validated))
    np.testing.assert_array_equal(found.score, other.score)
    relearned, _ = fit(head, turned(data, part == 0), part, one_epoch)
    assert not np.array_equal(found.score, relearned.score)


@pytest.mark.parametrize("name", HEADS)
def test_a_head_is_shown_no_label_outside_training(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data, head = DATA[True], registry.find("head", name)
    part = data.split("artist", 0)
    seen: list[Collection] = []
    method = "count" if issubclass(head, CountedHead) else "__init__"
    inner = getattr(head, method)

    def spy(self: Head, shown: Collection, *rest: object) -> object:
        seen.append(shown)
        return inner(self, shown, *rest)

    monkeypatch.setattr(head, method, spy)
    fit(head, data, part, replace(SETTINGS, epochs=1))
    (shown,) = seen
    assert not shown.targets[part != 0].any()
    np.testing.assert_array_equal(shown.targets[part == 0], data.targets[part == 0])
    assert shown.division is None


def test_what_is_known_without_labels_stays() -> None:
    data = DATA[True]
    part = data.split("random", 0)
    several = data.targets.sum(axis=1) > 1
    single_in_train = replace(data, targets=np.where((several & (part == 0))[:, None], False, data.targets))
    shown = single_in_train.shown(part)
    assert shown.task == MULTI_LABEL
    assert shown.graph is single_in_train.graph
    assert shown.labels == data.labels
    assert data.shown(part, (0, 1)).targets[part == 1].any()
    assert not data.shown(part, (0, 1)).targets[part == 2].any()
