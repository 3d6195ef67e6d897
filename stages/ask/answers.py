"""What the functions of ``import encore`` return, and what is answered about songs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.head.restore import RestoredHead


@dataclass(frozen=True)
class Segment:
    """A stretch of a song, in seconds from its beginning (None: from there, or to the end), and what a head says of it.

    Attributes
    ----------
    labels : those it decides for, the most likely first.
    scores : label -> score in [0, 1], the highest first.
    """

    start_s: float | None
    duration_s: float | None
    labels: tuple[str, ...]
    scores: dict[str, float]


@dataclass(frozen=True)
class SongPrediction:
    """What a head says of one song.

    Attributes
    ----------
    file : as it was named.
    song_id : its id in the collection, where it is one of its songs; None for a new one.
    part : the part of the head's split in which the song stands: ``train`` is one that the head was trained on.
    artist, artist_name : by its id in the collection and its name, both as someone named it where the collection does
        not have it; None where unknown.
    artist_is_stored : whether the collection has songs of the artist.
    clips : how many clips it was cut into.
    neighbours : how many other clips of the artist were taken into account; None for a head that reads no artist.
    trust : how much the artist's labels weighed beside the song, >= 0; None for a head that does not weigh them.
    labels : those it decides for, the most likely first.
    scores : label -> score in [0, 1], the highest first.
    segments : its clips, where there are several.
    """

    file: str
    song_id: str | None
    part: str | None
    artist: str | None
    artist_name: str | None
    artist_is_stored: bool
    clips: int
    neighbours: int | None
    trust: float | None
    labels: tuple[str, ...]
    scores: dict[str, float]
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class PredictedSongs:
    """What a head says of some songs, in their order.

    Attributes
    ----------
    head : the run: dataset, representation, mode, regime, seed, fold, rule, inductive, file, chosen (why it was taken),
        weights_licence (of the backbone's weights; None without any); and ``target`` where it estimates a number, which
        is the one score of each song then, in its own unit.
    failures : file -> why it could not be judged.
    """

    head: dict[str, Any]
    songs: tuple[SongPrediction, ...]
    failures: dict[str, str]


@dataclass(frozen=True)
class Similar:
    """A song or an artist near to what was asked about.

    Attributes
    ----------
    id : of the song or the artist in the collection.
    similarity : the mean cosine of its clips, in [-1, 1].
    title, artist, labels, file : of a song; of an artist its name alone, the rest None or empty.
    clips : how many it has.
    """

    id: str
    similarity: float
    title: str | None
    artist: str | None
    labels: tuple[str, ...]
    file: str | None
    clips: int


@dataclass(frozen=True)
class SimilarTo:
    """The songs or artists nearest to a song or an artist, the nearest first.

    Attributes
    ----------
    query : what it was taken for.
    compared : how many clips it was compared with.
    recall : the share of what is truly nearest that such a search finds; below 1 beyond a million clips.
    """

    query: str
    dataset: str
    representation: str
    compared: int
    recall: float
    similar: tuple[Similar, ...]


@dataclass(frozen=True)
class Collection:
    """One collection of a store.

    Attributes
    ----------
    clips : rows of its catalog, those of retired songs among them.
    representations : the complete ones, as ``<backbone>-<fingerprint>``.
    """

    name: str
    title: str
    clips: int
    synthetic: bool
    representations: tuple[str, ...]


@dataclass(frozen=True)
class Representation:
    """What a backbone made of the clips of a collection.

    Attributes
    ----------
    name : ``<backbone>-<fingerprint>``.
    rows : [clips] the catalog rows of the clips that are encoded and not retired, ascending.
    values : [clips, *shape] their numbers, as they are stored.
    """

    name: str
    rows: NDArray[np.int64]
    values: np.ndarray[Any, Any]


@dataclass(frozen=True)
class HeadScores:
    """Test scores of one head, by one of its rules (most heads have one, whose name is None).

    Attributes
    ----------
    metrics : metric -> mean over seeds and folds, a fraction in [0, 1] (of a number, R2, Spearman's correlation, and
        errors in its own unit); None where it is not defined.
    deviations : metric -> the deviation of these scores, divided by their number.
    train_seconds : over all seeds.
    path : the folder with checkpoint, scores and settings.
    """

    mode: str
    rule: str | None
    backbone: str | None
    regime: str
    seeds: int
    metrics: dict[str, float | None]
    deviations: dict[str, float | None]
    train_seconds: float
    path: str


@dataclass(frozen=True)
class TrainedHead:
    """A head that `train_head` or ``encore head`` left in a store, and what it was trained on.

    Attributes
    ----------
    representation : the folder of the representations that it reads; None if it reads none.
    labels : what the columns of its scores are.
    """

    dataset: str
    representation: str | None
    mode: str
    regime: str
    seed: int
    fold: int
    labels: tuple[str, ...]
    head: RestoredHead


@dataclass(frozen=True)
class Predictions:
    """What a head says of the clips of a collection.

    Attributes
    ----------
    rows : [clips] the catalog row of each clip.
    labels : what the columns are.
    scores : [clips, labels] in [0, 1]; of a number [clips, 1] in its own unit.
    decisions : [clips, labels] whether the head decides for the label; of a number the same as ``scores``.
    """

    rows: NDArray[np.int64]
    labels: tuple[str, ...]
    scores: NDArray[np.floating[Any]]
    decisions: NDArray[Any]
