"""``encore audit``: what a collection is, before anything is trained on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.arguments import open_store, split_names
from pipeline.options import DEFAULT_STORE, MAX_SEEDS, REGIMES, JsonOption, StoreOption
from pipeline.output import overlap_text, print_result, rules_text, table, wrapped
from stages import progress, registry
from store.errors import RequestError
from store.words import plural

if TYPE_CHECKING:
    from stages.head.audit import Audit

SHOWN_LABELS = 25


def audit(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="a data set, or a name in the store")],
    options: Any = None,
    export: Annotated[
        Path | None, typer.Option("--export", help="write the splits to this folder, as plain tables", metavar="DIR")
    ] = None,
    regimes: Annotated[str | None, typer.Option("--regimes", help=f"with --export: {REGIMES}", metavar="R,R")] = None,
    seeds: Annotated[
        int | None,
        typer.Option("--seeds", min=1, max=MAX_SEEDS, help="with --export: how many, from 0 on [1]", metavar="N"),
    ] = None,
    near_copies: Annotated[
        bool, typer.Option("--near-copies", help="count the songs that a stored representation hardly tells apart")
    ] = False,
    cosine: Annotated[
        float | None, typer.Option("--cosine", help="with --near-copies: how alike those are [0.99]", metavar="X")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option("--backbone", help="with --near-copies: which representation", metavar="B")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Count songs, artists, edges, homophily.

    Also what the parts of each split share, and how far one gets without hearing a song.
    """
    from stages.embed.catalogs import open_catalog
    from stages.head import audit as work
    from stages.splits.export import export_splits

    where = open_store(store)
    catalog = open_catalog(dataset, options, where)
    # Looking at files must change nothing in a store; what is handed to others, or stands in the store, is kept.
    keeps = where.has_catalog(catalog.info.name) and (export is not None or dataset not in registry.names("dataset"))
    if export is not None:
        names = split_names(regimes, "--regimes") if regimes else []
        for path in export_splits(catalog, where, export, names, seeds or 1, keeps=keeps):
            progress.note(f"wrote {path}")
    elif regimes is not None or seeds is not None:
        raise RequestError("--regimes and --seeds name the splits to export; give --export DIR")
    if not near_copies and (cosine is not None or backbone is not None):
        raise RequestError("--cosine and --backbone say how songs are compared; give --near-copies")
    result = work.audit(catalog, where, keeps=keeps)
    if near_copies:
        result = replace(result, near_copies=work.near(where, catalog.info.name, backbone, cosine))
    print_result(result, describe, json=json)


def describe(result: Audit) -> str:
    """The audit for a person, in 80 columns."""
    name = result.dataset + (" (synthetic)" if result.synthetic else "")
    lines = [
        f"{name}: {plural(result.songs, 'song')}, {plural(result.clips, 'clip')}, "
        f"{plural(result.artists, 'artist')}, {plural(result.albums, 'album')}",
        f"songs of unknown artist: {result.unknown_artist:,} ({100 * result.unknown_artist / result.songs:.1f} %)",
        *_labels_text(result),
        *_artists_text(result.songs_per_artist),
        f"artist graph: {plural(result.edges, 'edge')} (pairs of clips of one artist)",
        *_homophily_text(result),
        *_thesis_text(result.thesis),
        *(f"{plural(count, 'clip')} left out: {reason}" for reason, count in result.left_out.items()),
    ]
    for regime in result.regimes:
        lines += ["", *_regime_text(result, regime)]
    if result.regimes:
        rules = rules_text(mode for by_mode in result.baselines.values() for mode in by_mode)
        lines += ["", *rules, "majority: the label that most training clips carry, for every clip"]
    for regime, reason in result.impossible.items():
        lines += ["", *wrapped(f"{regime}: not possible: {reason}")]
    if result.near_copies is not None:
        lines += ["", *_near_text(result.near_copies)]
    return "\n".join(lines)


def _regime_text(result: Audit, regime: str) -> list[str]:
    """What the parts of a regime share, and the baselines there."""
    overlap, metrics = result.regimes[regime], result.task.METRICS
    totals = {"artists": result.artists, "albums": result.albums}  # where none are known, nothing is said of them
    kinds = [kind for kind in overlap["shared"]["train-test"] if totals.get(kind, 1)]
    rows_shared = [
        [pair.replace("-", ", "), *(f"{counts[kind]:,}" for kind in kinds)]
        for pair, counts in overlap["shared"].items()
    ]
    rows = []
    for mode, scores in result.baselines[regime].items():
        rows.append([str(mode), *(replace(metric, digits=2).text(scores[metric.name]) for metric in metrics)])
    return [
        *wrapped(f"{regime}: {overlap_text(overlap)}"),
        *_neighbours_text(overlap),
        *_parts_text(overlap),
        *_revision_text(result.dataset, result.revisions[regime]),
        *(line for remark in overlap["remarks"] for line in wrapped(remark, "    ", "  ")),
        table(["on both sides", *(kind.replace("_", " ") for kind in kinds)], rows_shared),
        "",
        table(["without hearing", *(metric.title for metric in metrics)], rows),
    ]


def _near_text(near: dict[str, Any]) -> list[str]:
    """How many songs are nearly equal, and how many such pairs each regime puts into two parts."""
    pairs, songs = plural(near["pairs"], "pair"), plural(near["songs"], "song")
    head = f"near copies: {pairs} of {songs} with a cosine of {near['cosine']:g} or more in {near['representation']}"
    rows = []
    for regime, counts in near["regimes"].items():
        share = counts["pairs_in_two_parts"]
        apart = "-" if share is None else f"{100 * share:.1f} %"
        rows.append([regime, apart, f"{counts['test_songs_near_train']:,}"])
    return [*wrapped(head), table(["near copies", "pairs in two parts", "test songs near train"], rows)]


def _labels_text(result: Audit) -> list[str]:
    """How many labels there are, how many songs have each, and how many a song has."""
    labels, each = result.labels, result.label_cardinality
    frequent = sorted(labels, key=lambda label: (-labels[label], label))
    counts = ", ".join(f"{label} {labels[label]:,}" for label in frequent[:SHOWN_LABELS])
    more = f" and {len(labels) - SHOWN_LABELS:,} more" if len(labels) > SHOWN_LABELS else ""
    with_so_many = ", ".join(f"{count:,} with {number}" for number, count in each["songs"].items())
    return [
        *wrapped(f"{plural(len(labels), 'label')}, {result.task.TITLE}: {counts}{more}"),
        f"labels a song: {each['mean']:.2f} on average, {plural(each['distinct_sets'], 'different set')}",
        *wrapped(f"songs by their labels: {with_so_many}", "  ", "  "),
    ]


def _neighbours_text(overlap: dict[str, Any]) -> list[str]:
    if overlap["test_with_neighbour"] is None:
        return []
    return [
        f"  of the test songs {100 * overlap['test_with_neighbour']:.1f} % have another song by their artist, "
        f"{100 * overlap['test_with_training_neighbour']:.1f} % in train"
    ]


def _parts_text(overlap: dict[str, Any]) -> list[str]:
    """Songs of one-song artists by part, and artists who have much of one."""
    only, largest = overlap["one_song_artists"], overlap["largest_artist"]
    lines = []
    if any(only.values()):
        lines.append(f"songs of one-song artists: {_by_part(only)}")
    from stages.splits.remarks import LARGE

    if any(share >= LARGE for share in largest.values()):
        lines.append(f"songs of the part's largest artist: {_by_part(largest)}")
    return [line for text in lines for line in wrapped(text, "    ", "  ")]


def _by_part(shares: dict[str, float]) -> str:
    return ", ".join(f"{100 * share:.1f} % of {part}" for part, share in shares.items())


def _artists_text(songs_per_artist: dict[str, Any] | None) -> list[str]:
    if songs_per_artist is None:
        return ["no artist is known"]
    each = songs_per_artist
    head = f"songs an artist: {each['mean']:.1f} on average, median {each['median']:g}, most {each['most']:,}"
    counts = ", ".join(f"{count:,} with {songs}" for songs, count in each["artists"].items() if count)
    return [head, *wrapped(f"artists by their songs: {counts}", "  ", "  ")]


def _homophily_text(result: Audit) -> list[str]:
    if result.homophily["exact"] is None:
        return ["label homophily: none, no two clips share an artist"]
    rows = [
        [f"label homophily, {name}", *(f"{100 * (shares[kind] or 0.0):.2f}" for kind in ("exact", "jaccard", "any"))]
        for name, shares in (("mean over edges", result.homophily), ("mean over clips", result.homophily_per_node))
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


def _revision_text(dataset: str, revision: int | None) -> list[str]:
    """That an earlier rule dealt a split, where one did."""
    from stages.splits.kept import REVISION

    if revision is None or revision >= REVISION:
        return []
    text = f"dealt by an earlier rule (revision {revision}); deal anew: encore store redeal {dataset}"
    return wrapped(text, "    ", "  ")
