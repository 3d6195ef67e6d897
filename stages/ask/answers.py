"""What is answered about songs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


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
