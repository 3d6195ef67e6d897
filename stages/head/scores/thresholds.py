"""Thresholds: the scores above which labels are chosen where clips carry several. Arrays in, numbers out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]

FIXED = 0.5
_ENOUGH = 10  # clips with a label, or artists, from which on a threshold of their own is more than chance
_ARTISTS = 50  # of validation, which tell as much of a threshold as calibrated scores do by themselves
_COST = 0.005  # of the micro F1 of all clips, which labels for strangers may cost
_CERTAINTY = 0.99
_DRAWS = 400  # in which artists weigh differently
_BLOCKS = 1000  # of artists that weigh the same, so that memory does not grow with the collection
_TRIED = 100  # thresholds for strangers
CHOICES = {
    "fixed": "labels scored above 0.5 are chosen",
    "tuned": "labels are chosen above one threshold, that of the best micro F1 on validation",
    "per-label": "labels are chosen above thresholds of their own, of the best F1 on validation",
}


def expectation(artists: int) -> float:
    """How much calibrated scores say of their threshold beside the truth of clips of so many artists: `find`.

    The truth of few artists leaves a threshold to chance, and the scores' own expectation is off by as much however
    many there are.
    """
    return _ARTISTS / (_ARTISTS + artists)


def find(how: str, truth: Bools, score: Floats, expectation: float = 0.0) -> NDArray[np.float64]:
    """[labels] the thresholds for one of `CHOICES`, from clips that are not tested on.

    ``tuned`` is the one threshold with the best micro F1. For calibrated probabilities the best decisions are those
    of one threshold, half the F1 that it reaches (Lipton, Elkan and Narayanaswamy, Optimal Thresholding of Classifiers
    to Maximize F1 Measure, ECML PKDD 2014), so micro F1 asks for a single one. ``per-label`` takes the best F1 of each
    label by itself, as macro F1 asks for; a label that fewer than ten of the clips carry has the one for all.

    Parameters
    ----------
    truth, score : [clips, labels].
    expectation : in [0, 1]: for so much of the truth the one threshold takes the scores themselves, where these are
        calibrated probabilities.
    """
    threshold = np.full(truth.shape[1], FIXED)
    if how != "fixed":
        threshold[:] = best(_expected(truth, score, expectation).ravel(), score.ravel())
    if how == "per-label":
        often = np.flatnonzero(truth.sum(axis=0) >= _ENOUGH)
        threshold[often] = [best(truth[:, label], score[:, label]) for label in often]
    return threshold


def of_strangers(
    truth: Bools,
    score: Floats,
    threshold: float,
    strangers: Bools,
    artist: NDArray[np.int64],
    expectation: float = 0.0,
) -> float:
    """The threshold for clips whose artist a head does not know (`Head.strangers`), at most that of all clips.

    The threshold that is best for all may lie above nearly every score of these, so that they are given no label. The
    one that is best for them alone gives them labels, but more that are wrong than others are given. From there up it
    is the first of 100 that costs all clips together no more than half a point of micro F1, with a certainty of 99 %
    where artists weigh differently in each draw (Rubin, The Bayesian Bootstrap, Annals of Statistics 9, 1981). Fewer
    than ten artists tell nothing.

    Parameters
    ----------
    truth, score : [clips, labels] of clips that are not tested on.
    threshold : that of all clips.
    strangers, artist : [clips]; an unknown artist is -1.
    expectation : as in `find`.
    """
    artists = np.where(artist < 0, -1 - np.arange(len(artist)), artist)
    if len(np.unique(artists[strangers])) < _ENOUGH:
        return threshold
    expected = _expected(truth, score, expectation).astype(np.float64)
    score = score.astype(np.float64)
    own = best(expected[strangers].ravel(), score[strangers].ravel()) if expected[strangers].any() else threshold
    if own >= threshold:
        return threshold
    block = np.unique(artists, return_inverse=True)[1] % _BLOCKS
    weights = np.random.default_rng(0).exponential(size=(block.max() + 1, _DRAWS))

    def drawn(values: Bools | Floats, clips: Bools) -> NDArray[np.float64]:
        """[draws] the sum over some clips, and their labels."""
        sums: NDArray[np.float64] = (
            np.bincount(block[clips], values.sum(axis=1, dtype=np.float64), len(weights)) @ weights
        )
        return sums

    def f1(limit: float) -> NDArray[np.float64]:
        """[draws] over all clips, where those of strangers are given the labels above the limit."""
        chosen = score[strangers] > limit
        right = right_others + drawn(expected[strangers] * chosen, strangers)
        return 2 * right / (all_and_others + drawn(chosen, strangers))

    known = ~strangers
    chosen = score[known] > threshold
    right_others = drawn(expected[known] * chosen, known)
    all_and_others = drawn(expected, strangers | known) + drawn(chosen, known)
    reached = f1(threshold)
    limits = np.linspace(own, threshold, _TRIED, endpoint=False)
    return next((float(at) for at in limits if np.quantile(reached - f1(at), _CERTAINTY) <= _COST), threshold)


def of_clips(threshold: NDArray[np.float64], strangers: Bools, of_strangers: float) -> NDArray[np.float64]:
    """[clips, labels] the thresholds of each clip, from those of all, [labels], and the one for strangers."""
    return np.where(strangers[:, None], of_strangers, threshold)


def _expected(truth: Bools, score: Floats, expectation: float) -> Bools | Floats:
    """The truth, or a mixture of it and the scores."""
    return (1 - expectation) * truth + expectation * score.astype(np.float64) if expectation else truth


def best(truth: Bools | Floats, score: Floats) -> float:
    """The threshold with the highest F1 over all decisions, halfway between two scores; of equals the nearest to 0.5.

    Exact: every threshold is tried, in the order of the scores. 0.5 where nothing is true.

    Parameters
    ----------
    truth, score : [decisions]; a truth may be a probability; scores are at least 0.
    """
    if not truth.any():
        return FIXED
    order = np.argsort(-score, kind="stable")
    descending = np.append(score[order].astype(np.float64), 0.0)
    counts = np.arange(1, len(order) + 1)
    f1 = 2 * np.cumsum(truth[order]) / (truth.sum() + counts)
    limits = np.flatnonzero(descending[:-1] > descending[1:])  # equal scores are chosen together, those of 0 never
    if not len(limits):
        return FIXED
    middle = (descending[limits] + descending[limits + 1]) / 2
    equal = middle[f1[limits] >= f1[limits].max() - 1e-12]
    return float(equal[np.abs(equal - FIXED).argmin()])


def above(score: Floats, threshold: NDArray[np.float64]) -> Bools:
    """[clips, labels] the labels whose score is above their threshold."""
    decision: Bools = score.astype(np.float64) > threshold
    return decision
