"""Metrics against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from stages.head.scores import metrics
from stages.head.scores.task import MULTI_LABEL, SINGLE_LABEL

cases = st.tuples(st.integers(2, 40), st.integers(1, 6), st.integers(0, 10_000), st.booleans())


def draw(rows: int, labels: int, seed: int, ties: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.random((rows, labels)) < rng.random(labels)
    score = rng.random((rows, labels))
    if ties:
        score = np.round(score * 3) / 3
    return truth, score > 0.5, score


@settings(max_examples=60)
@given(cases)
def test_several_labels(case: tuple[int, int, int, bool]) -> None:
    truth, predicted, score = draw(*case)
    scores = MULTI_LABEL.evaluate(truth, predicted, score)
    occurs = np.flatnonzero(truth.any(axis=0))
    both = np.flatnonzero(truth.any(axis=0) & ~truth.all(axis=0))
    assert scores["micro_f1"] == pytest.approx(
        sk.f1_score(truth.ravel(), predicted.ravel(), zero_division=0.0), abs=1e-12
    )
    per_label = sk.f1_score(truth, predicted, average=None, zero_division=0.0) if truth.shape[1] > 1 else None
    if len(occurs) and per_label is not None:
        assert scores["macro_f1"] == pytest.approx(per_label[occurs].mean())
    assert scores["subset_accuracy"] == pytest.approx((truth == predicted).all(axis=1).mean())
    if len(occurs):
        assert scores["pr_auc"] == pytest.approx(
            np.mean([sk.average_precision_score(truth[:, i], score[:, i]) for i in occurs])
        )
    else:
        assert math.isnan(scores["pr_auc"])
    if len(both):
        assert scores["roc_auc"] == pytest.approx(np.mean([sk.roc_auc_score(truth[:, i], score[:, i]) for i in both]))
    else:
        assert math.isnan(scores["roc_auc"])


@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(2, 6), st.integers(0, 10_000))
def test_one_label(rows: int, labels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    true, chosen = rng.integers(0, labels, rows), rng.integers(0, labels, rows)
    eye = np.eye(labels, dtype=bool)
    scores = SINGLE_LABEL.evaluate(eye[true], eye[chosen])
    assert set(scores) == {"accuracy", "macro_f1"}
    assert scores["accuracy"] == pytest.approx(sk.accuracy_score(true, chosen))
    reference = sk.f1_score(true, chosen, average="macro", labels=np.unique(true), zero_division=0.0)
    assert scores["macro_f1"] == pytest.approx(reference)


def test_saying_nothing_is_wrong() -> None:
    """An artist that was never seen is given no label, which is no hit for one label a clip."""
    truth, nothing = np.eye(3, dtype=bool), np.zeros((3, 3), dtype=bool)
    assert metrics.exact(truth, nothing) == 0.0
    assert metrics.micro_f1(truth, nothing) == 0.0
