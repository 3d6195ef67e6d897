"""What anyone would try first: scikit-learn's classifiers on the song, its artist's other songs, and their labels.

``compare`` shows them on the same splits as the heads. Their runs hold scores and no model: what scikit-learn fits is
not kept.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

from stages import registry
from stages.head.collection import Collection
from stages.head.fit import FitResult
from stages.head.graph.cliques import CliqueGraph
from stages.head.heads import Head, Spec
from stages.head.heads.artist import artist_counts, count_songs, training_songs
from stages.head.modes import BASELINES
from stages.head.settings import Checked, NoSettings, Settings, setting
from stages.head.training.stretches import moments, standard
from stages.splits.regimes import Split

Features = NDArray[np.float64]
_LEAVES = 15  # of a tree
_LEAST = 2  # clips of a class that can be divided
_PROBED = 8  # labels, the most frequent ones, on which the rate of boosting is chosen where there are more
_LEADING = 64  # principal components that trees read in place of a representation that is wider
_RANK = 1e-6  # of the largest singular value: directions below it are rounding


@dataclass(frozen=True)
class Classifier:
    """A classifier of scikit-learn.

    Attributes
    ----------
    setting : the parameter that validation chooses.
    values : the values to choose from, the most regularised first.
    make : builds the classifier with one of the values, for one label against the rest or for classes.
    linear : whether it is linear with an L2 penalty, which no rotation of the features changes.
    of_few : by name what else is set where there are no more training clips than numbers that describe one.
    """

    setting: str
    values: Sequence[float]
    make: Callable[[float], Any]
    linear: bool
    of_few: Mapping[str, Any] = field(default_factory=dict)


def _logistic(penalty: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=penalty, max_iter=1000, warm_start=True)


def _svm(penalty: float) -> Any:
    from sklearn.svm import LinearSVC

    return LinearSVC(C=penalty, dual=False, max_iter=1000)


def _boosting(rate: float) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        learning_rate=rate, max_leaf_nodes=_LEAVES, l2_regularization=1.0, early_stopping=True, random_state=0
    )


CLASSIFIERS: Mapping[str, Classifier] = {
    "logistic": Classifier("C", (0.01, 0.1, 1.0), _logistic, linear=True),
    "boosting": Classifier("learning_rate", (0.03, 0.1), _boosting, linear=False),
    # The dual has the same minimum, and arrives there in a fraction of the time where clips are few.
    "svm": Classifier("C", (0.001, 0.01, 0.1), _svm, linear=True, of_few={"dual": True, "random_state": 0}),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class _NeighbourConfig(Checked):
    inductive: bool = setting(False)


class Baseline(Head):
    """A classifier on one of three inputs.

    ``song`` is a clip's own representation; ``neighbours`` has mean, deviation and number of the artist's other clips
    beside it; ``labels`` also what share of the artist's other training songs carries each label, and how many these
    are. In training the labels of half of the artists are hidden, so that it also learns to judge artists it never met.
    The setting of the classifier is the one with the best main metric on validation. Boosting chooses it on the eight
    most frequent labels where there are more, and reads the 64 leading principal components of a representation that is
    wider: else it would take hours.
    """

    CITATION = "Pedregosa and others, Scikit-learn: Machine Learning in Python, JMLR 12, 2011"
    CLASSIFIER: ClassVar[Classifier]
    INPUTS: ClassVar[str]

    @classmethod
    def fit(
        cls,
        data: Collection,
        split: Split,
        config: Any,
        settings: Settings,
        seed: int,
        advance: Callable[[int], None] = lambda _epochs: None,
    ) -> FitResult:
        """The prediction with the setting that is best on validation.

        Parameters
        ----------
        settings : whose threshold decides.
        advance : called with as many epochs in all as a network is trained for.
        """
        import sklearn  # noqa: F401  (limits hold for libraries that are there)

        start_s = time.perf_counter()
        data, classifier = data.in_memory(), cls.CLASSIFIER
        inductive = getattr(config, "inductive", False)
        leading = None if classifier.linear else _LEADING
        train, matrix = features(data, split, cls.INPUTS, seed, inductive, leading)
        if classifier.linear:
            train, matrix = rotated(train, matrix)
        with threadpool_limits(torch.get_num_threads()):
            value, score = _Search(data, split, classifier, settings, train, matrix, advance).best()
        validation = split == 1
        threshold = data.task.thresholds(settings.threshold, data.labels[validation], score[validation])
        prediction = data.task.decide(score, threshold)
        spec = Spec(data.dim, data.task.outputs(data.outputs), data.task, config, {})
        seconds = time.perf_counter() - start_s
        return FitResult(None, spec, prediction, threshold, seconds, [], settings, {classifier.setting: value})


def _baseline(name: str) -> type[Baseline]:
    classifier, _, inputs = name.partition("-")
    return type(
        name.title().replace("-", ""),
        (Baseline,),
        {
            "__module__": __name__,
            "NAME": name,
            "TITLE": f"scikit-learn's {classifier} on {inputs}",
            "CLASSIFIER": CLASSIFIERS[classifier],
            "INPUTS": inputs,
            "READS_NEIGHBOURS": inputs != "song",
            "Config": NoSettings if inputs == "song" else _NeighbourConfig,
        },
    )


ALL: Mapping[str, type[Baseline]] = {name: _baseline(name) for name in BASELINES}


def find(mode: str) -> type[Head]:
    """The head or baseline of a name."""
    head: type[Head] = ALL[mode] if mode in ALL else registry.find("head", mode)
    return head


def features(
    data: Collection, split: Split, inputs: str, seed: int, inductive: bool = False, leading: int | None = None
) -> tuple[Features, Features]:
    """What a classifier reads [train, features] in training and [clips, features] for scoring.

    Parameters
    ----------
    leading : the number of principal components that replace a wider representation.
    """
    assert data.x is not None
    train = split == 0
    shift, scale = standard(moments(data.x, np.flatnonzero(train)), int(train.sum()))
    x = (data.x - shift) * scale
    if leading is not None and x.shape[1] > leading:
        x = x @ _components(x[torch.from_numpy(train)], leading)
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
        visible_songs = songs * factor
        share = (counts * factor[:, None] + prior) / (visible_songs + 1)[:, None]
        both.append(np.concatenate([matrix, share, np.log1p(visible_songs)[:, None]], axis=1))
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


def _components(x: Tensor, count: int) -> Tensor:
    """[dim, count] the leading principal directions of standardised numbers [clips, dim]."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return torch.svd_lowrank(x, q=min(count, *x.shape), niter=4)[2]


def rotated(train: Features, matrix: Features) -> tuple[Features, Features]:
    """Both in a basis of the space that the training clips span, where that has fewer dimensions than features.

    A linear model with an L2 penalty lies there too, so it stays the same, to rounding.
    """
    if train.shape[1] <= len(train):
        return train, matrix
    squares, vectors = np.linalg.eigh(train @ train.T)
    in_span = squares > _RANK**2 * squares[-1]
    directions = train.T @ (vectors[:, in_span] / np.sqrt(squares[in_span]))
    return train @ directions, matrix @ directions


@dataclass
class _Search:
    """The fits of a classifier with each of its settings, and which of these is best on validation."""

    data: Collection
    split: Split
    classifier: Classifier
    settings: Settings
    train: Features
    matrix: Features
    advance: Callable[[int], None]
    fits: int = 0

    def best(self) -> tuple[float, NDArray[np.float32]]:
        """The best setting, and its scores [clips, labels] in [0, 1]."""
        task, truth, values = self.data.task, self.data.labels[self.split == 0], self.classifier.values
        prior = np.tile(task.prior(truth).astype(np.float32), (len(self.matrix), 1))
        scores = {value: prior.copy() for value in values}
        if not task.HAS_THRESHOLDS:
            classes = np.flatnonzero(truth.any(axis=0))
            if len(classes) > 1:
                for value, score in self._path(truth.argmax(axis=1), values, len(values)):
                    scores[value][:] = 0
                    scores[value][:, classes] = score
            return self._choice(scores, slice(None))
        labels = np.flatnonzero(truth.any(axis=0) & ~truth.all(axis=0))
        labels = labels[np.argsort(-truth[:, labels].sum(axis=0), kind="stable")]
        probe_labels = labels if self.classifier.linear else labels[:_PROBED]
        fits = len(probe_labels) * len(values) + len(labels) - len(probe_labels)
        for label in probe_labels.tolist():
            for value, score in self._path(truth[:, label], values, fits):
                scores[value][:, label] = score[:, -1]
        best, _ = self._choice(scores, probe_labels)
        for label in labels[len(probe_labels) :].tolist():
            for value, score in self._path(truth[:, label], [best], fits):
                scores[value][:, label] = score[:, -1]
        return best, scores[best]

    def _choice(self, scores: Mapping[float, NDArray[np.float32]], labels: Any) -> tuple[float, NDArray[np.float32]]:
        """The setting, and its scores, with the best main metric on these labels of validation clips; the first of
        equals.
        """
        validation, task = self.split == 1, self.data.task
        truth = self.data.labels[validation][:, labels]
        metrics = {}
        for value, score in scores.items():
            of_labels = score[validation][:, labels]
            threshold = task.thresholds(self.settings.threshold, truth, of_labels)
            metrics[value] = task.main.measure(truth, task.decide(of_labels, threshold).decision)
        best = max(scores, key=lambda value: (not np.isnan(metrics[value]), metrics[value]))
        return best, scores[best]

    def _path(
        self, truth: NDArray[Any], values: Sequence[float], fits: int
    ) -> Iterator[tuple[float, NDArray[np.float64]]]:
        """By value [clips, classes] probabilities, or what a machine without them has: how far a clip lies from the
        border. Where a classifier can begin at its last solution, it does.

        ``fits`` is how many there are in all.
        """
        from scipy.special import expit, softmax
        from sklearn.exceptions import ConvergenceWarning

        model = self.classifier.make(values[0])
        clips, numbers = self.train.shape
        if clips <= numbers + 1:  # centred clips span a dimension less than they are
            model.set_params(**self.classifier.of_few)
        if "early_stopping" in model.get_params() and np.unique(truth, return_counts=True)[1].min() < _LEAST:
            model.set_params(early_stopping=False)  # it sets clips of every class aside, and one of them has one clip
        for value in values:
            model.set_params(**{self.classifier.setting: value})
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(self.train, truth)
            self.fits += 1
            epochs = self.settings.epochs
            self.advance(epochs * self.fits // fits - epochs * (self.fits - 1) // fits)
            if hasattr(model, "predict_proba"):
                yield value, model.predict_proba(self.matrix)
                continue
            margin = model.decision_function(self.matrix)
            yield value, np.stack([expit(-margin), expit(margin)], 1) if margin.ndim == 1 else softmax(margin, axis=1)
