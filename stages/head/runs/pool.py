"""Stored runs beside the collection as it is now: which clips they scored, and whether they still hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages import registry
from stages.head.baselines import find
from stages.head.collection import Collection
from stages.head.modes import BASELINES, Mode
from stages.head.results import numbers
from stages.head.runs.files import catalog_mark
from stages.head.scores.task import TASKS, Task, task_judged_by
from stages.head.scores.thresholds import FIXED, of_clips
from stages.progress import note
from store.errors import RequestError, unknown
from store.layout import Store
from store.runs import RunFolder, StoredRun, not_its_own, read_runs, run_name
from store.splits import Dealing, read_dealings
from store.words import plural

Key = tuple[int, int]  # seed, and fold from 1 (0 where there are none)
Runs = dict[Mode, dict[Key, StoredRun]]
ENSEMBLE = Mode("ensemble")


@dataclass(frozen=True, kw_only=True)
class PooledRuns:
    """Stored runs of several modes on the same test clips, seeds and folds one behind the other.

    Attributes
    ----------
    representation : the folder of the representation; None where all runs read none.
    keys : the seeds and folds that every mode has.
    runs : by mode its runs, in the order of ``keys``.
    clips : for each key, [test] the places of its test clips in the collection.
    base : the mode that others are tested against; None where it has no runs.
    """

    data: Collection
    representation: str | None
    regime: str
    inductive: bool
    keys: list[Key]
    runs: dict[Mode, list[StoredRun]]
    clips: list[NDArray[np.int64]]
    base: Mode | None
    ensemble: list[str]

    @property
    def task(self) -> Task:
        return task_of_run(next(iter(self.runs.values()))[0])

    @property
    def places(self) -> NDArray[np.int64]:
        """[test] the places of the test clips of all keys."""
        return np.concatenate(self.clips)

    def score(self, mode: Mode) -> NDArray[np.float32]:
        """[test, outputs] the scores that a mode gives the pooled test clips."""
        return np.concatenate([run.score for run in self.runs[mode]])

    def decision(self, mode: Mode) -> NDArray[Any]:
        """[test, outputs] what a mode decides for the pooled test clips."""
        return np.concatenate([run.decision for run in self.runs[mode]])


def gather(
    store: Store,
    data: Collection,
    *,
    representation: str | None,
    modes: Sequence[str],
    regime: str,
    against: str | None,
    ensemble: Sequence[str] = (),
    inductive: bool = False,
) -> PooledRuns | None:
    """The stored runs of some modes on one representation in one regime; None where there are none."""
    dataset = data.info.name
    names = list(dict.fromkeys((*modes, *ensemble)))
    folders = [
        RunFolder(dataset, folder, mode, regime, inductive and reads_neighbours(mode), data.target)
        for mode in names
        for folder in dict.fromkeys((representation, None))
    ]
    runs = of_one_split(load_runs(store, data, folders), read_dealings(store, dataset), dataset, regime)
    if not runs:
        return None
    keys = common_keys(runs, dataset)
    if ensemble:
        runs[ENSEMBLE] = ensemble_of(runs, ensemble, keys)
    of_mode = {mode: [by_key[key] for key in keys] for mode, by_key in runs.items()}
    _note_growth(data, of_mode)
    return PooledRuns(
        data=data,
        representation=representation,
        regime=regime,
        inductive=inductive,
        keys=keys,
        runs=of_mode,
        clips=[clips_of(data, run) for run in next(iter(of_mode.values()))],
        base=None if against is None else _base(runs, against, regime),
        ensemble=list(ensemble),
    )


def _note_growth(data: Collection, runs: Mapping[Mode, Sequence[StoredRun]]) -> None:
    """Say how many songs came after the first of the trainings."""
    catalogs = (run.record.catalog for of_mode in runs.values() for run in of_mode)
    rows = min(catalog["rows"] for catalog in catalogs if catalog)  # `_stands` has let none without pass
    later = len(np.unique(data.song[data.rows >= rows]))
    if later:
        note(
            f"{plural(later, 'song')} of {data.info.name} came after the first of these trainings, which did not score "
            f"them; tables by an artist's songs, genres and neighbours count them; train again to have them take part"
        )


def _base(runs: Runs, against: str, regime: str) -> Mode | None:
    """The mode that others are tested against; None, which is noted, where it has no runs."""
    mode = find_mode(runs, against)
    modes = {*registry.names("head"), *BASELINES}
    if mode is None and against not in modes:
        raise unknown("mode to test --against", against, {*map(str, runs), *registry.names("head")})
    if mode is None:
        note(
            f"there are no runs of {against} in regime {regime} among the modes reported: none is tested "
            f"against it; name another by --against: {', '.join(map(str, runs))}"
        )
    return mode


def reads_neighbours(mode: str) -> bool:
    """Whether other clips take part in a clip's score."""
    return find(mode).READS_NEIGHBOURS


def load_runs(store: Store, data: Collection, folders: Iterable[RunFolder]) -> Runs:
    """The runs in these folders by mode, seed and fold, with a column of scores for each output of the collection.

    Raises
    ------
    RequestError
        where the collection has changed since, or the runs of a folder do not belong together.
    FormatError
        where a run was edited, or lies in a folder of others.
    """
    runs: Runs = {}
    for folder in folders:
        settings = None
        for run in read_runs(store, folder):
            if not _stands(data, run):
                raise RequestError(
                    f"the runs in {store.files.show(folder.path)} were made before the collection's labels or songs "
                    f"changed; run the head again"
                )
            settings = settings or run.record.all_settings()
            if settings != run.record.all_settings():
                raise RequestError(
                    f"the runs in {store.files.show(folder.path)} have different settings, as when two commands train "
                    f"{folder.mode} at once; run the head again"
                )
            _check(store, folder, run, data)
            key = run.record.seed, run.record.fold or 0
            runs.setdefault(Mode(folder.mode, run.record.rule), {})[key] = _widen(run, data.outputs)
    return runs


def of_one_split(runs: Runs, dealings: Mapping[str, Dealing], dataset: str, regime: str) -> Runs:
    """The runs on the splits that the store holds now; if none is, because splits were dealt anew, all of them."""
    marks = {column: dealing.mark for column, dealing in dealings.items()}
    older = [
        mode
        for mode, by_key in runs.items()
        if any(run.record.split != marks.get(f"{regime}-{seed}", run.record.split) for (seed, _), run in by_key.items())
    ]
    if not older:
        return runs
    again = f"train again: encore compare {dataset} --regimes {regime}"
    if len(older) == len(runs):
        note(f"all runs are on splits that were dealt anew since; to have them on the present ones, {again}")
        return runs
    note(f"left out: {', '.join(map(str, older))}, trained on splits that were dealt anew since; {again}")
    return {mode: by_key for mode, by_key in runs.items() if mode not in older}


def task_of_run(run: StoredRun) -> Task:
    """The task that a run records; for runs of 0.1.0, which record none, the one that its metrics belong to."""
    return TASKS.get(str(run.record.task)) or task_judged_by(run.record.metrics)


def clips_of(data: Collection, run: StoredRun) -> NDArray[np.int64]:
    """[test] where the clips that a run scored stand in the collection; -1 for those that it no longer has."""
    rows = np.asarray(run.rows, dtype=np.int64)
    order = np.argsort(data.rows)
    place = order[np.searchsorted(data.rows, rows, sorter=order).clip(max=len(order) - 1)]
    return np.where(data.rows[place] == rows, place, -1)


def common_keys(runs: Runs, dataset: str) -> list[Key]:
    """The seeds and folds that every mode was run on, on the same clips; those left out are noted."""
    common = sorted(set.intersection(*(set(by_key) for by_key in runs.values())))
    if not common:
        raise RequestError(f"no seed was run for all of {', '.join(map(str, runs))}; run encore compare {dataset}")
    missing_seeds = {seed for by_key in runs.values() for seed, _ in by_key} - {seed for seed, _ in common}
    if missing_seeds:
        lacking = [str(mode) for mode, by_key in runs.items() if not missing_seeds <= {seed for seed, _ in by_key}]
        note(
            f"left out: seed {', '.join(map(str, sorted(missing_seeds)))}, not run for {', '.join(lacking)}; "
            f"run these again with --seeds, or name others by --modes"
        )
    for key in common:
        first, *others = (by_key[key] for by_key in runs.values())
        if any(run.rows != first.rows or task_of_run(run) != task_of_run(first) for run in others):
            raise RequestError(
                f"the runs of seed {key[0]} were made on different test clips; run them again by one encore compare"
            )
    return common


def find_mode(modes: Iterable[Mode], name: str) -> Mode | None:
    """The mode that a user names, with its rule or without; without, the first rule of the head."""
    modes = list(modes)
    return next((mode for mode in modes if name in (str(mode), mode.name)), None)


def ensemble_of(runs: Runs, names: Sequence[str], keys: Iterable[Key]) -> dict[Key, StoredRun]:
    """The runs that the mean scores of several modes would be; each clip is decided at the mean of their thresholds.

    Raises
    ------
    RequestError
        where it is no ensemble, or one of its modes has no runs.
    """
    if len(names) == 1:
        raise RequestError("an ensemble takes two modes or more; for several networks of one mode: head --members K")
    members: list[Mapping[Key, StoredRun]] = []
    for name in names:
        mode = find_mode(runs, name)
        if mode is None:
            have = ", ".join(map(str, runs))
            raise RequestError(f"there are no runs of {name} to take into the ensemble; have: {have}")
        members.append(runs[mode])
    return {key: _mean([by_key[key] for by_key in members]) for key in keys}


def _mean(runs: Sequence[StoredRun]) -> StoredRun:
    """The run with the mean score of runs on the same clips."""
    score = np.stack([run.score for run in runs]).mean(axis=0, dtype=np.float32)
    record = replace(runs[0].record, rule=None, settings=None, config=None)
    task = task_of_run(runs[0])
    threshold = None
    if task.HAS_THRESHOLDS:
        threshold = np.mean(np.broadcast_arrays(*(_thresholds(run) for run in runs)), axis=0)
    prediction = task.decide(score, threshold)
    return replace(runs[0], record=record, score=score, decision=prediction.decision)


def _thresholds(run: StoredRun) -> NDArray[np.float64]:
    """[labels] or [clips, labels] above which the run chooses; 0.5 where it has none, as of a rule."""
    record = run.record
    threshold = np.array(record.threshold or [FIXED] * len(record.labels))
    if run.strangers is None or record.stranger_threshold is None:
        return threshold
    return of_clips(threshold, run.strangers, record.stranger_threshold)


def _stands(data: Collection, run: StoredRun) -> bool:
    """Whether the clips that a run knew are still there, with the same labels, albums and artists."""
    trained_on = run.record.catalog
    rows = (trained_on or {}).get("rows")
    if data.splits is None or not isinstance(rows, int) or catalog_mark(data.splits, data.target, rows) != trained_on:
        return False
    return set(run.record.labels) <= set(data.outputs) and bool((clips_of(data, run) >= 0).all())


def _check(store: Store, folder: RunFolder, run: StoredRun, data: Collection) -> None:
    """Raise where a record has other scores than its predictions, or is of other neighbours than its folder."""
    record = run.record
    name = run_name(record.seed, record.fold, record.rule)
    truth = data.truth[clips_of(data, run)][:, _columns(run, data.outputs)]
    for metric, value in numbers(task_of_run(run).evaluate(truth, run.decision)).items():
        if record.metrics.get(metric) != value:
            why = f"its {metric} is {record.metrics.get(metric)!r}, and that of its predictions {value!r}"
            raise not_its_own(store, folder, name, why)
    inductive = (record.all_settings() or {}).get("inductive", False)
    if find(folder.mode).READS_NEIGHBOURS and inductive is not folder.inductive:
        raise not_its_own(store, folder, name, "its neighbours are not those of its folder")


def _columns(run: StoredRun, labels: Sequence[str]) -> list[int]:
    return [labels.index(label) for label in run.record.labels]


def _widen(run: StoredRun, labels: tuple[str, ...]) -> StoredRun:
    """The run over all labels: one that only clips which failed to encode carry is the catalog's, and not the run's."""
    columns = _columns(run, labels)
    shape = len(run.rows), len(labels)
    score, decision = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=run.decision.dtype)
    score[:, columns], decision[:, columns] = run.score, run.decision
    threshold = run.record.threshold
    if threshold is not None:
        threshold = [FIXED] * len(labels)
        for column, value in zip(columns, run.record.threshold or (), strict=True):
            threshold[column] = value
    return replace(run, record=replace(run.record, labels=labels, threshold=threshold), score=score, decision=decision)
