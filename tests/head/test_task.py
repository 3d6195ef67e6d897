"""Tasks: what belongs together in each of them, and which one a collection or a stored run has."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.head.scores import metrics
from stages.head.scores.task import METRICS, MULTI_LABEL, SINGLE_LABEL, TASKS, Task, task_judged_by, task_of
from tests.head.conftest import make_collection

OF_LABELS = {name: task for name, task in TASKS.items() if task.CHOOSES}  # numbers: test_regression.py
EVERY_TASK = pytest.mark.parametrize("task", OF_LABELS.values(), ids=OF_LABELS)


def truth_of(task: Task) -> np.ndarray:
    """[40, 3] labels as the task has them."""
    rng = np.random.default_rng(0)
    return rng.random((40, 3)) < 0.4 if task == MULTI_LABEL else np.eye(3, dtype=bool)[rng.integers(0, 3, 40)]


@EVERY_TASK
def test_the_task_of_a_collection(task: Task) -> None:
    assert task_of(truth_of(task)) == task
    data = make_collection(multi=task == MULTI_LABEL)
    assert data.task == task
    split = data.split("random", 0)
    hidden = data.masked(np.full_like(split, 2))  # no label is left to tell it by
    assert not hidden.labels.any()
    assert hidden.task == task


@EVERY_TASK
def test_metrics_tell_which_task_they_judge(task: Task) -> None:
    truth = truth_of(task)
    assert task_judged_by(task.evaluate(truth, truth)) == task


@EVERY_TASK
def test_activation_inverts_the_link_up_to_a_shift(task: Task) -> None:
    score = torch.tensor([[0.2, 0.3, 0.5]])
    torch.testing.assert_close(task.activate(task.link(score)), score)


@EVERY_TASK
def test_the_loss_is_lowest_for_outputs_that_decide_on_the_truth(task: Task) -> None:
    truth = torch.from_numpy(truth_of(task))
    right, wrong = (20.0 * (truth.float() - 0.5) * sign for sign in (1, -1))
    target = task.target(truth)
    assert float(task.loss(right, target)) < 1e-3 < float(task.loss(wrong, target))
    assert float(task.loss(wrong, target, reduction="none").mean()) == pytest.approx(float(task.loss(wrong, target)))
    decided = task.decide(task.activate(right).numpy())
    assert (decided.decision == truth.numpy()).all()
    assert task.main.measure(truth.numpy(), decided.decision) == 1.0


@EVERY_TASK
def test_a_training_clip_weighs_one_on_average(task: Task) -> None:
    truth = torch.from_numpy(truth_of(task))
    weights = task.weigh(task.balance(truth), task.target(truth))
    assert float(weights.mean()) == pytest.approx(1, abs=1e-5)


def test_thresholds_decide_where_labels_do_not_exclude_each_other() -> None:
    truth, score = np.array([[True, False]]), np.array([[0.4, 0.3]], dtype=np.float32)
    cut = MULTI_LABEL.thresholds("per-label", truth, score)
    assert cut is not None
    assert MULTI_LABEL.decide(score).decision.tolist() == [[False, False]]
    assert MULTI_LABEL.decide(score, cut).decision.tolist() == [[True, False]]
    assert SINGLE_LABEL.thresholds("tuned", truth, score) is None
    assert SINGLE_LABEL.decide(score).decision.tolist() == [[True, False]]
    with pytest.raises(ValueError, match="no threshold"):
        SINGLE_LABEL.decide(score, np.array([0.5, 0.5]))


@EVERY_TASK
def test_the_baseline_is_one_answer_for_every_clip(task: Task) -> None:
    truth = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0]], dtype=bool)
    baseline = task.baseline(truth, 2)
    assert baseline.decision.tolist() == [[False, True, False]] * 2
    np.testing.assert_allclose(baseline.score, [task.prior(truth)] * 2, rtol=1e-6)


def test_how_a_score_is_printed() -> None:
    metric = metrics.MICRO_F1
    assert (metric.text(0.1234), metric.text(None), metric.text(math.nan)) == ("12.3", "-", "-")
    assert (metric.text(0.1234, "+"), metric.text(-0.1234, "+")) == ("+12.3", "-12.3")
    assert (metric.mean_text([0.5]), metric.mean_text([0.5, 0.7]), metric.mean_text([math.nan, 0.1])) == (
        "50.0",
        "60.0±10.0",
        "-",
    )


def test_metrics_of_one_name_are_one_metric() -> None:
    assert all(METRICS[metric.name] is metric for task in TASKS.values() for metric in task.METRICS)


@given(st.floats(0, 1))
def test_a_printed_score_reads_back(value: float) -> None:
    assert float(metrics.ACCURACY.text(value)) / 100 == pytest.approx(value, abs=0.0005 + 1e-9)
