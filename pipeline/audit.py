"""``encore audit``: what a collection is, before anything is trained on it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pipeline.output import overlap_text, rules_text, table, wrapped
from stages.head.audit import Audit
from store.words import counted

SHOWN_LABELS = 25


def describe(audit: Audit) -> str:
    """The audit for a person, in 80 columns."""
    name = audit.dataset + (" (synthetic)" if audit.synthetic else "")
    lines = [
        f"{name}: {counted(audit.songs, 'song')}, {counted(audit.clips, 'clip')}, {counted(audit.artists, 'artist')}, "
        f"{counted(audit.albums, 'album')}",
        f"songs of unknown artist: {audit.unknown_artist:,} ({100 * audit.unknown_artist / audit.songs:.1f} %)",
        *_labels_text(audit),
        *_artists_text(audit.songs_per_artist),
        f"artist graph: {counted(audit.edges, 'edge')} (pairs of clips of one artist)",
        *_homophily_text(audit),
        *_thesis_text(audit.thesis),
        *(f"{counted(count, 'clip')} left out: {reason}" for reason, count in audit.left_out.items()),
    ]
    for regime in audit.regimes:
        lines += ["", *_regime_text(audit, regime)]
    if audit.regimes:
        rules = rules_text(mode for by_mode in audit.baselines.values() for mode in by_mode)
        lines += ["", *rules, "majority: the label that most training clips carry, for every clip"]
    for regime, reason in audit.impossible.items():
        lines += ["", *wrapped(f"{regime}: not possible: {reason}")]
    return "\n".join(lines)


def _regime_text(audit: Audit, regime: str) -> list[str]:
    """What the parts of a regime share, and the baselines there."""
    overlap, metrics = audit.regimes[regime], audit.task.METRICS
    known = {"artists": audit.artists, "albums": audit.albums}  # where none are known, nothing is said of them
    kinds = [kind for kind in overlap["shared"]["train-test"] if known.get(kind, 1)]
    shared = [
        [pair.replace("-", ", "), *(f"{counts[kind]:,}" for kind in kinds)]
        for pair, counts in overlap["shared"].items()
    ]
    rows = []
    for mode, scores in audit.baselines[regime].items():
        rows.append([str(mode), *(replace(metric, digits=2).text(scores[metric.name]) for metric in metrics)])
    return [
        *wrapped(f"{regime}: {overlap_text(overlap)}"),
        *_neighbours_text(overlap),
        table(["on both sides", *kinds], shared),
        "",
        table(["without hearing", *(metric.title for metric in metrics)], rows),
    ]


def _labels_text(audit: Audit) -> list[str]:
    """How many labels there are, how many songs have each, and how many a song has."""
    labels, each = audit.labels, audit.label_cardinality
    frequent = sorted(labels, key=lambda label: (-labels[label], label))
    shown = ", ".join(f"{label} {labels[label]:,}" for label in frequent[:SHOWN_LABELS])
    more = f" and {len(labels) - SHOWN_LABELS:,} more" if len(labels) > SHOWN_LABELS else ""
    with_so_many = ", ".join(f"{count:,} with {number}" for number, count in each["songs"].items())
    return [
        *wrapped(f"{counted(len(labels), 'label')}, {audit.task.TITLE}: {shown}{more}"),
        f"labels a song: {each['mean']:.2f} on average, {counted(each['distinct_sets'], 'different set')}",
        *wrapped(f"songs by their labels: {with_so_many}", "  ", "  "),
    ]


def _neighbours_text(overlap: dict[str, Any]) -> list[str]:
    if overlap["test_with_neighbour"] is None:
        return []
    return [
        f"  of the test songs {100 * overlap['test_with_neighbour']:.1f} % have another song by their artist, "
        f"{100 * overlap['test_with_training_neighbour']:.1f} % in train"
    ]


def _artists_text(songs_per_artist: dict[str, Any] | None) -> list[str]:
    if songs_per_artist is None:
        return ["no artist is known"]
    each = songs_per_artist
    head = f"songs an artist: {each['mean']:.1f} on average, median {each['median']:g}, most {each['most']:,}"
    shown = ", ".join(f"{count:,} with {songs}" for songs, count in each["artists"].items() if count)
    return [head, *wrapped(f"artists by their songs: {shown}", "  ", "  ")]


def _homophily_text(audit: Audit) -> list[str]:
    if audit.homophily["exact"] is None:
        return ["label homophily: none, no two clips share an artist"]
    rows = [
        [f"label homophily, {name}", *(f"{100 * (shares[kind] or 0.0):.2f}" for kind in ("exact", "jaccard", "any"))]
        for name, shares in (("mean over edges", audit.homophily), ("mean over clips", audit.homophily_per_node))
    ]
    return [table(["in per cent", "same set", "Jaccard", "any shared"], rows)]


def _thesis_text(thesis: dict[str, Any] | None) -> list[str]:
    if thesis is None:
        return []
    rows = [[name, _figure(pair["ours"]), _figure(pair["thesis"])] for name, pair in thesis["figures"].items()]
    rows = [[name, ours, thesis, "" if ours == thesis else "differs"] for name, ours, thesis in rows]
    head = ["beside the thesis", "ours", "thesis", "?"]
    columns = 4 if any(row[3] for row in rows) else 3
    why = [line for text in thesis["why"] for line in wrapped(text, "  ", "- ")]
    return ["", table(head[:columns], [row[:columns] for row in rows]), *why]


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{100 * value:.2f} %"
