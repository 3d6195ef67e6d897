"""``encore audit``: what a collection is, before anything is trained on it."""

from __future__ import annotations

from typing import Any

from pipeline.output import ARTIST_RULES, SHORT, overlap_text, table, wrapped
from stages.head.scores.task import TASKS
from store.words import counted

SHOWN_LABELS = 25


def describe(found: dict[str, Any]) -> str:
    """The audit for a person, in 80 columns."""
    name = found["dataset"] + (" (synthetic)" if found["synthetic"] else "")
    songs, unknown = found["songs"], found["unknown_artist"]
    lines = [
        f"{name}: {counted(songs, 'song')}, {counted(found['clips'], 'clip')}, {counted(found['artists'], 'artist')}, "
        f"{counted(found['albums'], 'album')}",
        f"songs of unknown artist: {unknown:,} ({100 * unknown / songs:.1f} %)",
        *_labels_text(found),
        *_artists_text(found["songs_per_artist"]),
        f"artist graph: {counted(found['edges'], 'edge')} (pairs of clips of one artist)",
        *_homophily_text(found),
        *_thesis_text(found["thesis"]),
        *(f"{counted(count, 'clip')} left out: {reason}" for reason, count in found["left_out"].items()),
    ]
    for regime, overlap in found["regimes"].items():
        baselines = found["baselines"][regime]
        columns = list(next(iter(baselines.values())))
        rows = [
            [_short(which), *("-" if scores[m] is None else f"{100 * scores[m]:.2f}" for m in columns)]
            for which, scores in baselines.items()
        ]
        short = [SHORT.get(m, m) for m in columns]
        kinds = [kind for kind in overlap["shared"]["train-test"] if found.get(kind, True)]  # none are known: not told
        shared = [
            [pair.replace("-", ", "), *(f"{counts[kind]:,}" for kind in kinds)]
            for pair, counts in overlap["shared"].items()
        ]
        lines += [
            "",
            *wrapped(f"{regime}: {overlap_text(overlap)}"),
            *_neighbours_text(overlap),
            table(["on both sides", *kinds], shared),
            "",
            table(["without hearing", *short], rows),
        ]
    if found["regimes"]:
        lines += ["", ARTIST_RULES, "majority: the label that most training clips carry, for every clip"]
    for regime, reason in found["impossible"].items():
        lines += ["", *wrapped(f"{regime}: not possible: {reason}")]
    return "\n".join(lines)


def _short(baseline: str) -> str:
    """``artist (top)`` for ``artist (most frequent)``: the name that tables of heads show."""
    name, _, rule = baseline.rstrip(")").partition(" (")
    return f"{name} ({SHORT[rule]})" if rule else name


def _labels_text(found: dict[str, Any]) -> list[str]:
    """How many labels there are, how many songs have each, and how many a song has."""
    labels, each = found["labels"], found["label_cardinality"]
    kind = TASKS[found["task"]].TITLE
    frequent = sorted(labels, key=lambda label: (-labels[label], label))
    shown = ", ".join(f"{label} {labels[label]:,}" for label in frequent[:SHOWN_LABELS])
    more = f" and {len(labels) - SHOWN_LABELS:,} more" if len(labels) > SHOWN_LABELS else ""
    with_so_many = ", ".join(f"{count:,} with {number}" for number, count in each["songs"].items())
    return [
        *wrapped(f"{counted(len(labels), 'label')}, {kind}: {shown}{more}"),
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


def _artists_text(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return ["no artist is known"]
    rows = [[songs, f"{count:,}"] for songs, count in found["artists"].items() if count]
    head = f"songs an artist: {found['mean']:.1f} on average, median {found['median']:g}, most {found['most']:,}"
    shown = "artists by their songs: " + ", ".join(f"{count} with {songs}" for songs, count in rows)
    return [head, *wrapped(shown, "  ", "  ")]


def _homophily_text(found: dict[str, Any]) -> list[str]:
    if found["homophily"]["exact"] is None:
        return ["label homophily: none, no two clips share an artist"]
    rows = [
        [f"label homophily, {name}", *(f"{100 * shares[kind]:.2f}" for kind in ("exact", "jaccard", "any"))]
        for name, shares in (("mean over edges", found["homophily"]), ("mean over clips", found["homophily_per_node"]))
    ]
    return [table(["in per cent", "same set", "Jaccard", "any shared"], rows)]


def _thesis_text(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return []
    rows = [[name, _figure(pair["ours"]), _figure(pair["thesis"])] for name, pair in found["figures"].items()]
    rows = [[name, ours, thesis, "" if ours == thesis else "differs"] for name, ours, thesis in rows]
    head = ["beside the thesis", "ours", "thesis", "?"]
    columns = 4 if any(row[3] for row in rows) else 3
    why = [line for text in found["why"] for line in wrapped(text, "  ", "- ")]
    return ["", table(head[:columns], [row[:columns] for row in rows]), *why]


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{100 * value:.2f} %"
