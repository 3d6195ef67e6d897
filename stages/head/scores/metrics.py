"""Metrics of predictions, arrays in and floats out, and how tables call and print them.

Those of labels are fractions in [0, 1]. Those of numbers are R2 (at most 1), Spearman's rank correlation (-1 to 1), and
errors in the unit of the number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric as tables and documents show it.

    Attributes
    ----------
    name : its key in JSON documents and stored runs.
    title : its name in tables.
    measure : the value on some clips, from the truth [clips, labels] and the decisions or scores [clips, labels].
    ranks : whether it is measured on scores instead of decisions.
    unit, scale, digits : what is printed: the value times ``scale``, in this unit, with so many digits; None for three
        significant ones, of a value in the unit of its target.
    less_is_better : whether it is an error.
    resample : of one that is no function of sums over clips, its values [resamples] from truth, decisions and how many
        times [resamples, clips] each clip is there.
    """

    name: str
    title: str
    measure: Callable[[Any, Any], float]
    ranks: bool = False
    unit: str = "per cent"
    scale: float = 100.0
    digits: int | None = 1
    less_is_better: bool = False
    resample: Callable[[Any, Any, NDArray[np.float64]], NDArray[np.float64]] | None = None

    def text(self, value: float | None, sign: str = "") -> str:
        """A value as it is printed, ``-`` where it is not defined; ``sign="+"`` for differences."""
        if value is None or math.isnan(value):
            return "-"
        return f"{self.scale * value:{sign}.{significant(value) if self.digits is None else self.digits}f}"

    def mean_text(self, values: Sequence[float]) -> str:
        """Mean and, of several values, standard deviation (divided by n) as they are printed."""
        mean, deviation = float(np.mean(values)), float(np.std(values))
        if len(values) < 2 or math.isnan(mean):
            return self.text(mean)
        digits = significant(mean) if self.digits is None else self.digits
        return f"{self.text(mean)}±{self.scale * deviation:.{digits}f}"


def significant(value: float, figures: int = 3) -> int:
    """How many digits behind the point show so many significant figures of a number."""
    size = math.floor(math.log10(abs(value))) if value and math.isfinite(value) else 0
    return max(0, figures - 1 - size)


def exact(truth: Bools, predicted: Bools) -> float:
    """The share of clips whose predicted labels are exactly the true ones; with one label a clip, accuracy."""
    return float((truth == predicted).all(axis=1).mean()) if len(truth) else math.nan


def micro_f1(truth: Bools, predicted: Bools) -> float:
    """F1 over all decisions; 0 where nothing is predicted and nothing true."""
    return float(_f1((truth & predicted).sum(), truth.sum(), predicted.sum()))


def macro_f1(truth: Bools, predicted: Bools) -> float:
    """Mean F1 over the labels that some of these clips carry; the others say nothing."""
    occurs = truth.any(axis=0)
    f1 = _f1((truth & predicted).sum(axis=0), truth.sum(axis=0), predicted.sum(axis=0))
    return float(f1[occurs].mean()) if occurs.any() else math.nan


def _f1(hits: Any, true: Any, predicted: Any) -> Any:
    total = np.asarray(true + predicted, dtype=np.float64)
    return np.divide(2.0 * hits, total, out=np.zeros_like(total), where=total > 0)


def roc_auc(truth: Bools, score: Floats) -> float:
    """Mean area under the ROC curve over the labels that some but not all of these clips carry; ties count half."""
    has_both = truth.any(axis=0) & ~truth.all(axis=0)
    if not has_both.any():
        return math.nan
    truth, score = truth[:, has_both], score[:, has_both]
    ranks = np.column_stack([_ranks(column) for column in score.T])
    positive = truth.sum(axis=0).astype(np.float64)
    negative = len(truth) - positive
    area = ((ranks * truth).sum(axis=0) - positive * (positive + 1) / 2) / (positive * negative)
    return float(area.mean())


def _ranks(score: Floats) -> NDArray[np.float64]:
    """[clips] ranks from 1 for the lowest, ties at their mean: `scipy.stats.rankdata`, which is slow to import."""
    _, place, ties = np.unique(score, return_inverse=True, return_counts=True)
    mean: NDArray[np.float64] = ties.cumsum() - (ties - 1) / 2
    return mean[place]


def pr_auc(truth: Bools, score: Floats) -> float:
    """Mean average precision (step-wise area under the precision-recall curve) over the labels that occur."""
    occurs = np.flatnonzero(truth.any(axis=0))
    if not len(occurs):
        return math.nan
    return float(np.mean([_average_precision(truth[:, label], score[:, label]) for label in occurs]))


def _average_precision(truth: Bools, score: Floats) -> float:
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(truth[order])
    last_of_tie = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    hits = hits[last_of_tie].astype(np.float64)
    precision = hits / (last_of_tie + 1)
    return float((np.diff(hits, prepend=0.0) * precision).sum() / hits[-1])


def confusion(truth: Bools, decision: Bools) -> NDArray[np.int64]:
    """[labels, labels + 1] clips that carry the row's label and were given the column's; the last column is no label.

    A clip with several labels counts for each pair.
    """
    none = ~decision.any(axis=1, keepdims=True)
    # Floats, which a library multiplies many times faster, and which hold such counts exactly.
    counts = truth.T.astype(np.float64) @ np.concatenate([decision, none], axis=1).astype(np.float64)
    return counts.astype(np.int64)


LEAST_SPREAD = 1e-12  # of numbers that are not all equal but for rounding, as a share of their size


def r2(truth: Floats, estimate: Floats) -> float:
    """The share of the numbers' variance that is explained: 1 is perfect, 0 is the mean of these very clips.

    NaN where the numbers are all equal. ``truth`` and ``estimate`` are [clips, 1].
    """
    if not len(truth):
        return math.nan
    total = np.square(truth - truth.mean()).sum()
    if not total > LEAST_SPREAD * np.square(truth).sum():
        return math.nan
    return float(1 - np.square(estimate.astype(np.float64) - truth).sum() / total)


def rmse(truth: Floats, estimate: Floats) -> float:
    """The root of the mean squared error."""
    return float(np.sqrt(np.square(estimate.astype(np.float64) - truth).mean())) if len(truth) else math.nan


def mae(truth: Floats, estimate: Floats) -> float:
    """The mean absolute error."""
    return float(np.abs(estimate.astype(np.float64) - truth).mean()) if len(truth) else math.nan


def spearman(truth: Floats, estimate: Floats) -> float:
    """Spearman's rank correlation, ties at their mean rank; NaN where all of one side are equal."""
    return float(resampled_spearman(truth, estimate, np.ones((1, len(truth))))[0])


def resampled_spearman(truth: Floats, estimate: Floats, times: NDArray[np.float64]) -> NDArray[np.float64]:
    """[resamples] the rank correlation of numbers [clips, 1] where each clip is there ``times`` [resamples, clips]."""
    if not len(truth):
        return np.full(len(times), math.nan)
    ranks = [_weighted_ranks(values[:, 0], times) for values in (truth, estimate)]
    total = times.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y = (rank - (times * rank).sum(axis=1, keepdims=True) / total for rank in ranks)
        covariance = (times * x * y).sum(axis=1)
        size = np.sqrt((times * x * x).sum(axis=1) * (times * y * y).sum(axis=1))
        return np.where(size > 0, covariance / size, math.nan)


def _weighted_ranks(values: Floats, times: NDArray[np.float64]) -> NDArray[np.float64]:
    """[resamples, clips] the mean rank of each clip among all, each there so many times."""
    order = np.argsort(values, kind="stable")
    _, first, tie = np.unique(values[order], return_index=True, return_inverse=True)
    count = np.add.reduceat(times[:, order], first, axis=1)
    mean = np.cumsum(count, axis=1) - (count - 1) / 2
    ranks = np.empty_like(times)
    ranks[:, order] = mean[:, tie]
    return ranks


MICRO_F1 = Metric(name="micro_f1", title="micro F1", measure=micro_f1)
MACRO_F1 = Metric(name="macro_f1", title="macro F1", measure=macro_f1)
SUBSET_ACCURACY = Metric(name="subset_accuracy", title="exact set", measure=exact)
ACCURACY = Metric(name="accuracy", title="accuracy", measure=exact)
ROC_AUC = Metric(name="roc_auc", title="ROC-AUC", measure=roc_auc, ranks=True)
PR_AUC = Metric(name="pr_auc", title="PR-AUC", measure=pr_auc, ranks=True)
R2 = Metric(name="r2", title="R2", measure=r2, unit="share of variance", scale=1.0, digits=3)
RMSE = Metric(name="rmse", title="RMSE", measure=rmse, unit="own unit", scale=1.0, digits=None, less_is_better=True)
MAE = Metric(name="mae", title="MAE", measure=mae, unit="own unit", scale=1.0, digits=None, less_is_better=True)
SPEARMAN = Metric(
    name="spearman",
    title="Spearman",
    measure=spearman,
    resample=resampled_spearman,
    unit="rank correlation",
    scale=1.0,
    digits=3,
)
