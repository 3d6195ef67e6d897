"""What a collection is, before anything is trained on it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.head.collection import Collection
from stages.head.fit import count, evaluate
from stages.head.graph.homophily import homophily
from stages.head.heads.artist import Artist
from stages.head.modes import Mode
from stages.head.near_copies import COSINE, near_copies
from stages.head.open import default_backbone, from_catalog, load
from stages.head.results import numbers
from stages.head.scores import buckets
from stages.head.scores.task import Task
from stages.head.thesis import paper_on
from stages.splits.regimes import REGIMES, Split
from stages.splits.remarks import artists_of_parts
from store.errors import RequestError
from store.layout import Store
from store.schema import Catalog, CatalogInfo

SEED = 0
MAJORITY = Mode("majority")
SONGS_PER_ARTIST = ((1, 1), (2, 2), (3, 5), (6, 10), (11, 20), (21, 50), (51, 100), (101, None))


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What a collection holds, and the scores of baselines that hear no song.

    Attributes
    ----------
    unknown_artist : songs of unknown artist.
    labels : songs that carry each label.
    label_cardinality : labels a song: ``mean``, ``songs`` with so many, and ``distinct_sets`` of them.
    songs_per_artist : ``mean``, ``median``, ``most`` and, by number of songs, how many ``artists`` have it; None if no
        artist is known.
    edges : pairs of clips of one artist.
    homophily, homophily_per_node : label homophily over edges, and over clips.
    regimes : by regime, what its parts share (`Collection.overlap`), the share of test songs that have neighbours, the
        artists of each part (`artists_of_parts`) and remarks.
    revisions : by regime, the revision of the rule that dealt its split (`stages.splits.kept.REVISION`); None where
        none is recorded.
    impossible : by regime, why this collection cannot be split so.
    baselines : by regime and mode, the metrics of baselines that hear no song; None where not defined.
    left_out : clips left out, by reason.
    near_copies : see `stages.head.near_copies`; None where they were not counted.
    thesis : the thesis's figures beside these, and why they differ; None where it has none on this version.
    """

    dataset: str
    synthetic: bool
    songs: int
    clips: int
    artists: int
    albums: int
    unknown_artist: int
    labels: dict[str, int]
    task: Task
    edges: int
    label_cardinality: dict[str, Any]
    songs_per_artist: dict[str, Any] | None
    homophily: dict[str, float | None]
    homophily_per_node: dict[str, float | None]
    regimes: dict[str, dict[str, Any]]
    revisions: dict[str, int | None]
    impossible: dict[str, str]
    baselines: dict[str, dict[Mode, dict[str, float | None]]]
    left_out: dict[str, int]
    thesis: dict[str, Any] | None
    near_copies: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """The audit under its stable keys."""
        document = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        baselines = {
            regime: {mode.full: scores for mode, scores in by_mode.items()}
            for regime, by_mode in self.baselines.items()
        }
        if self.near_copies is None:
            del document["near_copies"]
        return {**document, "task": self.task.NAME, "baselines": baselines}


def audit(catalog: Catalog, store: Store | None = None, *, keeps: bool = False) -> Audit:
    """Counts, edges, homophily, what the parts of each regime share, and the baselines that hear no song.

    Splits are those of seed 0, as ``store`` keeps them.

    Parameters
    ----------
    keeps : whether new splits are written to the store.
    """
    data = from_catalog(catalog, store, keeps=keeps)
    splits, impossible = _splits(data)
    _, first_clip = np.unique(data.song, return_index=True)
    of_songs = data.labels[first_clip]
    labels = dict(zip(data.label_names, of_songs.sum(axis=0).tolist(), strict=True))
    by_edge = homophily(data.artist, data.labels)
    counts = {
        "songs": len(first_clip),
        "clips": len(data),
        "artists": _known(data.artist),
        "albums": _known(data.album),
        "labels": len(labels),
    }
    return Audit(
        songs=counts["songs"],
        clips=counts["clips"],
        artists=counts["artists"],
        albums=counts["albums"],
        dataset=catalog.info.name,
        synthetic=catalog.info.synthetic,
        unknown_artist=int((data.artist[first_clip] < 0).sum()),
        labels=labels,
        task=data.task,
        edges=data.graph.edges,
        label_cardinality=_cardinality(of_songs),
        songs_per_artist=_songs_per_artist(data.artist[first_clip]),
        homophily=by_edge,
        homophily_per_node=homophily(data.artist, data.labels, per_node=True),
        regimes={regime: _regime(data, regime, split) for regime, split in splits.items()},
        revisions={regime: _revision(data, regime) for regime in splits},
        impossible=impossible,
        baselines={regime: _baselines(data, split) for regime, split in splits.items()},
        left_out={reason: count for reason, count in data.left_out.items() if count},
        thesis=_beside_thesis(counts, by_edge["exact"], catalog.info),
    )


def near(store: Store, name: str, backbone: str | None, cosine: float | None) -> dict[str, Any]:
    """`near_copies` of a stored representation, in the splits of seed 0 that this collection can have."""
    names = [str(representation) for representation in store.complete(name)]
    data = load(store, name, backbone or default_backbone(store, name, names), in_memory=False)
    splits, _ = _splits(data)
    return near_copies(data, splits, COSINE if cosine is None else cosine)


def _splits(data: Collection) -> tuple[dict[str, Split], dict[str, str]]:
    """The split of each regime that the collection can have, and why it cannot have the others."""
    splits, impossible = {}, {}
    for regime in REGIMES:
        try:
            splits[regime] = data.split(regime, SEED)
        except RequestError as error:
            impossible[regime] = str(error)
    return splits, impossible


def _known(ids: NDArray[np.int64]) -> int:
    return len(np.unique(ids[ids >= 0]))


def _cardinality(labels: NDArray[np.bool_]) -> dict[str, Any]:
    """Labels a song: their mean, how many songs have one, two, ..., and how many sets of labels there are.

    ``labels`` is [songs, labels].
    """
    counts = labels.sum(axis=1)
    each, songs = np.unique(counts, return_counts=True)
    return {
        "mean": float(counts.mean()),
        "songs": {str(label): int(count) for label, count in zip(each.tolist(), songs.tolist(), strict=True)},
        "distinct_sets": len(np.unique(np.packbits(labels, axis=1), axis=0)),
    }


def _songs_per_artist(artist: NDArray[np.int64]) -> dict[str, Any] | None:
    """Songs an artist: mean, median, most, and how many artists have 1, 2, 3 to 5 songs and so on.

    ``artist`` is [songs], -1 where unknown.
    """
    counts = np.bincount(artist[artist >= 0])
    if not len(counts):
        return None
    return {
        "mean": float(counts.mean()),
        "median": float(np.median(counts)),
        "most": int(counts.max()),
        "artists": {name: int(inside.sum()) for name, inside in buckets.split(counts, SONGS_PER_ARTIST).items()},
    }


def _regime(data: Collection, regime: str, split: Split) -> dict[str, Any]:
    """What the parts of a split share and hold."""
    artists = artists_of_parts(split, song=data.song, artist=data.artist)
    remarks = data.remarks([split])
    if regime == "artist" and data.splits is not None:
        remarks += filter(None, [data.splits.joined_by_artists])
    return data.overlap(split) | _neighbours(data, split) | artists | {"remarks": remarks}


def _neighbours(data: Collection, part: Split) -> dict[str, float | None]:
    """The shares of test songs with another song by the same artist: anywhere, and in train."""
    _, first_clip = np.unique(data.song, return_index=True)
    artist, part = data.artist[first_clip], part[first_clip]
    in_test = part == 2
    if not in_test.any():
        return {"test_with_neighbour": None, "test_with_training_neighbour": None}
    has_artist = artist >= 0
    artists = int(artist.max(initial=-1)) + 1
    every, train = (np.bincount(artist[has_artist & mask], minlength=artists) for mask in (part > -2, part == 0))
    of_tests = artist[has_artist & in_test]
    return {
        "test_with_neighbour": float((every[of_tests] > 1).sum() / in_test.sum()),
        "test_with_training_neighbour": float((train[of_tests] > 0).sum() / in_test.sum()),
    }


def _beside_thesis(counts: dict[str, int], exact: float | None, info: CatalogInfo) -> dict[str, Any] | None:
    """Our counts and homophily beside the thesis's, and why they differ; None where it has none on this version."""
    paper = paper_on(info)
    if paper is None:
        return None
    ours = {name: counts[name] for name in paper.counts}
    figures: dict[str, Any] = {name: {"ours": ours[name], "thesis": count} for name, count in paper.counts.items()}
    figures["homophily"] = {"ours": exact, "thesis": paper.homophily}
    same = ours == paper.counts and abs((exact or 0.0) - paper.homophily) < 0.00005
    return {"figures": figures, "why": [] if same else [*info.notes, paper.why]}


def _baselines(data: Collection, split: Split) -> dict[Mode, dict[str, float | None]]:
    """Test scores of two baselines that hear no song: the artist's labels, and the best constant answer."""
    by_rule, _ = count(Artist, data, split, Artist.Config())
    predictions = {Mode(Artist.NAME, rule): prediction for rule, prediction in by_rule.items()}
    predictions[MAJORITY] = data.task.baseline(data.labels[split == 0], len(data))
    return {mode: numbers(evaluate(prediction, data, split)) for mode, prediction in predictions.items()}


def _revision(data: Collection, regime: str) -> int | None:
    """The revision of the rule that dealt a split; None for an official one."""
    dealing = None if data.splits is None else data.splits.dealing(regime, SEED)
    return None if dealing is None else dealing.revision
