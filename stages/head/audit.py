"""What a collection is, before anything is trained on it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from stages.head.collection import Collection
from stages.head.fit import count, evaluate
from stages.head.graph.homophily import homophily
from stages.head.heads.artist import Artist
from stages.head.near_copies import COSINE, near_copies
from stages.head.open import default_backbone, from_catalog, load
from stages.head.thesis import paper_on
from stages.splits.regimes import REGIMES, Split
from stages.splits.remarks import artists_of_parts
from store.errors import RequestError
from store.layout import Store
from store.schema import Catalog, CatalogInfo

SEED = 0


BINS = (1, 2, 3, 6, 11, 21, 51, 101)  # songs an artist


def audit(catalog: Catalog, store: Store | None = None, *, keeps: bool = False) -> dict[str, Any]:
    """Counts, edges, homophily, what the sides of each regime share, and the baselines that hear no song.

    Keys are those of the plan: ``songs, clips, artists, edges, homophily, regimes, baselines`` and, beside
    them, ``dataset, synthetic, albums, labels, unknown_artist, task, label_cardinality, songs_per_artist,
    homophily_per_node, left_out, thesis``. Splits are those of seed 0, as ``store`` keeps them. A regime that this
    collection cannot have is absent, and ``impossible`` says why.

    Parameters
    ----------
    keeps : whether the store is to keep the splits that are dealt here for the first time.
    """
    data = from_catalog(catalog, store, keeps=keeps)
    regimes: dict[str, Any] = {}
    baselines: dict[str, Any] = {}
    impossible: dict[str, str] = {}
    for regime in REGIMES:
        try:
            part = data.split(regime, SEED)
        except RequestError as error:
            impossible[regime] = str(error)
            continue
        artists = artists_of_parts(part, song=data.song, artist=data.artist)
        regimes[regime] = data.overlap(part) | _neighbours(data, part) | artists
        regimes[regime] |= {"remarks": data.remarks([part]), "revision": _revision(data, regime)}
        baselines[regime] = _baselines(data, part)
    _, first_clip = np.unique(data.song, return_index=True)
    found = {
        "dataset": catalog.info.name,
        "synthetic": catalog.info.synthetic,
        "songs": len(first_clip),
        "clips": len(data),
        "artists": _known(data.artist),
        "albums": _known(data.album),
        "unknown_artist": int((data.artist[first_clip] < 0).sum()),
        "labels": {
            label: int(count)
            for label, count in zip(data.label_names, data.labels[first_clip].sum(axis=0).tolist(), strict=True)
        },
        "task": data.task.NAME,
        "edges": data.graph.edges,
        "label_cardinality": _cardinality(data.labels[first_clip]),
        "songs_per_artist": _songs_per_artist(data.artist[first_clip]),
        "homophily": homophily(data.artist, data.labels),
        "homophily_per_node": homophily(data.artist, data.labels, per_node=True),
        "regimes": regimes,
        "impossible": impossible,
        "baselines": baselines,
        "left_out": {reason: count for reason, count in data.left_out.items() if count},
    }
    return found | {"thesis": _beside_thesis(found, catalog.info)}


def near(store: Store, name: str, backbone: str | None, cosine: float | None) -> dict[str, Any]:
    """`near_copies` of a stored representation, in the splits of seed 0 that this collection can have."""
    names = [str(each) for each in store.complete(name)]
    data = load(store, name, backbone or default_backbone(store, name, names), held=False)
    splits: dict[str, Split] = {}
    for regime in REGIMES:
        with suppress(RequestError):
            splits[regime] = data.split(regime, SEED)
    return near_copies(data, splits, COSINE if cosine is None else cosine)


def _cardinality(targets: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Labels a song: their mean, how many songs have one, two, ..., and how many sets of labels there are."""
    counts = targets.sum(axis=1)
    each, songs = np.unique(counts, return_counts=True)
    return {
        "mean": float(counts.mean()),
        "songs": {str(label): int(count) for label, count in zip(each.tolist(), songs.tolist(), strict=True)},
        "distinct_sets": len(np.unique(np.packbits(targets, axis=1), axis=0)),
    }


def _songs_per_artist(artist: np.ndarray[Any, Any]) -> dict[str, Any] | None:
    """Songs an artist: mean, median, most, and how many artists have 1, 2, 3 to 5 songs and so on."""
    counts = np.bincount(artist[artist >= 0])
    if not len(counts):
        return None
    histogram = {}
    for first, last in zip(BINS, [*(b - 1 for b in BINS[1:]), None], strict=True):
        inside = int(((counts >= first) & (counts <= (last or counts.max()))).sum())
        histogram[f"{first}+" if last is None else str(first) if first == last else f"{first}-{last}"] = inside
    return {
        "mean": float(counts.mean()),
        "median": float(np.median(counts)),
        "most": int(counts.max()),
        "artists": histogram,
    }


def _neighbours(data: Collection, part: Split) -> dict[str, float | None]:
    """Which share of the test songs has another song by the same artist, and which has one in train."""
    _, first_clip = np.unique(data.song, return_index=True)
    artist, part = data.artist[first_clip], part[first_clip]
    tested = part == 2
    if not tested.any():
        return {"test_with_neighbour": None, "test_with_training_neighbour": None}
    known = artist >= 0
    artists = int(artist.max(initial=-1)) + 1
    every, train = (np.bincount(artist[known & chosen], minlength=artists) for chosen in (part > -2, part == 0))
    heard = known & tested
    return {
        "test_with_neighbour": float((every[artist[heard]] > 1).sum() / tested.sum()),
        "test_with_training_neighbour": float((train[artist[heard]] > 0).sum() / tested.sum()),
    }


def _revision(data: Collection, regime: str) -> int | None:
    """Of the rule by which a split was dealt; None for an official one, and where no store keeps it."""
    dealing = None if data.splits is None else data.splits.dealing(regime, SEED)
    return None if dealing is None else dealing.revision


def _beside_thesis(found: dict[str, Any], info: CatalogInfo) -> dict[str, Any] | None:
    """Our figures and the thesis's, and why they differ; None where it has none on this version of a data set."""
    paper = paper_on(info)
    if paper is None:
        return None
    ours = {name: len(found[name]) if name == "labels" else found[name] for name in paper.counts}
    figures: dict[str, Any] = {name: {"ours": ours[name], "thesis": count} for name, count in paper.counts.items()}
    figures["homophily"] = {"ours": found["homophily"]["exact"], "thesis": paper.homophily}
    same = ours == paper.counts and abs((found["homophily"]["exact"] or 0.0) - paper.homophily) < 0.00005
    return {"figures": figures, "why": [] if same else [*info.notes, paper.why]}


def _known(ids: np.ndarray[Any, Any]) -> int:
    return len(np.unique(ids[ids >= 0]))


def _baselines(data: Collection, part: Split) -> dict[str, dict[str, float | None]]:
    predictions = {f"artist ({rule})": found for rule, found in count(Artist, data, part, Artist.Config())[0].items()}
    predictions["majority"] = data.task.baseline(data.labels[part == 0], len(data))
    return {
        name: {metric: None if np.isnan(value) else value for metric, value in evaluate(found, data, part).items()}
        for name, found in predictions.items()
    }
