"""What lies behind a score: intervals, paired tests, scores by kind of artist, confusions. Arrays in, numbers out.

The unit that is resampled is the artist, not the clip: songs of one artist are alike, so that intervals over clips
would be too narrow. All metrics here are functions of sums over clips, so a bootstrap is one matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.head.scores.task import Task

Bools = NDArray[np.bool_]
Ids = NDArray[np.int64]
Floats = NDArray[np.float64]

RESAMPLES = 2000
GENRES = ((1, 1), (2, 2), (3, 4), (5, 8), (9, None))
SONGS = ((1, 1), (2, 4), (5, 9), (10, 24), (25, None))
_BATCH = 250  # resamples at once: bounds the memory


@dataclass(frozen=True)
class Scored:
    """Test clips as one head scored them, those of all seeds one behind the other.

    ``truth`` and ``chosen`` are [clips, labels]; ``artist`` is [clips], -1 where unknown.
    """

    truth: Bools
    chosen: Bools
    artist: Ids
    task: Task

    def sums(self) -> Floats:
        """[clips, sums] see `Task.tally`."""
        return self.task.tally(self.truth, self.chosen)

    def score(self) -> float:
        """The main metric of the task."""
        return float(self.task.total(self.sums().sum(axis=0)))


def bootstrap(runs: list[Scored], seed: int = 0, resamples: int = RESAMPLES) -> Floats:
    """Scores of several heads under the same resampled artists.

    Parameters
    ----------
    runs : heads on the same clips in the same order.

    Returns
    -------
    [heads, resamples]; quantiles of a row are an interval of a head, those of a difference of rows one of the
    difference. A clip of unknown artist is an artist of its own.
    """
    group = _units(runs[0].artist)
    groups = int(group.max()) + 1
    per_artist = np.stack([_sum_by(group, run.sums(), groups) for run in runs])
    rng = np.random.default_rng(seed)
    found = []
    for first in range(0, resamples, _BATCH):
        drawn = rng.multinomial(groups, np.full(groups, 1 / groups), size=min(_BATCH, resamples - first))
        found.append(runs[0].task.total(np.einsum("rg,hgk->hrk", drawn.astype(np.float64), per_artist)))
    return np.concatenate(found, axis=1)


def units(run: Scored) -> int:
    """How many artists there are to resample; of fewer than two an interval says nothing."""
    return len(np.unique(_units(run.artist)))


def _units(artist: Ids) -> Ids:
    """[clips] what is resampled, numbered from 0: the artist, or the clip by itself where that is unknown."""
    group = np.where(artist >= 0, artist, artist.max(initial=-1) + 1 + np.arange(len(artist)))
    numbers: Ids = np.unique(group, return_inverse=True)[1]
    return numbers


def _sum_by(group: Ids, values: Floats, groups: int) -> Floats:
    total = np.zeros((groups, values.shape[1]))
    np.add.at(total, group, values)
    return total


def interval(scores: Floats, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of bootstrap scores."""
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def p_value(difference: Floats) -> float:
    """Two-sided: how often the resampled difference of two heads has the other sign, doubled; ties count half."""
    below = float((difference < 0).mean() + (difference == 0).mean() / 2)
    least = 2 / len(difference)
    return min(1.0, max(least, 2 * min(below, 1 - below)))


def by_bucket(
    runs: list[Scored], value: Ids, buckets: tuple[tuple[int, int | None], ...]
) -> dict[str, tuple[list[Scored], Floats | None]]:
    """The clips whose ``value`` [clips] falls into each bucket (both ends included), as each of the heads scored them,
    and their `bootstrap`: None where there is but one artist. Empty buckets are absent.
    """
    found = {}
    for low, high in buckets:
        inside = (value >= low) & (value <= (high if high is not None else np.iinfo(np.int64).max))
        if inside.any():
            parts = [Scored(r.truth[inside], r.chosen[inside], r.artist[inside], r.task) for r in runs]
            found[bucket_name(low, high)] = parts, bootstrap(parts) if units(parts[0]) > 1 else None
    return found


def bucket_name(low: int, high: int | None) -> str:
    return f"{low}+" if high is None else str(low) if low == high else f"{low}-{high}"


def genres_of_artist(artist: Ids, targets: Bools) -> Ids:
    """[clips] how many labels the clip's artist has over all of its clips; 0 where the artist is unknown."""
    held = np.zeros((int(artist.max(initial=-1)) + 2, targets.shape[1]), dtype=bool)
    np.logical_or.at(held, artist, targets)
    held[-1] = False
    counts: Ids = held.sum(axis=1)[artist]
    return counts


def songs_of_artist(artist: Ids, song: Ids) -> Ids:
    """[clips] how many songs the clip's artist has in the collection; 0 where the artist is unknown."""
    _, first = np.unique(song, return_index=True)
    known = artist[first][artist[first] >= 0]
    counts: Ids = np.append(np.bincount(known, minlength=int(artist.max(initial=-1)) + 1), 0)[artist]
    return counts


def confusion(run: Scored) -> NDArray[np.int64]:
    """[labels, labels + 1] clips with the true label of the row that were given the label of the column.

    The last column counts clips that were given none. A clip with several labels counts for each pair.
    """
    none = ~run.chosen.any(axis=1, keepdims=True)
    given = np.concatenate([run.chosen, none], axis=1)
    counted: NDArray[np.int64] = run.truth.T.astype(np.int64) @ given.astype(np.int64)
    return counted
