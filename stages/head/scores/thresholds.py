"""Thresholds: the scores above which labels are chosen where clips carry several. Arrays in, numbers out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]

FIXED = 0.5
_ENOUGH = 10  # clips with a label from which on a threshold of its own is more than chance
_ARTISTS = 50  # of validation, which tell as much of a threshold as calibrated scores do by themselves
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
        mixture = (1 - expectation) * truth + expectation * score.astype(np.float64) if expectation else truth
        threshold[:] = best(mixture.ravel(), score.ravel())
    if how == "per-label":
        often = np.flatnonzero(truth.sum(axis=0) >= _ENOUGH)
        threshold[often] = [best(truth[:, label], score[:, label]) for label in often]
    return threshold


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
