"""Train a head on one split, score every clip, and decide by each of the head's rules."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.head.collection import Collection
from stages.head.heads import CountedHead, Head, Spec, TrainedHead
from stages.head.scores import thresholds
from stages.head.scores.prediction import Prediction
from stages.head.settings import Settings
from stages.head.training import loop as training
from stages.head.training.checkpoint import Checkpoint
from stages.head.training.stretches import Stretches
from stages.head.tune import Candidate, candidates, choose
from stages.splits.regimes import Split
from store.errors import EncoreError
from store.words import plural

_RULE = re.compile(r"([a-z]+( [a-z]+)*)?")


@dataclass(frozen=True)
class FitResult:
    """A trained head, and its predictions by one of its rules.

    Attributes
    ----------
    spec : what the head has learnt; of the first network where there are several.
    threshold : [labels], None where labels are not chosen by a threshold.
    stranger_threshold : that of the ``strangers`` [clips], whose artist the head does not know; both are None where one
        threshold decides for all.
    seconds : of the training, shared among the rules.
    networks : the networks whose scores are averaged; none for a head that counts.
    settings : of the training.
    tuned : the settings that were chosen for this split, of the head and of the training, by name.
    """

    rule: str | None
    spec: Spec
    prediction: Prediction
    threshold: NDArray[np.float64] | None
    seconds: float
    networks: list[training.TrainedNetwork]
    settings: Settings
    tuned: Mapping[str, Any] = field(default_factory=dict)
    stranger_threshold: float | None = None
    strangers: NDArray[np.bool_] | None = None

    @property
    def config(self) -> Any:
        return self.spec.config


def fit(
    head: type[Head],
    collection: Collection,
    split: Split,
    config: Any,
    settings: Settings,
    seed: int,
    device: torch.device,
    advance: Callable[[int], None] = lambda _epochs: None,
    stretches: Stretches | None = None,
    checkpoint: Callable[[int], Checkpoint] | None = None,
    fixed: Container[str] = (),
) -> list[FitResult]:
    """Train a head on one split, as many networks as the settings ask for, and decide by each of its rules.

    The score is the mean over networks, and over the checkpoints of each that the settings ask for.

    Parameters
    ----------
    config, settings : the head's own settings, and those of the training.
    advance : called with how many epochs were done.
    checkpoint : gives the place where each of the networks, from 0, is kept while it is trained.
    fixed : settings that the user named, which are never tuned.
    """
    start_s = time.perf_counter()
    networks: list[training.TrainedNetwork] = []
    tuned: Mapping[str, Any] = {}
    if issubclass(head, TrainedHead):
        choice, networks = _tuned(head, collection, split, config, settings, seed, device, stretches, checkpoint, fixed)
        settings, tuned = choice.settings, choice.values
        advance(settings.epochs if networks else 0)
        for member in range(1 if networks else 0, settings.members):
            network = training.train(
                head,
                collection,
                split,
                choice.config,
                settings,
                seed=network_seed(seed, member),
                device=device,
                on_epoch=advance,
                stretches=stretches,
                checkpoint=checkpoint(member) if checkpoint else None,
            )
            networks += [network, *network.others]
            advance(settings.epochs - len(network.history))
        scores = np.stack([network.prediction.score for network in networks])
        spec = networks[0].spec
        predictions = {"": collection.task.decide(scores.mean(axis=0, dtype=np.float32))}
    else:
        predictions, spec = count(head, collection, split, config)
    for rule, prediction in predictions.items():
        _check_prediction(head, collection, rule, prediction)
    total = sum(network.seconds for network in networks) if networks and not tuned else time.perf_counter() - start_s
    seconds = total / len(predictions)
    return [
        _decided(head, collection, split, settings, rule, spec, prediction, seconds, networks, tuned)
        for rule, prediction in predictions.items()
    ]


def _tuned(
    head: type[TrainedHead],
    collection: Collection,
    split: Split,
    config: Any,
    settings: Settings,
    seed: int,
    device: torch.device,
    stretches: Stretches | None,
    checkpoint: Callable[[int], Checkpoint] | None,
    fixed: Container[str],
) -> tuple[Candidate, list[training.TrainedNetwork]]:
    """The settings chosen for this split, and the network that was trained on the way where it has these settings."""
    choices = candidates(head, config, settings, fixed)
    if len(choices) == 1:
        return choices[0], []
    stretches = stretches or Stretches(collection.in_memory())
    plain = training.train(
        head,
        collection,
        split,
        config,
        settings,
        seed=seed,
        device=device,
        stretches=stretches,
        checkpoint=checkpoint(settings.members) if checkpoint else None,
    )
    choice = choose(head, stretches, split, choices, epochs=len(plain.history), seed=seed, device=device)
    return choice, [plain, *plain.others] if choice is choices[0] else []


def count(head: type[Head], collection: Collection, split: Split, config: Any) -> tuple[dict[str, Prediction], Spec]:
    """The predictions of a head that counts by each of its rules, and what it has learnt, from part 0 alone."""
    assert issubclass(head, CountedHead)
    masked, task = collection.masked(split), collection.task
    x = collection.in_memory().x if head.READS_SONGS else None
    dim = collection.dim if head.READS_SONGS else 0
    spec = Spec(dim, task.outputs(collection.outputs), task, config, head.learn(masked, x, split, config))
    return head(masked, split, spec).score(), spec


def _decided(
    head: type[Head],
    collection: Collection,
    split: Split,
    settings: Settings,
    rule: str,
    spec: Spec,
    prediction: Prediction,
    seconds: float,
    networks: list[training.TrainedNetwork],
    tuned: Mapping[str, Any],
) -> FitResult:
    threshold: NDArray[np.float64] | None = None
    of_strangers: float | None = None
    strangers: NDArray[np.bool_] | None = None
    if not rule:  # a named rule decides by itself
        validation = split == 1
        truth, score, artist = (a[validation] for a in (collection.truth, prediction.score, collection.artist))
        expected = thresholds.expectation(_distinct(artist)) if _calibrated(head, settings) else 0.0
        threshold = collection.task.thresholds(settings.threshold, truth, score, expected)
    if threshold is not None:
        each = threshold
        strangers = head.strangers(collection, split, spec.facts) if settings.threshold == "tuned" else None
        if strangers is not None:
            limit = thresholds.of_strangers(truth, score, threshold[0], strangers[validation], artist, expected)
            each = thresholds.of_clips(threshold, strangers, limit)
            of_strangers, strangers = (limit, strangers) if limit < threshold[0] else (None, None)
        prediction = collection.task.decide(prediction.score, each)
    return FitResult(
        rule or None, spec, prediction, threshold, seconds, networks, settings, tuned, of_strangers, strangers
    )


def _calibrated(head: type[Head], settings: Settings) -> bool:
    """Whether scores are probabilities as validation has them; other losses have other scores for their least."""
    plain = settings.loss == "cross-entropy" and settings.class_weights == "none"
    return plain and issubclass(head, TrainedHead) and head.CALIBRATED


def _distinct(artist: NDArray[np.int64]) -> int:
    """How many artists some clips have; each that is unknown is one of its own."""
    return len(np.unique(artist[artist >= 0])) + int((artist < 0).sum())


def _check_prediction(head: type[Head], collection: Collection, rule: str, prediction: Prediction) -> None:
    """EncoreError for anything but a prediction for the clips of a collection: a network's numbers may overflow."""
    shape = (len(collection), len(collection.outputs))
    if prediction.score.shape != shape or prediction.decision.shape != shape:
        raise EncoreError(f"{head.NAME} gave scores of shape {prediction.score.shape}, and should have given {shape}")
    if not _RULE.fullmatch(rule):
        raise EncoreError(f"{head.NAME} calls a rule {rule!r}; it names files: lower-case letters and single spaces")
    wrong = ~collection.task.is_score(prediction.score)
    if wrong.any():
        bounds = "in [0, 1]" if collection.task.CHOOSES else "finite"
        raise EncoreError(
            f"{head.NAME} gave {wrong.sum():,} of {plural(len(collection), 'clip')} scores that are not {bounds}; "
            f"representations far larger than those of the training part overflow like this"
        )


def network_seed(seed: int, member: int) -> int:
    """The seed of the weights and draws of an ensemble's network; the first network has that of the split."""
    return seed if member == 0 else int(np.random.SeedSequence([seed, member]).generate_state(1)[0])


def evaluate(prediction: Prediction, collection: Collection, split: Split) -> dict[str, Any]:
    """The metrics over the test clips, each scored once."""
    test = split == 2
    return collection.task.evaluate(collection.truth[test], prediction.decision[test], prediction.score[test])
