"""``encore search``: look for a head's best settings on a stored collection, by validation alone."""

from __future__ import annotations

from typing import Any

from pipeline.output import shell_lines, table
from stages.head.scores.task import METRICS
from stages.head.search import SEED, Found
from store.words import counted


def describe(best: Found) -> str:
    """The best settings beside the default ones, and the command that tests them, in 80 columns."""
    kind = " (synthetic)" if best.synthetic else ""
    failed = f", {best.failed} with a loss that did not stay finite" if best.failed else ""
    metric = METRICS[best.metric]
    rows = [
        [f"{metric.title}, validation", metric.text(best.default_validation), metric.text(best.validation)],
        *([name, *map(_shown, (best.defaults[name], value))] for name, value in best.settings.items()),
    ]
    return "\n".join(
        [
            f"{best.dataset}{kind}, {best.backbone or 'metadata alone'}, regime {best.regime}, seed {SEED}",
            f"{best.mode}: {counted(best.trials, 'trial')}{failed}",
            "",
            table(["", "default", "best"], rows),
            "",
            *(["the default settings were the best"] if best.settings == best.defaults else []),
            f"test scores, in place of those that are stored of {best.mode} in {best.regime}:",
            *shell_lines(best.command),
        ]
    )


def _shown(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
