"""Kinds of clips: a count per clip, and ranges of it for which scores are given. Arrays in, arrays out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Ids = NDArray[np.int64]
Buckets = tuple[tuple[int, int | None], ...]  # first and last count of each; None is no end

GENRES: Buckets = ((1, 1), (2, 2), (3, 4), (5, 8), (9, None))
SONGS: Buckets = ((1, 1), (2, 4), (5, 9), (10, 24), (25, None))
NEIGHBOURS: Buckets = ((0, 0), (1, 4), (5, None))


def split(counts: Ids, buckets: Buckets) -> dict[str, Bools]:
    """By the name of each bucket whether each of ``counts`` [clips] falls into it; both ends belong to it."""
    return {
        _name(first, last): (counts >= first) & (counts <= (np.iinfo(np.int64).max if last is None else last))
        for first, last in buckets
    }


def _name(first: int, last: int | None) -> str:
    return f"{first}+" if last is None else str(first) if first == last else f"{first}-{last}"


def genres_of_artist(artist: Ids, truth: Bools) -> Ids:
    """[clips] the number of labels over all clips of the clip's artist; 0 where the artist is unknown."""
    genres = np.zeros((int(artist.max(initial=-1)) + 2, truth.shape[1]), dtype=bool)  # the last row is artist -1's
    np.logical_or.at(genres, artist, truth)
    genres[-1] = False
    counts: Ids = genres.sum(axis=1)[artist]
    return counts


def songs_of_artist(artist: Ids, song: Ids) -> Ids:
    """[clips] the number of songs of the clip's artist in the collection; 0 where the artist is unknown."""
    _, first = np.unique(song, return_index=True)
    codes = artist[first][artist[first] >= 0]
    counts: Ids = np.append(np.bincount(codes, minlength=int(artist.max(initial=-1)) + 1), 0)[artist]
    return counts
