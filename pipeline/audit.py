"""``encore audit``: what a collection is, before anything is trained on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.arguments import open_store, split_names
from pipeline.options import DEFAULT_STORE, MAX_SEEDS, REGIMES, JsonOption, StoreOption
from pipeline.output import ARTIST_RULES, SHORT, overlap_text, print_json, table, wrapped
from stages import progress, registry
from store.errors import RequestError
from store.words import counted

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
        chosen = split_names(regimes, "--regimes") if regimes else []
        for path in export_splits(catalog, where, export, chosen, seeds or 1, keeps=keeps):
            progress.note(f"wrote {path}")
    elif regimes is not None or seeds is not None:
        raise RequestError("--regimes and --seeds name the splits to export; give --export DIR")
    if not near_copies and (cosine is not None or backbone is not None):
        raise RequestError("--cosine and --backbone say how songs are compared; give --near-copies")
    counts = work.audit(catalog, where, keeps=keeps)
    if near_copies:
        counts["near_copies"] = work.near(where, catalog.info.name, backbone, cosine)
    if json:
        print_json(counts)
    else:
        print(describe(counts))


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
            *_parts_text(overlap, found["dataset"]),
            *(line for remark in overlap["remarks"] for line in wrapped(remark, "    ", "  ")),
            table(["on both sides", *(kind.replace("_", " ") for kind in kinds)], shared),
            "",
            table(["without hearing", *short], rows),
        ]
    if found["regimes"]:
        lines += ["", ARTIST_RULES, "majority: the label that most training clips carry, for every clip"]
    for regime, reason in found["impossible"].items():
        lines += ["", *wrapped(f"{regime}: not possible: {reason}")]
    if "near_copies" in found:
        lines += ["", *_near_text(found["near_copies"])]
    return "\n".join(lines)


def _near_text(found: dict[str, Any]) -> list[str]:
    """How many songs are nearly equal, and how many such pairs each regime puts into two parts."""
    pairs, songs = counted(found["pairs"], "pair"), counted(found["songs"], "song")
    head = f"near copies: {pairs} of {songs} with a cosine of {found['cosine']:g} or more in {found['representation']}"
    shown = []
    for regime, counts in found["regimes"].items():
        share = counts["pairs_in_two_parts"]
        apart = "-" if share is None else f"{100 * share:.1f} %"
        shown.append([regime, apart, f"{counts['test_songs_near_train']:,}"])
    return [*wrapped(head), table(["near copies", "pairs in two parts", "test songs near train"], shown)]


def _short(baseline: str) -> str:
    """``artist (top)`` for ``artist (most frequent)``: the name that tables of heads show."""
    name, _, rule = baseline.rstrip(")").partition(" (")
    return f"{name} ({SHORT[rule]})" if rule else name


def _labels_text(found: dict[str, Any]) -> list[str]:
    """How many labels there are, how many songs have each, and how many a song has."""
    from stages.head.scores.task import TASKS

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


def _parts_text(overlap: dict[str, Any], dataset: str) -> list[str]:
    """Songs of one-song artists by part, artists who have much of one, and splits that an earlier rule dealt."""
    from stages.splits.kept import REVISION
    from stages.splits.remarks import LARGE

    only, largest = overlap["one_song_artists"], overlap["largest_artist"]
    lines = []
    if any(only.values()):
        lines.append(f"songs of one-song artists: {_by_part(only)}")
    if any(share >= LARGE for share in largest.values()):
        lines.append(f"songs of the part's largest artist: {_by_part(largest)}")
    revision = overlap["revision"]
    if revision is not None and revision < REVISION:
        lines.append(f"dealt by an earlier rule (revision {revision}); deal anew: encore store redeal {dataset}")
    return [line for text in lines for line in wrapped(text, "    ", "  ")]


def _by_part(shares: dict[str, float]) -> str:
    return ", ".join(f"{100 * share:.1f} % of {part}" for part, share in shares.items())


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
