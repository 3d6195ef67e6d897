"""Train a head on one split, score every clip, and decide by each of the head's rules."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.head.collection import Collection
from stages.head.heads import CountedHead, Head, TrainedHead
from stages.head.scores.prediction import Prediction
from stages.head.settings import Settings
from stages.head.training import loop as training
from stages.head.training.checkpoint import Checkpoint
from stages.head.training.stretches import Stretches
from stages.splits.regimes import Split
from store.errors import EncoreError
from store.words import counted

_ROUNDING = 1e-4  # that scores may lie outside of [0, 1]


_RULE = re.compile(r"([a-z]+( [a-z]+)*)?")


@dataclass(frozen=True)
class Fitted:
    """What one rule of a head says after one training.

    ``threshold`` is [labels], None where labels are not chosen by a threshold; ``networks`` those whose mean it is.
    """

    rule: str | None
    prediction: Prediction
    threshold: NDArray[np.float64] | None
    seconds: float
    networks: list[training.Trained]


def _check_prediction(head: type[Head], data: Collection, rule: str, prediction: Prediction) -> None:
    """EncoreError for what is no prediction for the clips of a collection: a network's numbers may overflow."""
    shape = (len(data), len(data.labels))
    if prediction.score.shape != shape or prediction.chosen.shape != shape:
        raise EncoreError(f"{head.NAME} gave scores of shape {prediction.score.shape}, and should have given {shape}")
    if not _RULE.fullmatch(rule):
        raise EncoreError(f"{head.NAME} calls a rule {rule!r}; it names files: lower-case letters and single spaces")
    wrong = ~((prediction.score > -_ROUNDING) & (prediction.score < 1 + _ROUNDING)).all(axis=1)
    if wrong.any():
        raise EncoreError(
            f"{head.NAME} gave {wrong.sum():,} of {counted(len(data), 'clip')} scores that are not in [0, 1]; "
            f"representations far larger than those of the training part overflow like this"
        )


def fit(
    head: type[Head],
    data: Collection,
    part: Split,
    settings: Settings,
    seed: int,
    device: torch.device,
    advance: Callable[[int], None],
    shards: Stretches | None = None,
    checkpoint: Callable[[int], Checkpoint] | None = None,
) -> list[Fitted]:
    """Train a head on one split, as many networks as the settings ask for, and decide by each of its rules.

    ``checkpoint`` gives the place where each of the networks waits while it is not finished.
    """
    started = time.perf_counter()
    networks: list[training.Trained] = []
    if issubclass(head, TrainedHead):
        for member in range(settings.members):
            of_member = network_seed(seed, member)
            networks.append(
                training.train(
                    head,
                    data,
                    part,
                    settings,
                    seed=of_member,
                    device=device,
                    on_epoch=advance,
                    shards=shards,
                    checkpoint=checkpoint(member) if checkpoint else None,
                )
            )
            advance(settings.epochs - len(networks[-1].history))
        scores = np.stack([trained.prediction.score for trained in networks])
        predictions = {"": data.task.decide(scores.mean(axis=0, dtype=np.float32))}
    else:
        assert issubclass(head, CountedHead)
        predictions = head().predict(data, part)
    for rule, prediction in predictions.items():
        _check_prediction(head, data, rule, prediction)
    took = sum(trained.seconds for trained in networks) if networks else time.perf_counter() - started
    seconds = took / len(predictions)
    found = []
    for rule, prediction in predictions.items():
        threshold = None
        if not rule:  # a named rule decides by itself
            validation = part == 1
            truth, score = data.targets[validation], prediction.score[validation]
            threshold = data.task.thresholds(settings.threshold, truth, score)
        if threshold is not None:
            prediction = data.task.decide(prediction.score, threshold)
        found.append(Fitted(rule or None, prediction, threshold, seconds, networks))
    return found


def network_seed(seed: int, member: int) -> int:
    """The seed of weights and draws of an ensemble's network; the first's is that of the split, others are spread."""
    return seed if member == 0 else int(np.random.SeedSequence([seed, member]).generate_state(1)[0])


def evaluate(prediction: Prediction, data: Collection, part: Split) -> dict[str, Any]:
    """The metrics over the test clips, each scored once."""
    nodes = part == 2
    return data.task.evaluate(data.targets[nodes], prediction.chosen[nodes], prediction.score[nodes])
