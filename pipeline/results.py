"""The tables of ``encore head`` and ``encore compare``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.output import overlap_text, rules_text, table, wrapped
from stages.head.results import Result
from stages.head.scores.task import METRICS
from stages.head.scores.thresholds import CHOICES
from store.layout import split_layer
from store.words import plural


def results_text(results: Sequence[Result]) -> str:
    """One table a regime, with what the two sides share and, where the thesis has figures, these beside ours."""
    return "\n\n".join(
        _regime_text([result for result in results if result.regime == regime])
        for regime in dict.fromkeys(result.regime for result in results)
    )


def layers_text(results: Sequence[Result]) -> str:
    """For each regime the main metric of every mode, layer by layer."""
    return "\n\n".join(
        _layers_of_regime([result for result in results if result.regime == regime])
        for regime in dict.fromkeys(result.regime for result in results)
    )


def _layers_of_regime(results: Sequence[Result]) -> str:
    first, metric = results[0], results[0].task.main
    representation, _ = split_layer(first.backbone)
    modes = list(dict.fromkeys(str(result.mode) for result in results))
    cells: dict[str, dict[str, str]] = {}
    for result in results:
        mean = metric.text(float(np.mean(result.by_metric()[metric.name])))
        cells.setdefault(split_layer(result.backbone)[1] or "", {})[str(result.mode)] = mean
    title = f"{first.dataset}{' (synthetic)' if first.synthetic else ''}, {representation}, regime {first.regime}"
    rows = [[layer, *(of_layer.get(mode, "-") for mode in modes)] for layer, of_layer in cells.items()]
    remarks = [
        f"{result.mode}: {result.remark}" for result in results if result.backbone and result.backbone.endswith("@mix")
    ]
    return "\n".join(
        [
            f"{title}, {plural(first.seeds, 'seed')}",
            overlap_text(*first.overlap),
            "",
            f"{metric.title} {'' if first.target is None else f'of {first.target} '}by layer",
            table(["layer", *modes], rows),
            *(line for remark in remarks for line in wrapped(remark)),
        ]
    )


def _regime_text(results: Sequence[Result]) -> str:
    first = results[0]
    backbone = next((result.backbone for result in results if result.backbone), "metadata alone")
    title = f"{first.dataset}{' (synthetic)' if first.synthetic else ''}, {backbone}, regime {first.regime}"
    return "\n".join(
        [
            f"{title}, {plural(first.seeds, 'seed')}",
            overlap_text(*first.overlap),
            "",
            *_target_text(first),
            _table(results),
            *rules_text(result.mode for result in results),
            *_choice_text(results),
            *(f"{result.mode.name}: {result.remark}" for result in results if result.remark),
            *_neighbours_text(results),
            *_thesis_text(results),
        ]
    )


def _target_text(result: Result) -> list[str]:
    """What is estimated, and in which unit errors are."""
    if result.target is None:
        return []
    errors = [metric.title for metric in result.task.METRICS if metric.less_is_better]
    return [f"{result.target}; {' and '.join(errors)} in its own unit, less is better"]


def _table(results: Sequence[Result]) -> str:
    metrics = results[0].task.METRICS
    thesis = any(result.paper() for result in results)
    rows = []
    for result in results:
        values = result.by_metric()
        row = [f"{result.mode}{'*' if result.transductive else ''}"]
        row += [metric.mean_text(values[metric.name]) for metric in metrics]
        row += [_paper(result.paper())] if thesis else []
        rows.append([*row, f"{sum(result.seconds):.1f}"])
    return table(["mode", *(metric.title for metric in metrics), *(["thesis"] if thesis else []), "s"], rows)


def _paper(paper: dict[str, Any] | None) -> str:
    return "-" if paper is None else next(METRICS[name].text(paper[name]) for name in paper if name in METRICS)


def _choice_text(results: Sequence[Result]) -> list[str]:
    """How labels were chosen from scores, and how many networks a score is the mean of."""
    thresholds = {result.threshold for result in results}
    lines = [text for threshold, text in CHOICES.items() if threshold in thresholds]
    members = max(result.members for result in results)
    return [*lines, f"trained modes: mean scores of {members} networks"] if members > 1 else lines


def _neighbours_text(results: Sequence[Result]) -> list[str]:
    lines = []
    if any(result.transductive for result in results):
        lines.append("* test clips' representations (never their labels) take part as neighbours")
    if any(result.neighbours == "train" for result in results):
        lines.append("inductive: training clips alone are neighbours")
    return lines


def _thesis_text(results: Sequence[Result]) -> list[str]:
    papers = [paper for result in results if (paper := result.paper())]
    if not papers:
        return []
    metric = next(METRICS[name] for name in papers[0] if name in METRICS)
    backbone = next((f" with {paper['backbone']}" for paper in papers if paper["backbone"]), "")
    return [f"thesis: {metric.title}{backbone}"]
