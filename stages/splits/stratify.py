"""Deal groups of songs into parts of given shares so that each part resembles the whole collection.

A group (a song, an album, all songs of an artist) goes into one part as a whole. The parts are balanced by *traits* of
songs: each label is a trait, and so is, for each of 1, 2, 4, 8, ..., having an artist (or album) with at least that
many songs. Every part therefore gets the collection's distribution of labels and of songs an artist, as nearly as
whole groups allow.

This is iterative stratification (K. Sechidis, G. Tsoumakas, I. Vlahavas: On the Stratification of Multi-Label Data,
ECML PKDD 2011), extended from single items to groups. What a part lacks is measured relative to what it should get;
measured in songs, the largest part would receive all large groups and leave single songs to the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Ids = NDArray[np.int64]
Numbers = NDArray[np.float64]

_ROUNDING = 1e-9  # a whole number of groups can come out too small by this much


def deal(
    songs: Ids,
    traits: csr_array,
    shares: Sequence[float],
    rng: np.random.Generator,
    part_before: NDArray[np.int8] | None = None,
) -> NDArray[np.int8]:
    """The part of each group.

    Groups are dealt from large to small, by powers of two, and in random order within each of these sizes. A group goes
    to the part p that minimises ``(2 n[p] + 1) / shares[p]``: the divisor method of Webster and Sainte-Lague, which
    favours neither small nor large parts. Here n[p] says how many groups like this one the part already has. It is an
    average over the traits of the group: of the part's songs with a trait divided by the group's songs with it,
    weighted by the square of the latter divided by the collection's songs with it. This is the choice that increases
    the chi-squared distance between parts and collection least.

    Parts that lack less than half a group, counting only groups of its size or larger, are passed over. So no part
    exceeds its share of the songs in groups of any size or larger by a whole group of that size.

    Groups that are equal in all traits are dealt together, those with many equals last; time grows with the number of
    different groups.

    Parameters
    ----------
    songs : [groups] number of songs in each group.
    traits : [groups, traits] number of songs of each group that have a trait.
    shares : share of the songs for each part; they sum to 1.
    part_before : [groups] the part of a group that has been dealt before and stays there, -1 for a new group.
    """
    part = np.full(len(songs), -1, dtype=np.int8) if part_before is None else part_before.copy()
    order = rng.permutation(len(shares))  # ties go to the first part, so chance decides which one is first
    table = _Table(songs, traits, np.asarray(shares)[order], np.argsort(order)[part], part >= 0)
    new = rng.permutation(np.flatnonzero(part < 0))
    kind = _kinds(songs, traits)[new]
    _, first, kind, count = np.unique(kind, return_index=True, return_inverse=True, return_counts=True)
    magnitude = _magnitude(songs[new[first]])
    turn = np.lexsort((rng.random(len(first)), count, -magnitude))
    members = np.split(new[np.argsort(kind, kind="stable")], np.cumsum(count)[:-1])
    for which in turn.tolist():
        part[members[which]] = order[table.deal(int(new[first[which]]), len(members[which]))]
    _fill_empty(part, songs, len(shares), new)
    return part


class _Table:
    """How many songs with each trait the parts have so far, and how many songs each part still lacks.

    Attributes
    ----------
    dealt : [traits, parts] songs with a trait that a part has.
    room : [magnitudes, parts] songs that a part lacks of those in groups of this magnitude or a larger one.
    """

    def __init__(self, songs: Ids, traits: csr_array, shares: Numbers, part: Ids, is_kept: NDArray[np.bool_]) -> None:
        from scipy.sparse import coo_array

        self.songs, self.shares = songs, shares
        self.begin, self.trait, self.count = traits.indptr.tolist(), traits.indices, traits.data.astype(np.float64)
        self.magnitude = _magnitude(songs)
        ones = np.ones(int(is_kept.sum()), dtype=np.int64)
        places = (np.flatnonzero(is_kept), part[is_kept])
        members = coo_array((ones, places), shape=(len(songs), len(shares))).tocsr()
        self.dealt: Numbers = (traits.T @ members).toarray().astype(np.float64)
        at_least = self.magnitude >= np.arange(self.magnitude.max(initial=0) + 1)[:, None]
        self.room: Numbers = (at_least @ songs)[:, None] * shares - (at_least * songs) @ members
        total = np.bincount(self.trait, weights=self.count, minlength=traits.shape[1])
        self.weight = self.count / total[self.trait]

    def deal(self, group: int, count: int) -> Ids:
        """[count] sorted parts for that many groups, all of which have the traits of ``group``."""
        values = slice(self.begin[group], self.begin[group + 1])
        trait, own, weight = self.trait[values], self.count[values], self.weight[values]
        size, magnitude = int(self.songs[group]), int(self.magnitude[group])
        # Not a matrix product, which rounds differently on different processors and so would break ties differently.
        alike = (weight[:, None] * self.dealt.take(trait, axis=0)).sum(axis=0) / (weight * own).sum()
        lack = self.room[magnitude] / size + 0.5
        groups = _level(count, alike, np.maximum(lack, 0), self.shares) if count > 1 else np.zeros(len(lack), np.int64)
        for _ in range(count - int(groups.sum())):
            rank = (2 * (alike + groups) + 1) / self.shares
            is_open = groups + 1 <= lack
            if not is_open.any():
                rank, is_open = (groups + 1 - lack) / self.shares, ~is_open
            groups[np.where(is_open, rank, np.inf).argmin()] += 1
        self.dealt[trait] += own[:, None] * groups
        self.room[: magnitude + 1] -= size * groups
        return np.repeat(np.arange(len(groups)), groups)


def _level(count: int, alike: Numbers, most: Numbers, shares: Numbers) -> Ids:
    """[parts] how many of ``count`` equal groups each part gets at least, rounded down.

    Shares them as water fills connected vessels: their widths are ``shares``, they already hold ``alike``, and each
    takes ``most`` more.
    """
    levels = np.sort(np.concatenate([alike, alike + most]) / np.tile(shares, 2))
    inside = np.clip(levels[:, None] * shares - alike, 0, most).sum(axis=1)
    level = np.interp(count, inside, levels)
    return np.floor(np.clip(level * shares - alike, 0, most) + _ROUNDING).astype(np.int64)


def _magnitude(count: Any) -> Any:
    """0 for 1, 1 for 2 and 3, 2 for 4 to 7, and so on."""
    return np.frexp(count)[1] - 1


def _kinds(songs: Ids, traits: csr_array) -> Ids:
    """[groups] a number that groups with the same traits share."""
    if not len(songs):
        return songs
    factors = np.random.default_rng(0).integers(1, 2**62, traits.shape[1] + 1)
    number: Ids = traits @ factors[1:] + songs * factors[0]  # wraps around
    return number


def _fill_empty(part: NDArray[np.int8], songs: Ids, parts: int, new: Ids) -> None:
    """Give each part without groups the smallest new group of the part with most groups."""
    for empty in sorted(set(range(parts)) - set(part.tolist())):
        counts = np.bincount(part, minlength=parts)
        givers = new[counts[part[new]] > 1]
        if not len(givers):
            return
        most = givers[counts[part[givers]] == counts[part[givers]].max()]
        part[most[songs[most].argmin()]] = empty


def count_traits(group: Ids, label: NDArray[np.bool_] | None, fellows: Ids) -> csr_array:
    """[groups, traits] how many songs of a group have each trait.

    Parameters
    ----------
    group : [songs] numbers from 0 without gaps.
    label : [songs, labels], None where labels do not matter.
    fellows : [songs] the number of songs that have the song's artist (or album), the song itself included.
    """
    from scipy.sparse import coo_array

    magnitude = _magnitude(fellows)
    at_least = [np.flatnonzero(magnitude >= level) for level in range(int(magnitude.max(initial=0)) + 1)]
    labels = np.empty((0, 0), dtype=np.bool_) if label is None else label
    song, which = np.nonzero(labels)
    rows = np.concatenate([*at_least, song])
    columns = np.concatenate([np.repeat(np.arange(len(at_least)), list(map(len, at_least))), which + len(at_least)])
    shape = (int(group.max(initial=-1)) + 1, len(at_least) + labels.shape[1])
    return coo_array((np.ones(len(rows), dtype=np.int64), (group[rows], columns)), shape=shape).tocsr()
