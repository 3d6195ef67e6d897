"""``encore stress``: how far the scores of trained heads fall when the songs are deformed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.arguments import check_mode, is_inductive, open_store, split_names
from pipeline.options import (
    DEFAULT_STORE,
    BackboneOption,
    DatasetArgument,
    DeviceOption,
    JsonOption,
    LayerOption,
    RegimeOption,
    StoreOption,
    TargetOption,
    WeightsOption,
    WhichRunsOption,
    WorkersOption,
)
from pipeline.output import print_result, table, wrapped
from stages import progress

if TYPE_CHECKING:
    from stages.ask.stress import StressScores
    from stages.head.modes import Mode
    from stages.head.scores.compared import Score


def stress(
    dataset: DatasetArgument = "demo",
    backbone: BackboneOption = None,
    layer: LayerOption = None,
    mode: Annotated[str, typer.Option("--mode", help="M,M,...: heads that were trained before", metavar="M,M")] = "gnn",
    regime: RegimeOption = "random",
    target: TargetOption = None,
    deform: Annotated[
        str, typer.Option("--deform", help="KIND, KIND=AMOUNT, ... or all; a wrong one lists them", metavar="D,D")
    ] = "all",
    neighbours: WhichRunsOption = "all",
    plot: Annotated[
        Path | None, typer.Option("--plot", help="draw the scores: .png, .pdf, .svg", metavar="FILE")
    ] = None,
    weights: WeightsOption = None,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Deform the test songs, encode them, ask trained heads. What was deformed once is kept in the store."""
    from pipeline import plot as picture

    modes = split_names(mode, "--mode")
    for each in modes:
        check_mode(each)
    inductive = is_inductive(neighbours)
    if plot is not None:
        picture.check(plot)
    where = open_store(store, dataset)
    from stages.ask.stress import stress_heads
    from stages.head.layers import with_layer

    scores = stress_heads(
        where,
        dataset,
        backbone=with_layer(backbone, layer),
        modes=modes,
        regime=regime,
        target=target,
        inductive=inductive,
        deform=None if deform == "all" else split_names(deform, "--deform"),
        weights=weights,
        workers=workers,
        device=device,
    )
    if plot is not None:
        picture.save(lambda: figure(scores), plot)
        progress.note(f"drawn: {plot}")
    print_result(scores, describe, json=json)


def describe(scores: StressScores) -> str:
    """A table a mode, of at most 80 columns."""
    pool = scores.subjects.pool
    metric = pool.task.main
    kind = " (synthetic)" if pool.data.info.synthetic else ""
    seeds = ", ".join(dict.fromkeys(str(seed) for seed, _ in pool.keys))
    lines = [
        f"{pool.data.info.name}{kind}, {pool.representation}, regime {pool.regime}",
        *wrapped(
            f"{metric.title}{'' if pool.data.target is None else f' of {pool.data.target}'} on deformed test clips "
            f"of seed {seeds}, and how far above the clean ones; 95 % intervals and p over resampled artists"
        ),
    ]
    for mode in scores.subjects.modes:
        rows = [["clean", metric.text(_clean(scores, mode)), "", "", ""]]
        for deformation, of_modes in scores.by_deformation:
            unit = deformation.about.unit
            unit = unit.removesuffix("s") if abs(deformation.amount) == 1 and len(unit) > 1 else unit
            name = f"{deformation.kind} {deformation.amount:g} {unit}"
            rows.append([name, *_cells(of_modes[mode], metric)])
        lines += ["", table([str(mode), metric.title, "to clean", "interval", "p"], rows)]
    return "\n".join(lines)


def _clean(scores: StressScores, mode: Mode) -> float:
    """The score of a mode on the clips as they are."""
    score = scores.by_deformation[0][1][mode]
    assert score.against is not None
    return score.score - score.against.difference


def _cells(score: Score, metric: Any) -> Sequence[str]:
    against = score.against
    assert against is not None
    bounds = "-" if against.interval is None else " - ".join(metric.text(bound, "+") for bound in against.interval)
    p = "-" if against.p is None else f"{against.p:.3f}"
    return metric.text(score.score), metric.text(against.difference, "+"), bounds, p


def figure(scores: StressScores) -> Any:
    """A panel for each kind: every mode's score by amount, with its interval, and the clean one, dashed."""
    from matplotlib.figure import Figure

    pool = scores.subjects.pool
    metric = pool.task.main
    kinds = list(dict.fromkeys(deformation.kind for deformation, _ in scores.by_deformation))
    columns = min(3, len(kinds))
    rows = -(-len(kinds) // columns)
    picture = Figure(figsize=(4 * columns, 3 * rows + 0.6), layout="constrained")
    panels = picture.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for panel, kind in zip(panels, kinds, strict=False):
        some = sorted((d.amount, of_modes) for d, of_modes in scores.by_deformation if d.kind == kind)
        unit = next(d.about.unit for d, _ in scores.by_deformation if d.kind == kind)
        for mode in scores.subjects.modes:
            values = [metric.scale * of_modes[mode].score for _, of_modes in some]
            bounds = [of_modes[mode].interval or [of_modes[mode].score] * 2 for _, of_modes in some]
            places = range(len(some))
            (line,) = panel.plot(places, values, marker="o", markersize=4, label=str(mode))
            low, high = ([metric.scale * bound[end] for bound in bounds] for end in (0, 1))
            panel.fill_between(places, low, high, color=line.get_color(), alpha=0.15)
            panel.axhline(metric.scale * _clean(scores, mode), color=line.get_color(), linestyle="--", linewidth=1)
        panel.set_xticks(range(len(some)), [f"{amount:g}" for amount, _ in some])
        panel.set_xlabel(f"{kind}, {unit}")
        panel.grid(visible=True, axis="y", alpha=0.3)
    for panel in panels[len(kinds) :]:
        panel.set_visible(False)
    panels[0].set_ylabel(f"{metric.title}, {metric.unit}")
    kind = " (synthetic)" if pool.data.info.synthetic else ""
    picture.suptitle(
        f"{pool.data.info.name}{kind}, {pool.representation}, regime {pool.regime}; dashed: clean", fontsize="medium"
    )
    picture.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    return picture
