"""What lies behind the scores of stored runs: intervals, paired tests, scores by kind of artist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages import registry
from stages.head.collection import Collection
from stages.head.heads import can_be_inductive
from stages.head.open import default_backbone, from_catalog
from stages.head.results import numbers
from stages.head.rules import SHORT_RULES
from stages.head.runs.files import catalog_mark
from stages.head.scores import bootstrap as analysis
from stages.head.scores.bootstrap import Scored
from stages.head.scores.task import TASKS, Task, task_judged_by
from stages.head.thesis import paper_on
from stages.progress import note
from stages.splits.regimes import parse as parse_regime
from store.errors import RequestError, unknown
from store.layout import Store, match
from store.runs import RunFolder, RunRecord, StoredRun, count_runs, not_its_own, read_runs, run_name
from store.splits import Dealing, read_dealings


def report(
    store: Store,
    dataset: str,
    *,
    backbone: str | None,
    modes: Sequence[str],
    regime: str,
    against: str,
    ensemble: Sequence[str] = (),
    inductive: bool = False,
) -> dict[str, Any]:
    """Intervals, paired tests and scores by kind of artist for the runs that ``head`` and ``compare`` left.

    Test clips of all seeds are pooled; artists are resampled. Only seeds that every mode has are taken. The mean of
    the scores of ``ensemble``'s modes is reported as one more mode.

    Parameters
    ----------
    inductive : of modes that read neighbours, take the runs in which training clips alone were neighbours.
    """
    parse_regime(regime)
    catalog = store.read_catalog(dataset)
    data = from_catalog(catalog)
    name = _representation(store, dataset, backbone)
    runs: dict[str, dict[Key, Run]] = {}
    for mode in dict.fromkeys((*modes, *ensemble)):
        for where in (name, None):
            runs |= _load(store, data, RunFolder(dataset, where, mode, regime, inductive and _reads_neighbours(mode)))
    runs = _of_one_split(runs, read_dealings(store, dataset), dataset, regime)
    if not runs:
        raise RequestError(
            f"{dataset} has no runs in regime {regime} to report on; "
            + _how_to_make_some(dataset, backbone, (*modes, *ensemble), regime, inductive=inductive)
        )
    common = sorted(set.intersection(*(set(by_key) for by_key in runs.values())))
    if not common:
        raise RequestError(f"no seed was run for all of {', '.join(runs)}; run encore compare {dataset}")
    left = {seed for by_key in runs.values() for seed, _ in by_key} - {seed for seed, _ in common}
    if left:
        lacking = [mode for mode, by_key in runs.items() if not left <= {seed for seed, _ in by_key}]
        note(
            f"left out: seed {', '.join(map(str, sorted(left)))}, not run for {', '.join(lacking)}; "
            f"run these again with --seeds, or name others by --modes"
        )
    for key in common:
        first, *others = (by_key[key] for by_key in runs.values())
        if not all(first.is_comparable(other) for other in others):
            raise RequestError(
                f"the runs of seed {key[0]} were made on different test clips; run them again by one encore compare"
            )
    if len(ensemble) == 1:
        raise RequestError("an ensemble takes two modes or more; for several networks of one mode: head --members K")
    members = [_member(runs, mode) for mode in ensemble]
    tuned = [mode for mode, by_key in zip(ensemble, members, strict=True) if _is_tuned(by_key[common[0]])]
    if tuned:
        raise RequestError(
            f"the runs of {', '.join(tuned)} decide by tuned thresholds, and an ensemble has none to go by but 0.5; "
            f"train them again without --threshold"
        )
    if members:
        runs[ENSEMBLE] = {key: _mean([by_key[key] for by_key in members]) for key in common}
    against = _first(runs, against) or against
    if against not in runs and against not in registry.names("head"):
        raise unknown("mode to test --against", against, {*runs, *registry.names("head")})
    if against not in runs:
        note(
            f"there are no runs of {against} in regime {regime} among the modes reported: none is tested "
            f"against it; name another by --against: {', '.join(runs)}"
        )
    pooled = {mode: [by_key[key] for key in common] for mode, by_key in runs.items()}
    scored = {mode: _pool(by_key) for mode, by_key in pooled.items()}
    clips = np.concatenate([run.clips for run in next(iter(pooled.values()))])
    names, said = list(scored), list(scored.values())
    genres = analysis.genres_of_artist(data.artist, data.labels)[clips]
    songs = analysis.songs_of_artist(data.artist, data.song)[clips]
    over_all = analysis.bootstrap(said) if analysis.units(said[0]) > 1 else None  # one artist tells nothing of others
    found: dict[str, Any] = _scores(names, said, over_all, against)
    for kind, value, buckets in (
        ("by_genres_of_artist", genres, analysis.GENRES),
        ("by_songs_of_artist", songs, analysis.SONGS),
    ):
        for mode in names:
            found[mode][kind] = {}
        for bucket, (parts, resampled) in analysis.by_bucket(said, value, buckets).items():
            for mode, entry in _scores(names, parts, resampled, against).items():
                found[mode][kind][bucket] = {"clips": len(parts[0].truth), **entry}
    paper = paper_on(catalog.info)
    thesis = paper.deviations if paper is not None and paper.is_of(name, regime) else {}
    for mode, run in scored.items():
        by_genres = [bucket["score"] for bucket in found[mode]["by_genres_of_artist"].values()]
        found[mode]["deviation_over_genres"] = float(np.std(by_genres)) if by_genres else None
        told = mode in thesis and not (inductive and _reads_neighbours(mode))
        found[mode]["paper"] = {"deviation_over_genres": thesis[mode]} if told else None
        found[mode]["confusion"] = analysis.confusion(run).tolist()
    return {
        "dataset": dataset,
        "synthetic": catalog.info.synthetic,
        "representation": name,
        "regime": regime,
        "neighbours": "train" if inductive else "all",
        "seeds": sorted({seed for seed, _ in common}),
        "metric": said[0].task.main.name,
        "labels": list(data.label_names),
        "label_clips": said[0].truth.sum(axis=0).tolist(),
        "ensemble": list(ensemble),
        "other_settings": _other_settings({mode: by_key[0].settings for mode, by_key in pooled.items()}),
        "modes": found,
    }


def _of_one_split(
    runs: dict[str, dict[Key, Run]], dealings: Mapping[str, Dealing], dataset: str, regime: str
) -> dict[str, dict[Key, Run]]:
    """The runs on the splits that the store keeps; where all are on older ones, dealt anew since, all of these."""
    marks = {column: dealing.mark for column, dealing in dealings.items()}
    older = [
        mode
        for mode, by_key in runs.items()
        if any(run.split != marks.get(f"{regime}-{seed}", run.split) for (seed, _), run in by_key.items())
    ]
    if not older:
        return runs
    again = f"train again: encore compare {dataset} --regimes {regime}"
    if len(older) == len(runs):
        note(f"all runs are on splits that were dealt anew since; to have them on the present ones, {again}")
        return runs
    note(f"left out: {', '.join(older)}, trained on splits that were dealt anew since; {again}")
    return {mode: by_key for mode, by_key in runs.items() if mode not in older}


def _reads_neighbours(mode: str) -> bool:
    reads: bool = registry.find("head", mode).READS_NEIGHBOURS
    return reads


def _how_to_make_some(dataset: str, backbone: str | None, modes: Sequence[str], regime: str, *, inductive: bool) -> str:
    """The command that makes the runs asked for, of those modes that can be inductive where these shall be."""
    heads = {mode: registry.find("head", mode) for mode in modes}
    able = [mode for mode, head in heads.items() if can_be_inductive(head) or not inductive]
    if not able:
        return f"{', '.join(heads)} cannot be inductive: leave out --neighbours train"
    words = [
        f"encore compare {dataset}",
        *([] if backbone is None else [f"--backbone {backbone}"]),
        *([] if set(able) == set(registry.names("head")) else [f"--modes {','.join(able)}"]),
        f"--regimes {regime}",
        *(["--neighbours train"] if inductive else []),
    ]
    return f"make some: {' '.join(words)}"


def _scores(
    names: Sequence[str], said: Sequence[Scored], resampled: NDArray[np.float64] | None, against: str
) -> dict[str, dict[str, Any]]:
    """By mode the score, its interval, and how it differs from the mode ``against``, on the same clips.

    ``resampled`` is [modes, resamples], None where there are too few artists for intervals.
    """
    rows = dict(zip(names, [None] * len(names) if resampled is None else resampled, strict=True))
    scores = {name: run.score() for name, run in zip(names, said, strict=True)}
    found: dict[str, dict[str, Any]] = {}
    for name, row in rows.items():
        found[name] = {"score": scores[name], "interval": None if row is None else list(analysis.interval(row))}
        if against in rows and name != against:
            base = rows[against]
            difference = None if row is None or base is None else row - base
            found[name]["against"] = {
                "mode": against,
                "difference": scores[name] - scores[against],
                "interval": None if difference is None else list(analysis.interval(difference)),
                "p": None if difference is None else analysis.p_value(difference),
            }
    return found


def _other_settings(settings: dict[str, dict[str, Any] | None]) -> dict[str, dict[str, Any]]:
    """Mode -> its settings that differ from what most modes have; modes that train nothing have none.

    Compared is what modes read. Whether runs are inductive was asked for.
    """
    given = {mode: values for mode, values in settings.items() if values and mode != ENSEMBLE}
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(name for values in given.values() for name in values if name != "inductive"):
        of = {mode: values[name] for mode, values in given.items() if name in values}
        shown = [repr(value) for value in of.values()]
        usual = max(dict.fromkeys(shown), key=shown.count, default=None)
        for mode, value in of.items():
            if repr(value) != usual:
                found.setdefault(mode, {})[name] = value
    return found


def _is_tuned(run: Run) -> bool:
    return bool((run.settings or {}).get("threshold", "fixed") != "fixed")


def _representation(store: Store, dataset: str, backbone: str | None) -> str | None:
    names = [name for name, count in count_runs(store, dataset).items() if count and name != "metadata"]
    chosen = match(names, backbone or default_backbone(store, dataset, names))
    if len(chosen) > 1:
        raise RequestError(f"{dataset} has runs of {', '.join(chosen)}; name one by --backbone")
    if backbone is not None and not chosen:
        raise RequestError(f"{dataset} has no runs of {backbone!r}; have: {', '.join(names) or 'none'}")
    return chosen[0] if chosen else None


Key = tuple[int, int]  # seed, and fold from 1 (0 where there are none)


ENSEMBLE = "ensemble"


@dataclass(frozen=True)
class Run:
    """What one run said of its test clips: ``clips`` are their places in the collection, ``score`` [clips, labels]."""

    said: Scored
    clips: NDArray[np.int64]
    score: NDArray[np.float32]
    settings: dict[str, Any] | None = None
    split: str | None = None

    def is_comparable(self, other: Run) -> bool:
        """Whether both were asked the same of the same clips."""
        return np.array_equal(self.clips, other.clips) and self.said.task == other.said.task


def _load(store: Store, data: Collection, folder: RunFolder) -> dict[str, dict[Key, Run]]:
    """The runs in a folder, by name (mode and rule), and by seed and fold."""
    place = {row: clip for clip, row in enumerate(data.rows.tolist())}
    runs: dict[str, dict[Key, Run]] = {}
    settings = None
    for run in read_runs(store, folder):
        record = run.record
        whole = _stands(data, record.catalog) and set(record.labels) <= set(data.label_names)
        if not whole or not all(row in place for row in run.rows):
            raise RequestError(
                f"the runs in {store.files.show(folder.path)} were made before the collection's labels or songs "
                f"changed; run the head again"
            )
        settings = settings or record.all_settings()
        if settings != record.all_settings():
            raise RequestError(
                f"the runs in {store.files.show(folder.path)} have different settings, as when two commands train "
                f"{folder.mode} at once; run the head again"
            )
        clips = np.array([place[row] for row in run.rows])
        # A label that none but clips which failed to encode carry is the catalog's, and not the run's.
        columns = [data.label_names.index(label) for label in record.labels]
        score, chosen = (np.zeros((len(clips), len(data.label_names)), kind) for kind in (np.float32, bool))
        score[:, columns], chosen[:, columns] = run.score, run.chosen
        _check(store, folder, run, data.labels[clips][:, columns])
        said = Scored(data.labels[clips], chosen, data.artist[clips], _task(record))
        name = f"{folder.mode} ({SHORT_RULES.get(record.rule, record.rule)})" if record.rule else folder.mode
        runs.setdefault(name, {})[record.seed, record.fold or 0] = Run(
            said, clips, score, record.all_settings(), record.split
        )
    return runs


def _task(record: RunRecord) -> Task:
    """The task that a run names; one of a version that named none tells it by its metrics."""
    return TASKS.get(str(record.task)) or task_judged_by(record.metrics)


def _check(store: Store, folder: RunFolder, run: StoredRun, truth: NDArray[np.bool_]) -> None:
    """Raise where a record has other scores than its predictions, or is of other neighbours than its folder."""
    record = run.record
    name = run_name(record.seed, record.fold, record.rule)
    for metric, value in numbers(_task(record).evaluate(truth, run.chosen)).items():
        if record.metrics.get(metric) != value:
            why = f"its {metric} is {record.metrics.get(metric)!r}, and that of its predictions {value!r}"
            raise not_its_own(store, folder, name, why)
    inductive = (record.all_settings() or {}).get("inductive", False)
    if _reads_neighbours(folder.mode) and inductive is not folder.inductive:
        raise not_its_own(store, folder, name, "its neighbours are not those of its folder")


def _stands(data: Collection, trained_on: dict[str, Any] | None) -> bool:
    """Whether the songs that a run knew are still there, with the same labels, albums and artists."""
    rows = (trained_on or {}).get("rows")
    if data.splits is None or not isinstance(rows, int):
        return False
    return catalog_mark(data.splits, rows) == trained_on


def _member(runs: dict[str, dict[Key, Run]], mode: str) -> dict[Key, Run]:
    """The runs of a mode; its rules, where it has several, have the same scores."""
    name = _first(runs, mode)
    if name is None:
        raise RequestError(f"there are no runs of {mode} to take into the ensemble; have: {', '.join(runs)}")
    return runs[name]


def _first(runs: dict[str, dict[Key, Run]], mode: str) -> str | None:
    """What the runs of a mode are called; those by its first rule, where it has several."""
    return next((name for name in runs if name.partition(" (")[0] == mode), None)


def _mean(members: Sequence[Run]) -> Run:
    """The run that the mean of the scores of runs on the same clips would be; it decides at 0.5."""
    said, clips = members[0].said, members[0].clips
    found = said.task.decide(np.mean([run.score for run in members], axis=0, dtype=np.float32))
    return Run(replace(said, chosen=found.chosen), clips, found.score)


def _pool(runs: Sequence[Run]) -> Scored:
    return Scored(
        np.concatenate([run.said.truth for run in runs]),
        np.concatenate([run.said.chosen for run in runs]),
        np.concatenate([run.said.artist for run in runs]),
        runs[0].said.task,
    )
