"""Train heads on a stored collection, in every regime and under every seed, and gather their scores."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stages import registry
from stages.devices import find_memory
from stages.head.baselines import ALL, Baseline
from stages.head.checks import note_silent, trainable
from stages.head.collection import Collection
from stages.head.fit import fit
from stages.head.heads import Head, TrainedHead, is_inductive
from stages.head.layers import build
from stages.head.modes import Mode
from stages.head.open import open_collection
from stages.head.results import Result, add_intervals
from stages.head.revision import code_revision
from stages.head.runs.files import save_run
from stages.head.runs.resume import Journal
from stages.head.runs.workers import in_order, most_at_once
from stages.head.settings import Settings
from stages.head.thesis import paper_on
from stages.head.training.binder import Binder
from stages.head.training.processes import ALONE, ProcessGroup
from stages.head.training.stretches import Stretches
from stages.head.training.threads import takes_one_thread
from stages.progress import note, task
from stages.splits.kept import mark_of
from stages.splits.regimes import SHARES, Split
from stages.splits.regimes import parse as parse_regime
from store.errors import RequestError
from store.layout import Store
from store.runs import RunFolder, RunRecord, read_run, run_name
from store.words import plural

_FEW_SONGS = 300  # of a test part, from which on modes are compared on one part instead of folds
_FOLDS = 5
_COPIES = 4  # as stored, standardised, a head's means, and what passes

_Split = tuple[int, int | None, Split]  # seed, number of the fold, part of each clip
Folds = int | Literal["auto"] | None


def train_heads(
    store: Store,
    dataset: str,
    *,
    backbone: str | None,
    modes: Sequence[str],
    regimes: Sequence[str],
    seeds: int,
    changes: Mapping[str, str],
    device: torch.device,
    target: str | None = None,
    memory_gib: float | None = None,
    processes: ProcessGroup = ALONE,
    baselines: bool = False,
    folds: Folds = None,
) -> list[Result]:
    """Train every mode in every regime under every seed. A seed decides split, network and draws.

    Trainings that are small go side by side, as many as there are cores; each gives the numbers that it gives alone.

    Reads the store once, or at each pass over a collection that does not fit in memory; opens no song. Where the same
    command was stopped it goes on: finished runs are kept, the one it was at is taken up from its last checkpoint.

    Parameters
    ----------
    target : the numeric target that heads learn; None for the labels.
    memory_gib : what the representations, and what heads make of them, may take in each process; by default half of
        what there is.
    processes : those that train together. All of them return the results, the first one writes.
    baselines : whether scikit-learn's classifiers (`stages.head.baselines`) are rows too, on the same splits. What an
        earlier command fitted on the same splits, under the same settings, is kept.
    folds : test each song once, in so many folds, where a regime names none; ``auto``: in five where one test part
        would hold fewer than 300 songs, and in no more trainings than ``seeds`` parts or five. Left out where a regime
        has too few groups.
    """
    heads: list[type[Head]] = [registry.find("head", mode) for mode in modes]
    if baselines and target is not None:
        raise RequestError("--baselines are classifiers, and --target asks for a number; leave out one of them")
    heads += ALL.values() if baselines else ()
    data, settings, configs = open_collection(store, dataset, backbone, heads, changes, target=target, in_memory=False)
    stretches = None if data.stored is None else share(data, processes, device, memory_gib)
    data = data if stretches is None else stretches.collection
    heads = trainable(data, configs, changes)
    if stretches is not None:
        stretches.check(*(head for head in heads if not issubclass(head, Baseline)))
    results: list[Result] = []
    start_s = time.monotonic()
    splits = _splits(data, regimes, seeds, folds)
    overlap = {regime: [data.overlap(split) for _, _, split in of_regime] for regime, of_regime in splits.items()}
    modes_of = [
        _Mode(head, configs[head], regime, splits[regime], overlap[regime]) for regime in splits for head in heads
    ]
    about = {
        "collection": data.mark(),
        "splits": mark_of(split for of_regime in splits.values() for _, _, split in of_regime),
        "backbone": data.backbone,
        "settings": settings,
        "seeds": seeds,
        "fixed": sorted(changes),
        "device": device.type,
        "stretches": [(stretch.first, stretch.last) for stretch in stretches.stretches] if stretches else [],
    }
    with Journal(store, processes, about) as journal:
        command = _Command(store, data, stretches, settings, device, journal, frozenset(changes))
        lasting = {mode.folder(data) for mode in modes_of if issubclass(mode.head, Baseline)}
        targets = journal.begin({mode.folder(data): mode.decides() for mode in modes_of}, lasting)
        if finished_fits := sum(targets[folder] == folder for folder in lasting):
            note(f"{plural(finished_fits, 'baseline')} of an earlier command: the fits are kept")
        work = [replace(mode, target=targets[mode.folder(data)]) for mode in modes_of]
        jobs = [(mode, *split) for mode in work for split in mode.splits]
        networks = settings.members * sum(issubclass(mode.head, TrainedHead) for mode, *_ in jobs)
        networks += sum(issubclass(mode.head, Baseline) for mode, *_ in jobs)  # a fit counts as a training
        # What is open behind a URL does not bear being copied, and memory:// is one process's own.
        at_once = 1 if store.files.local is None else _at_once(command, jobs, memory_gib)
        with (
            task(f"training on {dataset}", settings.epochs * networks or None, "epochs") as advance,
            closing(in_order(command.train, jobs, min(at_once, len(jobs)), advance)) as records,
        ):
            for mode in work:
                results += command.results(mode, [run for _ in mode.splits for run in next(records)])
        journal.end()
    for regime, of_regime in splits.items() if processes.rank == 0 else ():  # the first process has all tallies
        artist = np.concatenate([data.artist[split == 2] for _, _, split in of_regime])
        add_intervals([result for result in results if result.regime == regime], artist)
    if stretches is not None and data.x is None:  # what is read in parts is known when all of it was read
        note_silent(stretches.silent(device), data)
    note(f"done in {time.monotonic() - start_s:.1f} s")
    return results


def _splits(data: Collection, regimes: Sequence[str], seeds: int, folds: Folds) -> dict[str, list[_Split]]:
    """The splits of each regime, or of its folds; what the collection cannot have, and what parts lack, is noted.

    Raises
    ------
    RequestError
        where a regime is unknown, or the collection can have none of them.
    """
    splits: dict[str, list[_Split]] = {}
    impossible: dict[str, RequestError] = {}
    for regime in regimes:
        parse_regime(regime)
    for regime in regimes:
        try:
            name, of_regime = _folded(data, regime, seeds, folds)
            splits[name] = of_regime
        except RequestError as error:
            impossible[regime] = error
    if not splits:
        raise impossible[regimes[0]]
    for regime, why in impossible.items():
        note(f"regime {regime} is left out: {why}")
    for regime, of_regime in splits.items():
        for line in data.remarks([part for _, _, part in of_regime]):
            note(f"regime {regime}: {line}")
    return splits


def _folded(data: Collection, regime: str, seeds: int, folds: Folds) -> tuple[str, list[_Split]]:
    """The regime that is trained in, which may be a k-fold version of the one asked for, and its splits."""
    base, k = parse_regime(regime)
    test_songs = round(SHARES[2] * len(np.unique(data.song)))
    if folds is None or k is not None or base == "official" or (folds == "auto" and test_songs >= _FEW_SONGS):
        return regime, _splits_of(data, regime, seeds)
    if folds != "auto":
        return f"{regime}-{folds}fold", _splits_of(data, f"{regime}-{folds}fold", seeds)
    in_folds, rounds = f"{regime}-{_FOLDS}fold", -(-seeds // _FOLDS)
    try:
        of_regime = _splits_of(data, in_folds, rounds)
    except RequestError:
        return regime, _splits_of(data, regime, seeds)
    note(
        f"regime {regime}: one test part would hold {plural(test_songs, 'song')}, too few to tell modes apart; "
        f"{in_folds} tests every song {'once' if rounds == 1 else f'{rounds:,} times'} instead, in {rounds * _FOLDS:,} "
        f"trainings of each mode (--folds off: one part a seed)"
    )
    return in_folds, of_regime


def _splits_of(data: Collection, regime: str, seeds: int) -> list[_Split]:
    splits = [(seed, fold, part) for seed in range(seeds) for fold, part in _parts(data, regime, seed)]
    for seed, _, part in splits:
        if not (part == 2).any():
            number = "" if data.target is None else f" and has a number for {data.target}"
            raise RequestError(
                f"regime {regime}, seed {seed}: of the test songs none is encoded{number}, so nothing can be scored; "
                f"take another regime, or see what failed: encore store show {data.info.name}"
            )
    return splits


def _parts(data: Collection, regime: str, seed: int) -> list[tuple[int | None, Split]]:
    """The splits of a regime with the number of each fold, from 1; None where there are no folds."""
    parts = data.parts(regime, seed)
    return list(enumerate(parts, start=1)) if parse_regime(regime)[1] else [(None, part) for part in parts]


@dataclass(frozen=True)
class _Mode:
    """A head in a regime.

    Attributes
    ----------
    config : the head's own settings.
    overlap : what the parts of each of the splits share.
    target : the folder that the runs are gathered in.
    """

    head: type[Head]
    config: Any
    regime: str
    splits: list[_Split]
    overlap: list[dict[str, Any]]
    target: RunFolder | None = None

    def folder(self, data: Collection) -> RunFolder:
        """Where the runs stand when all of them are there."""
        inductive = self.neighbours == "train"
        return RunFolder(data.info.name, self.representation(data), self.head.NAME, self.regime, inductive, data.target)

    def decides(self) -> dict[str, Any]:
        """What decides the numbers of this mode alone."""
        return {"config": self.config, "code": code_revision(self.head)}

    def representation(self, data: Collection) -> str | None:
        return data.backbone if self.head.READS_SONGS else None

    @property
    def neighbours(self) -> str | None:
        """Whose representations take part in a clip's score, as `Result` names them."""
        if not self.head.READS_NEIGHBOURS:
            return None
        return "train" if is_inductive(self.config) else "all"


_Job = tuple[_Mode, int, int | None, Split]  # with seed, number of the fold, part of each clip
_Run = tuple[RunRecord, NDArray[np.float64] | None]  # with the tally of its test clips, where this process has it


@dataclass(frozen=True)
class _Command:
    """What all trainings of one command have in common; ``fixed`` are the settings that the user named."""

    store: Store
    data: Collection
    stretches: Stretches | None
    settings: Settings
    device: torch.device
    journal: Journal
    fixed: frozenset[str] = frozenset()

    def train(self, job: _Job, advance: Callable[[int], None]) -> list[_Run]:
        """Train one mode on one split; the runs of all its rules, read back if they were finished before."""
        mode, seed, fold, split = job
        assert mode.target is not None
        target, journal, name = mode.target, self.journal, run_name(seed, fold, None)
        record = journal.done(target, name)
        if record is not None:
            networks = self.settings.members if record.settings else int(issubclass(mode.head, Baseline))
            advance(self.settings.epochs * networks)
            finished = read_run(self.store, target, name) if journal.writes else None
            return [(record, None if finished is None else self._tally(split, finished.decision))]
        if issubclass(mode.head, Baseline):
            results = [mode.head.fit(self.data, split, mode.config, self.settings, seed, advance)]
        else:
            checkpoint = partial(journal.checkpoint, target, name)
            rest = (self.settings, seed, self.device, advance, self.stretches, checkpoint, self.fixed)
            results = fit(mode.head, self.data, split, mode.config, *rest)
        runs: list[_Run] = [
            (
                save_run(
                    self.store,
                    target,
                    result,
                    collection=self.data,
                    split=split,
                    seed=seed,
                    fold=fold,
                    code=code_revision(mode.head),
                    device=self.device,
                    writes=journal.writes,
                    keeps_head=not issubclass(mode.head, Baseline),
                ),
                self._tally(split, result.prediction.decision[split == 2]),
            )
            for result in results
        ]
        journal.forget(target, name)
        return runs

    def _tally(self, split: Split, decision: NDArray[Any]) -> NDArray[np.float64]:
        return self.data.task.tally(self.data.truth[split == 2], decision)

    def results(self, mode: _Mode, runs: Sequence[_Run]) -> list[Result]:
        """The results of a mode's runs, one for each rule; the runs replace earlier ones in the store."""
        assert mode.target is not None
        self.journal.whole(mode.target)
        results: dict[str | None, Result] = {}
        for run, tally in runs:
            result = results.setdefault(
                run.rule,
                Result(
                    dataset=self.data.info.name,
                    synthetic=self.data.info.synthetic,
                    backbone=mode.representation(self.data),
                    mode=Mode(mode.head.NAME, run.rule),
                    regime=mode.regime,
                    task=self.data.task,
                    target=self.data.target,
                    seeds=len({seed for seed, _, _ in mode.splits}),
                    members=1 + len(run.other_members),
                    threshold=None if run.threshold is None else self.settings.threshold,
                    neighbours=mode.neighbours,
                    remark=run.remark,
                    overlap=mode.overlap,
                    thesis=paper_on(self.data.info),
                    saved=self.store.files.show(replace(mode.target, unfinished=False).path),
                ),
            )
            result.scores.append({name: math.nan if value is None else value for name, value in run.metrics.items()})
            result.seconds.append(run.seconds)
            result.tuned += [] if run.tuned is None else [run.tuned]
            result.tallies += [] if tally is None else [tally]
        return list(results.values())


def _at_once(command: _Command, jobs: Sequence[_Job], memory_gib: float | None) -> int:
    """How many trainings may go side by side: where each takes one thread, as many as there are threads and memory."""
    data, stretches, device = command.data, command.stretches, command.device
    if stretches is None:
        return 1  # nothing is trained, only counted
    if not stretches.whole or device.type != "cpu" or not command.store.files.outlives_fork:
        return 1
    copies = _memory(device, memory_gib) / (4 * data.dim * len(data))
    at_once = max(1, min(most_at_once(), int((copies - 1) / (_COPIES - 1))))  # that which is stored is shared
    batch = min(command.settings.batch, len(data))
    networks = {mode.head: _network(command, mode, split) for mode, _, _, split in jobs} if at_once > 1 else {}
    return at_once if all(takes_one_thread(network, batch) for network in networks.values() if network) else 1


def _network(command: _Command, mode: _Mode, split: Split) -> nn.Module | None:
    """The network of a mode without its numbers, to be measured; None where it has none."""
    if not issubclass(mode.head, TrainedHead):
        return None
    assert command.stretches is not None
    spec = Binder.learn(mode.head, command.stretches, split, mode.config, command.settings, command.device).spec
    with torch.device("meta"):
        return build(mode.head, spec)


def _memory(device: torch.device, memory_gib: float | None) -> float:
    """Bytes that representations, and what heads make of them, may take."""
    return find_memory(device) / 2 if memory_gib is None else memory_gib * 2**30


def share(data: Collection, processes: ProcessGroup, device: torch.device, memory_gib: float | None) -> Stretches:
    """The collection as the processes hold it: in memory at once where it fits, else in stretches."""
    # Free memory differs from process to process.
    most = processes.broadcast(max(1, int(_memory(device, memory_gib) / (4 * data.dim * _COPIES))))
    if processes.size == 1 and len(data) <= most:
        return Stretches(data.in_memory())
    stretches = Stretches(data, processes, most)
    if len(stretches.stretches) > 1:
        note(
            f"{plural(len(data), 'clip')} are more than fit in memory; "
            f"they are read in {len(stretches.stretches):,} stretches"
        )
    return stretches
