"""Regimes: how clips are divided into train, validation and test, and what the parts share.

A part of a collection consists of whole groups: songs in ``random``, albums in ``album``, artists in ``artist``. All
clips of a song are therefore in the same part.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.splits.stratify import count_traits, deal
from store.errors import RequestError, unknown

REGIMES = ("random", "album", "artist", "official")
PARTS = ("train", "validation", "test")
SHARES = (0.8, 0.1, 0.1)
MAX_FOLDS = 100

_FOLDS = re.compile(r"(.+)-([0-9]{1,3})fold")

Ids = NDArray[np.int64]
Split = NDArray[np.int8]


def split(
    regime: str,
    *,
    song: Ids,
    album: Ids,
    artist: Ids,
    official: Split,
    seed: int,
    related: Ids | None = None,
    recording: Ids | None = None,
    labels: NDArray[np.bool_] | None = None,
) -> Split:
    """The part of each clip: 0 train, 1 validation, 2 test, -1 in none of them; see `dealt`.

    Parameters
    ----------
    official : [clips] the data set's own split.
    """
    if regime == "official":
        if not all((official == part).any() for part in range(3)):
            others = _possible(
                song=song, album=album, artist=artist if related is None else related, recording=recording
            )
            instead = f"; take another regime: {', '.join(others)}" if others else ", and too few songs for any other"
            raise RequestError(f"this collection has no official split into train, validation and test{instead}")
        return official
    if regime not in REGIMES:
        raise unknown("regime", regime, REGIMES)
    optional: dict[str, Any] = {"related": related, "recording": recording, "labels": labels}
    return dealt(regime, seed, song=song, album=album, artist=artist, **optional)


def dealt(
    regime: str,
    seed: int,
    *,
    song: Ids,
    album: Ids,
    artist: Ids,
    related: Ids | None = None,
    recording: Ids | None = None,
    labels: NDArray[np.bool_] | None = None,
    part_before: Split | None = None,
) -> Split:
    """The part of each clip in ``random``, ``album`` or ``artist``, or its fold (from 0) in a k-fold version of these.

    80, 10 and 10 % of the songs, or an equal share for each fold, are dealt in whole groups and in an order drawn from
    ``seed``. Each part gets the collection's distribution of labels and of songs an artist (or an album, in the regime
    ``album``) as nearly as whole groups allow; see `stages.splits.stratify`. A song whose album or artist is unknown is
    a group of its own.

    Clips that were dealt before keep their part, new clips of their group join them, and new groups fill up what is
    lacking. A group with clips of several parts, because something has joined it since, goes to the first of these
    parts, so that nothing that may have been trained on ever becomes a test clip.

    Parameters
    ----------
    song, album, artist : [clips] a number for each, -1 where unknown (never for songs).
    related : [clips] what ``artist`` keeps together instead of the songs of each artist; -1 where unknown.
    recording : [clips] a number that copies and versions of one recording share; they stay together.
    labels : [clips, labels] the labels of each clip; None where they do not matter.
    part_before : [clips] the part that each clip was dealt before, -1 for new clips.

    Raises
    ------
    RequestError
        where no artist (album) is known, or there are fewer groups than parts.
    """
    base, k = parse(regime)
    group = _groups(base, song=song, album=album, artist=artist if related is None else related, recording=recording)
    fellow = {"random": song, "album": album, "artist": artist}[base]
    shares = SHARES if k is None else [1 / k] * k
    part = _deal(group, fellow, labels, song, shares, seed, part_before)
    _complain_of_empty(part, len(shares))
    return part


def _together(one: Ids, other: Ids) -> Ids:
    """[clips] a number shared by clips that agree in either number, directly or through other clips."""
    clips = np.arange(len(one))
    _, other = np.unique(other, return_inverse=True)
    _, one = np.unique(one, return_inverse=True)
    return together(np.tile(clips, 2), np.concatenate([one, one.max() + 1 + other]), len(one))


def together(item: Ids, number: Ids, items: int) -> Ids:
    """[items] a number shared by items that have a number in common, directly or through other items: the smallest of
    their numbers; -1 for an item without any.

    Parameters
    ----------
    item, number : [pairs] an item and one of the numbers it has.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    numbers = int(number.max(initial=-1)) + 1
    links = coo_array((np.ones(len(item), dtype=np.int8), (item, items + number)), shape=(items + numbers,) * 2)
    component: Ids = connected_components(links, directed=False)[1]
    smallest = np.full(len(component), -1, dtype=np.int64)
    smallest[component[items:][::-1]] = np.arange(numbers)[::-1]
    return smallest[component[:items]]


def folds(regime: str, seed: int, *, of: Mapping[str, Any]) -> list[Split]:
    """The splits of a regime: one, or k for its k-fold version ``<regime>-<k>fold``; see `as_parts`.

    ``of`` holds the arrays that `split` takes.
    """
    if parse(regime)[1] is None:
        return [split(regime, **of, seed=seed)]
    return as_parts(regime, dealt(regime, seed, **{name: of[name] for name in of if name != "official"}))


def as_parts(regime: str, number: Split) -> list[Split]:
    """What `dealt` gives as splits into train, validation and test.

    Fold i is the test part of split i, the next fold its validation part, the others train; so each song is in test
    once.
    """
    k = parse(regime)[1]
    if k is None:
        return [number]
    order = np.array([2, *[0] * (k - 2), 1], dtype=np.int8)  # by how far a fold lies behind the one that is tested
    none = np.int8(-1)
    return [np.where(number < 0, none, order[(i - number.astype(np.int64)) % k]) for i in range(k)]


def parse(regime: str) -> tuple[str, int | None]:
    """The regime, and k where it is its k-fold version; RequestError where there is no such regime."""
    match = _FOLDS.fullmatch(regime)
    base, k = (match[1], int(match[2])) if match else (regime, None)
    if base not in REGIMES:
        raise unknown("regime", regime, (*REGIMES, *(f"{name}-5fold" for name in REGIMES[:-1])))
    if k is not None and base == "official":
        raise RequestError("an official split is one split; take random, album or artist for folds")
    if k is not None and not 3 <= k <= MAX_FOLDS:
        raise RequestError(f"{regime}: folds are 3 to {MAX_FOLDS}: one to test, one to validate, the others to train")
    return base, k


def _groups(regime: str, *, song: Ids, album: Ids, artist: Ids, recording: Ids | None) -> Ids:
    """What stays together, as a number for each clip."""
    if regime == "random":
        group = song
    else:
        key = album if regime == "album" else artist
        if (key < 0).all():
            raise RequestError(f"no song of this collection has a known {regime}, so there is no {regime} split")
        group = np.where(key >= 0, key, key.max() + 1 + song)
    return group if recording is None else _together(group, recording)


def _possible(**of: Any) -> list[str]:
    """The regimes that have groups for all parts; takes what `_groups` does."""
    possible = []
    for regime in REGIMES[:-1]:
        with contextlib.suppress(RequestError):
            if len(np.unique(_groups(regime, **of))) >= len(PARTS):
                possible.append(regime)
    return possible


def _deal(
    group: Ids,
    fellow: Ids,
    labels: NDArray[np.bool_] | None,
    song: Ids,
    shares: Sequence[float],
    seed: int,
    part_before: Split | None,
) -> Split:
    """[clips] the part of each clip's group; ``fellow`` [clips] are the artists or albums whose size is shared out."""
    _, group = np.unique(group, return_inverse=True)
    _, first_clip = np.unique(song, return_index=True)
    songs = np.bincount(group[first_clip], minlength=int(group.max()) + 1)
    fellows = songs_beside(fellow[first_clip])
    traits = count_traits(group[first_clip], None if labels is None else labels[first_clip], fellows)
    before = None if part_before is None else _first_part(group, part_before, len(songs))
    part: Split = deal(songs, traits, shares, np.random.default_rng(seed), before)[group]
    return part


def songs_beside(ids: Ids) -> Ids:
    """[songs] how many songs have the same artist (or album), the song itself included; 1 where it is unknown."""
    counts = np.bincount(ids[ids >= 0], minlength=1)
    return np.where(ids >= 0, counts[ids], 1)


def _first_part(group: Ids, part_before: Split, groups: int) -> Split:
    """[groups] the first of the parts that a group's clips were dealt, -1 where none was."""
    none = MAX_FOLDS
    first = np.full(groups, none, dtype=np.int8)
    np.minimum.at(first, group[part_before >= 0], part_before[part_before >= 0])
    first[first == none] = -1
    return first


def _complain_of_empty(part: Split, parts: int) -> None:
    names = PARTS if parts == len(PARTS) else [f"fold {i + 1}" for i in range(parts)]
    empty = [names[i] for i in range(parts) if not (part == i).any()]
    if empty:
        raise RequestError(
            f"there are too few groups to divide into {parts} parts (nothing left for {' and '.join(empty)}); "
            f"take a regime with smaller groups, or more songs"
        )


def overlap(
    part: Split,
    *,
    song: Ids,
    album: Ids,
    artist: Ids,
    recording: Ids | None = None,
    appearances: tuple[Ids, Ids] | None = None,
) -> dict[str, Any]:
    """Songs and artists of each part, and what two parts share.

    ``shared_songs``, ``shared_albums``, ``shared_artists`` are those of train and test; ``shared`` holds the same, and
    recordings where they are known, for every pair of parts (``train-validation`` and so on). Artists are the
    first-named ones; where songs have others too, ``shared_any_artist`` counts all of them.

    Parameters
    ----------
    appearances : every artist of every clip as pairs of clip and number.
    """
    sizes: dict[str, Any] = {
        name: {"songs": len(_known(song[part == i])), "artists": len(_known(artist[part == i]))}
        for i, name in enumerate(PARTS)
    }
    kinds = {"songs": (part, song), "albums": (part, album), "artists": (part, artist)}
    if appearances is not None:
        kinds["any_artist"] = part[appearances[0]], appearances[1]
    if recording is not None:
        kinds["recordings"] = part, recording
    sides = {name: [_known(ids[of == i]) for i in range(len(PARTS))] for name, (of, ids) in kinds.items()}
    counts = {
        f"{PARTS[i]}-{PARTS[j]}": {
            name: len(np.intersect1d(of_part[i], of_part[j], assume_unique=True)) for name, of_part in sides.items()
        }
        for i, j in ((0, 1), (0, 2), (1, 2))
    }
    both = counts["train-test"]
    return {**sizes, "shared": counts} | {f"shared_{name}": both[name] for name in both if name != "recordings"}


def _known(ids: Ids) -> Ids:
    distinct: Ids = np.unique(ids[ids >= 0])
    return distinct
