"""Thresholds against a search over all of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.head.scores import metrics
from stages.head.scores.thresholds import above, best, expectation, find, of_clips, of_strangers

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


def test_calibrated_scores_expect_a_threshold_of_their_own() -> None:
    """That of the best expected F1 by itself; the truth of ever more artists outweighs it."""
    score = np.array([[0.9, 0.6, 0.4, 0.1]], dtype=np.float32)
    truth = np.array([[True, False, False, False]])
    assert find("tuned", truth, score)[0] == pytest.approx(0.75)
    # Expected F1 of one to four chosen: 1.8 / 3, 3 / 4, 3.8 / 5, 4 / 6.
    assert find("tuned", truth, score, 1.0)[0] == pytest.approx(0.25)
    assert find("tuned", truth, score, 1e-3)[0] == find("tuned", truth, score)[0]
    assert find("fixed", truth, score, 1.0)[0] == 0.5
    assert expectation(0) == 1
    assert expectation(50) == 0.5
    assert expectation(10**6) < 1e-4


def test_the_threshold_of_few_artists_is_less_of_chance_with_what_scores_expect() -> None:
    """Made-up scores that are probabilities: the F1 on other clips by the thresholds of 30 clips, 300 times."""
    rng = np.random.default_rng(0)

    def clips(count: int) -> tuple[np.ndarray, np.ndarray]:
        score = rng.beta(0.5, 2.0, (count, 8)).astype(np.float32)
        return rng.random(score.shape) < score, score

    truth, score = clips(20_000)
    reached: dict[float, list[float]] = {0.0: [], expectation(30): []}
    for _ in range(300):
        few = clips(30)
        for share, values in reached.items():
            values.append(metrics.micro_f1(truth, above(score, find("tuned", *few, share))))
    plain, mixed = (np.array(values) for values in reached.values())
    assert mixed.mean() > plain.mean()
    assert mixed.min() > plain.min()


def _known_and_strangers(rng: np.random.Generator, strangers: int, share: float) -> tuple[np.ndarray, ...]:
    """200 clips of 100 artists: of those that are known the scores are sure, those of strangers seldom above 0.5."""
    is_stranger = np.arange(200) < strangers
    truth = rng.random((200, 6)) < 0.3
    sure = np.where(truth, 0.9, 0.05)
    unsure = np.clip(0.15 + share * truth + 0.05 * rng.standard_normal(truth.shape), 0, 1)
    score = np.where(is_stranger[:, None], unsure, sure).astype(np.float32)
    return truth, score, is_stranger, np.arange(200) // 2


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 200), st.floats(0.0, 0.3))
def test_what_strangers_are_given_costs_all_clips_half_a_point_at_most(seed: int, strangers: int, share: float) -> None:
    truth, score, is_stranger, artist = _known_and_strangers(np.random.default_rng(seed), strangers, share)
    threshold = find("tuned", truth, score)
    limit = of_strangers(truth, score, threshold[0], is_stranger, artist)
    assert limit <= threshold[0]
    each = of_clips(threshold, is_stranger, limit)
    np.testing.assert_array_equal(each[:, 0], np.where(is_stranger, limit, threshold[0]))
    cost = metrics.micro_f1(truth, above(score, threshold)) - metrics.micro_f1(truth, above(score, each))
    assert cost <= 0.005


def test_strangers_whose_scores_say_something_are_given_labels() -> None:
    truth, score, is_stranger, artist = _known_and_strangers(np.random.default_rng(0), 20, 0.2)
    limit = of_strangers(truth, score, 0.5, is_stranger, artist)
    assert 0.15 < limit < 0.35
    assert metrics.micro_f1(truth[is_stranger], score[is_stranger] > limit) > 0.8
    # Where the scores say nothing, or nobody is a stranger, or all are, it gives no more labels than the one of all.
    nothing = np.where(is_stranger[:, None], np.float32(0.2), score)
    many = np.arange(200) < 60
    costly = np.where(many[:, None], np.float32(0.2), score)
    assert not (costly[many] > of_strangers(truth, costly, 0.5, many, artist)).any()
    assert of_strangers(truth, nothing, 0.5, np.zeros(200, dtype=bool), artist) == 0.5
    assert of_strangers(truth & ~is_stranger[:, None], score, 0.5, is_stranger, artist) == 0.5
    threshold = find("tuned", truth, score)[0]
    assert of_strangers(truth, score, threshold, np.ones(200, dtype=bool), artist) == threshold
