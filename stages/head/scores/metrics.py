"""Scores of predictions: arrays in, floats out, all in [0, 1]."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]


def scores(truth: Bools, predicted: Bools, score: Floats | None, *, multi_label: bool) -> dict[str, float]:
    """Every metric that applies.

    Parameters
    ----------
    truth, predicted : [clips, labels].
    score : [clips, labels], higher is more likely; None where a head has none.
    multi_label : several labels a clip. Then micro and macro F1, the share of clips whose whole set is right,
        and ROC-AUC and PR-AUC (macro). For one label a clip: accuracy and macro F1.
    """
    if not multi_label:
        return {"accuracy": exact(truth, predicted), "macro_f1": macro_f1(truth, predicted)}
    found = {
        "micro_f1": micro_f1(truth, predicted),
        "macro_f1": macro_f1(truth, predicted),
        "subset_accuracy": exact(truth, predicted),
    }
    if score is not None:
        found |= {"roc_auc": roc_auc(truth, score), "pr_auc": pr_auc(truth, score)}
    return found


def main_metric(multi_label: bool) -> str:
    """The metric that early stopping watches and tables show first."""
    return "micro_f1" if multi_label else "accuracy"


def exact(truth: Bools, predicted: Bools) -> float:
    """The share of clips whose predicted labels are exactly the true ones; accuracy for one label a clip."""
    return float((truth == predicted).all(axis=1).mean()) if len(truth) else math.nan


def micro_f1(truth: Bools, predicted: Bools) -> float:
    """F1 over all decisions of all labels; 0 where nothing was predicted and nothing true."""
    return float(_f1((truth & predicted).sum(), truth.sum(), predicted.sum()))


def macro_f1(truth: Bools, predicted: Bools) -> float:
    """The mean of F1 over the labels that have a positive among these clips; a label without one says nothing."""
    held = truth.any(axis=0)
    f1 = _f1((truth & predicted).sum(axis=0), truth.sum(axis=0), predicted.sum(axis=0))
    return float(f1[held].mean()) if held.any() else math.nan


def _f1(hits: Any, true: Any, predicted: Any) -> Any:
    total = np.asarray(true + predicted, dtype=np.float64)
    return np.divide(2.0 * hits, total, out=np.zeros_like(total), where=total > 0)


def roc_auc(truth: Bools, score: Floats) -> float:
    """The mean over labels of the area under the ROC curve, ties counted half.

    Labels that are true of all or of none of these clips are left out.
    """
    held = truth.any(axis=0) & ~truth.all(axis=0)
    if not held.any():
        return math.nan
    truth, score = truth[:, held], score[:, held]
    ranks = np.column_stack([_ranks(of_label) for of_label in score.T])
    positive = truth.sum(axis=0).astype(np.float64)
    negative = len(truth) - positive
    area = ((ranks * truth).sum(axis=0) - positive * (positive + 1) / 2) / (positive * negative)
    return float(area.mean())


def _ranks(score: Floats) -> NDArray[np.float64]:
    """[clips] from 1 for the least, ties at their mean place: `scipy.stats.rankdata`, which takes long to import."""
    _, place, ties = np.unique(score, return_inverse=True, return_counts=True)
    mean: NDArray[np.float64] = ties.cumsum() - (ties - 1) / 2
    return mean[place]


def pr_auc(truth: Bools, score: Floats) -> float:
    """The mean over labels of average precision (the step-wise area under the precision-recall curve)."""
    held = truth.any(axis=0)
    if not held.any():
        return math.nan
    return float(np.mean([_average_precision(truth[:, label], score[:, label]) for label in np.flatnonzero(held)]))


def _average_precision(truth: Bools, score: Floats) -> float:
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(truth[order])
    last_of_tie = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    hits = hits[last_of_tie].astype(np.float64)
    precision = hits / (last_of_tie + 1)
    return float((np.diff(hits, prepend=0.0) * precision).sum() / hits[-1])
