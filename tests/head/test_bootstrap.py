"""Intervals, tests and buckets by hand and against plain resampling."""

from __future__ import annotations

import numpy as np
import pytest

from stages.head.scores import bootstrap as analysis
from stages.head.scores.bootstrap import Scored
from stages.head.scores.task import MULTI_LABEL, SINGLE_LABEL, TASKS, Task


def drawn(task: Task, clips: int = 300, seed: int = 0, right: float = 0.7) -> Scored:
    rng = np.random.default_rng(seed)
    if task == MULTI_LABEL:
        truth = rng.random((clips, 4)) < 0.4
        chosen = np.where(rng.random(truth.shape) < right, truth, ~truth)
    else:
        true = rng.integers(0, 4, clips)
        said = np.where(rng.random(clips) < right, true, rng.integers(0, 4, clips))
        truth, chosen = np.eye(4, dtype=bool)[true], np.eye(4, dtype=bool)[said]
    return Scored(truth, chosen, np.random.default_rng(1).integers(-1, 30, clips), task)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_score_is_the_main_metric(task: Task) -> None:
    run = drawn(task)
    assert run.score() == pytest.approx(task.main.measure(run.truth, run.chosen))


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_bootstrap_is_that_of_artists(task: Task) -> None:
    """Mean and deviation of the matrix product equal those of resampling artists one by one."""
    run = drawn(task)
    found = analysis.bootstrap([run], resamples=1000)[0]
    rng = np.random.default_rng(5)
    groups = [np.flatnonzero(run.artist == a) for a in range(30)]
    groups += [np.array([clip]) for clip in np.flatnonzero(run.artist < 0)]
    slow = []
    for _ in range(1000):
        clips = np.concatenate([groups[i] for i in rng.integers(0, len(groups), len(groups))])
        slow.append(task.main.measure(run.truth[clips], run.chosen[clips]))
    assert found.mean() == pytest.approx(np.mean(slow), abs=0.01)
    assert found.std() == pytest.approx(np.std(slow), rel=0.15)
    low, high = analysis.interval(found)
    assert low < run.score() < high


def test_paired_tests_see_what_is_there_and_nothing_else() -> None:
    better, worse = drawn(SINGLE_LABEL, right=0.9), drawn(SINGLE_LABEL, right=0.5)
    same = Scored(worse.truth, worse.chosen, worse.artist, SINGLE_LABEL)
    rows = analysis.bootstrap([better, worse, same])
    assert analysis.p_value(rows[0] - rows[1]) < 0.01
    assert analysis.p_value(rows[1] - rows[2]) == 1.0


def test_buckets_and_counts_by_hand() -> None:
    artist = np.array([0, 0, 1, -1, 0])
    targets = np.array([[1, 0], [0, 1], [1, 0], [1, 1], [1, 0]], dtype=bool)
    song = np.array([0, 1, 2, 3, 1])
    assert analysis.genres_of_artist(artist, targets).tolist() == [2, 2, 1, 0, 2]
    assert analysis.songs_of_artist(artist, song).tolist() == [2, 2, 1, 0, 2]
    run = Scored(np.eye(2, dtype=bool)[[0, 1, 1]], np.eye(2, dtype=bool)[[0, 1, 0]], np.arange(3), SINGLE_LABEL)
    found = analysis.by_bucket([run], np.array([1, 1, 9]), analysis.GENRES)
    assert {name: (len(part.truth), part.score()) for name, ((part,), _) in found.items()} == {
        "1": (2, 1),
        "9+": (1, 0),
    }
    assert found["1"][1] is not None
    assert found["9+"][1] is None  # one artist alone
    assert analysis.confusion(run).tolist() == [[1, 0, 0], [1, 1, 0]]
