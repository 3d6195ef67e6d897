"""Baselines: what classifiers read, and that no label outside of training is among it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stages.head import baselines
from stages.head.collection import Collection
from stages.head.settings import Settings
from tests.head.conftest import make_collection


@pytest.mark.parametrize("inductive", [False, True])
def test_neighbours_are_the_artists_other_clips(inductive: bool) -> None:
    data = make_collection(songs=60, artists=8)
    split = data.split("random", 0)
    assert data.x is not None
    _, rows = baselines.features(data, split, "neighbours", 0, inductive)
    own, mean, deviation = np.split(rows[:, :-1], 3, axis=1)
    train, _ = baselines.features(data, split, "song", 0)
    np.testing.assert_allclose(train, own[split == 0])
    for clip in range(len(data)):
        others = (data.artist == data.artist[clip]) & (data.artist >= 0) & (np.arange(len(data)) != clip)
        others &= (split == 0) | (not inductive)
        assert rows[clip, -1] == pytest.approx(np.log1p(others.sum()))
        if others.any():
            np.testing.assert_allclose(mean[clip], own[others].mean(axis=0), atol=1e-6)
            np.testing.assert_allclose(deviation[clip], own[others].std(axis=0), atol=1e-5)


def test_labels_are_those_of_other_training_songs_and_half_of_the_artists_are_hidden() -> None:
    data = make_collection(songs=200)
    split = data.split("random", 0)
    train, rows = baselines.features(data, split, "labels", 0)
    songs = np.expm1(rows[:, -1])
    for clip in range(len(data)):
        others = (data.artist == data.artist[clip]) & (data.artist >= 0) & (split == 0)
        assert songs[clip] == pytest.approx(len(np.unique(data.song[others & (data.song != data.song[clip])])))
    known = songs[split == 0] > 0
    hidden = np.expm1(train[:, -1])[known] == 0
    assert 0.2 < hidden.mean() < 0.8
    artist = data.artist[split == 0][known]
    assert all(len(set(hidden[artist == one])) == 1 for one in set(artist))
    other = data.labels.copy()
    other[split != 0] = ~other[split != 0]
    for one, two in zip(
        (train, rows), baselines.features(replace(data, labels=other), split, "labels", 0), strict=True
    ):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("multi", [True, False])
@pytest.mark.parametrize("classifier", list(baselines.CLASSIFIERS))
def test_each_is_better_than_nothing(classifier: str, multi: bool) -> None:
    data: Collection = make_collection(songs=200, multi=multi)
    split = data.split("random", 0)
    head = baselines.ALL[f"{classifier}-labels"]
    epochs: list[int] = []
    fitted = head.fit(data, split, head.Config(), Settings(epochs=50), 0, epochs.append)
    assert sum(epochs) == 50
    assert fitted.tuned[head.CLASSIFIER.setting] in head.CLASSIFIER.values
    main, test = data.task.main, split == 2
    nothing = data.task.baseline(data.labels[split == 0], int(test.sum()))
    least = main.measure(data.labels[test], nothing.decision)
    assert main.measure(data.labels[test], fitted.prediction.decision[test]) > least + 0.1


def test_no_test_label_changes_a_prediction() -> None:
    data = make_collection(songs=120)
    split = data.split("random", 0)
    other = data.labels.copy()
    other[split == 2] = ~other[split == 2]
    head = baselines.ALL["logistic-labels"]
    one, two = (
        head.fit(replace(data, labels=labels), split, head.Config(), Settings(), 0) for labels in (data.labels, other)
    )
    np.testing.assert_array_equal(one.prediction.score, two.prediction.score)


@pytest.mark.parametrize("classifier", list(baselines.CLASSIFIERS))
def test_a_label_of_a_single_training_clip_is_no_error(classifier: str) -> None:
    data = make_collection(songs=120, clips=1)
    split = data.split("random", 0)
    labels = data.labels.copy()
    labels[:, 0] = np.arange(len(data)) == np.flatnonzero(split == 0)[0]
    head = baselines.ALL[f"{classifier}-song"]
    score = head.fit(replace(data, labels=labels), split, head.Config(), Settings(), 0).prediction.score
    assert score.shape == data.labels.shape
    assert ((score >= 0) & (score <= 1)).all()


def test_a_linear_model_does_not_see_that_wide_features_were_rotated_or_clips_are_few() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 90))
    truth = rows[:40, 0] > 0
    few = baselines.rotated(rows[:40], rows)
    assert few[1].shape == (60, 40)
    for classifier in baselines.CLASSIFIERS.values():
        if classifier.linear:
            primal, *others = [
                classifier.make(0.1).set_params(**more).fit(train, truth).decision_function(matrix)
                for train, matrix in ((rows[:40], rows), few)
                for more in ({}, classifier.of_few)
            ]
            for margin in others:
                np.testing.assert_allclose(margin, primal, atol=1e-2)


def test_trees_read_leading_components_of_what_is_wide() -> None:
    data = make_collection(songs=60, artists=8)
    split = data.split("random", 0)
    assert data.x is not None
    train, rows = baselines.features(data, split, "neighbours", 0, leading=3)
    assert rows.shape == (len(data), 3 * 3 + 1)
    again, _ = baselines.features(data, split, "neighbours", 0, leading=3)
    np.testing.assert_array_equal(train, again)
