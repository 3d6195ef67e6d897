"""Artist only: what the artist's training songs were labelled, without hearing the song."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from stages.head.collection import Collection
from stages.head.heads import CountedHead
from stages.head.modes import Rule
from stages.head.scores.prediction import Prediction
from stages.splits.regimes import Split


class Artist(CountedHead):
    """The decision tree over the artist alone: one leaf an artist, holding the labels of its training songs.

    Two rules: ``most frequent`` says the one label that most of them carry (ties go to the label that is more
    frequent in the training part, then to the first by name), ``at least half`` says every label that half of
    them or more carry. Nothing is said of an artist that is unknown or has no training song. The score of a
    label is the share of the artist's training songs that carry it. Songs are counted once, whatever the
    number of their clips, with the labels of any of these that are trained on.
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

    def count(self, data: Collection, part: Split) -> dict[str, Prediction]:
        carrying, songs = training_songs(data, part).counts()
        known = data.artist >= 0
        share = np.zeros((len(data), len(data.labels)))
        share[known] = (carrying / np.maximum(songs, 1)[:, None])[data.artist[known]]
        overall = carrying.sum(axis=0)
        # One float ranks by count first and by overall frequency second; argmax takes the first of equals.
        rank = carrying + overall / (overall.sum() + 1)
        top = np.zeros_like(carrying, dtype=bool)
        top[np.arange(len(top)), rank.argmax(axis=1)] = True
        half = (2 * carrying >= songs[:, None]) & (songs > 0)[:, None]
        top &= (songs > 0)[:, None]
        return {
            rule: Prediction(share.astype(np.float32), _of_clips(chosen, data))
            for rule, chosen in (("most frequent", top), ("at least half", half))
        }


@dataclass(frozen=True)
class TrainingSongs:
    """The songs of known artists that have a training clip; clips of two artists in one song are two songs.

    Attributes
    ----------
    artist : [songs].
    targets : [songs, labels] bool, the labels that any of the song's training clips carries.
    of_clip : [clips] the song of each clip, in training or not; -1 where it is none of these.
    artists : how many artists there are.
    """

    artist: NDArray[np.int64]
    targets: NDArray[np.bool_]
    of_clip: NDArray[np.int64]
    artists: int

    def counts(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """[artists, labels] how many songs of each artist carry each label, and [artists] how many there are."""
        carrying = np.zeros((self.artists, self.targets.shape[1]))
        np.add.at(carrying, self.artist, self.targets)
        return carrying, np.bincount(self.artist, minlength=self.artists)


def training_songs(data: Collection, part: Split) -> TrainingSongs:
    """The songs whose labels a head may know."""
    key = np.where(data.artist >= 0, data.artist * (data.song.max(initial=0) + 1) + data.song, -1)
    clips = np.flatnonzero((part == 0) & (key >= 0))
    clips = clips[np.argsort(key[clips], kind="stable")]
    keys, first = np.unique(key[clips], return_index=True)
    targets = np.logical_or.reduceat(data.targets[clips], first) if len(clips) else data.targets[:0]
    place = np.searchsorted(keys, key).clip(max=max(0, len(keys) - 1))
    of_clip = np.where(np.isin(key, keys), place, -1)
    return TrainingSongs(data.artist[clips[first]], targets, of_clip, int(data.artist.max(initial=-1)) + 1)


def _of_clips(chosen: np.ndarray, data: Collection) -> np.ndarray:
    known = data.artist >= 0
    found = np.zeros((len(data), chosen.shape[1]), dtype=bool)
    found[known] = chosen[data.artist[known]]
    return found
