"""``encore search``: look for a head's best settings on a stored collection, by validation alone."""

from __future__ import annotations

from typing import Any

from pipeline.output import shell_lines, table
from stages.head.scores.task import METRICS
from stages.head.search import SEED, Found
from store.words import counted


def describe(found: Found) -> str:
    """The best settings beside the default ones, and the command that tests them, in 80 columns."""
    kind = " (synthetic)" if found.synthetic else ""
    failed = f", {found.failed} with a loss that did not stay finite" if found.failed else ""
    metric = METRICS[found.metric]
    rows = [
        [f"{metric.title}, validation", metric.text(found.default_validation), metric.text(found.validation)],
        *([name, *map(_shown, (found.defaults[name], value))] for name, value in found.settings.items()),
    ]
    return "\n".join(
        [
            f"{found.dataset}{kind}, {found.backbone or 'metadata alone'}, regime {found.regime}, seed {SEED}",
            f"{found.mode}: {counted(found.trials, 'trial')}{failed}",
            "",
            table(["", "default", "best"], rows),
            "",
            *(["the default settings were the best"] if found.settings == found.defaults else []),
            f"test scores, in place of those that are stored of {found.mode} in {found.regime}:",
            *shell_lines(found.command),
        ]
    )


def _shown(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
