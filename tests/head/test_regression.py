"""Numbers instead of labels: what heads learn of them, how they are scored, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from stages.head.checks import trainable
from stages.head.collection import Collection
from stages.head.fit import fit
from stages.head.heads.artist import Artist
from stages.head.heads.correct_and_smooth import correct
from stages.head.heads.label_propagation import LabelPropagation
from stages.head.heads.linear import Linear
from stages.head.heads.song import Song
from stages.head.options import resolve
from stages.head.scores import metrics
from stages.head.scores.bootstrap import bootstrap, bootstrap_of
from stages.head.scores.task import REGRESSION, task_judged_by
from stages.head.testing import make_collection
from stages.head.training.losses import crowd_out
from store.errors import RequestError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dataset() -> Collection:
    return make_collection(songs=150, artists=20, number=True)


def numbers_of(dataset: Collection) -> np.ndarray:
    assert dataset.numbers is not None
    return dataset.numbers


pairs = arrays(np.float64, (12, 2), elements=st.floats(-50, 50).map(lambda value: round(value, 1)))


@given(pairs)
def test_metrics_are_those_of_scikit_learn_and_scipy(values: np.ndarray) -> None:
    truth, estimate = values[:, :1], values[:, 1:]
    scores = REGRESSION.evaluate(truth, estimate)
    assert scores["rmse"] == pytest.approx(root_mean_squared_error(truth, estimate))
    assert scores["mae"] == pytest.approx(mean_absolute_error(truth, estimate))
    if np.ptp(truth) == 0 or np.ptp(estimate) == 0:
        assert math.isnan(scores["spearman"])
    else:
        assert scores["spearman"] == pytest.approx(spearmanr(truth, estimate).statistic, abs=1e-9)
    if np.ptp(truth) > 0:
        assert scores["r2"] == pytest.approx(r2_score(truth, estimate))
        totals = REGRESSION.totals(REGRESSION.tally(truth, estimate).sum(axis=0))
        assert {name: float(value) for name, value in totals.items()} == pytest.approx(
            {name: scores[name] for name in totals}
        )
    else:
        assert math.isnan(scores["r2"])
    assert task_judged_by(scores) == REGRESSION


def test_a_resampled_rank_correlation_is_that_of_the_clips_repeated() -> None:
    rng = np.random.default_rng(0)
    truth, estimate = rng.integers(0, 6, (2, 30, 1)).astype(np.float64)
    times = rng.integers(0, 3, (5, 30)).astype(np.float64)
    for value, counts in zip(metrics.resampled_spearman(truth, estimate, times), times.astype(int), strict=True):
        repeated = [np.repeat(side[:, 0], counts) for side in (truth, estimate)]
        assert value == pytest.approx(spearmanr(*repeated).statistic)


def test_every_metric_is_resampled_by_the_same_artists() -> None:
    rng = np.random.default_rng(0)
    truth, estimate = rng.standard_normal((2, 60, 1))
    artist = np.arange(60) // 3
    sums = REGRESSION.tally(truth, estimate)[None]
    mae = bootstrap(REGRESSION, sums, artist, metric=metrics.MAE)
    measured = replace(
        metrics.MAE,
        resample=lambda truth, of, times: (times * np.abs(truth - of)[:, 0]).sum(axis=1) / times.sum(axis=1),
    )
    again = bootstrap_of(measured, truth, [estimate], artist)
    assert mae is not None
    assert again is not None
    np.testing.assert_allclose(mae, again)


@pytest.mark.parametrize("scale", ["deviation", "range"])
def test_scores_are_in_the_own_unit_of_a_scaled_target(scale: str) -> None:
    truth = np.array([[10.0], [30.0], [50.0]])
    task = REGRESSION.fitted(truth, scale)
    learned = task.target(torch.from_numpy(truth))
    ends = [-0.5, 0.0, 0.5] if scale == "range" else [-math.sqrt(1.5), 0.0, math.sqrt(1.5)]
    assert learned.flatten().tolist() == pytest.approx(ends)
    np.testing.assert_allclose(task.activate(learned), truth)
    assert REGRESSION.fitted(np.full((3, 1), 7.0), scale).activate(torch.zeros(1, 1)).item() == 7.0


def test_linear_is_ridge_regression(dataset: Collection) -> None:
    split = dataset.split("random", 0)
    settings, configs = resolve([Linear], {"l2": "0.1"})
    (fitted,) = fit(Linear, dataset, split, configs[Linear], settings, 0, CPU)
    assert dataset.x is not None
    train, numbers = split == 0, numbers_of(dataset)
    x = dataset.x.numpy().astype(np.float64)
    x = (x - x[train].mean(axis=0)) / x[train].std(axis=0)
    origin, unit = numbers[train].mean(), numbers[train].std()
    ridge = Ridge(alpha=0.1 * train.sum() / 2).fit(x[train], (numbers[train] - origin) / unit)
    np.testing.assert_allclose(fitted.prediction.score[:, 0], origin + unit * ridge.predict(x), rtol=1e-3)


def test_the_artist_is_the_mean_of_its_training_songs(dataset: Collection) -> None:
    split = dataset.split("random", 0)
    settings, configs = resolve([Artist], {})
    (fitted,) = fit(Artist, dataset, split, configs[Artist], settings, 0, CPU)
    assert fitted.rule is None
    numbers, train = numbers_of(dataset), split == 0
    for artist in range(-1, 20):
        clips = dataset.artist == artist
        known = train & clips if artist >= 0 else np.zeros_like(train)
        _, first = np.unique(dataset.song[known], return_index=True)
        mean = numbers[known][first].mean() if known.any() else numbers[train].mean()
        np.testing.assert_allclose(fitted.prediction.score[clips, 0], mean, rtol=1e-5)


def test_numbers_spread_over_an_artist_to_the_mean_of_its_training_clips(dataset: Collection) -> None:
    split = dataset.split("random", 0)
    settings, configs = resolve([LabelPropagation], {})
    (fitted,) = fit(LabelPropagation, dataset, split, configs[LabelPropagation], settings, 0, CPU)
    numbers, train = numbers_of(dataset), split == 0
    for clip in np.flatnonzero((split == 2) & (dataset.artist >= 0)):
        known = train & (dataset.artist == dataset.artist[clip])
        mean = numbers[known].mean() if known.any() else numbers[train].mean()
        assert fitted.prediction.score[clip, 0] == pytest.approx(mean, rel=1e-5)


def test_a_correction_is_the_mean_error_of_the_artist(dataset: Collection) -> None:
    split = dataset.split("random", 0)
    truth, train = torch.from_numpy(dataset.truth), torch.from_numpy(split == 0)
    score = torch.zeros_like(truth)
    corrected = correct(dataset.graph, score, truth, train, torch.tensor(1.0), 0.9)
    clip = int(np.flatnonzero((split == 2) & (dataset.artist == 0))[0])
    known = (split == 0) & (dataset.artist == 0)
    assert float(corrected[clip]) == pytest.approx(numbers_of(dataset)[known].mean())


def test_no_label_is_seen_where_a_number_is_asked_for(dataset: Collection) -> None:
    masked = dataset.masked(dataset.split("random", 0))
    assert not masked.labels.any()
    assert "number" not in masked.targets


def test_a_mark_knows_the_target_and_its_numbers(dataset: Collection) -> None:
    marks = {
        dataset.mark(),
        replace(dataset, numbers=numbers_of(dataset) + 1).mark(),
        replace(dataset, target="other").mark(),
    }
    assert len({*marks, replace(dataset, target=None, numbers=None).mark()}) == 4


@given(arrays(np.float32, st.integers(1, 60), elements=st.floats(0, 100, width=32)), st.floats(0.1, 2))
def test_crowded_stretches_are_thinned_out(numbers: np.ndarray, most: float) -> None:
    streams = torch.arange(len(numbers)).flip(0)
    rest = crowd_out(torch.from_numpy(numbers), streams, most)
    assert torch.equal(rest, rest.unique())
    place = np.minimum((numbers - numbers.min()) / max(float(np.ptp(numbers)), 1e-30) * 20, 19).astype(int)
    before, after = (np.bincount(place[some], minlength=20) for some in (slice(None), rest.numpy()))
    limit = max(1, round(most * len(numbers) / int((before > 0).sum())))
    np.testing.assert_array_equal(after, np.minimum(before, limit))


def test_under_sampling_is_a_setting_of_the_training(dataset: Collection) -> None:
    split = dataset.split("random", 0)
    scores = []
    for changes in ({"epochs": "2"}, {"epochs": "2", "undersample": "0.5"}):
        settings, configs = resolve([Song], changes)
        (fitted,) = fit(Song, dataset, split, configs[Song], settings, 0, CPU)
        scores.append(fitted.prediction.score)
    assert not np.array_equal(*scores)


@pytest.mark.parametrize(
    ("changes", "numbers", "message"),
    [
        ({}, "constant", "is 7 for every clip"),
        ({}, "feature", "number 3 of .* is number itself"),
        ({}, "label", "is each clip's label"),
        ({"loss": "focal"}, "", "loss is for labels"),
        ({"class_weights": "balanced"}, "", "class_weights is for labels"),
        ({"threshold": "tuned"}, "", "no threshold to tune"),
    ],
)
def test_what_cannot_be_learnt_is_refused(changes: dict[str, str], numbers: str, message: str) -> None:
    dataset = make_collection(songs=60, artists=8, multi=False, number=True)
    assert dataset.x is not None
    place = dataset.labels.argmax(axis=1)
    others = {
        "constant": np.full(len(dataset), 7.0),
        "feature": dataset.x[:, 3].double().numpy(),
        "label": place.astype(np.float64),
        "": numbers_of(dataset),
    }
    names = tuple(map(str, range(5)))
    with pytest.raises(RequestError, match=message):
        trainable(replace(dataset, numbers=others[numbers], label_names=names), {Song: Song.Config()}, changes)


def test_a_setting_of_numbers_is_refused_for_labels() -> None:
    with pytest.raises(RequestError, match="undersample is for numbers"):
        trainable(make_collection(songs=60, artists=8), {Song: Song.Config()}, {"undersample": "1"})
