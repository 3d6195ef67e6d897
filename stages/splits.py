"""Regimes: how clips are divided into train, validation and test, and what the parts share.

A part of a collection is a set of groups, never of clips: songs in ``random``, albums in ``album``, artists in
``artist``. So the clips of a song are always on one side.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.errors import RequestError, unknown

REGIMES = ("random", "album", "artist", "official")
PARTS = ("train", "validation", "test")
SHARES = (0.8, 0.1, 0.1)

Ids = NDArray[np.int64]
Split = NDArray[np.int8]


def split(regime: str, *, song: Ids, album: Ids, artist: Ids, official: Split, seed: int) -> Split:
    """The part of each clip: 0 train, 1 validation, 2 test, -1 in none of them.

    ``random``, ``album`` and ``artist`` deal 80, 10 and 10 % of the songs, group by group in an order drawn from
    ``seed``; a song whose album or artist is unknown is a group of its own.

    Parameters
    ----------
    song, album, artist : [clips] a number for each, -1 where unknown (never for songs).
    official : [clips] the data set's own split.
    """
    if regime == "official":
        if not all((official == part).any() for part in range(3)):
            raise RequestError(
                "this collection has no official split into train, validation and test; take another --regime: "
                + ", ".join(REGIMES[:-1])
            )
        return official
    if regime == "random":
        group = song
    elif regime in ("album", "artist"):
        key = album if regime == "album" else artist
        if (key < 0).all():
            raise RequestError(f"no song of this collection has a known {regime}, so there is no {regime} split")
        group = np.where(key >= 0, key, key.max() + 1 + song)
    else:
        raise unknown("regime", regime, REGIMES)
    return _deal(group, song, seed)


def _deal(group: Ids, song: Ids, seed: int) -> Split:
    _, group = np.unique(group, return_inverse=True)
    _, first_clip = np.unique(song, return_index=True)
    songs = np.bincount(group[first_clip], minlength=int(group.max()) + 1)
    order = np.random.default_rng(seed).permutation(len(songs))
    # A group goes where its middle song falls, so that no part is cut short by a large group at its border.
    middle = np.empty(len(songs))
    middle[order] = np.cumsum(songs[order]) - songs[order] / 2
    part_of_group = np.searchsorted(np.cumsum(SHARES)[:2] * songs.sum(), middle, side="right").astype(np.int8)
    part: Split = part_of_group[group]
    empty = [PARTS[i] for i in range(3) if not (part == i).any()]
    if empty:
        raise RequestError(
            f"{len(songs)} groups are too few to divide into train, validation and test (nothing left for "
            f"{' and '.join(empty)}); take a regime with smaller groups, or more songs"
        )
    return part


def overlap(part: Split, *, song: Ids, album: Ids, artist: Ids) -> dict[str, Any]:
    """Songs and artists of each part, and how many test songs, albums and artists also stand in train."""
    found: dict[str, Any] = {
        name: {"songs": len(_known(song[part == i])), "artists": len(_known(artist[part == i]))}
        for i, name in enumerate(PARTS)
    }
    for name, ids in (("artists", artist), ("albums", album), ("songs", song)):
        both = np.intersect1d(_known(ids[part == 0]), _known(ids[part == 2]), assume_unique=True)
        found[f"shared_{name}"] = len(both)
    return found


def _known(ids: Ids) -> Ids:
    found: Ids = np.unique(ids[ids >= 0])
    return found
