"""The tables of ``encore head`` and ``encore compare``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.output import WIDTH, overlap_text, rules_text, table, table_width, wrapped
from stages.head.results import Result
from stages.head.scores.metrics import Metric
from stages.head.scores.task import METRICS
from stages.head.scores.thresholds import CHOICES
from store.layout import split_layer
from store.words import plural

_INTERVAL = "95 %"


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
        mean = metric.text(result.main)
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
            *_certainty_text(results),
            *rules_text(result.mode for result in results),
            *_choice_text(results),
            *_tuned_text(results),
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
    """Mean, deviation and interval of the main metric and means of the others, with deviations where they fit."""
    main, *others = results[0].task.METRICS
    thesis = any(result.paper() for result in results)
    intervals = any(result.interval for result in results)
    head = [
        *("mode", main.title, *([_INTERVAL] if intervals else []), *(metric.title for metric in others)),
        *(["thesis"] if thesis else []),
        "s",
    ]
    rows: list[list[str]] = []
    for spread in ((main, *others), (main,), ()):
        rows = [_row(result, spread, thesis=thesis, intervals=intervals) for result in results]
        if table_width(head, rows) <= WIDTH:
            break
    return table(head, rows, {(place, 1) for place, result in enumerate(results) if result.is_best})


def _row(result: Result, spread: Sequence[Metric], *, thesis: bool, intervals: bool) -> list[str]:
    """The cells of a mode; metrics of ``spread`` have their deviations."""
    values = result.by_metric()
    main, *others = [
        metric.mean_text(values[metric.name]) if metric in spread else metric.text(float(np.mean(values[metric.name])))
        for metric in result.task.METRICS
    ]
    seconds = sum(result.seconds)
    return [
        f"{result.mode}{'*' if result.transductive else ''}",
        main,
        *([_interval(result)] if intervals else []),
        *others,
        *([_paper(result.paper())] if thesis else []),
        f"{seconds:.1f}" if seconds < 1000 else f"{seconds:.0f}",
    ]


def _interval(result: Result) -> str:
    if result.interval is None:
        return "-"
    return (" - " if min(result.interval) < 0 else "-").join(map(result.task.main.text, result.interval))


def _certainty_text(results: Sequence[Result]) -> list[str]:
    """What intervals are of, and which mode is the best beyond noise."""
    if not any(result.interval for result in results):
        return []
    best = next((str(result.mode) for result in results if result.is_best), None)
    verdict = "no mode is best beyond noise" if best is None else f"best beyond noise: {best}"
    ending = f"; {verdict}" if len(results) > 1 and all(result.interval for result in results) else ""
    return [f"{_INTERVAL}: interval over resampled artists{ending}"]


def _paper(paper: dict[str, Any] | None) -> str:
    return "-" if paper is None else next(METRICS[name].text(paper[name]) for name in paper if name in METRICS)


def _choice_text(results: Sequence[Result]) -> list[str]:
    """How labels were chosen from scores, and how many networks a score is the mean of."""
    thresholds = {result.threshold for result in results}
    lines = [text for threshold, text in CHOICES.items() if threshold in thresholds]
    members = max(result.members for result in results)
    return [*lines, f"trained modes: mean scores of {members} networks"] if members > 1 else lines


def _tuned_text(results: Sequence[Result]) -> list[str]:
    """What was chosen on validation, and in how many trainings where they differ."""
    lines = []
    for result in results:
        choices = []
        for name in result.tuned[0] if result.tuned else ():
            counts = Counter(str(values[name]) for values in result.tuned)
            texts = [f"{value} ({count}x)" if len(counts) > 1 else value for value, count in counts.most_common()]
            choices.append(f"{name} {', '.join(texts)}")
        lines += wrapped(f"{result.mode.name}: chosen on validation: {'; '.join(choices)}") if choices else []
    return lines


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
