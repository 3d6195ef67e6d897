"""Dealing groups of songs into parts of given shares, label by label.

A group (a song, an album, an artist) goes into one part as a whole. Groups are taken stratum by stratum, where a
stratum is the label that tells most of a group, so that each label is shared out like the whole: a group-wise and
single-label form of iterative stratification (K. Sechidis, G. Tsoumakas, I. Vlahavas: On the Stratification of
Multi-Label Data, ECML PKDD 2011), linear in songs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


def deal(
    songs: Ids,
    stratum: Ids,
    shares: Sequence[float],
    rng: np.random.Generator,
    held: NDArray[np.int8] | None = None,
) -> NDArray[np.int8]:
    """The part of each group.

    Groups of several songs are dealt first, in an order drawn from ``rng``, each to the part that lacks most of its
    stratum and has room for more than half of it; single songs then fill each stratum up, rounding carried from one
    stratum to the next, so that every part has its share of all songs to one song where groups allow.

    Parameters
    ----------
    songs, stratum : [groups] how many songs a group has, and a number from 0.
    shares : of the parts, summing to 1.
    held : [groups] the part that a group was dealt before and keeps, -1 for a new one. Where any is held, single songs
        too are dealt one by one, to what lacks most after all that came before.
    """
    part = np.full(len(songs), -1, dtype=np.int8) if held is None else held.copy()
    strata = int(stratum.max(initial=-1)) + 1
    per_stratum = np.bincount(stratum, weights=songs, minlength=strata)
    lacking = np.outer(per_stratum, shares)
    old = np.flatnonzero(part >= 0)
    np.subtract.at(lacking, (stratum[old], part[old]), songs[old])
    empty = set(range(len(shares))) - set(part[old].tolist())
    several = rng.permutation(np.flatnonzero((songs > 1) & (part < 0)))
    single = rng.permutation(np.flatnonzero((songs == 1) & (part < 0)))
    if len(old):
        several, single = np.concatenate([several, single]), single[:0]
    part[several] = _deal_large(songs[several].tolist(), stratum[several].tolist(), lacking, empty, len(single))
    by_stratum = single[np.argsort(stratum[single], kind="stable")]
    counts = np.bincount(stratum[single], minlength=strata)
    begin = np.cumsum(counts) - counts
    carried = np.zeros(len(shares))
    for which in rng.permutation(np.flatnonzero(counts)).tolist():
        wanted = np.maximum(lacking[which], 0.0)
        wanted = wanted / wanted.sum() if wanted.sum() > 0 else np.asarray(shares)
        # What a part got too much or too little of elsewhere is made up for where a label is frequent.
        of_part, carried = _rounded(int(counts[which]), wanted, carried)
        chosen = by_stratum[begin[which] : begin[which] + counts[which]]
        part[chosen] = np.repeat(np.arange(len(shares)), of_part)
    for lost in sorted(set(range(len(shares))) - set(part.tolist())):  # few groups, of many strata
        giver = np.bincount(part[single], minlength=len(shares)).argmax() if len(single) else lost
        if (part == giver).sum() > 1:
            part[single[part[single] == giver][0]] = lost
    return part


def _deal_large(
    songs: list[int], strata: list[int], lacking: NDArray[np.float64], empty: set[int], singles: int
) -> list[int]:
    """The part of each group, one after the other; ``lacking`` [strata, parts] is brought up to date.

    No part of those that are ``empty`` stays so as long as there are groups enough, the ``singles`` to come among them.
    """
    rows: list[list[float]] = lacking.tolist()
    total: list[float] = lacking.sum(axis=0).tolist()
    parts = range(lacking.shape[1])
    found = []
    for left, count, which in zip(range(len(songs) + singles, 0, -1), songs, strata, strict=False):
        row = rows[which]
        room = [p for p in parts if total[p] >= count / 2] if left > len(empty) else sorted(empty)
        best = max(room, key=row.__getitem__) if room else max(parts, key=total.__getitem__)
        row[best] -= count
        total[best] -= count
        found.append(best)
        empty.discard(best)
    lacking[:] = rows
    return found


def _rounded(
    count: int, wanted: NDArray[np.float64], carried: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """``count`` songs as whole numbers by the shares ``wanted`` and what is carried over; and what is carried on."""
    target = count * wanted + carried
    whole = np.maximum(np.floor(target + 1e-9), 0).astype(np.int64)
    while whole.sum() > count:
        whole[np.argmax(np.where(whole > 0, whole - target, -np.inf))] -= 1
    for _ in range(count - int(whole.sum())):
        whole[np.argmax(target - whole)] += 1
    return whole, target - whole


def telling(group: Ids, first_clip: Ids, targets: NDArray[np.bool_]) -> Ids:
    """[groups] the label that most of a group's songs carry; of equals the one that is rarest in the collection.

    Parameters
    ----------
    group : [clips] numbers from 0 without gaps.
    first_clip : [songs] a clip of each song.
    targets : [clips, labels]; songs without a label are a stratum of their own.
    """
    carried = targets[first_clip]
    frequency = carried.sum(axis=0)
    order = np.argsort(frequency, kind="stable")  # the rarest first
    best = np.zeros(int(group.max()) + 1, dtype=np.int64)
    found = np.full(len(best), targets.shape[1], dtype=np.int64)
    of_song = group[first_clip]
    for label in order.tolist():  # a count a label, so that groups x labels are never held at once
        count = np.bincount(of_song[carried[:, label]], minlength=len(best))
        better = count > best
        best[better], found[better] = count[better], label
    return found
