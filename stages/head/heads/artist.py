"""Artist only: what the artist's training songs were labelled, without hearing the song."""

from __future__ import annotations

import numpy as np

from stages.head.collection import Collection
from stages.head.heads import CountedHead, Prediction
from stages.splits import Split

Counts = tuple[np.ndarray, np.ndarray]


class Artist(CountedHead):
    """The decision tree over the artist alone: one leaf an artist, holding the labels of its training songs.

    Two rules: ``most frequent`` says the one label that most of them carry (ties go to the label that is more
    frequent in the training part, then to the first by name), ``at least half`` says every label that half of
    them or more carry. Nothing is said of an artist that is unknown or has no training song. The score of a
    label is the share of the artist's training songs that carry it. Songs are counted once, whatever the
    number of their clips.
    """

    NAME = "artist"
    TITLE = "artist only (decision tree)"
    CITATION = "S. Lee, thesis, Seoul National University: its artist-only baseline"
    READS_SONGS = False
    READS_ARTISTS = True

    def count(self, data: Collection, part: Split) -> dict[str, Prediction]:
        carrying, songs = count_labels(data, part)
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


def count_labels(data: Collection, part: Split) -> Counts:
    """[artists, labels] how many training songs of each artist carry each label, and [artists] how many there are."""
    artists = int(data.artist.max(initial=-1)) + 1
    _, first_clip = np.unique(data.song, return_index=True)
    first_clip = first_clip[(part[first_clip] == 0) & (data.artist[first_clip] >= 0)]
    carrying = np.zeros((artists, len(data.labels)))
    np.add.at(carrying, data.artist[first_clip], data.targets[first_clip])
    return carrying, np.bincount(data.artist[first_clip], minlength=artists)


def _of_clips(chosen: np.ndarray, data: Collection) -> np.ndarray:
    known = data.artist >= 0
    found = np.zeros((len(data), chosen.shape[1]), dtype=bool)
    found[known] = chosen[data.artist[known]]
    return found
