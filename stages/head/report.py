"""What lies behind the scores of stored runs: intervals, paired tests, scores by kind of clip, confusions."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages import registry
from stages.head.baselines import find
from stages.head.collection import Collection
from stages.head.graph.cliques import CliqueGraph
from stages.head.heads import can_be_inductive
from stages.head.layers import with_layer
from stages.head.modes import BASELINES, Mode
from stages.head.open import default_backbone, from_catalog
from stages.head.runs.pool import Key, PooledRuns, gather, reads_neighbours
from stages.head.scores import buckets
from stages.head.scores.bootstrap import bootstrap, bootstrap_of
from stages.head.scores.compared import Lead, Score, Values, compared, lead, summed
from stages.head.scores.metrics import Metric, confusion
from stages.head.scores.task import Task
from stages.head.thesis import paper_on
from stages.splits.regimes import parse as parse_regime
from store.errors import RequestError
from store.layout import Store, match, split_layer
from store.runs import count_by_mode, count_runs
from store.schema import CatalogInfo

KINDS = {
    "by_genres_of_artist": buckets.GENRES,
    "by_songs_of_artist": buckets.SONGS,
    "by_neighbours_of_clip": buckets.NEIGHBOURS,
}


@dataclass(frozen=True)
class LabelError:
    """How far a mode is off, on average, for the clips of one label, and the label's rank: 1 has the least error."""

    clips: int
    error: float
    rank: int

    def as_json(self) -> dict[str, Any]:
        return {"clips": self.clips, "mae": self.error, "rank": self.rank}


@dataclass(frozen=True)
class ModeReport:
    """What lies behind the score of one mode.

    Attributes
    ----------
    overall : the main metric on all test clips.
    is_best : whether it is the best of all modes, beyond noise.
    others : by name, the other metrics of `Task.TESTED`.
    by_kind : for each of `KINDS` `Task.within` in each bucket that has clips.
    by_label : where a number is estimated, by label the error.
    means : by name, every metric's mean over seeds and folds, as the runs hold it; NaN where one does not define it.
    deviation : standard deviation of the scores over the buckets of artists' genres, and the thesis's; None if unknown.
    confusion : [labels, labels + 1] see `stages.head.scores.metrics.confusion`; None where no labels are chosen.
    mixture : [layers] the share of each layer, the mean over seeds and folds; None where none are mixed.
    """

    overall: Score
    by_kind: dict[str, dict[str, Score]]
    deviation: float | None
    thesis_deviation: float | None
    confusion: NDArray[np.int64] | None
    others: dict[str, Score] = field(default_factory=dict)
    by_label: dict[str, LabelError] = field(default_factory=dict)
    means: dict[str, float] = field(default_factory=dict)
    mixture: list[float] | None = None
    is_best: bool = False

    def as_json(self) -> dict[str, Any]:
        thesis = self.thesis_deviation
        return {
            **self.overall.as_json(),
            **{
                kind: {bucket: {"clips": score.clips, **score.as_json()} for bucket, score in scores.items()}
                for kind, scores in self.by_kind.items()
            },
            "deviation_over_genres": self.deviation,
            "paper": None if thesis is None else {"deviation_over_genres": thesis},
            **({} if self.confusion is None else {"confusion": self.confusion.tolist()}),
            **({"metrics": {name: score.as_json() for name, score in self.others.items()}} if self.others else {}),
            **({"by_label": {name: of.as_json() for name, of in self.by_label.items()}} if self.by_label else {}),
            **({} if self.mixture is None else {"mixture": self.mixture}),
        }


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `report` says of the stored runs of one collection in one regime.

    Attributes
    ----------
    representation : the folder of the representation; None where only runs that read none are reported.
    neighbours : ``train`` where training clips alone were neighbours, else ``all``.
    target : the numeric target that was learnt; None for labels.
    labels, label_clips : the labels, and how many test clips carry each.
    ensemble : the modes whose mean scores are one more mode.
    other_settings : by mode, its settings that differ from those of most modes.
    lead : of the best mode in the main metric; None of a single one.
    """

    dataset: str
    synthetic: bool
    representation: str | None
    regime: str
    neighbours: str
    seeds: list[int]
    task: Task
    labels: tuple[str, ...]
    label_clips: list[int]
    ensemble: list[str]
    other_settings: dict[Mode, dict[str, Any]]
    modes: dict[Mode, ModeReport]
    lead: Lead | None = None
    target: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The report under its stable keys."""
        return {
            "dataset": self.dataset,
            "synthetic": self.synthetic,
            "representation": self.representation,
            "regime": self.regime,
            "neighbours": self.neighbours,
            "seeds": self.seeds,
            "metric": self.task.main.name,
            "labels": list(self.labels),
            "label_clips": self.label_clips,
            "ensemble": self.ensemble,
            "other_settings": {str(mode): settings for mode, settings in self.other_settings.items()},
            "modes": {str(mode): entry.as_json() for mode, entry in self.modes.items()},
            **({} if self.target is None else {"target": self.target}),
        }


def report(
    store: Store,
    dataset: str,
    *,
    backbone: str | None,
    modes: Sequence[str],
    regime: str,
    against: str,
    target: str | None = None,
    ensemble: Sequence[str] = (),
    inductive: bool = False,
) -> Report:
    """Intervals, paired tests and scores by kind of clip for the runs that ``head`` and ``compare`` left.

    Test clips of all seeds are pooled; artists are resampled. Only seeds that every mode has are included. The mean of
    the scores of ``ensemble``'s modes is reported as one more mode.

    Parameters
    ----------
    target : the numeric target whose runs are reported; None for those of labels.
    inductive : of modes that read neighbours, report the runs in which training clips alone were neighbours.
    """
    parse_regime(regime)
    data = from_catalog(store.read_catalog(dataset), store, target=target, keeps=False)
    representation = representation_of(store, dataset, backbone)
    pool = gather_in_folds(
        store,
        data,
        regime,
        representation=representation,
        modes=modes,
        against=against,
        ensemble=ensemble,
        inductive=inductive,
    )
    if pool is None:
        how = _how_to_make_some(dataset, backbone, [*modes, *ensemble], regime, target, inductive=inductive)
        of_target = "" if target is None else f" that learnt {target}"
        raise RequestError(f"{dataset} has no runs{of_target} in regime {regime} to report on; {how}")
    return report_on(pool)


def in_folds(store: Store, dataset: str, regime: str) -> list[str]:
    """The k-fold versions of a regime that there are runs of, those of the fewest folds first."""
    folders = {folder.removesuffix("-inductive") for of in count_by_mode(store, dataset).values() for folder in of}
    regimes = {match[0] for folder in folders if (match := re.search(rf"(?<=-){regime}-\d+fold$", folder))}
    return sorted(regimes, key=lambda name: (len(name), name))


def gather_in_folds(store: Store, data: Collection, regime: str, **request: Any) -> PooledRuns | None:
    """`gather` of a regime's runs or, where it has none, of those in folds; None where there are none either."""
    pools = (gather(store, data, regime=each, **request) for each in (regime, *in_folds(store, data.info.name, regime)))
    return next((pool for pool in pools if pool is not None), None)


def report_on(pool: PooledRuns) -> Report:
    """The report of gathered runs."""
    data, regime, inductive = pool.data, pool.regime, pool.inductive
    neighbours = [
        _degree(data, regime, key, inductive=inductive)[clips] for key, clips in zip(pool.keys, pool.clips, strict=True)
    ]
    test = _TestClips(data, pool.places, np.concatenate(neighbours))
    deviations: Mapping[str, float] = {}
    if data.target is None:
        deviations = _thesis_deviations(data.info, pool.representation, regime, inductive=inductive)
    modes, ahead = _mode_reports(pool, test, deviations)
    settings = {mode: runs[0].record.all_settings() for mode, runs in pool.runs.items()}
    return Report(
        dataset=data.info.name,
        synthetic=data.info.synthetic,
        representation=pool.representation,
        regime=regime,
        neighbours="train" if inductive else "all",
        seeds=sorted({seed for seed, _ in pool.keys}),
        task=pool.task,
        labels=data.label_names,
        label_clips=test.labels.sum(axis=0).tolist(),
        ensemble=pool.ensemble,
        other_settings=_other_settings(settings),
        modes=modes,
        lead=ahead,
        target=data.target,
    )


def resampled(pool: PooledRuns, seed: int) -> dict[Mode, NDArray[np.float64]]:
    """By mode its main metric on the pooled test clips under resampled artists: [resamples]; none for one artist."""
    truth = pool.data.truth[pool.places]
    sums = np.stack([pool.task.tally(truth, pool.decision(mode)) for mode in pool.runs])
    scores = bootstrap(pool.task, sums, pool.data.artist[pool.places], seed)
    return {} if scores is None else dict(zip(pool.runs, scores, strict=True))


class _TestClips:
    """The test clips of all seeds and folds, one behind the other: what is known of each. All arrays are [clips]."""

    def __init__(self, data: Collection, clips: NDArray[np.int64], neighbours: NDArray[np.int64]) -> None:
        self.truth = data.truth[clips]
        self.labels = data.labels[clips]
        self.artist = data.artist[clips]
        self.counts = {
            "by_genres_of_artist": buckets.genres_of_artist(data.artist, data.labels)[clips],
            "by_songs_of_artist": buckets.songs_of_artist(data.artist, data.song)[clips],
            "by_neighbours_of_clip": neighbours,
        }


def _mode_reports(
    pool: PooledRuns, test: _TestClips, thesis: Mapping[str, float]
) -> tuple[dict[Mode, ModeReport], Lead | None]:
    task, modes, base = pool.task, list(pool.runs), pool.base
    decisions = {mode: pool.decision(mode) for mode in modes}
    sums = np.stack([task.tally(test.truth, of_mode) for of_mode in decisions.values()])
    of_main = summed(task, task.main, sums, test.artist)
    overall = compared(task.main, modes, of_main, base)
    ahead = lead(modes, of_main)
    others = {
        metric.name: compared(metric, modes, _measured(task, metric, sums, test, decisions), base)
        for metric in task.TESTED
        if metric != task.main
    }
    by_kind: dict[str, dict[str, dict[Mode, Score]]] = {}
    for kind, ranges in KINDS.items():
        inside = buckets.split(test.counts[kind], ranges)
        by_kind[kind] = {
            bucket: compared(task.within, modes, summed(task, task.within, sums[:, among], test.artist[among]), base)
            for bucket, among in inside.items()
            if among.any()
        }
    reports = {}
    for mode in modes:
        scores = {kind: {name: of[mode] for name, of in by_bucket.items()} for kind, by_bucket in by_kind.items()}
        over_genres = [score.score for score in scores["by_genres_of_artist"].values()]
        reports[mode] = ModeReport(
            overall=overall[mode],
            by_kind=scores,
            deviation=float(np.std(over_genres)) if over_genres else None,
            thesis_deviation=thesis.get(str(mode)),
            confusion=confusion(test.truth, decisions[mode]) if task.CHOOSES else None,
            others={name: of[mode] for name, of in others.items()},
            by_label={} if task.CHOOSES else _by_label(pool.data.label_names, test, decisions[mode]),
            means=_means(pool, mode),
            mixture=_mixture(pool, mode),
            is_best=ahead is not None and ahead.is_beyond_noise and mode == ahead.best,
        )
    return reports, ahead


def _means(pool: PooledRuns, mode: Mode) -> dict[str, float]:
    of_runs = [run.record.metrics for run in pool.runs[mode]]
    return {name: float(np.mean([math.nan if of[name] is None else of[name] for of in of_runs])) for name in of_runs[0]}


def _mixture(pool: PooledRuns, mode: Mode) -> list[float] | None:
    mixtures = [run.record.mixture for run in pool.runs[mode] if run.record.mixture is not None]
    return np.mean(mixtures, axis=0).tolist() if mixtures else None


def _measured(
    task: Task, metric: Metric, sums: NDArray[np.float64], test: _TestClips, decisions: Mapping[Mode, NDArray[Any]]
) -> Values:
    """Any metric, on all test clips."""
    if metric.resample is None:
        return summed(task, metric, sums, test.artist)
    values = np.array([metric.measure(test.truth, of_mode) for of_mode in decisions.values()])
    return Values(values, len(test.truth), bootstrap_of(metric, test.truth, list(decisions.values()), test.artist))


def _by_label(labels: Sequence[str], test: _TestClips, estimate: NDArray[Any]) -> dict[str, LabelError]:
    """The mean absolute error of each label that test clips carry, and its rank among these; equals share one."""
    error = np.abs(estimate[:, 0].astype(np.float64) - test.truth[:, 0])
    clips = test.labels.sum(axis=0)
    present = np.flatnonzero(clips)
    means = (error @ test.labels[:, present]) / clips[present]
    ranks = 1 + (means[:, None] > means[None, :]).sum(axis=1)
    return {
        labels[label]: LabelError(int(clips[label]), mean, rank)
        for label, mean, rank in zip(present.tolist(), means.tolist(), ranks.tolist(), strict=True)
    }


def _degree(data: Collection, regime: str, key: Key, *, inductive: bool) -> NDArray[np.int64]:
    """[clips] how many neighbours each clip has in the artist graph; with ``inductive`` training clips alone."""
    graph = data.graph
    if inductive:
        seed, fold = key
        split = data.parts(regime, seed)[max(fold - 1, 0)]
        graph = CliqueGraph(graph.artist, torch.from_numpy(split == 0))
    degree: NDArray[np.int64] = graph.degree.numpy()
    return degree


def _thesis_deviations(
    info: CatalogInfo, representation: str | None, regime: str, *, inductive: bool
) -> Mapping[str, float]:
    """By mode the thesis's deviation over artists' genres, where it has one of runs like these."""
    paper = paper_on(info)
    if paper is None or not paper.is_of(representation, regime):
        return {}
    return {mode: value for mode, value in paper.deviations.items() if not (inductive and reads_neighbours(mode))}


def _how_to_make_some(
    dataset: str, backbone: str | None, modes: Sequence[str], regime: str, target: str | None, *, inductive: bool
) -> str:
    """The command that makes runs of these modes, or of those that can be inductive where the runs shall be."""
    heads = {mode: registry.find("head", mode) for mode in modes if mode not in BASELINES}
    able = [mode for mode, head in heads.items() if can_be_inductive(head) or not inductive]
    if not able:
        return f"{', '.join(heads)} cannot be inductive: leave out --neighbours train"
    words = [
        f"encore compare {dataset}",
        *([] if backbone is None else [f"--backbone {backbone}"]),
        *([] if set(able) == set(registry.names("head")) else [f"--modes {','.join(able)}"]),
        f"--regimes {regime}",
        *([] if target is None else [f"--target {shlex.quote(target)}"]),
        *(["--neighbours train"] if inductive else []),
        *(["--baselines"] if set(BASELINES) & set(modes) else []),
    ]
    return f"make some: {' '.join(words)}"


def _other_settings(settings: Mapping[Mode, dict[str, Any] | None]) -> dict[Mode, dict[str, Any]]:
    """By mode its settings that differ from those of most modes; modes that train nothing have none.

    A head's own defaults are no difference, nor is whether runs are inductive, which the user chooses.
    """
    own = {mode: values for mode, values in settings.items() if values}
    others: dict[Mode, dict[str, Any]] = {}
    for name in dict.fromkeys(name for values in own.values() for name in values if name != "inductive"):
        by_mode = {mode: values[name] for mode, values in own.items() if name in values}
        own_default = {mode: getattr(find(mode.name).Config(), name, None) for mode in by_mode}
        texts = {mode: "" if value == own_default[mode] else repr(value) for mode, value in by_mode.items()}
        usual = max(dict.fromkeys(texts.values()), key=list(texts.values()).count, default=None)
        for mode, text in texts.items():
            if text != usual:
                others.setdefault(mode, {})[name] = by_mode[mode]
    return others


def representation_of(store: Store, dataset: str, backbone: str | None) -> str | None:
    """The representation whose runs are reported."""
    names = [name for name, count in count_runs(store, dataset).items() if count and name != "metadata"]
    name, layer = split_layer(backbone)
    name = name or default_backbone(store, dataset, [each for each in names if layer in (None, split_layer(each)[1])])
    matches = match(names, with_layer(name, layer))
    if len(matches) > 1:
        raise RequestError(f"{dataset} has runs of {', '.join(matches)}; name one by --backbone (and --layer)")
    if backbone is not None and not matches:
        raise RequestError(f"{dataset} has no runs of {backbone!r}; have: {', '.join(names) or 'none'}")
    return matches[0] if matches else None
