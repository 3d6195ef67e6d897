"""``encore head`` and ``encore compare``: train heads on a stored collection and report their scores."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.checks import check_request, note_missing_labels, note_silent, trainable
from pipeline.configure import configure
from pipeline.devices import find_memory
from pipeline.journal import Journal
from pipeline.presets import paper_on, settings_for
from pipeline.results import Result, numbers
from pipeline.runs import RunFolder, run_name, save_run
from pipeline.side_by_side import in_order, most_at_once
from stages import registry
from stages.head import collection as collections
from stages.head import train as training
from stages.head.checkpoint import Checkpoint
from stages.head.collection import Collection
from stages.head.ensemble import mean, network_seed
from stages.head.heads import CountedHead, Head, Prediction, TrainedHead
from stages.head.settings import Settings
from stages.head.shards import Shards
from stages.head.thresholds import above, find
from stages.head.world import ALONE, World
from stages.progress import note, task
from stages.splits import Split
from stages.splits import parse as parse_regime
from store.errors import EncoreError, RequestError
from store.layout import Store, match
from store.words import counted

_ROUNDING = 1e-4  # that scores may lie outside of [0, 1]
_RULE = re.compile(r"([a-z]+( [a-z]+)*)?")
_COPIES = 4  # as stored, standardised, a head's means, and what passes

_Split = tuple[int, int | None, Split]  # seed, number of the fold, part of each clip


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


def run(
    store: Store,
    dataset: str,
    *,
    backbone: str | None,
    modes: Sequence[str],
    regimes: Sequence[str],
    seeds: int,
    changes: Mapping[str, str],
    device: torch.device,
    memory_gib: float | None = None,
    world: World = ALONE,
) -> list[Result]:
    """Train every mode in every regime under every seed. A seed decides split, network and draws.

    Trainings that are small go side by side, as many as there are cores; each gives the numbers that it gives alone.

    Reads the store once, or at each pass over a collection that does not fit in memory; opens no song. Where the same
    command was stopped it goes on: finished runs are kept, the one it was at is taken up from its last checkpoint.

    Parameters
    ----------
    memory_gib : what the representations, and what heads make of them, may take in each process; by default half of
        what there is.
    world : the processes that train together. All of them return the results, the first one writes.
    """
    heads: list[type[Head]] = [registry.find("head", mode) for mode in modes]
    data, settings = open_collection(store, dataset, backbone, heads, changes, held=False)
    shards = None if data.stored is None else share(data, world, device, memory_gib)
    data = data if shards is None else shards.data
    heads = trainable(heads, data, settings, changes)
    if shards is not None:
        shards.check(*heads)
    results: list[Result] = []
    started = time.monotonic()
    about = {
        "collection": data.mark(),
        "backbone": data.backbone,
        "settings": settings,
        "seeds": seeds,
        "device": device.type,
    }
    stretches = [(stretch.first, stretch.last) for stretch in shards.stretches] if shards else []
    splits = _splits(data, regimes, seeds)
    overlap = {regime: [data.overlap(part) for _, _, part in of_regime] for regime, of_regime in splits.items()}
    folders = {(regime, head): _folder(data, head, regime, settings) for regime in splits for head in heads}
    with Journal(store, world, {**about, "stretches": stretches}) as journal:
        filled = journal.begin({folder: head for (_, head), folder in folders.items()})
        work = [
            _Mode(head, regime, splits[regime], overlap[regime], filled[folder])
            for (regime, head), folder in folders.items()
        ]
        jobs = [(mode, *split) for mode in work for split in mode.splits]
        command = _Command(store, data, shards, settings, device, journal)
        networks = settings.members * sum(issubclass(mode.head, TrainedHead) for mode, *_ in jobs)
        # What is open behind a URL does not bear being copied, and memory:// is one process's own.
        at_once = 1 if store.files.local is None else _at_once(data, shards, settings, device, memory_gib)
        with (
            task(f"training on {dataset}", settings.epochs * networks or None, "epochs") as advance,
            closing(in_order(command.train, jobs, min(at_once, len(jobs)), advance)) as told,
        ):
            for mode in work:
                results += command.results(mode, seeds, [run for _ in mode.splits for run in next(told)])
        journal.end()
    if shards is not None and data.x is None:  # what is read in parts is known when all of it was read
        note_silent(shards.silent(device), data)
    note(f"done in {time.monotonic() - started:.1f} s")
    return results


def _splits(data: Collection, regimes: Sequence[str], seeds: int) -> dict[str, list[_Split]]:
    """The splits of each regime; what their parts lack is noted."""
    found = {}
    for regime in regimes:
        found[regime] = [(seed, fold, part) for seed in range(seeds) for fold, part in _parts(data, regime, seed)]
        for seed, _, part in found[regime]:
            if not (part == 2).any():
                raise RequestError(
                    f"regime {regime}, seed {seed}: of the test songs none is encoded, so nothing can be scored; "
                    f"take another regime, or see what failed: encore store show {data.info.name}"
                )
        note_missing_labels(data, regime, [part for _, _, part in found[regime]])
    return found


def _parts(data: Collection, regime: str, seed: int) -> list[tuple[int | None, Split]]:
    """The splits of a regime with the number of each fold, from 1; None where there are no folds."""
    parts = data.parts(regime, seed)
    return list(enumerate(parts, start=1)) if parse_regime(regime)[1] else [(None, part) for part in parts]


def _at_once(
    data: Collection, shards: Shards | None, settings: Settings, device: torch.device, memory_gib: float | None
) -> int:
    """How many trainings may go side by side: where one takes one thread, as many as there are threads and memory."""
    if shards is None:
        return 1  # nothing is trained, only counted
    if not shards.whole or device.type != "cpu" or not training.takes_one_thread(data, settings):
        return 1
    copies = _memory(device, memory_gib) / (4 * data.dim * len(data))
    return max(1, min(most_at_once(), int((copies - 1) / (_COPIES - 1))))  # that which is stored is shared


@dataclass(frozen=True)
class _Mode:
    """A head in a regime, its splits, what the parts of each share, and the folder that their runs are gathered in."""

    head: type[Head]
    regime: str
    splits: list[_Split]
    overlap: list[dict[str, Any]]
    filled: RunFolder


@dataclass(frozen=True)
class _Command:
    """What all trainings of one command have in common."""

    store: Store
    data: Collection
    shards: Shards | None
    settings: Settings
    device: torch.device
    journal: Journal

    def train(self, job: tuple[_Mode, int, int | None, Split], advance: Callable[[int], None]) -> list[dict[str, Any]]:
        """Train one mode on one split; what each rule's run tells of itself (`save_run`), also where it was done."""
        mode, seed, fold, part = job
        filled, journal, name = mode.filled, self.journal, run_name(seed, fold, None)
        done = journal.done(filled, name)
        if done is not None:
            advance(self.settings.epochs * self.settings.members if done["settings"] else 0)
            return [done]
        checkpoint = partial(journal.checkpoint, filled, name)
        told = [
            save_run(
                self.store,
                filled,
                run_name(seed, fold, fitted.rule),
                {
                    "rule": fitted.rule,
                    "seed": seed,
                    "fold": fold,
                    "metrics": numbers(training.evaluate(fitted.prediction, self.data, part)),
                    "seconds": fitted.seconds,
                },
                data=self.data,
                part=part,
                prediction=fitted.prediction,
                threshold=fitted.threshold,
                settings=self.settings,
                networks=fitted.networks,
                code=journal.codes[filled],
                writes=journal.writes,
            )
            for fitted in fit(
                *(mode.head, self.data, part, self.settings, seed, self.device, advance, self.shards, checkpoint)
            )
        ]
        journal.forget(filled, name)
        return told

    def results(self, mode: _Mode, seeds: int, told: Sequence[dict[str, Any]]) -> list[Result]:
        """One result a rule, from what the runs of a mode tell; they take the place of those that stood before."""
        self.journal.whole(mode.filled)
        found: dict[str | None, Result] = {}
        for run in told:
            result = found.setdefault(
                run["rule"],
                Result(
                    dataset=self.data.info.name,
                    synthetic=self.data.info.synthetic,
                    backbone=_representation(mode.head, self.data),
                    mode=mode.head.NAME,
                    rule=run["rule"],
                    regime=mode.regime,
                    seeds=seeds,
                    members=self.settings.members if run["settings"] else 1,
                    threshold=None if run["threshold"] is None else self.settings.threshold,
                    neighbours=_neighbours(mode.head, self.settings),
                    remark=run["remark"],
                    overlap=mode.overlap,
                    thesis=paper_on(self.data.info),
                    saved=self.store.files.show(replace(mode.filled, unfinished=False).path),
                ),
            )
            result.scores.append({name: math.nan if value is None else value for name, value in run["metrics"].items()})
            result.seconds.append(run["seconds"])
        return list(found.values())


def _folder(data: Collection, head: type[Head], regime: str, settings: Settings) -> RunFolder:
    inductive = _neighbours(head, settings) == "train"
    return RunFolder(data.info.name, _representation(head, data), head.NAME, regime, inductive)


def _representation(head: type[Head], data: Collection) -> str | None:
    return data.backbone if head.READS_SONGS else None


def open_collection(
    store: Store,
    dataset: str,
    backbone: str | None,
    heads: Sequence[type[Head]],
    changes: Mapping[str, str],
    *,
    held: bool = True,
) -> tuple[Collection, Settings]:
    """What the heads read of a stored collection, and the settings that its backbone has with the changes."""
    asked = configure(Settings(), changes, "a head")  # refuses wrong settings before anything large is read
    check_request(heads, asked, changes)
    data = _load(store, dataset, backbone, heads, held=held)
    # The representation's own name tells the backbone: what was asked for may be none, or cut short.
    return data, configure(settings_for(dataset, (data.backbone or "").rpartition("-")[0]), changes, "a head")


def _neighbours(head: type[Head], settings: Settings) -> str | None:
    if not head.READS_NEIGHBOURS:
        return None
    return "train" if settings.inductive else "all"


def _memory(device: torch.device, memory_gib: float | None) -> float:
    """Bytes that representations, and what heads make of them, may take."""
    return find_memory(device) / 2 if memory_gib is None else memory_gib * 2**30


def share(data: Collection, world: World, device: torch.device, memory_gib: float | None) -> Shards:
    """The collection as the processes hold it: in memory at once where it fits, else in stretches."""
    most = world.tell(
        max(1, int(_memory(device, memory_gib) / (4 * data.dim * _COPIES)))
    )  # free memory differs from process to process
    if world.size == 1 and len(data) <= most:
        return Shards(data.held())
    shards = Shards(data, world, most)
    if len(shards.stretches) > 1:
        note(
            f"{counted(len(data), 'clip')} are more than fit in memory; "
            f"they are read in {len(shards.stretches):,} stretches"
        )
    return shards


def _load(store: Store, dataset: str, backbone: str | None, heads: Sequence[type[Head]], *, held: bool) -> Collection:
    if any(head.READS_SONGS for head in heads):
        stored = [str(name) for name in store.complete(dataset)]
        return collections.load(store, dataset, backbone or default_backbone(store, dataset, stored), held=held)
    return collections.from_catalog(store.read_catalog(dataset), store)


def default_backbone(store: Store, dataset: str, names: Sequence[str]) -> str | None:
    """Of several representations the one of the collection's default backbone, which is noted; None where none is."""
    fitting = match(names, store.read_catalog(dataset).info.backbone) if len(names) > 1 else []
    if len(fitting) != 1:
        return None
    others = ", ".join(name for name in names if name != fitting[0])
    note(f"{fitting[0]} is taken, the default of {dataset}; there are also: {others} (--backbone)")
    return fitting[0]


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
    shards: Shards | None = None,
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
        predictions = {"": mean([trained.prediction.score for trained in networks], data.multi_label)}
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
        if data.multi_label and not rule:  # a named rule decides by itself
            validation = part == 1
            threshold = find(settings.threshold, data.targets[validation], prediction.score[validation])
            prediction = Prediction(prediction.score, above(prediction.score, threshold))
        found.append(Fitted(rule or None, prediction, threshold, seconds, networks))
    return found
