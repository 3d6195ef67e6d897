"""``encore head`` and ``encore compare``: train heads on a stored collection and report their scores."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from stages import registry
from stages.devices import find_memory
from stages.head.checks import note_missing_labels, note_silent, trainable
from stages.head.collection import Collection
from stages.head.fit import evaluate, fit
from stages.head.heads import Head, TrainedHead
from stages.head.modes import Mode
from stages.head.open import open_collection
from stages.head.results import Result, numbers
from stages.head.runs.files import save_run
from stages.head.runs.resume import Journal
from stages.head.runs.workers import in_order, most_at_once
from stages.head.settings import Settings
from stages.head.thesis import paper_on
from stages.head.training.processes import ALONE, ProcessGroup
from stages.head.training.stretches import Stretches
from stages.head.training.threads import takes_one_thread
from stages.progress import note, task
from stages.splits.regimes import Split
from stages.splits.regimes import parse as parse_regime
from store.errors import RequestError
from store.layout import Store
from store.runs import RunFolder, run_name
from store.words import counted

_COPIES = 4  # as stored, standardised, a head's means, and what passes

_Split = tuple[int, int | None, Split]  # seed, number of the fold, part of each clip


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
    world: ProcessGroup = ALONE,
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
    data: Collection, shards: Stretches | None, settings: Settings, device: torch.device, memory_gib: float | None
) -> int:
    """How many trainings may go side by side: where one takes one thread, as many as there are threads and memory."""
    if shards is None:
        return 1  # nothing is trained, only counted
    if not shards.whole or device.type != "cpu" or not takes_one_thread(data, settings):
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
    shards: Stretches | None
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
                    "metrics": numbers(evaluate(fitted.prediction, self.data, part)),
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
                    mode=Mode(mode.head.NAME, run["rule"]),
                    regime=mode.regime,
                    task=self.data.task,
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


def _neighbours(head: type[Head], settings: Settings) -> str | None:
    if not head.READS_NEIGHBOURS:
        return None
    return "train" if settings.inductive else "all"


def _memory(device: torch.device, memory_gib: float | None) -> float:
    """Bytes that representations, and what heads make of them, may take."""
    return find_memory(device) / 2 if memory_gib is None else memory_gib * 2**30


def share(data: Collection, world: ProcessGroup, device: torch.device, memory_gib: float | None) -> Stretches:
    """The collection as the processes hold it: in memory at once where it fits, else in stretches."""
    most = world.tell(
        max(1, int(_memory(device, memory_gib) / (4 * data.dim * _COPIES)))
    )  # free memory differs from process to process
    if world.size == 1 and len(data) <= most:
        return Stretches(data.held())
    shards = Stretches(data, world, most)
    if len(shards.stretches) > 1:
        note(
            f"{counted(len(data), 'clip')} are more than fit in memory; "
            f"they are read in {len(shards.stretches):,} stretches"
        )
    return shards
