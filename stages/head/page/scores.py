"""The tables of who wins: each mode by regime, the best of each, and backbones side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.head.baselines import find
from stages.head.modes import Mode
from stages.head.page.tables import Cell, Column, Table, pairs
from stages.head.report import Report
from stages.head.runs.pool import ENSEMBLE
from stages.head.scores.bootstrap import interval
from stages.head.scores.metrics import Metric
from stages.head.scores.task import METRICS

Document = Mapping[str, Any]
Key = tuple[str, str]  # representation, or "none", and mode

NONE = "none"
_REGIMES = {
    "random": "songs are dealt at random, so that most test artists are known from training",
    "album": "no album has songs on both sides",
    "artist": "no test artist has songs in training: how well songs of new artists are told",
    "official": "the collection's own split",
}


@dataclass
class _Scores:
    """All scores of a collection: by representation and mode, then by regime."""

    metric: Metric
    regimes: list[str]
    values: dict[Key, dict[str, list[float]]] = field(default_factory=dict)
    draws: dict[Key, dict[str, NDArray[np.float64]]] = field(default_factory=dict)
    thesis: dict[Key, float] = field(default_factory=dict)

    @classmethod
    def of(cls, views: Sequence[Document]) -> _Scores:
        scores = cls(METRICS[views[0]["metric"]], list(dict.fromkeys(view["regime"] for view in views)))
        for view in views:
            for mode, values in view["scores"].items():
                key = NONE if mode in view["unread"] else view["representation"], mode
                scores.values.setdefault(key, {})[view["regime"]] = values
                if mode in view["resampled"]:
                    scores.draws.setdefault(key, {})[view["regime"]] = view["resampled"][mode]
                if mode in view["thesis"]:
                    scores.thesis[key] = view["thesis"][mode]
        return scores

    @property
    def gap(self) -> tuple[str, str] | None:
        """The two regimes whose difference is the artist gap; None where one of them is lacking."""
        both = ((regime, regime.replace("random", "artist")) for regime in self.regimes if regime.startswith("random"))
        return next((pair for pair in both if pair[1] in self.regimes), None)

    def mean(self, key: Key, regime: str) -> float | None:
        values = self.values.get(key, {}).get(regime)
        return None if values is None else float(np.mean(values))

    def deviation(self, key: Key, regime: str) -> float | None:
        """None for one run, of which nobody knows how far another would lie."""
        values = self.values.get(key, {}).get(regime, [])
        return float(np.std(values)) if len(values) > 1 else None

    def gap_of(self, key: Key) -> list[Cell]:
        """The artist gap and its interval, of scores that were drawn independently."""
        assert self.gap is not None
        known, new = (self.mean(key, regime) for regime in self.gap)
        difference, draws = None if known is None or new is None else known - new, self.draws.get(key, {})
        if not set(self.gap) <= draws.keys():
            return [difference, None, None]
        return [difference, *interval(draws[self.gap[0]] - draws[self.gap[1]])]


def tables_of_scores(views: Sequence[Document], reports: Sequence[Report]) -> list[Table]:
    """Who wins where, each mode by regime, and, where there are several, backbones side by side.

    Parameters
    ----------
    views : documents with ``representation, regime, metric, scores`` (by mode a list over seeds and folds), ``thesis``
        (by mode), ``unread`` (the modes that read no representation) and ``resampled`` (by mode its scores under
        resampled artists).
    reports : what lies behind each of them.
    """
    if not views:
        return []
    scores = _Scores.of(views)
    return [_winners(reports), _by_regime(scores), *_side_by_side(scores), _words(reports)]


def _winners(reports: Sequence[Report]) -> Table:
    """The best mode of each representation in each regime, and how far it is ahead."""
    metric = reports[0].task.main
    columns = (
        *map(Column, ("representation", "regime", "best")),
        Column.of(metric),
        *(Column.of(metric, bound, whose=metric.title) for bound in ("from", "to")),
        Column("next best"),
        Column.of(metric, "lead", "+"),
        *(Column.of(metric, bound, "+", whose="lead") for bound in ("from", "to")),
        Column("verdict"),
    )
    rows: list[list[Cell]] = []
    for report in reports:
        best = next(iter(report.modes)) if report.lead is None else report.lead.best
        score = report.modes[best].overall
        row: list[Cell] = [report.representation or NONE, report.regime, str(best), score.score]
        row += score.interval or (None, None)
        if report.lead is None:
            rows.append([*row, None, None, None, None, "the only one"])
            continue
        verdict = "beyond noise" if report.lead.is_beyond_noise else "within noise"
        ahead = report.lead.difference, *(report.lead.interval or (None, None))
        rows.append([*row, str(report.lead.next_best), *ahead, verdict])
    note = f"{metric.title}, {metric.unit}, of the pooled test clips; 95 % intervals over resampled artists."
    return Table("winners", "Who wins where", columns, rows, note)


def _by_regime(scores: _Scores) -> Table:
    """Each mode's score by regime, mean and deviation over seeds; the artist gap; the thesis's figure."""
    metric, gap = scores.metric, scores.gap
    columns = [Column("representation"), Column("mode")]
    for regime in scores.regimes:
        columns += [Column.of(metric, regime), Column.of(metric, "±", whose=regime)]
    if gap:
        columns += [Column.of(metric, "artist gap", "+")]
        columns += [Column.of(metric, bound, "+", whose="artist gap") for bound in ("from", "to")]
    columns += [Column.of(metric, "thesis")] if scores.thesis else []
    rows: list[list[Cell]] = []
    for key in scores.values:
        row: list[Cell] = [*key]
        for regime in scores.regimes:
            row += [scores.mean(key, regime), scores.deviation(key, regime)]
        row += scores.gap_of(key) if gap else []
        row += [scores.thesis.get(key)] if scores.thesis else []
        rows.append(row)
    note = (
        f"{metric.title}, {metric.unit}; mean and deviation over seeds (and folds), as the runs in the store hold it."
    )
    if gap:
        note += (
            f" The artist gap is {' minus '.join(gap)}, what a mode owes to artists that it was trained on, with its "
            "95 % interval over resampled artists of both. The artist's labels alone say nothing of artists that are "
            "new."
        )
    return Table("scores", "Scores by regime", tuple(columns), rows, note)


def _side_by_side(scores: _Scores) -> list[Table]:
    """Each mode's scores on all representations, a mode a line; none where there is but one."""
    names = list(dict.fromkeys(name for name, _ in scores.values if name != NONE))
    if len(names) < 2:
        return []
    backbones = [name.rpartition("-")[0] for name in names]
    titles = backbones if len(set(backbones)) == len(names) else names
    columns = [Column("mode")]
    for title in titles:
        columns += [Column.of(scores.metric, f"{title} {regime}") for regime in scores.regimes]
        columns += [Column.of(scores.metric, f"{title} artist gap", "+")] if scores.gap else []
    rows: list[list[Cell]] = []
    for mode in dict.fromkeys(mode for _, mode in scores.values):
        row: list[Cell] = [mode]
        for name in names:
            key = (name, mode) if (name, mode) in scores.values else (NONE, mode)
            row += [scores.mean(key, regime) for regime in scores.regimes]
            row += scores.gap_of(key)[:1] if scores.gap else []
        rows.append(row)
    note = "The same means, a mode a line. Modes that read no representation have one score beside all."
    return [Table("backbones", "Backbones side by side", tuple(columns), rows, note)]


def _words(reports: Sequence[Report]) -> Table:
    """What the regimes and the modes of these reports are."""
    words: dict[str, Cell] = {}
    for report in reports:
        base, _, folds = report.regime.partition("-")
        words[f"regime {report.regime}"] = _REGIMES[base] + ("; every song is tested once" if folds else "")
    for mode in dict.fromkeys(mode for report in reports for mode in report.modes):
        words[f"mode {mode}"] = "the mean scores of several modes" if mode == ENSEMBLE else _meaning(mode)
    words["clip"] = "a song, or the stretch of it that a backbone saw"
    words["artist gap"] = "the score where artists are known less that where they are new"
    return pairs("words", "What the words mean", ("word", "meaning"), words)


def _meaning(mode: Mode) -> str:
    """What a head does, and what its rule decides where it has several."""
    head = find(mode.name)
    return head.TITLE if mode.rule is None else f"{head.TITLE}: {head.RULES[mode.rule].about}"
