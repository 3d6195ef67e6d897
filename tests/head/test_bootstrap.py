"""Intervals and paired tests against plain resampling; buckets and confusions by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.head.scores import buckets
from stages.head.scores.bootstrap import best_beyond_noise, bootstrap, interval, p_value
from stages.head.scores.metrics import confusion
from stages.head.scores.task import MULTI_LABEL, REGRESSION, SINGLE_LABEL, TASKS, Task

Truth = NDArray[Any]
ARTIST = np.random.default_rng(1).integers(-1, 30, 300)
EVERY_TASK = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def draw(task: Task, right: float = 0.7) -> tuple[Truth, Truth]:
    """Truth and decisions [300, 4] that agree as often as ``right`` says, and by chance; or numbers [300, 1]."""
    rng = np.random.default_rng(0)
    if task == REGRESSION:
        number, noise = 50 + 10 * rng.standard_normal((2, 300, 1))
        return number, right * number + (1 - right) * noise
    if task == MULTI_LABEL:
        truth = rng.random((300, 4)) < 0.4
        return truth, np.where(rng.random(truth.shape) < right, truth, ~truth)
    true = rng.integers(0, 4, 300)
    chosen = np.where(rng.random(300) < right, true, rng.integers(0, 4, 300))
    return np.eye(4, dtype=bool)[true], np.eye(4, dtype=bool)[chosen]


def resample(task: Task, *runs: tuple[Truth, Truth]) -> NDArray[np.float64]:
    rows = bootstrap(task, np.stack([task.tally(*run) for run in runs]), ARTIST, resamples=1000)
    assert rows is not None
    return rows


@EVERY_TASK
def test_sums_over_clips_give_the_main_metric(task: Task) -> None:
    truth, chosen = draw(task)
    sums = task.tally(truth, chosen)
    for clips in (slice(None), slice(7), slice(150, 300)):
        assert task.total(sums[clips].sum(axis=0)) == pytest.approx(task.main.measure(truth[clips], chosen[clips]))


@EVERY_TASK
def test_the_bootstrap_is_that_of_artists(task: Task) -> None:
    """Mean and deviation of the matrix product equal those of resampling artists one by one."""
    truth, chosen = draw(task)
    (scores,) = resample(task, (truth, chosen))
    rng = np.random.default_rng(5)
    groups = [np.flatnonzero(artist == ARTIST) for artist in range(30)]
    groups += [np.array([clip]) for clip in np.flatnonzero(ARTIST < 0)]
    slow = []
    for _ in range(1000):
        clips = np.concatenate([groups[i] for i in rng.integers(0, len(groups), len(groups))])
        slow.append(task.main.measure(truth[clips], chosen[clips]))
    assert scores.mean() == pytest.approx(np.mean(slow), abs=0.01)
    assert scores.std() == pytest.approx(np.std(slow), rel=0.15)
    low, high = interval(scores)
    assert low < task.main.measure(truth, chosen) < high


def test_paired_tests_see_what_is_there_and_nothing_else() -> None:
    better, worse = draw(SINGLE_LABEL, right=0.9), draw(SINGLE_LABEL, right=0.5)
    rows = resample(SINGLE_LABEL, better, worse, worse)
    assert p_value(rows[0] - rows[1]) < 0.01
    assert p_value(rows[1] - rows[2]) == 1.0


@EVERY_TASK
def test_the_best_is_named_where_it_leads_beyond_noise(task: Task) -> None:
    runs = [draw(task, 0.5), draw(task, 0.9), draw(task, 0.7)]
    rows = resample(task, *runs)
    scores = np.array([task.main.measure(*run) for run in runs])
    assert best_beyond_noise(scores, rows) == 1
    assert best_beyond_noise(scores[[0, 1, 1]], rows[[0, 1, 1]]) is None  # two that decide alike
    assert best_beyond_noise(scores[:1], rows[:1]) is None
    assert best_beyond_noise(scores, None) is None


def test_one_artist_tells_nothing_of_others() -> None:
    sums = np.ones((1, 3, 3))
    assert bootstrap(SINGLE_LABEL, sums, np.zeros(3, dtype=np.int64)) is None
    assert bootstrap(SINGLE_LABEL, sums, np.array([0, 0, -1])) is not None  # an unknown artist is another one


def test_buckets_and_counts_by_hand() -> None:
    artist = np.array([0, 0, 1, -1, 0])
    truth = np.array([[1, 0], [0, 1], [1, 0], [1, 1], [1, 0]], dtype=bool)
    song = np.array([0, 1, 2, 3, 1])
    assert buckets.genres_of_artist(artist, truth).tolist() == [2, 2, 1, 0, 2]
    assert buckets.songs_of_artist(artist, song).tolist() == [2, 2, 1, 0, 2]
    inside = buckets.split(np.array([1, 1, 9, 0]), buckets.GENRES)
    assert {name: clips.tolist() for name, clips in inside.items() if clips.any()} == {
        "1": [True, True, False, False],
        "9+": [False, False, True, False],
    }


@pytest.mark.parametrize("ranges", [buckets.GENRES, buckets.SONGS, buckets.NEIGHBOURS])
def test_every_count_from_the_first_on_is_in_one_bucket(ranges: Any) -> None:
    counts = np.arange(ranges[0][0], 1000)
    assert (np.stack(list(buckets.split(counts, ranges).values())).sum(axis=0) == 1).all()


def test_confusion_by_hand() -> None:
    eye = np.eye(2, dtype=bool)
    assert confusion(eye[[0, 1, 1]], eye[[0, 1, 0]]).tolist() == [[1, 0, 0], [1, 1, 0]]
    assert confusion(eye, np.zeros((2, 2), dtype=bool)).tolist() == [[0, 0, 1], [0, 0, 1]]
