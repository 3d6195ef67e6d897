"""What anyone would try first: scikit-learn's classifiers on the song, its artist's other songs, and their labels."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.head.collection import Collection
from stages.head.fit import evaluate
from stages.head.graph.cliques import CliqueGraph
from stages.head.heads.artist import artist_counts, count_songs, training_songs
from stages.head.modes import Mode
from stages.head.results import Result
from stages.head.scores.prediction import Prediction
from stages.head.settings import Settings
from stages.head.training.stretches import moments, standard
from stages.splits.regimes import Split
from store.errors import RequestError

Features = NDArray[np.float64]
_LEAVES = 15  # of a tree
_LEAST = 2  # clips of a class that can be divided


@dataclass(frozen=True)
class Classifier:
    """One of scikit-learn's.

    Attributes
    ----------
    settings : what validation chooses from.
    make : the classifier with one of the settings, for one label against the rest or for classes.
    """

    settings: Sequence[float]
    make: Callable[[float], Any]


def _logistic(penalty: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=penalty, max_iter=1000)


def _svm(penalty: float) -> Any:
    from sklearn.svm import LinearSVC

    return LinearSVC(C=penalty, dual=False, max_iter=1000)


def _boosting(rate: float) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        learning_rate=rate, max_leaf_nodes=_LEAVES, l2_regularization=1.0, early_stopping=True, random_state=0
    )


CLASSIFIERS: Mapping[str, Classifier] = {
    "logistic": Classifier((0.01, 0.1, 1.0), _logistic),
    "boosting": Classifier((0.03, 0.1), _boosting),
    "svm": Classifier((0.001, 0.01, 0.1), _svm),
}
INPUTS = ("song", "neighbours", "labels")


def baselines(
    data: Collection,
    regime: str,
    splits: Sequence[tuple[int, Split]],
    settings: Settings,
    overlap: Sequence[Any],
    *,
    inductive: bool = False,
) -> Iterator[Result]:
    """A row of the table for each classifier on each of the inputs, over the very splits of the heads.

    ``song`` is a clip's own representation; ``neighbours`` has mean, deviation and number of the artist's other clips
    beside it; ``labels`` also what share of the artist's other training songs carries each label, and how many these
    are. While training, the labels of half of the artists are hidden whole, as those of artists never met. The setting
    of each classifier is the one with the best main metric on validation.

    Parameters
    ----------
    splits : seed and part of each clip [clips], for each fold of each seed.
    overlap : what the parts of each share.
    inductive : only training clips are neighbours.

    Raises
    ------
    RequestError
        where the collection was opened for modes that read no representation.
    """
    if data.x is None and data.stored is None:
        raise RequestError("baselines read representations, and none of the modes does; name another one too: song")
    data = data.in_memory()
    for name in CLASSIFIERS:
        for inputs in INPUTS:
            rows = [_run(data, split, seed, CLASSIFIERS[name], inputs, settings, inductive) for seed, split in splits]
            yield Result(
                dataset=data.info.name,
                synthetic=data.info.synthetic,
                backbone=data.backbone,
                mode=Mode(f"{name} ({inputs})"),
                regime=regime,
                task=data.task,
                seeds=len({seed for seed, _ in splits}),
                members=1,
                threshold=settings.threshold if data.task.HAS_THRESHOLDS else None,
                neighbours=None if inputs == "song" else "train" if inductive else "all",
                remark="",
                overlap=list(overlap),
                scores=[scores for scores, _ in rows],
                seconds=[seconds for _, seconds in rows],
            )


def _run(
    data: Collection, split: Split, seed: int, classifier: Classifier, inputs: str, settings: Settings, inductive: bool
) -> tuple[dict[str, float], float]:
    """The test metrics with the best setting, and the seconds that all settings took."""
    start_s = time.perf_counter()
    train, matrix = features(data, split, inputs, seed, inductive)
    best: tuple[float, dict[str, float]] = -1.0, {}
    for setting in classifier.settings:
        score = _scores(data, split, classifier, setting, train, matrix)
        validation = split == 1
        threshold = data.task.thresholds(settings.threshold, data.labels[validation], score[validation])
        prediction: Prediction = data.task.decide(score, threshold)
        reached = data.task.main.measure(data.labels[validation], prediction.chosen[validation])
        if reached > best[0]:
            best = reached, evaluate(prediction, data, split)
    return best[1], time.perf_counter() - start_s


def features(
    data: Collection, split: Split, inputs: str, seed: int, inductive: bool = False
) -> tuple[Features, Features]:
    """What a classifier reads [train, features] in training and [clips, features] for scoring."""
    assert data.x is not None
    train = split == 0
    shift, scale = standard(moments(data.x, np.flatnonzero(train)), int(train.sum()))
    x = (data.x - shift) * scale
    parts = [x.double().numpy()]
    if inputs != "song":
        graph = CliqueGraph(torch.from_numpy(data.artist), torch.from_numpy(train) if inductive else None)
        mean, square = graph.mean(x.double()), graph.mean(x.double().square())
        deviation = (square - mean.square()).clamp(min=0).sqrt()
        parts += [mean.numpy(), deviation.numpy(), np.log1p(graph.degree.numpy())[:, None]]
    matrix = np.concatenate(parts, axis=1)
    if inputs != "labels":
        return matrix[train], matrix
    counts, songs = others_labels(data.masked(split), split)
    hidden = np.random.default_rng(seed).random(len(data.artist_ids) + 1)[data.artist] < 0.5  # the last is unknown
    mask = np.where(hidden, 0, 1)
    prior = data.task.prior(data.labels[train])
    both = []
    for factor in (mask, np.ones_like(mask)):
        known = songs * factor
        share = (counts * factor[:, None] + prior) / (known + 1)[:, None]
        both.append(np.concatenate([matrix, share, np.log1p(known)[:, None]], axis=1))
    return both[0][train], both[1]


def others_labels(data: Collection, split: Split) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each clip's artist's other training songs: how many carry each label [clips, labels], how many there are."""
    training = training_songs(data, split)
    carrying, songs = artist_counts(data, count_songs(data, split))
    has_artist = data.artist >= 0
    counts, number = np.zeros(data.labels.shape), np.zeros(len(data))
    counts[has_artist], number[has_artist] = carrying[data.artist[has_artist]], songs[data.artist[has_artist]]
    own = training.of_clip >= 0
    counts[own] -= training.truth[training.of_clip[own]]
    number[own] -= 1
    return counts, number


def _scores(
    data: Collection, split: Split, classifier: Classifier, setting: float, train: Features, matrix: Features
) -> NDArray[np.float32]:
    """[clips, labels] in [0, 1]."""
    truth = data.labels[split == 0]
    score = np.tile(data.task.prior(truth).astype(np.float32), (len(matrix), 1))
    if data.task.HAS_THRESHOLDS:
        has_both = truth.any(axis=0) & ~truth.all(axis=0)
        for label in np.flatnonzero(has_both):
            score[:, label] = _fitted(classifier, setting, train, truth[:, label], matrix)[:, -1]
    elif (truth.sum(axis=0) > 0).sum() > 1:
        classes = np.flatnonzero(truth.any(axis=0))
        score[:] = 0
        score[:, classes] = _fitted(classifier, setting, train, truth.argmax(axis=1), matrix)
    return score


def _fitted(
    classifier: Classifier, setting: float, train: Features, truth: NDArray[Any], matrix: Features
) -> NDArray[np.float64]:
    """[clips, classes] probabilities, or what a machine without them has: how far a clip lies from the border."""
    from scipy.special import expit, softmax
    from sklearn.exceptions import ConvergenceWarning

    model = classifier.make(setting)
    if "early_stopping" in model.get_params() and np.unique(truth, return_counts=True)[1].min() < _LEAST:
        model.set_params(early_stopping=False)  # it sets clips of every class aside, and one of them has a single clip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(train, truth)
    if hasattr(model, "predict_proba"):
        probability: NDArray[np.float64] = model.predict_proba(matrix)
        return probability
    margin = model.decision_function(matrix)
    return np.stack([expit(-margin), expit(margin)], axis=1) if margin.ndim == 1 else softmax(margin, axis=1)
