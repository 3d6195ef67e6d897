"""How certain a score is: intervals and paired tests over resampled artists. Arrays in, numbers out.

Artists are resampled, not clips: songs of one artist are alike, so intervals over clips would be too narrow. Main
metrics are functions of sums over clips (`Task.tally`), so a bootstrap is one matrix product; Spearman's correlation
is not, and its ranks are counted anew in every resample.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from stages.head.scores.metrics import Metric
from stages.head.scores.task import Task

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]

RESAMPLES = 2000
_BATCH = 250  # resamples at once: bounds the memory
_NUMBERS = 1 << 21  # the same where every clip is counted in each of them


def bootstrap(
    task: Task,
    sums: Floats,
    artist: Ids,
    seed: int = 0,
    resamples: int = RESAMPLES,
    metric: Metric | None = None,
) -> Floats | None:
    """Metrics of several modes under the same resampled artists.

    Parameters
    ----------
    sums : [modes, clips, sums] what `Task.tally` says of the same clips as each mode decides them.
    artist : [clips], -1 where unknown; such a clip is an artist of its own.
    metric : one of those that `Task.totals` gives; the main one where None.

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
    name = (metric or task.main).name
    scores = []
    for times in _times(groups, seed, resamples):
        totals = times @ by_artist.reshape(groups, modes * width)
        scores.append(task.totals(totals.reshape(-1, modes, width).transpose(1, 0, 2))[name])
    return np.concatenate(scores, axis=1)


def bootstrap_of(
    metric: Metric, truth: Floats, decision: Sequence[Floats], artist: Ids, seed: int = 0, resamples: int = RESAMPLES
) -> Floats | None:
    """The same for a metric that is no function of sums over clips, under the same resampled artists.

    Parameters
    ----------
    truth, decision : [clips, outputs] the truth, and what each mode decides.
    """
    group = _groups(artist)
    groups = int(group.max()) + 1
    if groups < 2 or metric.resample is None:
        return None
    step = max(1, _NUMBERS // len(group))
    scores = []
    for times in _times(groups, seed, resamples):
        for some in np.split(times, range(step, len(times), step)):
            scores += [[metric.resample(truth, of_mode, some[:, group]) for of_mode in decision]]
    return np.concatenate(scores, axis=1)


def _times(groups: int, seed: int, resamples: int) -> Iterator[Floats]:
    """[some resamples, groups] how often each group is drawn, all resamples one behind the other."""
    rng = np.random.default_rng(seed)
    for first in range(0, resamples, _BATCH):
        times = rng.multinomial(groups, np.full(groups, 1 / groups), size=min(_BATCH, resamples - first))
        yield times.astype(np.float64)


def _groups(artist: Ids) -> Ids:
    """[clips] the unit that is resampled, numbered from 0: the artist, or the clip itself where that is unknown."""
    group = np.where(artist >= 0, artist, artist.max(initial=-1) + 1 + np.arange(len(artist)))
    numbers: Ids = np.unique(group, return_inverse=True)[1]
    return numbers


def interval(scores: Floats, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of bootstrap scores [resamples]; those that their clips do not define are left out."""
    low, high = np.nanquantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def best_beyond_noise(scores: Floats, draws: Floats | None) -> int | None:
    """The mode with the highest score, where its lead over the next best is beyond the interval; None elsewhere.

    Parameters
    ----------
    scores : [modes] of which more is better.
    draws : [modes, resamples] from `bootstrap`.
    """
    if draws is None or len(scores) < 2:
        return None
    *_, second, first = np.argsort(scores, kind="stable").tolist()
    return int(first) if interval(draws[first] - draws[second])[0] > 0 else None


def p_value(difference: Floats) -> float:
    """Two-sided: twice the share of resampled differences [resamples] of the rarer sign; ties count half."""
    difference = difference[~np.isnan(difference)]
    below = float((difference < 0).mean() + (difference == 0).mean() / 2)
    least = 2 / len(difference)
    return min(1.0, max(least, 2 * min(below, 1 - below)))
