"""What one mode does on the test clips of its runs: by label, confusions, calibration, learning curves, its errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.head.modes import Mode
from stages.head.runs.pool import PooledRuns
from stages.head.scores.metrics import confusion

Document = dict[str, Any]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]

MOST_LABELS = 30  # of a confusion matrix: more cannot be read
MOST_SONGS = 20  # of a list of errors
_BINS = 10  # of a calibration
_MOST_EPOCHS = 200  # of a learning curve; longer ones are thinned out

Describe = Callable[[int], Document]  # a clip of the collection as a reader knows it: title, artist, labels


def of_mode(pool: PooledRuns, mode: Mode, describe: Describe) -> Document:
    """All details of a mode, as plain numbers and strings."""
    truth = pool.data.labels[pool.places]
    score, decision = pool.score(mode), pool.decision(mode)
    return {
        "labels": by_label(truth, decision),
        "confusion": _confusion(truth, decision),
        "calibration": calibration(truth, score, single=not pool.task.HAS_THRESHOLDS),
        "curves": _curves(pool, mode),
        "wrong": _surest_and_wrong(pool, score, decision, describe),
        "against": _unlike_base(pool, mode, describe),
    }


def by_label(truth: Bools, decision: Bools) -> list[list[Any]]:
    """[labels] precision, recall, F1 (None where not defined) and support of each label, from [clips, labels]."""
    hits = (truth & decision).sum(axis=0)
    support, answers = truth.sum(axis=0), decision.sum(axis=0)

    def share(part: int, total: int) -> float | None:
        return round(part / total, 4) if total else None

    return [
        [share(h, g), share(h, s), share(2 * h, g + s) if s else None, s]
        for h, s, g in zip(hits.tolist(), support.tolist(), answers.tolist(), strict=True)
    ]


def _confusion(truth: Bools, decision: Bools) -> Document:
    """The counts [labels, labels + 1] among the most frequent labels; the last column is no label."""
    support = truth.sum(axis=0)
    most = np.sort(np.argsort(-support, kind="stable")[:MOST_LABELS])
    most = most[support[most] > 0]
    counts = confusion(truth, decision)
    return {"labels": most.tolist(), "counts": counts[np.ix_(most, np.append(most, counts.shape[1] - 1))].tolist()}


def calibration(truth: Bools, score: Floats, *, single: bool) -> Document:
    """How often scores come true: the mean score and the share that was true in ten bins of scores.

    Where labels exclude each other the highest score of a clip counts, else every label's. ``error`` is the expected
    calibration error (Guo et al., On Calibration of Modern Neural Networks, ICML 2017).

    Parameters
    ----------
    truth, score : [clips, labels].
    """
    if single:
        best = score.argmax(axis=1)
        at = np.arange(len(score)), best
        value, right = score[at], truth[at]
    else:
        value, right = score.ravel(), truth.ravel()
    place = np.clip((value * _BINS).astype(np.int64), 0, _BINS - 1)
    count = np.bincount(place, minlength=_BINS)
    mean, share = (np.bincount(place, of, minlength=_BINS) / np.maximum(count, 1) for of in (value, right))
    error = float((count * np.abs(mean - share)).sum() / max(1, count.sum()))
    bins = [
        [round(m, 4), round(s, 4), c] for m, s, c in zip(mean.tolist(), share.tolist(), count.tolist(), strict=True)
    ]
    return {"error": round(error, 4), "bins": [each for each in bins if each[2]]}


def _curves(pool: PooledRuns, mode: Mode) -> list[Document]:
    """The learning curve of each seed's first network: its losses and validation score by epoch."""
    curves = []
    for (seed, fold), run in zip(pool.keys, pool.runs[mode], strict=True):
        history = run.record.history
        if not history:
            continue
        step = -(-len(history) // _MOST_EPOCHS)
        epochs = range(0, len(history), step)
        curves.append(
            {
                "name": f"seed {seed}" + (f", fold {fold}" if fold else ""),
                "epochs": [epoch + 1 for epoch in epochs],
                "best": run.record.best_epoch,
                **{
                    key: [_rounded(history[epoch].get(key)) for epoch in epochs]
                    for key in ("loss", "validation_loss", "validation")
                },
            }
        )
    return curves


def _rounded(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), 4)


def _surest_and_wrong(pool: PooledRuns, score: Floats, decision: Bools, describe: Describe) -> list[Document]:
    """Clips with a label that the mode chose and that is not theirs, the highest score first."""
    truth = pool.data.labels[pool.places]
    wrong = np.where(decision & ~truth, score, -1.0)
    best = wrong.argmax(axis=1)
    value = wrong[np.arange(len(wrong)), best]
    order = np.argsort(-value, kind="stable")
    return [
        describe(int(pool.places[clip]))
        | {"given": np.flatnonzero(decision[clip]).tolist(), "score": round(float(value[clip]), 4)}
        for clip in _one_a_song(pool, order[value[order] >= 0])
    ]


def _unlike_base(pool: PooledRuns, mode: Mode, describe: Describe) -> list[Document]:
    """Clips on whose true labels the mode and the mode tested against differ most."""
    if pool.base is None or mode == pool.base:
        return []
    truth = pool.data.labels[pool.places]
    here, there = (_on_truth(truth, pool.score(each)) for each in (mode, pool.base))
    order = np.argsort(-np.abs(here - there), kind="stable")
    return [
        describe(int(pool.places[clip])) | {"here": round(float(here[clip]), 4), "there": round(float(there[clip]), 4)}
        for clip in _one_a_song(pool, order)
    ]


def label_errors(pool: PooledRuns, describe: Describe) -> list[Document]:
    """Clips whose labels most modes that hear songs contradict: the labels, rather than all of them, may be wrong.

    Ranked by the normalised margin between the mean scores of the clip's true labels and of the best other one
    (Northcutt et al., Confident Learning, JAIR 70, 2021). Labels of the artist are no evidence, so modes that read no
    representation are left out.
    """
    heard = [mode for mode, runs in pool.runs.items() if runs[0].record.representation is not None]
    if not heard or pool.data.labels.shape[1] < 2:
        return []
    truth = pool.data.labels[pool.places]
    score = np.mean([pool.score(mode) for mode in heard], axis=0)
    others = np.where(truth, -1.0, score)
    best = others.argmax(axis=1)
    margin = others[np.arange(len(others)), best] - _on_truth(truth, score)
    order = np.argsort(-margin, kind="stable")
    return [
        describe(int(pool.places[clip])) | {"given": [int(best[clip])], "score": round(float(margin[clip]), 4)}
        for clip in _one_a_song(pool, order[margin[order] > 0])
    ]


def _on_truth(truth: Bools, score: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """[clips] the mean score of a clip's true labels."""
    mean: NDArray[np.floating[Any]] = np.where(truth, score, 0).sum(axis=1) / np.maximum(1, truth.sum(axis=1))
    return mean


def _one_a_song(pool: PooledRuns, order: NDArray[np.int64]) -> Sequence[int]:
    """The first clips in this order, one of each song."""
    order = order[: 50 * MOST_SONGS]
    _, first = np.unique(pool.data.song[pool.places[order]], return_index=True)
    clips: list[int] = order[np.sort(first)][:MOST_SONGS].tolist()
    return clips
