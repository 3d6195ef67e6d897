"""Which clips are in memory together, and in which process: a collection in stretches of whole artists.

Same-artist graphs have no edge between two stretches, so that what is trained on them one by one, or in several
processes, is what would be trained on all of them at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stages.head.collection import Collection
from stages.head.world import ALONE, World
from store.errors import RequestError


@dataclass(frozen=True)
class Stretch:
    """Clips [first, last) of whole artists, whose training clips are shuffled together; this process holds
    [begin, end) of them.
    """

    first: int
    last: int
    begin: int
    end: int


class Shards:
    """A collection, sorted by artist, in stretches that the processes share.

    Parameters
    ----------
    most : clips that one process holds at a time; a larger artist is held whole all the same. None for all at once.

    Attributes
    ----------
    stretches : in the collection's order.
    whole : whether this process holds all clips all the time.
    """

    def __init__(self, data: Collection, world: World = ALONE, most: int | None = None) -> None:
        self.data, self.world = data, world
        cuts = [0, len(data)]
        self.whole = world.size == 1 and (most is None or len(data) <= most)
        if not self.whole:
            bounds = _bounds(data.artist)
            cuts = _by_size(bounds, len(data) if most is None else most * world.size)
        self.stretches = []
        for first, last in pairwise(cuts):
            shares = [first, last] if self.whole else _in_shares(bounds, first, last, world.size)
            self.stretches.append(Stretch(first, last, *shares[world.rank : world.rank + 2]))
        if all(stretch.begin == stretch.end for stretch in self.stretches):
            raise RequestError(
                f"{len(data):,} clips of whole artists cannot be shared among {world.size} processes; start fewer"
            )
        self._held: Collection | None = None

    def clips(self, number: int) -> Collection:
        """What this process holds of a stretch, with representations; an only stretch is read once."""
        if self._held is not None:
            return self._held
        stretch = self.stretches[number]
        clips = self.data.take(stretch.begin, stretch.end)
        if len(self.stretches) == 1:
            self._held = clips
        return clips


def _bounds(artist: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where a collection may be cut: between two artists, and on either side of a clip of unknown artist."""
    if (np.diff(artist) < 0).any():
        raise ValueError("the clips of a collection in stretches must be sorted by artist")
    inside = np.flatnonzero((artist[1:] != artist[:-1]) | (artist[1:] < 0)) + 1
    return np.concatenate([[0], inside, [len(artist)]])


def _by_size(bounds: NDArray[np.int64], most: int) -> list[int]:
    """Cuts of stretches as long as may be; one is longer than ``most`` only where an artist is."""
    cuts = [0]
    while cuts[-1] < bounds[-1]:
        within = int(np.searchsorted(bounds, cuts[-1] + most, side="right")) - 1
        following = int(np.searchsorted(bounds, cuts[-1], side="right"))
        cuts.append(int(bounds[max(within, following)]))
    return cuts


def _in_shares(bounds: NDArray[np.int64], first: int, last: int, count: int) -> list[int]:
    """``count`` + 1 cuts from ``first`` to ``last``, each the nearest to an equal share."""
    bounds = bounds[(bounds >= first) & (bounds <= last)]
    wanted = np.linspace(first, last, count + 1)
    return [int(bounds[np.abs(bounds - at).argmin()]) for at in wanted]
