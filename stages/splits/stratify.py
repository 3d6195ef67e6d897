"""Deal groups of songs into parts of given shares so that every part is a small copy of the collection.

A group (a song, an album, the songs of an artist) goes into one part as a whole. What the parts are to agree in are
*traits* of songs: each label, and, for 1, 2, 4, 8, ..., being by an artist (on an album) of at least so many songs. So
a part has the collection's distribution of labels and of songs an artist, as near as whole groups allow.

This is iterative stratification (K. Sechidis, G. Tsoumakas, I. Vlahavas: On the Stratification of Multi-Label Data,
ECML PKDD 2011) for groups instead of single items. A part's demand is measured against what the part should get, not
in songs; otherwise the largest part would take all large groups.
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

_ROUNDING = 1e-9  # a whole number of groups may come out this much too small


def deal(
    songs: Ids,
    traits: csr_array,
    shares: Sequence[float],
    rng: np.random.Generator,
    kept: NDArray[np.int8] | None = None,
) -> NDArray[np.int8]:
    """The part of each group.

    Groups are dealt from large to small, in random order among those that are less than twice as large as each other.
    Each goes to the part p with the smallest ``(2 n[p] + 1) / shares[p]`` (the divisor method of Webster and
    Sainte-Lague, which favours neither large nor small parts), where n[p] is how many groups like this one the part
    has already: over the traits t of the group, the mean of ``songs of p with t / songs of the group with t``, weighted
    by the square of the latter over the songs of the collection with t. This choice increases the chi-squared distance
    between the parts and the collection least. A part that lacks less than half of the group's songs takes no part.

    Groups that are equal in all traits are dealt at once, the most frequent ones last, so the time taken grows with
    the number of different groups.

    Parameters
    ----------
    songs : [groups] number of songs in each group.
    traits : [groups, traits] number of songs of each group that have a trait.
    shares : share of the songs for each part; they sum to 1.
    kept : [groups] the part of a group that has been dealt before and stays there, -1 for a new group.
    """
    part = np.full(len(songs), -1, dtype=np.int8) if kept is None else kept.copy()
    order = rng.permutation(len(shares))  # of two parts that lack the same, the first one is served
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
        """[count] parts, sorted, for as many groups that are all like this one."""
        values = slice(self.begin[group], self.begin[group + 1])
        trait, own, weight = self.trait[values], self.count[values], self.weight[values]
        size, magnitude = int(self.songs[group]), int(self.magnitude[group])
        # A product with a matrix would round differently on other processors, which would decide ties differently.
        alike = (weight[:, None] * self.dealt.take(trait, axis=0)).sum(axis=0) / (weight * own).sum()
        lack = self.room[magnitude] / size + 0.5
        groups = _level(count, alike, np.maximum(lack, 0), self.shares) if count > 1 else np.zeros(len(lack), np.int64)
        for _ in range(count - int(groups.sum())):
            rank = (2 * (alike + groups) + 1) / self.shares
            is_open = groups + 1 <= lack
            best = (
                np.where(is_open, rank, np.inf).argmin()
                if is_open.any()
                else ((lack - groups - 1) / self.shares).argmax()
            )
            groups[best] += 1
        self.dealt[trait] += own[:, None] * groups
        self.room[: magnitude + 1] -= size * groups
        return np.repeat(np.arange(len(groups)), groups)


def _level(count: int, alike: Numbers, most: Numbers, shares: Numbers) -> Ids:
    """Whole groups for each part, ``count`` or fewer in all, after which ``alike`` is as near to ``shares`` as it gets.

    Like water in vessels as wide as ``shares``, filled up to ``alike`` and closed above ``alike + most``.
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
    """Give a part without groups the smallest new one of the part that has most of them."""
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
    fellows : [songs] the number of songs by the song's artist (on its album), itself included.
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
