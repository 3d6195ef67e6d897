"""What a person reads on standard output: tables of at most 80 columns, or one JSON document."""

from __future__ import annotations

import csv
import json
import math
import statistics
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stages.head.rules import SHORT_RULES
from store.words import counted

if TYPE_CHECKING:
    from stages.head.results import Result

WIDTH = 80
SHORT = {
    **SHORT_RULES,
    "micro_f1": "micro F1",
    "macro_f1": "macro F1",
    "subset_accuracy": "exact set",
    "accuracy": "accuracy",
    "roc_auc": "ROC-AUC",
    "pr_auc": "PR-AUC",
}
ARTIST_RULES = "artist (top): its most frequent label; (half): those of half its songs or more"
_CHOICES = {
    "fixed": "labels scored above 0.5 are chosen",
    "tuned": "labels are chosen above one threshold, that of the best micro F1 on validation",
    "per-label": "labels are chosen above thresholds of their own, of the best F1 on validation",
}


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    json.dump(value, sys.stdout, indent=1, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")


def print_csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """A table as CSV on standard output, its columns named in the first line."""
    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns two spaces apart (one where the line would be too long), words to the left, numbers to the right."""
    words = [i == 0 or any(row[i][:1].isalpha() for row in rows) for i in range(len(head))]
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    gap = "  " if sum(widths) + 2 * (len(widths) - 1) <= WIDTH else " "

    def line(cells: Sequence[str]) -> str:
        columns = zip(cells, widths, words, strict=True)
        return gap.join(cell.ljust(width) if word else cell.rjust(width) for cell, width, word in columns).rstrip()

    return "\n".join((line(head), gap.join("-" * w for w in widths), *map(line, rows)))


def wrapped(text: str, indent: str = "  ", first: str = "") -> list[str]:
    """A sentence in lines of at most 80 columns, all but the first of them indented."""
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False)


def shell_lines(command: str) -> list[str]:
    """A command as a shell takes it over several lines, broken before its options."""
    lines = [""]
    for piece in command.replace(" --", "\n--").split("\n"):
        if lines[-1] and len(lines[-1]) + len(piece) + 3 > WIDTH:
            lines[-1] += " \\"
            lines.append("  ")
        lines[-1] += (" " if lines[-1].strip() else "") + piece
    return lines


def percent(values: Sequence[float]) -> str:
    """Mean and standard deviation (divided by n) over seeds in per cent; the deviation only where there are several."""
    mean = statistics.fmean(values)
    if math.isnan(mean):
        return "-"
    spread = f"±{100 * statistics.pstdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * mean:.1f}{spread}"


def results_text(results: Sequence[Result]) -> str:
    """One table a regime, with what the two sides share and, where the thesis has figures, these beside ours."""
    return "\n\n".join(
        _regime_text([result for result in results if result.regime == regime])
        for regime in dict.fromkeys(result.regime for result in results)
    )


def _regime_text(results: Sequence[Result]) -> str:
    from stages.head.results import columns_of

    first = results[0]
    metrics = columns_of(results)
    thesis = any(result.paper() for result in results)
    rows = []
    for result in results:
        values = result.by_metric()
        name = (
            result.mode
            + (f" ({SHORT.get(result.rule, result.rule)})" if result.rule else "")
            + ("*" if result.transductive else "")
        )
        row = [name, *(percent(values[m]) if m in values else "-" for m in metrics)]
        if thesis:
            paper = result.paper()
            row.append("-" if paper is None else f"{100 * next(v for v in paper.values() if isinstance(v, float)):.1f}")
        rows.append([*row, f"{sum(result.seconds):.1f}"])
    head = ["mode", *(SHORT[m] for m in metrics), *(["thesis"] if thesis else []), "s"]
    seeds = first.seeds
    backbone = next((result.backbone for result in results if result.backbone), "metadata alone")
    title = f"{first.dataset}{' (synthetic)' if first.synthetic else ''}, {backbone}, regime {first.regime}"
    lines = [f"{title}, {counted(seeds, 'seed')}", overlap_text(*first.overlap), "", table(head, rows)]
    if any(result.rule for result in results):
        lines.append(ARTIST_RULES)
    lines += _choice_text(results)
    lines += [f"{result.mode}: {result.remark}" for result in results if result.remark]
    if any(result.transductive for result in results):
        lines.append("* test clips' representations (never their labels) take part as neighbours")
    if any(result.neighbours == "train" for result in results):
        lines.append("inductive: training clips alone are neighbours")
    if thesis:
        papers = [paper for result in results if (paper := result.paper())]
        metric = next(name for name in papers[0] if name != "backbone")
        used = next((f" with {paper['backbone']}" for paper in papers if paper["backbone"]), "")
        lines.append(f"thesis: {SHORT[metric]}{used}")
    return "\n".join(lines)


def _choice_text(results: Sequence[Result]) -> list[str]:
    """How labels were chosen from scores where clips carry several, and how many networks a score is the mean of."""
    how = {result.threshold for result in results} - {None}
    lines = [_CHOICES[threshold] for threshold in _CHOICES if threshold in how]
    members = max(result.members for result in results)
    return [*lines, f"trained modes: mean scores of {members} networks"] if members > 1 else lines


def overlap_text(*splits: dict[str, Any]) -> str:
    """How many songs the splits have, and how many test artists stand in train too; ranges where splits differ."""
    songs = " / ".join(_range([of["songs"] for of in by_part]) for by_part in zip(*map(_sizes, splits), strict=True))
    shared = _range([overlap["shared_artists"] for overlap in splits])
    artists = _range([overlap["test"]["artists"] for overlap in splits])
    known = _range([overlap.get("trained_on", 0) for overlap in splits])
    leak = "" if known == "0" else f"\nthe backbone was trained on {known} of the test songs"
    for kind in ("songs", "recordings"):  # an official split is taken as it is
        twice = _range([overlap["shared"]["train-test"].get(kind, 0) for overlap in splits])
        leak += "" if twice == "0" else f"\n{kind} that stand in train and in test: {twice}"
    featured = _range([overlap.get("shared_any_artist", 0) for overlap in splits])
    if shared == "0" and featured == "0":
        return f"{songs} songs; train and test share no artist{leak}"
    if shared == "0":
        return f"{songs} songs; train and test share no first-named artist, but {featured} of all{leak}"
    which = "the only test artist" if artists == "1" else f"{shared} of the {artists} test artists"
    sides = f"{which} {'is' if shared == '1' else 'are'} also in train"
    gap = "; " if len(f"{songs} songs; {sides}") <= WIDTH else "\n"
    return f"{songs} songs{gap}{sides}{leak}"


def _sizes(overlap: dict[str, Any]) -> list[Any]:
    return [overlap[part] for part in ("train", "validation", "test")]


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,}-{high:,}"
