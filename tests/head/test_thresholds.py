"""Thresholds against a search over all of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.head.scores import metrics
from stages.head.scores.thresholds import above, best, find

decisions = st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=1, max_size=30)


def test_best_by_hand() -> None:
    # Chosen from the highest on: F1 is 2/4, 2/5 ... at 0.9; 0.7 catches the second of three; 0.2 all of them.
    truth = np.array([True, False, True, False, True])
    score = np.array([0.9, 0.8, 0.7, 0.3, 0.2])
    assert best(truth, score) == pytest.approx(0.1)  # 6/8 against 4/6 at 0.5
    assert best(truth[:4], score[:4]) == pytest.approx(0.5)  # 4/5


@settings(max_examples=60)
@given(decisions)
def test_no_threshold_is_better(cases: list[tuple[bool, int]]) -> None:
    truth = np.array([[true] for true, _ in cases])
    score = np.array([[place / 8] for _, place in cases], dtype=np.float32)
    threshold = best(truth[:, 0], score[:, 0])
    reached = metrics.micro_f1(truth, above(score, np.array([threshold])))
    tried = [metrics.micro_f1(truth, score > t) for t in np.arange(0, 17) / 16]
    assert reached == pytest.approx(max(tried))
    assert 0 <= threshold <= 1


def test_each_variant_is_best_in_its_metric() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((300, 6)) < np.array([0.5, 0.3, 0.2, 0.1, 0.05, 0.0])
    score = np.clip(0.25 + 0.3 * truth + 0.2 * rng.standard_normal(truth.shape), 0, 1).astype(np.float32)
    fixed, tuned, each = (find(how, truth, score) for how in ("fixed", "tuned", "per-label"))
    assert (fixed == 0.5).all()
    assert len(set(tuned.tolist())) == 1
    assert each[-1] == tuned[0]  # nobody carries it
    few = truth & (np.cumsum(truth, axis=0) < 10)
    np.testing.assert_array_equal(find("per-label", few, score), find("tuned", few, score))
    micro = {how: metrics.micro_f1(truth, above(score, t)) for how, t in (("fixed", fixed), ("tuned", tuned))}
    macro = {how: metrics.macro_f1(truth, above(score, t)) for how, t in (("tuned", tuned), ("each", each))}
    assert micro["tuned"] > micro["fixed"]
    assert macro["each"] > macro["tuned"]


def test_scores_that_say_nothing() -> None:
    truth = np.array([True, False])
    assert best(truth, np.zeros(2)) == 0.5
    assert best(~truth & truth, np.ones(2)) == 0.5
    assert best(truth, np.full(2, 0.25)) == pytest.approx(0.125)  # both or none


def test_neighbouring_floats_are_told_apart() -> None:
    low = np.float32(0.1)
    score = np.array([[low], [np.nextafter(low, np.float32(1))]], dtype=np.float32)
    threshold = find("tuned", np.array([[False], [True]]), score)
    assert above(score, threshold).tolist() == [[False], [True]]
