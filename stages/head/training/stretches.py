"""Which clips are in memory together, and in which process: a collection in stretches of whole artists.

Same-artist graphs have no edge between two stretches, so that what is trained on them one by one, or in several
processes, is what would be trained on all of them at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.head.collection import Collection
from stages.head.heads import Head, TrainedHead
from stages.head.training.processes import ALONE, ProcessGroup
from store.errors import RequestError
from store.words import plural

_LEAST_DEVIATION = 1e-30  # of what is not constant: its inverse is a number in float32
_AT_A_TIME = 2**18  # numbers in double precision, which the processor's cache holds


@dataclass(frozen=True)
class Stretch:
    """Clips [first, last) of whole artists, whose training clips are shuffled together; this process holds
    [begin, end) of them.
    """

    first: int
    last: int
    begin: int
    end: int


class Stretches:
    """A collection, sorted by artist, in stretches that the processes share.

    Parameters
    ----------
    most : clips that one process holds at a time; a larger artist is held whole all the same. None for all at once.

    Attributes
    ----------
    stretches : in the collection's order.
    whole : whether this process holds all clips all the time.
    """

    def __init__(self, collection: Collection, processes: ProcessGroup = ALONE, most: int | None = None) -> None:
        self.collection, self.processes = collection, processes
        self.whole = processes.size == 1 and (most is None or len(collection) <= most)
        shares = [[0, len(collection)]]
        if not self.whole:
            bounds = _bounds(collection.artist)
            cuts = _by_size(bounds, len(collection) if most is None else most * processes.size)
            shares = [_in_shares(bounds, first, last, processes.size) for first, last in pairwise(cuts)]
        self.stretches = [Stretch(cuts[0], cuts[-1], *cuts[processes.rank : processes.rank + 2]) for cuts in shares]
        if not np.diff(shares).any(axis=0).all():
            clips = plural(len(collection), "clip")
            raise RequestError(
                f"{clips} of whole artists cannot be shared among {processes.size} processes; start fewer"
            )
        self._clips: Collection | None = None
        self._silent: dict[int, int] = {}  # by stretch, the representations here that are all zero

    def check(self, *heads: type[Head]) -> None:
        """RequestError for heads with a network that cannot be trained on some artists without the others."""
        names = [head.NAME for head in heads if issubclass(head, TrainedHead) and not head.BY_ARTIST]
        if names and not self.whole:
            raise RequestError(
                f"{', '.join(names)} must see the whole collection at once, which several processes, or a collection "
                f"larger than --memory, do not have at hand; name other modes, or train in one process with more memory"
            )

    def clips(self, number: int) -> Collection:
        """This process's share of a stretch, with representations; an only stretch is read once."""
        if self._clips is not None:
            return self._clips
        stretch = self.stretches[number]
        clips = self.collection.take(stretch.begin, stretch.end)
        if number not in self._silent:
            assert clips.x is not None
            self._silent[number] = silent(clips.x)
        if len(self.stretches) == 1:
            self._clips = clips
        return clips

    def silent(self, device: torch.device) -> int:
        """How many representations are all zero, of those that were read so far in any process."""
        return int(self.processes.all_reduce(torch.tensor(sum(self._silent.values()), device=device)))


def silent(x: Tensor) -> int:
    """How many of the representations [clips, dim] are all zero."""
    return int((~x.numpy().any(axis=1)).sum())  # numpy's looks no further than to a row's first other number


def moments(x: Tensor, nodes: NDArray[np.int64]) -> Tensor:
    """[2, dim] float64: the sums of ``x`` and of its squares over ``nodes``."""
    values, sums = x.numpy(), np.zeros((2, x.shape[1]))
    room = np.empty((max(1, _AT_A_TIME // max(1, x.shape[1])), x.shape[1]))
    for first in range(0, len(nodes), len(room)):
        some = nodes[first : first + len(room)]
        rows = room[: len(some)]
        rows[...] = values[some]
        sums[0] += rows.sum(axis=0)
        sums[1] += np.square(rows, out=rows).sum(axis=0)
    return torch.from_numpy(sums)


def standard(sums: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Shift and scale [dim] that give ``count`` clips of these `moments` mean 0 and deviation 1.

    What is constant among them, but for rounding, is scaled to zero.
    """
    mean, square = sums / count
    deviation = (square - mean * mean).clamp(min=0).sqrt()
    scale = torch.where(deviation > (1e-6 * mean.abs()).clamp(min=_LEAST_DEVIATION), 1 / deviation, 0.0)
    return mean.float(), scale.float()


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
    equal = np.linspace(first, last, count + 1)
    return [int(bounds[np.abs(bounds - at).argmin()]) for at in equal]
