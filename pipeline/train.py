"""``encore train``: train a backbone on a collection; makes the weights that ``encore embed`` reads."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.arguments import open_store, read_settings
from pipeline.options import DEFAULT_STORE, DeviceOption, JsonOption, SetOption, StoreOption, WorkersOption
from pipeline.output import print_json, shell_lines, wrapped
from pipeline.process import is_first_process
from stages import progress, registry
from store.words import plural

if TYPE_CHECKING:
    from stages.embed.train_backbone import TrainReport


def train(
    backbone: Annotated[str, typer.Argument(metavar="BACKBONE", help=", ".join(registry.names("backbone")))],
    dataset: Annotated[str, typer.Option("--dataset", help="a data set, or a name in the store", metavar="DATASET")],
    options: Any = None,
    objective: Annotated[
        str | None, typer.Option("--objective", help="supervised, contrastive, masked", metavar="NAME")
    ] = None,
    regime: Annotated[
        str | None,
        typer.Option("--regime", help="random, album, artist, official [official, else random]", metavar="R"),
    ] = None,
    weights: Annotated[str | None, typer.Option("--weights", help="a checkpoint to start from", metavar="FILE")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="the checkpoint [data/weights/...]", metavar="FILE")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="at most", metavar="N")] = None,
    segments: Annotated[
        float | None,
        typer.Option("--segments", help="train on stretches of so many seconds in place of whole clips", metavar="S"),
    ] = None,
    hop: Annotated[float | None, typer.Option("--hop", help="seconds from one to the next [S]", metavar="H")] = None,
    settings: SetOption = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Train a backbone; the checkpoint is what embed reads. Resumable; runs in several processes by torchrun."""
    from stages.embed.train_backbone import train_backbone

    first = is_first_process()
    if not first:
        progress.be_quiet(True)
    report = train_backbone(
        backbone,
        dataset,
        options,
        store=open_store(store),
        objective_name=objective,
        regime=regime,
        weights=weights,
        changes=read_settings([*(settings or []), *([f"epochs={epochs}"] if epochs else [])]),
        out=out,
        segments_s=segments,
        hop_s=hop,
        device_name=device,
        workers=workers,
    )
    commands = _next_commands(report, dataset, options, store)
    if first and json:
        print_json({**dataclasses.asdict(report), "next": commands})
    elif first:
        print(describe(report, commands))


def _next_commands(report: TrainReport, dataset: str, options: Mapping[str, Any], store: str) -> list[str]:
    """The commands that encode the same songs with what was trained, and train a head in the same regime."""
    values = {name.replace("_", "-"): value for name, value in options.items() if not (value is None or value is False)}
    flags = [f"--{name}" if value is True else f"--{name} {shlex.quote(str(value))}" for name, value in values.items()]
    where = [] if store == DEFAULT_STORE else [f"--store {shlex.quote(store)}"]
    weights = f"--weights {shlex.quote(report.path)}"
    embed = [f"encore embed {dataset}", *flags, f"--backbone {report.backbone}", weights]
    head = [f"encore head {report.dataset}", f"--backbone {report.backbone}", f"--regime {report.regime}"]
    return [" ".join([*words, *where]) for words in (embed, head)]


def describe(report: TrainReport, commands: list[str]) -> str:
    """The report in a few lines for a person."""
    kind = " (synthetic)" if report.synthetic else ""
    lines = wrapped(
        f"{report.backbone}, {report.parameters:,} parameters, {report.objective} on {report.dataset}{kind}: "
        f"{report.clips:,} training and {plural(report.validation_clips, 'validation clip')}, split {report.regime}"
    )
    if report.resumed == report.epochs:
        lines.append("already trained; nothing was done")
    else:
        went = f", from epoch {report.resumed + 1}" if report.resumed else ""
        lines.append(f"{plural(report.epochs, 'epoch')} in {report.seconds:.1f} s{went}")
    lines.append(f"best epoch {report.best_epoch}: loss {report.loss:.4f}, validation {report.validation_loss:.4f}")
    if report.unread:
        lines.append(f"{plural(report.unread, 'clip')} could not be read")
    lines += [report.path, "", "encode with it, and train a head in the same split:"]
    return "\n".join([*lines, *(line for command in commands for line in shell_lines(command))])
