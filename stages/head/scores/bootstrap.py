"""How certain a score is: intervals and paired tests over resampled artists. Arrays in, numbers out.

Artists are resampled, not clips: songs of one artist are alike, so intervals over clips would be too narrow. Main
metrics are functions of sums over clips (`Task.tally`), so a bootstrap is one matrix product.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.head.scores.task import Task

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]

RESAMPLES = 2000
_BATCH = 250  # resamples at once: bounds the memory


def bootstrap(task: Task, sums: Floats, artist: Ids, seed: int = 0, resamples: int = RESAMPLES) -> Floats | None:
    """Main metrics of several modes under the same resampled artists.

    Parameters
    ----------
    sums : [modes, clips, sums] what `Task.tally` says of the same clips as each mode decides them.
    artist : [clips], -1 where unknown; such a clip is an artist of its own.

    Returns
    -------
    [modes, resamples]. Quantiles of a row give a mode's interval, those of a difference of rows the interval of the
    difference. None for clips of a single artist, which tell nothing of others.
    """
    group = _groups(artist)
    groups = int(group.max()) + 1
    if groups < 2:
        return None
    modes, _, width = sums.shape
    by_artist = np.zeros((groups, modes, width))
    np.add.at(by_artist, group, sums.transpose(1, 0, 2))
    rng = np.random.default_rng(seed)
    scores = []
    for first in range(0, resamples, _BATCH):
        times = rng.multinomial(groups, np.full(groups, 1 / groups), size=min(_BATCH, resamples - first))
        totals = times.astype(np.float64) @ by_artist.reshape(groups, modes * width)
        scores.append(task.total(totals.reshape(-1, modes, width).transpose(1, 0, 2)))
    return np.concatenate(scores, axis=1)


def _groups(artist: Ids) -> Ids:
    """[clips] the unit that is resampled, numbered from 0: the artist, or the clip itself where that is unknown."""
    group = np.where(artist >= 0, artist, artist.max(initial=-1) + 1 + np.arange(len(artist)))
    numbers: Ids = np.unique(group, return_inverse=True)[1]
    return numbers


def interval(scores: Floats, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of bootstrap scores [resamples]."""
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def best_beyond_noise(scores: Floats, resampled: Floats | None) -> int | None:
    """The mode with the highest score, where its lead over the next best is beyond the interval; None elsewhere.

    Parameters
    ----------
    scores : [modes] of which more is better.
    resampled : [modes, resamples] from `bootstrap`.
    """
    if resampled is None or len(scores) < 2:
        return None
    *_, second, first = np.argsort(scores, kind="stable").tolist()
    return int(first) if interval(resampled[first] - resampled[second])[0] > 0 else None


def p_value(difference: Floats) -> float:
    """Two-sided: twice the share of resampled differences [resamples] of the rarer sign; ties count half."""
    below = float((difference < 0).mean() + (difference == 0).mean() / 2)
    least = 2 / len(difference)
    return min(1.0, max(least, 2 * min(below, 1 - below)))
