"""``encore head`` and ``encore compare``: train heads on stored representations and print their scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.arguments import check_mode, open_store, read_folds, read_modes, read_settings, split_names
from pipeline.options import (
    DEFAULT_STORE,
    REGIMES,
    BackboneOption,
    CheckpointsOption,
    DatasetArgument,
    DeviceOption,
    FoldsOption,
    JsonOption,
    LayerOption,
    MembersOption,
    MemoryOption,
    ModeOption,
    NeighboursOption,
    RegimeOption,
    SeedsOption,
    SetOption,
    StoreOption,
    TargetOption,
    ThresholdOption,
    TuneOption,
)
from pipeline.process import is_first_process
from stages import progress, registry
from store.errors import RequestError

if TYPE_CHECKING:
    from stages.head.results import Result
    from store.layout import Store


def head(
    dataset: DatasetArgument = "demo",
    backbone: BackboneOption = None,
    layer: LayerOption = None,
    mode: ModeOption = "gnn",
    regime: RegimeOption = "random",
    seeds: SeedsOption = 1,
    target: TargetOption = None,
    settings: SetOption = None,
    neighbours: NeighboursOption = None,
    members: MembersOption = None,
    checkpoints: CheckpointsOption = None,
    threshold: ThresholdOption = None,
    tune: TuneOption = None,
    device: DeviceOption = "auto",
    memory: MemoryOption = None,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Train one head on stored representations; opens no song."""
    check_mode(mode)
    where = open_store(store, dataset)
    from pipeline.results import results_text
    from stages.head.layers import with_layer

    results = _train(
        where,
        dataset,
        backbone=with_layer(backbone, layer),
        modes=[mode],
        regimes=[regime],
        seeds=seeds,
        target=target,
        changes=read_settings(
            settings,
            neighbours=neighbours,
            members=members,
            checkpoints=checkpoints,
            threshold=threshold,
            tune=tune,
        ),
        device=device,
        memory_gib=memory,
    )
    _print(results, json, results_text)
    if results and not json:
        print(f"\ncheckpoint, scores and settings: {results[0].saved}")


def compare(
    dataset: DatasetArgument = "demo",
    backbone: BackboneOption = None,
    layer: LayerOption = None,
    layers: Annotated[
        str | None,
        typer.Option("--layers", help="a score for each of these layers, or for all, mean and mix", metavar="K,K|all"),
    ] = None,
    modes: Annotated[str, typer.Option("--modes", help="M,M,... or all", metavar="M,M")] = "all",
    baselines: Annotated[bool, typer.Option("--baselines", help="scikit-learn's classifiers as further rows")] = False,
    regimes: Annotated[str, typer.Option("--regimes", help=REGIMES, metavar="R,R")] = "random",
    folds: FoldsOption = "auto",
    seeds: SeedsOption = 3,
    target: TargetOption = None,
    settings: SetOption = None,
    neighbours: NeighboursOption = None,
    members: MembersOption = None,
    checkpoints: CheckpointsOption = None,
    threshold: ThresholdOption = None,
    tune: TuneOption = None,
    device: DeviceOption = "auto",
    memory: MemoryOption = None,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Train several heads and print one table a regime. The thesis's figures stand beside ours."""
    heads = [] if modes == "all" else read_modes(modes)  # named ones are checked without importing any
    where = open_store(store, dataset)
    from pipeline.results import layers_text, results_text
    from stages.head.layers import with_layer

    heads = heads or read_modes(modes)
    changes = read_settings(
        settings, neighbours=neighbours, members=members, checkpoints=checkpoints, threshold=threshold, tune=tune
    )
    backbones = [with_layer(backbone, layer)]
    if layers is not None:
        backbones, heads = _each_layer(where, dataset, with_layer(backbone, layer), layers, heads)
    results = [
        result
        for each in backbones
        for result in _train(
            where,
            dataset,
            backbone=each,
            modes=heads,
            baselines=baselines,
            regimes=split_names(regimes, "--regimes"),
            folds=read_folds(folds),
            seeds=seeds,
            target=target,
            changes=changes,
            device=device,
            memory_gib=memory,
        )
    ]
    _print(results, json, results_text if layers is None else layers_text)


def _each_layer(
    store: Store, dataset: str, backbone: str | None, layers: str, modes: list[str]
) -> tuple[list[str | None], list[str]]:
    """The representation with each of the layers named, and those of the modes that read it."""
    from stages.head.layers import every
    from store.layout import split_layer

    if split_layer(backbone)[1] is not None:
        raise RequestError("--layers names layers, and so does --layer; give one of them")
    names = every(store, dataset, backbone, () if layers == "all" else split_names(layers, "--layers"))
    reading = [mode for mode in modes if registry.find("head", mode).READS_SONGS]
    if not reading:
        raise RequestError(f"{', '.join(modes)} read no song, so no layer of any; name other --modes")
    return list(names), reading


def _train(store: Store, dataset: str, *, device: str, **request: Any) -> list[Result]:
    """Train in this process, or in all that ``torchrun`` started; the results in the first one, none elsewhere."""
    from stages.devices import find_device
    from stages.head.train import train_heads
    from stages.head.training.processes import joined

    first = is_first_process()
    if not first:
        progress.be_quiet(True)
    place = find_device(device)
    with joined(place) as processes:
        results = train_heads(store, dataset, device=place, processes=processes, **request)
    return results if first else []


def _print(results: list[Result], json: bool, text: Callable[[list[Result]], str]) -> None:
    from pipeline.output import print_json

    if json and results:
        print_json([result.as_json() for result in results])
    elif results:
        print(text(results))
