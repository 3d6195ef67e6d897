"""``encore search``: look for a head's best settings on a stored collection, by validation alone."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.arguments import check_mode, open_store, read_settings
from pipeline.options import (
    DEFAULT_STORE,
    BackboneOption,
    DatasetArgument,
    DeviceOption,
    JsonOption,
    ModeOption,
    NeighboursOption,
    SetOption,
    StoreOption,
    TargetOption,
)
from pipeline.output import print_result, shell_lines, table
from store.words import plural

if TYPE_CHECKING:
    from stages.head.search import Best


def search(
    dataset: DatasetArgument = "demo",
    backbone: BackboneOption = None,
    mode: ModeOption = "gnn",
    regime: Annotated[str, typer.Option("--regime", help="random, album, artist, official", metavar="R")] = "random",
    target: TargetOption = None,
    trials: Annotated[int, typer.Option("--trials", min=1, help="in all; those made before count", metavar="N")] = 30,
    settings: SetOption = None,
    neighbours: NeighboursOption = None,
    device: DeviceOption = "auto",
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Search for a head's best settings. By validation alone; prints the command that tests them. Resumable."""
    check_mode(mode)
    where = open_store(store, dataset)
    from stages.devices import find_device
    from stages.head import search as work

    options = {"--store": store if store != DEFAULT_STORE else "", "--device": device if device != "auto" else ""}
    best = work.search(
        where,
        dataset,
        backbone=backbone,
        mode=mode,
        regime=regime,
        target=target,
        trials=trials,
        changes=read_settings(settings, neighbours=neighbours),
        device=find_device(device),
        options=" ".join(f"{option} {shlex.quote(value)}" for option, value in options.items() if value),
    )
    print_result(best, describe, json=json)


def describe(best: Best) -> str:
    """The best settings beside the default ones, and the command that tests them, in 80 columns."""
    from stages.head.scores.task import METRICS
    from stages.head.search import SEED

    kind = " (synthetic)" if best.synthetic else ""
    failures = f", {best.failed} with a loss that did not stay finite" if best.failed else ""
    metric = METRICS[best.metric]
    rows = [
        [f"{metric.title}, validation", metric.text(best.default_validation), metric.text(best.validation)],
        *([name, *map(_shown, (best.defaults[name], value))] for name, value in best.settings.items()),
    ]
    return "\n".join(
        [
            f"{best.dataset}{kind}, {best.backbone or 'metadata alone'}, regime {best.regime}, seed {SEED}",
            f"{best.mode}: {plural(best.trials, 'trial')}{failures}",
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
