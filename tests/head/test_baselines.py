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
def test_each_is_a_row_better_than_nothing(multi: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "INPUTS", ("labels",))
    data: Collection = make_collection(songs=200, multi=multi)
    split = data.split("random", 0)
    rows = list(baselines.baselines(data, "random", [(0, split)], Settings(), [data.overlap(split)]))
    assert [str(row.mode) for row in rows] == ["logistic (labels)", "boosting (labels)", "svm (labels)"]
    main = data.task.main
    nothing = data.task.baseline(data.labels[split == 0], int((split == 2).sum()))
    least = main.measure(data.labels[split == 2], nothing.chosen)
    assert all(row.scores[0][main.name] > least + 0.1 for row in rows)
    assert all(row.transductive for row in rows)


def test_a_label_of_a_single_training_clip_is_no_error() -> None:
    data = make_collection(songs=120, clips=1)
    split = data.split("random", 0)
    labels = data.labels.copy()
    labels[:, 0] = np.arange(len(data)) == np.flatnonzero(split == 0)[0]
    data = replace(data, labels=labels)
    for name in baselines.CLASSIFIERS:
        score = baselines._scores(
            data, split, baselines.CLASSIFIERS[name], 0.1, *baselines.features(data, split, "song", 0)
        )
        assert score.shape == data.labels.shape
        assert ((score >= 0) & (score <= 1)).all()
