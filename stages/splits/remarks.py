"""Remarks that a reader of scores should know about the parts of a split, one line each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stages.splits.regimes import PARTS, Split, songs_beside

LARGE = 0.1  # an artist with this share of a part, or more, is told of by `encore audit`
_SHOWN = 5

Ids = NDArray[np.int64]


def remarks(
    splits: Sequence[Split], *, song: Ids, artist: Ids, labels: NDArray[np.bool_], label_names: Sequence[str]
) -> list[str]:
    """Labels that have a single song, or that a part lacks, and artists who have most songs of a part.

    Parameters
    ----------
    splits : [clips] each; the splits of one regime.
    song, artist : [clips] a number for each, -1 where unknown.
    labels : [clips, labels].
    label_names : names of the labels.
    """
    _, first_clip = np.unique(song, return_index=True)
    songs = labels[first_clip].sum(axis=0)
    single = songs == 1
    lines = []
    if single.any():
        names = [label for label, is_single in zip(label_names, single, strict=True) if is_single]
        lines.append(f"a single song carries {_list(names)}: what is learned there cannot be tested")
    for number, name in enumerate(PARTS):
        parts = [part == number for part in splits]
        lacking = [~labels[part].any(axis=0) for part in parts]
        lines += _lacking(name, np.array(lacking), label_names)
        shares = [largest_artist(artist[first_clip], part[first_clip]) for part in parts]
        lines += _largest(name, shares)
    return lines


def artists_of_parts(part: Split, *, song: Ids, artist: Ids) -> dict[str, dict[str, float]]:
    """What the artists of the parts are like, by part.

    ``one_song_artists`` is the share of a part's songs whose artist has no other song in the collection,
    ``largest_artist`` that of the artist with most songs of the part; both in [0, 1], 0 for a part without songs.

    Parameters
    ----------
    part, song, artist : [clips] a number for each; -1 for an unknown artist, and for a clip in no part.
    """
    _, first_clip = np.unique(song, return_index=True)
    artist, part = artist[first_clip], part[first_clip]
    is_only = (artist >= 0) & (songs_beside(artist) == 1)
    return {
        "one_song_artists": {
            name: float(is_only[part == number].sum() / max(int((part == number).sum()), 1))
            for number, name in enumerate(PARTS)
        },
        "largest_artist": {name: largest_artist(artist, part == number) for number, name in enumerate(PARTS)},
    }


def largest_artist(artist: Ids, part: NDArray[np.bool_]) -> float:
    """The share of a part's songs that the artist with most of them has, in [0, 1].

    Parameters
    ----------
    artist, part : [songs] a number, -1 where unknown; and whether the song is in the part.
    """
    artists = artist[part & (artist >= 0)]
    return float(np.bincount(artists, minlength=1).max() / max(int(part.sum()), 1))


def _lacking(part: str, lacking: NDArray[np.bool_], labels: Sequence[str]) -> list[str]:
    """``lacking`` [splits, labels]: a label cannot be learned where train lacks it, or is in no macro score."""
    times = lacking.sum(axis=0)
    names = [label for label, count in zip(labels, times, strict=True) if count]
    if not names:
        return []
    if len(lacking) > 1:
        counts = times[times > 0].tolist()
        names = [f"{name} in {count}" for name, count in zip(names, counts, strict=True)]
        names[0] += f" of {len(lacking)} splits"
    them = "it" if len(names) == 1 else "them"
    effect = f"nothing is learned of {them} there" if part == PARTS[0] else f"macro scores leave {them} out there"
    return [f"no {part} clip carries {_list(names)}; {effect}"]


def _largest(part: str, shares: Sequence[float]) -> list[str]:
    count = sum(share > 0.5 for share in shares)
    if not count:
        return []
    where = f" in {count} of {len(shares)} splits" if len(shares) > 1 else ""
    return [f"one artist has {100 * max(shares):.0f} % of the {part} songs{where}; scores there are of that artist"]


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
