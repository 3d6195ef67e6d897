"""Artist only: what the artist's training songs are, without hearing the song."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.head.collection import Collection
from stages.head.heads import CountedHead, Facts
from stages.head.modes import Rule
from stages.head.scores.prediction import Prediction
from stages.splits.regimes import Split


class Artist(CountedHead):
    """The decision tree over the artist alone: one leaf an artist, holding the labels of its training songs.

    Two rules: ``most frequent`` predicts the one label that most of them carry (ties go to the label that is more
    frequent in the training part, then to the first by name), ``at least half`` predicts every label that half of
    them or more carry. For an unknown artist, or one without a training song, nothing is predicted. The score of a
    label is the share of the artist's training songs that carry it. A song counts once, however many clips it has,
    with the labels of all its training clips.

    With a numeric target this is a regression tree: the mean of the artist's training songs, or of all training songs
    for an artist without any. There is only one rule then, without a name.
    """

    NAME = "artist"
    TITLE = "artist only (decision tree)"
    CITATION = "S. Lee, thesis, Seoul National University: its artist-only baseline"
    RULES = MappingProxyType(
        {
            "most frequent": Rule("top", "its most frequent label"),
            "at least half": Rule("half", "those of half its songs or more"),
        }
    )
    READS_SONGS = False
    READS_ARTISTS = True

    @classmethod
    def learn(cls, collection: Collection, x: Tensor | None, split: Split, config: Any) -> Facts:
        """The counts of `count_songs`; ``overall``: [labels] those of all artists together; ``prior``: [outputs]
        `Task.prior` of the training clips.
        """
        facts = count_songs(collection, split)
        prior = torch.from_numpy(collection.task.prior(collection.truth[split == 0]))
        return {**facts, "overall": facts["carrying"].sum(dim=0), "prior": prior}

    def score(self) -> dict[str, Prediction]:
        carrying, songs = artist_counts(self.collection, self.spec.facts)
        share = carrying / np.maximum(songs, 1)[:, None]
        if not self.spec.task.CHOOSES:
            prior = self.spec.facts["prior"].numpy()
            mean = np.vstack([np.where(songs[:, None] > 0, share, prior), prior])  # the last is artist -1's
            return {"": self.spec.task.decide(mean[self.collection.artist].astype(np.float32))}
        overall = self.spec.facts["overall"].numpy()
        # One float ranks by count first and by overall frequency second; argmax takes the first of equals.
        rank = carrying + overall / (overall.sum() + 1)
        top = np.zeros_like(carrying, dtype=bool)
        top[np.arange(len(top)), rank.argmax(axis=1)] = True
        half = (2 * carrying >= songs[:, None]) & (songs > 0)[:, None]
        top &= (songs > 0)[:, None]
        artist = self.collection.artist
        return {
            rule: Prediction(_of_clips(share.astype(np.float32), artist), _of_clips(decisions, artist))
            for rule, decisions in (("most frequent", top), ("at least half", half))
        }


def _of_clips(values: NDArray[Any], artist: NDArray[np.int64]) -> NDArray[Any]:
    """[clips, labels] the row of each clip's artist in ``values`` [artists, labels]; zeros for an unknown artist."""
    rows = np.zeros((len(artist), values.shape[1]), dtype=values.dtype)
    has_artist = artist >= 0
    rows[has_artist] = values[artist[has_artist]]
    return rows


@dataclass(frozen=True)
class TrainingSongs:
    """The songs of known artists that have a training clip; clips of two artists in one song are two songs.

    Attributes
    ----------
    artist : [songs].
    truth : [songs, outputs] the labels that any of the song's training clips carries, or the mean of their numbers.
    of_clip : [clips] the song of each clip, in training or not; -1 where it is none of these.
    """

    artist: NDArray[np.int64]
    truth: NDArray[Any]
    of_clip: NDArray[np.int64]


def training_songs(collection: Collection, split: Split) -> TrainingSongs:
    """The songs whose labels, or numbers, a head may know."""
    artist = collection.artist
    key = np.where(artist >= 0, artist * (collection.song.max(initial=0) + 1) + collection.song, -1)
    clips = np.flatnonzero((split == 0) & (key >= 0))
    clips = clips[np.argsort(key[clips], kind="stable")]
    keys, first = np.unique(key[clips], return_index=True)
    truth = collection.task.of_songs(collection.truth[clips], first)
    place = np.searchsorted(keys, key).clip(max=max(0, len(keys) - 1))
    of_clip = np.where(np.isin(key, keys), place, -1)
    return TrainingSongs(artist[clips[first]], truth, of_clip)


def count_songs(collection: Collection, split: Split) -> dict[str, Any]:
    """The artists that have training songs, as facts of a head.

    ``artists``: their ids; ``carrying``: [artists, outputs] float64, how many songs of each carry each label, or the
    sum of their numbers; ``songs``: [artists] int64, how many there are.
    """
    songs = training_songs(collection, split)
    artists, place = np.unique(songs.artist, return_inverse=True)
    carrying = np.zeros((len(artists), songs.truth.shape[1]))
    np.add.at(carrying, place, songs.truth)
    return {
        "artists": [collection.artist_ids[artist] for artist in artists.tolist()],
        "carrying": torch.from_numpy(carrying),
        "songs": torch.from_numpy(np.bincount(place, minlength=len(artists))),
    }


def artist_counts(collection: Collection, facts: Facts) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """[artists, labels] and [artists], the counts of `count_songs` for the artists of a collection, maybe another."""
    place = collection.artists_among(facts["artists"])
    has_place = place >= 0
    carrying = np.zeros((len(place), facts["carrying"].shape[1]))
    songs = np.zeros(len(place), dtype=np.int64)
    carrying[has_place], songs[has_place] = (
        facts["carrying"].numpy()[place[has_place]],
        facts["songs"].numpy()[place[has_place]],
    )
    return carrying, songs
