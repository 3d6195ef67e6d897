"""Settings of a network chosen for one split: those that do best within its training part, or on validation.

Where the validation part has 300 songs or more it decides. A smaller one would decide by chance, so the training part
is dealt into three folds, each of which is validated on after training on the others; where the split keeps artists (or
albums) apart, whole ones are dealt. Test clips are never looked at.

Candidates are trained side by side on the same representations, by successive halving (Jamieson and Talwalkar,
Non-stochastic Best Arm Identification and Hyperparameter Optimization, AISTATS 2016): the better half goes on.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from stages.head import layers
from stages.head.collection import Collection
from stages.head.heads import TrainedHead
from stages.head.random import seeded
from stages.head.settings import Choices, Settings, keys
from stages.head.training.binder import Binder
from stages.head.training.loop import Loop, loop_of
from stages.head.training.progress import Progress
from stages.head.training.stretches import Stretches
from stages.head.training.threads import threads
from stages.splits.regimes import Split, dealt
from store.errors import EncoreError, RequestError

_ENOUGH_SONGS = 300  # of a validation part that decides by itself
_FOLDS = 3
_TIMES = {"quick": 1.0, "full": 8.0}  # what the search costs, in trainings with the settings as they are


@dataclass(frozen=True)
class Candidate:
    """Settings to try; ``values`` names those that were changed, or might have been."""

    config: Any
    settings: Settings
    values: dict[str, Any]


def candidates(head: type[TrainedHead], config: Any, settings: Settings, fixed: Container[str]) -> list[Candidate]:
    """What may be tried, the settings as they are first; only these where there is nothing to choose.

    A setting is tried where its field says so (`stages.head.settings.setting`) and the user did not name it.
    """
    if settings.tune == "off" or head.penalties(config):
        return [Candidate(config, settings, {})]
    space = {}
    for part in (settings, config):
        for field in dataclasses.fields(part):
            values, search = field.metadata.get("tune"), field.metadata.get("search")
            if values is not None and settings.tune == "full" and isinstance(search, Choices):
                values = search.values
            if values and field.name not in fixed:
                space[field.name] = list(dict.fromkeys((getattr(part, field.name), *values)))
    grid = [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]
    return [Candidate(_changed(config, values), _changed(settings, values), values) for values in grid]


def _changed(part: Any, values: dict[str, Any]) -> Any:
    own = {name: value for name, value in values.items() if name in keys(part)}
    return dataclasses.replace(part, **own) if own else part


def choose(
    head: type[TrainedHead],
    stretches: Stretches,
    split: Split,
    tried: Sequence[Candidate],
    *,
    epochs: int,
    seed: int,
    device: torch.device,
) -> Candidate:
    """The candidate that has reached the lowest validation loss.

    Parameters
    ----------
    split : [clips] 0 train, 1 validation, 2 test, -1 none.
    epochs : that a training with the first candidate took: the measure of what the search may cost.
    """
    base = tried[0]
    inner = inner_splits(stretches.collection, split, seed)
    binders = [Binder.learn(head, stretches, part, base.config, base.settings, device) for part in inner]
    races = [_Race(candidate, [_loop(head, binder, candidate, seed) for binder in binders]) for candidate in tried]
    work = sum(_work(part, base.settings) for part in inner) / _work(split, base.settings)
    rungs = max(1, math.ceil(math.log2(len(races))))
    budget = _TIMES[base.settings.tune] * epochs * races[0].size / rungs
    for _ in range(rungs):
        more = max(1, int(budget / (work * sum(race.size for race in races))))
        for race in races:
            race.go_on(more)
        races = sorted(races, key=lambda race: race.loss)[: -(-len(races) // 2)]
    return races[0].candidate


def _work(split: Split, settings: Settings) -> float:
    """Clips of an epoch on a split, all its passes together."""
    clips = int((split == 0).sum())
    return clips * -(-settings.steps // -(-clips // settings.batch))


def _loop(head: type[TrainedHead], binder: Binder, candidate: Candidate, seed: int) -> Loop:
    with seeded(seed, binder.device):
        network = layers.build(head, dataclasses.replace(binder.spec, config=candidate.config)).to(binder.device)
    return loop_of(binder, network, candidate.settings, seed)


class _Race:
    """A candidate, trained on every inner split; ``size`` is what a clip costs it: its weights."""

    def __init__(self, candidate: Candidate, loops: Sequence[Loop]) -> None:
        self.candidate = candidate
        self._trainings = [(loop, Progress()) for loop in loops]
        self._diverged = False
        self.size = sum(weight.numel() for weight in loops[0].network.parameters() if weight.dim() > 1)

    def go_on(self, epochs: int) -> None:
        """Train so many epochs more, unless it has come to its end."""
        try:
            for loop, progress in self._trainings:
                with threads(loop.network, min(loop.settings.batch, len(loop.train))):
                    for _ in range(epochs):
                        if not (self._diverged or progress.is_over(loop.settings)):
                            loop.advance(progress)
        except EncoreError:  # the loss did not stay finite
            self._diverged = True

    @property
    def loss(self) -> float:
        """The mean of the lowest validation losses; infinite if a loss did not stay finite."""
        if self._diverged:
            return math.inf
        least = [min(epoch["validation_loss"] for epoch in progress.history) for _, progress in self._trainings]
        return float(np.mean(least))


def inner_splits(collection: Collection, split: Split, seed: int) -> list[Split]:
    """The splits that candidates are compared on: the split itself, or folds of its training part."""
    if len(np.unique(collection.song[split == 1])) >= _ENOUGH_SONGS:
        return [split]
    train = np.flatnonzero(split == 0)
    try:
        fold = dealt(
            f"{_kept_apart(collection, split)}-{_FOLDS}fold",
            seed,
            song=collection.song[train],
            album=collection.album[train],
            artist=collection.artist[train],
            recording=None if collection.recording is None else collection.recording[train],
            labels=collection.labels[train],
        )
    except RequestError:  # too few groups
        return [split]
    parts = []
    for number in range(_FOLDS):
        part = np.full_like(split, -1)
        part[train] = fold == number
        parts.append(part)
    return parts


def _kept_apart(collection: Collection, split: Split) -> str:
    """The regime whose groups training and validation do not share."""
    for regime, ids in (("artist", collection.artist), ("album", collection.album)):
        train, validation = (np.unique(ids[(split == part) & (ids >= 0)]) for part in (0, 1))
        if len(train) and len(validation) and not np.intersect1d(train, validation, assume_unique=True).size:
            return regime
    return "random"
