"""The linear head against scikit-learn's solver at the same penalty."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from stages.head.collection import Collection
from stages.head.heads.linear import Linear
from stages.head.training import solved, solver
from stages.head.training.stretches import Stretches
from stages.splits.regimes import Split
from tests.head.conftest import make_collection, train
from tests.head.test_stretches import stored


def objective(data: Collection, part: Split, weight: np.ndarray, bias: np.ndarray, l2: float) -> float:
    """What is minimised, by its definition, in double precision on standardised representations."""
    x, truth = standardised(data, part), data.labels[part == 0]
    outputs = x @ weight.T + bias
    if data.task.NAME == "single-label":
        loss = np.log(np.exp(outputs).sum(axis=1)) - outputs[truth]
    else:
        loss = (np.logaddexp(0, outputs) - truth * outputs).sum(axis=1)
    return float(loss.mean() + l2 / 2 * np.square(weight).sum())


def standardised(data: Collection, part: Split) -> np.ndarray:
    assert data.x is not None
    x = data.x.numpy()[part == 0].astype(np.float64)
    return (x - x.mean(axis=0)) / x.std(axis=0)


def reference(data: Collection, part: Split, l2: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights and intercepts of scikit-learn's."""
    x, truth = standardised(data, part), data.labels[part == 0]
    model = LogisticRegression(C=1 / (l2 * len(x)), tol=1e-10, max_iter=10_000)
    if data.task.NAME == "single-label":
        model.fit(x, truth.argmax(axis=1))
        return model.coef_, model.intercept_
    fits = [model.fit(x, column) and (model.coef_[0], model.intercept_[0]) for column in truth.T]
    return np.stack([weight for weight, _ in fits]), np.array([bias for _, bias in fits])


@pytest.mark.parametrize("multi", [True, False])
def test_of_wide_inputs_it_finds_the_minimum_by_the_largest_eigenvalues(
    multi: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(solved, "WIDE", 10)
    monkeypatch.setattr(solver, "LEADING", 4)
    data = make_collection(songs=300, multi=multi)
    part = data.split("random", 0)
    trained = train(Linear, data, part, l2=0.01)
    ours = trained.state["weight"].double().numpy(), trained.state["bias"].double().numpy()
    best = objective(data, part, *reference(data, part, 0.01), 0.01)
    assert objective(data, part, *ours, 0.01) == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("multi", [True, False])
@pytest.mark.parametrize("l2", [0.3, 0.01, 1e-4])
def test_it_finds_the_minimum_that_scikit_learn_finds(multi: bool, l2: float) -> None:
    data = make_collection(songs=300, multi=multi)
    assert data.x is not None
    mixed = data.x + 3 * data.x[:, :1]  # directions of very different length
    data = replace(data, x=mixed)
    part = data.split("random", 0)
    trained = train(Linear, data, part, l2=l2)
    ours = trained.state["weight"].double().numpy(), trained.state["bias"].double().numpy()
    best = objective(data, part, *reference(data, part, l2), l2)
    assert objective(data, part, *ours, l2) == pytest.approx(best, abs=1e-5)
    assert objective(data, part, *ours, 0.0) / (1 if not multi else len(data.label_names)) == pytest.approx(
        trained.history[0]["loss"], abs=1e-5
    )


def test_the_penalty_is_that_of_the_least_validation_loss(dataset: Collection) -> None:
    trained = train(Linear, dataset, dataset.split("random", 0))
    losses = [epoch["validation_loss"] for epoch in trained.history]
    assert trained.best_epoch == 1 + int(np.argmin(losses))
    assert 1 < trained.best_epoch < len(losses)
    l2 = Linear.penalties(Linear.Config())[trained.best_epoch - 1]
    alone = train(Linear, dataset, dataset.split("random", 0), l2=l2)
    np.testing.assert_allclose(alone.prediction.score, trained.prediction.score, atol=2e-3)


def test_stretches_have_the_same_solution(dataset: Collection) -> None:
    part = dataset.split("random", 0)
    full = train(Linear, dataset, part)
    parts = train(Linear, dataset, part, stretches=Stretches(stored(dataset), most=200))
    np.testing.assert_allclose(parts.prediction.score, full.prediction.score, atol=1e-3)


def test_a_label_that_all_clips_carry_or_none(dataset: Collection) -> None:
    labels = dataset.labels.copy()
    labels[:, 0], labels[:, 1] = True, False
    scores = train(Linear, replace(dataset, labels=labels), dataset.split("random", 0)).prediction.score
    assert (scores[:, 0] > 0.9).all()
    assert (scores[:, 1] < 0.1).all()


def test_representations_that_say_nothing(dataset: Collection) -> None:
    """The labels' shares are left."""
    assert dataset.x is not None
    part = dataset.split("random", 0)
    score = train(Linear, replace(dataset, x=torch.ones_like(dataset.x)), part).prediction.score
    np.testing.assert_allclose(score, np.tile(dataset.labels[part == 0].mean(axis=0), (len(dataset), 1)), atol=1e-3)
