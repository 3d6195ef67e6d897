"""``encore head`` and ``encore compare``: train heads on stored representations and print their scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.arguments import check_mode, open_store, read_modes, read_settings, split_names
from pipeline.options import (
    DEFAULT_STORE,
    REGIMES,
    BackboneOption,
    DeviceOption,
    JsonOption,
    MembersOption,
    MemoryOption,
    ModeOption,
    NeighboursOption,
    SeedsOption,
    SetOption,
    StoreOption,
    ThresholdOption,
)
from pipeline.process import is_first_process
from stages import progress

if TYPE_CHECKING:
    from stages.head.results import Result


def head(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="a name in the store")] = "demo",
    backbone: BackboneOption = None,
    mode: ModeOption = "gnn",
    regime: Annotated[str, typer.Option("--regime", help=REGIMES, metavar="R")] = "random",
    seeds: SeedsOption = 1,
    settings: SetOption = None,
    neighbours: NeighboursOption = None,
    members: MembersOption = None,
    threshold: ThresholdOption = None,
    device: DeviceOption = "auto",
    memory: MemoryOption = None,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Train one head on stored representations; opens no song."""
    check_mode(mode)
    results = _train(
        store,
        dataset,
        backbone=backbone,
        modes=[mode],
        regimes=[regime],
        seeds=seeds,
        changes=read_settings(settings, neighbours=neighbours, members=members, threshold=threshold),
        device=device,
        memory_gib=memory,
    )
    _print(results, json)
    if results and not json:
        print(f"\ncheckpoint, scores and settings: {results[0].saved}")


def compare(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="a name in the store")] = "demo",
    backbone: BackboneOption = None,
    modes: Annotated[str, typer.Option("--modes", help="M,M,... or all", metavar="M,M")] = "all",
    baselines: Annotated[bool, typer.Option("--baselines", help="scikit-learn's classifiers as further rows")] = False,
    regimes: Annotated[str, typer.Option("--regimes", help=REGIMES, metavar="R,R")] = "random",
    seeds: SeedsOption = 3,
    settings: SetOption = None,
    neighbours: NeighboursOption = None,
    members: MembersOption = None,
    threshold: ThresholdOption = None,
    device: DeviceOption = "auto",
    memory: MemoryOption = None,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Train several heads and print one table a regime. The thesis's figures stand beside ours."""
    results = _train(
        store,
        dataset,
        backbone=backbone,
        modes=read_modes(modes),
        baselines=baselines,
        regimes=split_names(regimes, "--regimes"),
        seeds=seeds,
        changes=read_settings(settings, neighbours=neighbours, members=members, threshold=threshold),
        device=device,
        memory_gib=memory,
    )
    _print(results, json)


def _train(store: str, dataset: str, *, device: str, **request: Any) -> list[Result]:
    """Train in this process, or in all that ``torchrun`` started; the results in the first one, none elsewhere."""
    from stages.devices import find_device
    from stages.head.train import train_heads
    from stages.head.training.processes import joined

    first = is_first_process()
    if not first:
        progress.be_quiet(True)
    target = find_device(device)
    with joined(target) as processes:
        results = train_heads(open_store(store), dataset, device=target, processes=processes, **request)
    return results if first else []


def _print(results: list[Result], json: bool) -> None:
    from pipeline.output import print_json
    from pipeline.results import results_text

    if json and results:
        print_json([result.as_json() for result in results])
    elif results:
        print(results_text(results))
