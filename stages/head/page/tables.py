"""Tables as plain data, and those that describe a collection, its audit and what lies behind its scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.head.audit import Audit
from stages.head.modes import Mode
from stages.head.report import KINDS, Report
from stages.head.scores.metrics import Metric, significant
from stages.head.scores.task import METRICS

Cell = str | int | float | None
Document = Mapping[str, Any]

_KINDS = {
    "by_genres_of_artist": "Score by the number of genres that the artist has",
    "by_songs_of_artist": "Score by the number of songs that the artist has",
    "by_neighbours_of_clip": "Score by the number of neighbours that the clip has",
}


@dataclass(frozen=True)
class Column:
    """A column of a table; numbers are printed times ``scale``, fractions with so many ``digits``; None for three
    significant ones. ``whose`` stands before the title where columns are named without their neighbours.
    """

    title: str
    scale: float = 1.0
    digits: int | None = 0
    sign: str = ""
    whose: str = ""

    @classmethod
    def of(cls, metric: Metric, title: str | None = None, sign: str = "", whose: str = "") -> Column:
        return cls(title or metric.title, metric.scale, metric.digits, sign, whose)

    @property
    def name(self) -> str:
        """What the column is called in a file of its own: ``artist gap from`` for ``from``."""
        return f"{self.whose} {self.title}".strip()

    def text(self, cell: Cell) -> str:
        """A cell as it is printed; ``-`` for None."""
        if cell is None:
            return "-"
        if isinstance(cell, str):
            return cell
        digits = significant(self.scale * cell) if self.digits is None else self.digits
        return f"{self.scale * cell:{self.sign},.{digits}f}"


@dataclass(frozen=True)
class Table:
    """A table of a page.

    Attributes
    ----------
    name : its name in documents and as an anchor.
    rows : cells as they are stored: scores are fractions.
    heat : whether its numbers are shaded by their size, from 0 to 1.
    note : what a reader must know to read it.
    best : row and column of the cell that is the best beyond noise; None where there is none.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: list[list[Cell]]
    note: str = ""
    heat: bool = False
    best: tuple[int, int] | None = None

    def as_json(self) -> dict[str, Any]:
        """Its rows as they are stored, and for each column by what a printed number is its stored one times."""
        return {
            "name": self.name,
            "title": self.title,
            "columns": [column.name for column in self.columns],
            "scales": [column.scale for column in self.columns],
            "rows": self.rows,
            "note": self.note,
        }


def pairs(name: str, title: str, head: tuple[str, str], rows: Mapping[str, Cell]) -> Table:
    """A table of names and values."""
    return Table(name, title, (Column(head[0]), Column(head[1])), [[key, value] for key, value in rows.items()])


def of_collection(description: Document) -> list[Table]:
    """What a collection is, from `store.inventory.describe_collection`."""
    facts: dict[str, Cell] = {
        "name": description["dataset"],
        "title": description["title"],
        "version": description["version"],
        "licence": description["licence"],
        "citation": description["citation"],
        "kind": "synthetic" if description["synthetic"] else "real",
        "retired clips": f"{description['retired']:,}",
    }
    facts |= {f"note {number}": note for number, note in enumerate(description["notes"], start=1)}
    columns = ("representation", "clips", "numbers a clip", "type", "weights", "settings", "failed", "failures")
    rows: list[list[Cell]] = []
    for entry in description["representations"]:
        if not entry["complete"]:
            rows.append([entry["name"], *[None] * 6, "damaged" if "error" in entry else "not complete"])
            continue
        settings = entry["settings"]
        config = ", ".join(
            f"{key}={_listed(value)}" for key, value in settings.get("config", {}).items() if key != "REVISION"
        )
        kinds = ", ".join(f"{count} {kind}" for kind, count in entry["failures_by_kind"].items()) or "none"
        weights = str(settings.get("weights") or "none")[:16]
        size = int(np.prod(entry["shape"]))
        rows.append([entry["name"], entry["rows"], size, entry["dtype"], weights, config, entry["failures"], kinds])
    note = "A name ends in the fingerprint: a hash of the backbone, its settings, its weights and the format."
    representations = Table("representations", "Representations", tuple(map(Column, columns)), rows, note)
    return [pairs("collection", "Collection", ("what", "value"), facts), *([representations] if rows else [])]


def _listed(value: Any) -> str:
    return "|".join(map(str, value)) if isinstance(value, list) else str(value)


def of_audit(audit: Audit, genres_per_artist: Mapping[str, int]) -> list[Table]:
    """What a collection holds and what its regimes share."""
    counts: dict[str, Cell] = {
        "songs": audit.songs,
        "clips": audit.clips,
        "artists": audit.artists,
        "albums": audit.albums,
        "labels": len(audit.labels),
        "pairs of clips of one artist": audit.edges,
        "songs of unknown artist": audit.unknown_artist,
        **{f"left out: {reason}": count for reason, count in audit.left_out.items()},
    }
    share = Column("share, %", 100, 1)
    by_size = sorted(audit.labels.items(), key=lambda item: -item[1])
    labels = Table(
        "labels",
        "Genre composition",
        (Column("label"), Column("songs"), share),
        [[label, count, count / max(1, audit.songs)] for label, count in by_size],
    )
    songs = {} if audit.songs_per_artist is None else audit.songs_per_artist["artists"]
    tables = [
        pairs("counts", "Counts", ("what", "count"), counts),
        pairs("songs-per-artist", "Songs per artist", ("songs", "artists"), songs),
        pairs("genres-per-artist", "Genres per artist", ("genres", "artists"), genres_per_artist),
        labels,
        _homophily(audit),
    ]
    if audit.thesis is not None:
        figures = audit.thesis["figures"].items()
        rows: list[list[Cell]] = [[name, *map(_figure, (both["ours"], both["thesis"]))] for name, both in figures]
        columns = Column("figure"), Column("here"), Column("thesis")
        tables.append(Table("thesis", "Beside the thesis", columns, rows, " ".join(audit.thesis["why"])))
    return [table for table in [*tables, _regimes(audit)] if table.rows]


def _figure(value: float | None) -> Cell:
    return f"{100 * value:.2f} %" if isinstance(value, float) else value


def _homophily(audit: Audit) -> Table:
    columns = Column("same labels"), Column("over pairs, %", 100, 2), Column("over clips, %", 100, 2)
    names = {
        "exact": "exactly the same set (the thesis's)",
        "jaccard": "shared over all (Jaccard)",
        "any": "any shared",
    }
    rows: list[list[Cell]] = [
        [title, audit.homophily[name], audit.homophily_per_node[name]] for name, title in names.items()
    ]
    return Table("homophily", "Label homophily of the artist graph", columns, rows)


def _regimes(audit: Audit) -> Table:
    columns = (
        *map(Column, ("regime", "train songs", "validation songs", "test songs", "test artists")),
        *map(Column, ("test artists in train", "test albums in train")),
        Column("test songs with a neighbour, %", 100, 1),
        Column("with a training neighbour, %", 100, 1),
    )
    rows: list[list[Cell]] = []
    for regime, shared in audit.regimes.items():
        sizes = [shared[part]["songs"] if isinstance(shared[part], dict) else None for part in ("train", "validation")]
        test = shared["test"]
        rows.append(
            [
                *(regime, *sizes, test["songs"], test["artists"], shared["shared_artists"], shared["shared_albums"]),
                *(shared["test_with_neighbour"], shared["test_with_training_neighbour"]),
            ]
        )
    remarks = [f"{regime}: {remark}." for regime, shared in audit.regimes.items() for remark in shared["remarks"]]
    remarks += [f"{regime} is not possible: {why}." for regime, why in audit.impossible.items()]
    return Table("regimes", "What the parts of each split share (seed 0)", columns, rows, " ".join(remarks))


def of_report(report: Report, others: Mapping[str, Mapping[str, float | None]], name: str) -> list[Table]:
    """What lies behind the scores of one representation in one regime.

    Parameters
    ----------
    others : by mode the means of its other metrics over seeds.
    name : what its tables' names begin with.
    """
    metric = report.task.main
    base = next((entry.overall.against.mode for entry in report.modes.values() if entry.overall.against), None)
    more = [METRICS[key] for key in dict.fromkeys(key for values in others.values() for key in values)]
    columns = [Column("mode"), Column.of(metric), *_bounds(metric)]
    columns += [] if base is None else [Column.of(metric, f"over {base}", "+"), Column("p", digits=3)]
    rows: list[list[Cell]] = []
    for mode, entry in report.modes.items():
        score, against = entry.overall, entry.overall.against
        row: list[Cell] = [str(mode), score.score, *(score.interval or (None, None))]
        if base is not None:
            row += [None, None] if against is None else [against.difference, against.p]
        rows.append([*row, *(others.get(str(mode), {}).get(each.name) for each in more)])
    columns += [Column.of(each) for each in more]
    seeds = f"{'seed' if len(report.seeds) == 1 else 'seeds'} {', '.join(map(str, report.seeds))}"
    note = f"{metric.title} of the pooled test clips of {seeds}; 95 % interval over resampled artists"
    note += f"; paired test against {base}" if base is not None else ""
    note += "; other metrics are means over seeds." if more else "."
    best = next(((place, 1) for place, entry in enumerate(report.modes.values()) if entry.is_best), None)
    note += " In bold: better than the next best, beyond noise." if best else ""
    tables = [Table(f"{name}-modes", "Modes with intervals", tuple(columns), rows, note, best=best)]
    tables += [_of_metric(report, each, name, base) for each in report.task.TESTED if each != metric]
    tables += [_of_labels(report, name)] if any(entry.by_label for entry in report.modes.values()) else []
    return tables + [table for kind in KINDS if (table := _of_kind(report, kind, name)) is not None]


def _bounds(metric: Metric) -> list[Column]:
    """The columns of an interval."""
    return [Column.of(metric, bound, whose=metric.title) for bound in ("from", "to")]


def _of_metric(report: Report, metric: Metric, name: str, base: Mode | None) -> Table:
    """Another metric with its intervals and paired tests."""
    columns = [Column("mode"), Column.of(metric), *_bounds(metric)]
    columns += [] if base is None else [Column.of(metric, f"over {base}", "+"), Column("p", digits=3)]
    rows: list[list[Cell]] = []
    for mode, entry in report.modes.items():
        score = entry.others.get(metric.name, entry.overall)
        row: list[Cell] = [str(mode), score.score, *(score.interval or (None, None))]
        if base is not None:
            row += [None, None] if score.against is None else [score.against.difference, score.against.p]
        rows.append(row)
    note = f"{metric.title}, {metric.unit}{'; less is better' if metric.less_is_better else ''}."
    return Table(f"{name}-{metric.name}", f"{metric.title} with intervals", tuple(columns), rows, note)


def _of_labels(report: Report, name: str) -> Table:
    """Each mode's mean absolute error for every label, and the label's rank among all."""
    columns = [Column("label"), Column("clips")]
    rows: list[list[Cell]] = []
    for mode in report.modes:
        columns += [Column.of(report.task.within, str(mode)), Column("rank", whose=str(mode))]
    for label, of in next(iter(report.modes.values())).by_label.items():
        errors = [entry.by_label[label] for entry in report.modes.values()]
        rows.append([label, of.clips, *(cell for error in errors for cell in (error.error, error.rank))])
    note = f"{report.task.within.title}, {report.task.within.unit}; rank 1 has the least."
    return Table(f"{name}-by-label", "Error by label", tuple(columns), rows, note)


def _of_kind(report: Report, kind: str, name: str) -> Table | None:
    metric = report.task.within
    first = next(iter(report.modes.values())).by_kind[kind]
    if not first:
        return None
    columns = [Column("mode"), *(Column.of(metric, bucket) for bucket in first)]
    rows: list[list[Cell]] = [
        [str(mode), *(score.score for score in entry.by_kind[kind].values())] for mode, entry in report.modes.items()
    ]
    if kind == "by_genres_of_artist":
        entries = report.modes.values()
        columns.append(Column("deviation", digits=4))
        rows = [[*row, entry.deviation] for row, entry in zip(rows, entries, strict=True)]
        if any(entry.thesis_deviation is not None for entry in entries):
            columns.append(Column("thesis", digits=4))
            rows = [[*row, entry.thesis_deviation] for row, entry in zip(rows, entries, strict=True)]
    clips = ", ".join(f"{bucket}: {score.clips:,}" for bucket, score in first.items())
    note = f"{metric.title}, {metric.unit}. Clips: {clips}."
    return Table(f"{name}-{kind.replace('_', '-')}", _KINDS[kind], tuple(columns), rows, note, heat=report.task.CHOOSES)
