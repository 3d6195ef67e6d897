"""``encore embed``: encode a collection into the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.arguments import open_store, read_part, read_settings
from pipeline.options import (
    BACKBONES,
    DEFAULT_STORE,
    MOST_BATCH,
    MOST_WORKERS,
    DeviceOption,
    DtypeOption,
    JsonOption,
    SetOption,
    StoreOption,
)
from pipeline.output import print_result
from pipeline.process import share_processors
from stages import registry
from stages.progress import log
from store.errors import RequestError
from store.words import plural, rough_time

if TYPE_CHECKING:
    from stages.embed.explain import Explanation
    from stages.embed.run import EmbedReport


def embed(
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET", help=f"{', '.join(registry.names('dataset'))}; or a name in the store")
    ],
    options: Any = None,
    backbone: Annotated[
        str | None,
        typer.Option("--backbone", help=f"{BACKBONES} [the data set's: encore data DATASET tells]", metavar="B"),
    ] = None,
    weights: Annotated[str | None, typer.Option("--weights", help="a checkpoint, or 'random'", metavar="FILE")] = None,
    settings: SetOption = None,
    precision: Annotated[
        str,
        typer.Option(
            "--precision",
            help="32, or bf16: quicker on a GPU, to two or three digits, which differ a little with the batch",
            metavar="32|bf16",
        ),
    ] = "32",
    dtype: DtypeOption = None,
    device: DeviceOption = "auto",
    batch: Annotated[
        int | None, typer.Option("--batch", min=1, max=MOST_BATCH, help="clips encoded at once", metavar="N")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=0,
            max=MOST_WORKERS,
            help="processes that load clips; of the engine dask: that encode; of slurm: jobs",
            metavar="N",
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="the first clip that fails is an error")] = False,
    part: Annotated[
        str, typer.Option("--part", help="share the work: i/n does every n-th shard", metavar="I/N")
    ] = "1/1",
    engine: Annotated[
        str, typer.Option("--engine", help=f"who encodes: {', '.join(registry.names('engine'))}", metavar="NAME")
    ] = "local",
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", help="the Dask cluster's, such as tcp://host:8786", metavar="ADDRESS")
    ] = None,
    engine_settings: Annotated[
        list[str] | None,
        typer.Option("--engine-set", help="a setting of the engine (repeatable)", metavar="KEY=VALUE"),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="say what would be encoded, and why; nothing is written")
    ] = False,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Encode a collection into the store. Resumable; only what is new is encoded."""
    share_processors()
    from stages.configure import parse_pairs
    from stages.embed import run as work
    from stages.embed.engines import find_engine

    where, changes, share = open_store(store), read_settings(settings), read_part(part)
    if scheduler is not None and engine != "dask":
        raise RequestError(f"--scheduler is the address of a Dask cluster, and the engine is {engine}: --engine dask")
    settings_of_engine = parse_pairs(
        [*(engine_settings or []), *([] if scheduler is None else [f"scheduler={scheduler}"])], "--engine-set"
    )
    encoder = find_engine(engine, settings_of_engine, workers)
    if explain:
        from stages.devices import find_device
        from stages.embed.explain import explain as explain_request

        here = encoder.encodes_here(device)
        setup = work.prepare(dataset, options, where, backbone, weights, changes, precision, dtype)
        explanation = explain_request(where, setup, find_device(here or device), workers if here else None, share)
        print_result(explanation, explained, json=json)
        return
    report = work.embed(
        dataset,
        options,
        store=where,
        backbone_name=backbone,
        weights=weights,
        settings=changes,
        precision=precision,
        dtype=dtype,
        device_name=device,
        batch=batch,
        workers=workers,
        strict=strict,
        part=share,
        engine=encoder,
    )
    log(describe(report))
    print_result(report, describe, json=json)


def explained(explanation: Explanation) -> str:
    """The explanation in a few lines for a person."""
    lines = []
    for entry in explanation.stored:
        there = "not complete" if entry.clips is None else f"{plural(entry.clips, 'clip')} encoded"
        if entry.name == explanation.representation:
            lines.append(f"{entry.name}: {there}; it is the one that is asked for")
        elif entry.differs is None:
            lines.append(f"{entry.name}: {there}; another backbone, or not known how it was made")
        else:
            lines.append(f"{entry.name}: {there}; stored -> asked for:")
            lines += [f"  {difference}" for difference in entry.differs]
    changes = ("added", "new"), ("retired", "retired"), ("revived", "back"), ("corrected", "corrected")
    counts = [f"{getattr(explanation, name):,} {word}" for name, word in changes if getattr(explanation, name)]
    lines.append(f"the catalog of {explanation.dataset}: {', '.join(counts) or 'nothing changed'}")
    if explanation.clips or explanation.shards:
        lines.append(
            f"{explanation.representation}: {plural(explanation.clips, 'clip')} to encode in "
            f"{plural(explanation.shards, 'shard')}, {explanation.bytes / 2**20:,.1f} MiB at most"
        )
        if explanation.seconds is not None:
            tried = plural(explanation.tried, "clip was", "clips were")
            lines.append(f"  roughly {rough_time(explanation.seconds)} by this machine alone ({tried} tried)")
        lines += [f"  {count:,} {reason}" for reason, count in explanation.why.items()]
    else:
        lines.append(f"{explanation.representation}: nothing to encode")
    return "\n".join(lines)


def describe(report: EmbedReport) -> str:
    """The report in a few lines for a person."""
    kind = " (synthetic)" if report.synthetic else ""
    changes = [
        f"{count:,} {what}"
        for count, what in ((report.added, "new"), (report.retired, "retired"), (report.corrected, "corrected"))
        if count
    ]
    lines = [
        f"{report.dataset}{kind}: {plural(report.clips, 'clip')}, {plural(report.songs, 'song')}, "
        f"{plural(report.artists, 'artist')}" + (f" ({', '.join(changes)})" if changes else "")
    ]
    clips = f"{plural(report.encoded, 'clip')} encoded"
    if report.already_there:
        lines.append(f"{report.representation} is already there; nothing was encoded")
    elif not report.complete:
        lines.append(f"{report.representation}: {clips}; other parts are still missing")
    else:
        lines.append(f"{report.representation}: {clips} in {report.seconds:.1f} s")
    if report.failed:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(report.failed.items()))
        failures = plural(sum(report.failed.values()), "clip")
        lines.append(f"{failures} could not be encoded ({kinds}); which: encore store show {report.dataset} --failures")
    if report.noted:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(report.noted.items()))
        lines.append(f"notes on encoded clips: {kinds}; which: encore store show {report.dataset} --failures")
    lines.append(report.path)
    return "\n".join(lines)
