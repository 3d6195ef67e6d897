"""How what a page shows was made: commands, seeds, settings, versions, machines; enough to run it again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from stages import registry
from stages.environment import environment, version
from stages.head.baselines import find
from stages.head.modes import BASELINES, Mode
from stages.head.page import tables
from stages.head.page.tables import Cell, Column, Table
from stages.head.runs.pool import ENSEMBLE, PooledRuns, reads_neighbours
from stages.head.settings import Settings
from store.fingerprint import canonical
from store.layout import Store
from store.schema import CatalogInfo

if TYPE_CHECKING:
    from stages.head.page.gather import Request

_LIBRARIES = ("dgl", "torch-geometric", "scikit-learn", "faiss-cpu", "pyarrow", "zarr")


def runs(pool: PooledRuns, place: Sequence[str]) -> list[tuple[list[Cell], Mapping[str, Any]]]:
    """How the runs were made, a row a mode, with its settings; ``place`` is what says on a command line which store."""
    rows: list[tuple[list[Cell], Mapping[str, Any]]] = []
    for mode, runs in pool.runs.items():
        record = runs[0].record
        if mode == ENSEMBLE:
            continue
        seeds = ", ".join(dict.fromkeys(str(run.record.seed) for run in runs))
        command = shlex.join([*_training(pool, mode, max(run.record.seed for run in runs) + 1), *place])
        seconds = sum(run.record.seconds for run in runs)
        machines = "; ".join(dict.fromkeys(_machine(run.record.environment) for run in runs))
        row: list[Cell] = [record.representation, str(mode), record.regime, seeds, seconds, command, machines]
        rows.append((row, record.all_settings() or {}))
    return rows


def _training(pool: PooledRuns, mode: Mode, seeds: int) -> list[str]:
    """The words of the command that trains a mode's runs, with every setting that is not the default."""
    record, target = pool.runs[mode][0].record, pool.data.target
    words = ["encore", "head", record.dataset, "--mode", mode.name, "--regime", record.regime]
    if mode.name in BASELINES:  # which are no heads, and come with one
        words = ["encore", "compare", record.dataset, "--baselines", "--modes", "song", "--regimes", record.regime]
    words += ["--backbone", record.representation] if record.representation else []
    words += ["--seeds", str(seeds)]
    words += [] if target is None else ["--target", target]
    words += ["--neighbours", "train"] if pool.inductive and reads_neighbours(mode.name) else []
    default = {**canonical(Settings()), **canonical(find(mode.name).Config())}
    for name, value in (record.all_settings() or {}).items():
        if name in default and name != "inductive" and value != default[name]:
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value).lower()
            words += ["--set", f"{name}={text}"]
    return words


def _machine(environment: Mapping[str, str] | None) -> str:
    """What a run was trained with, in a line."""
    return (
        "not recorded" if environment is None else ", ".join(f"{name} {value}" for name, value in environment.items())
    )


def how(
    store: Store,
    info: CatalogInfo,
    runs: Sequence[tuple[list[Cell], Mapping[str, Any]]],
    request: Request,
) -> list[Table]:
    """The commands that make all of this again, and what they ran on."""
    embeds: dict[str, Cell] = {}
    for name in store.complete(info.name):
        command = store.read_line(info.name, name, "command.txt") or shlex.join(embedding(info, name.backbone))
        embeds[f"encode {name}"] = " ".join([command, *map(shlex.quote, request.place)])
    embeds["audit"] = shlex.join(["encore", "audit", info.name, *request.place])
    embeds["this page"] = shlex.join(_reporting(info.name, request))
    here = environment(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    versions: dict[str, Cell] = {**here, **{name: version(name) for name in _LIBRARIES}}
    writer = tables.pairs("versions", "This page was written by", ("what", "version"), versions)
    note = "Files are named as they were where the commands were given; the heads' commands stand below."
    commands = replace(tables.pairs("commands", "Commands", ("what for", "command"), embeds), note=note)
    return [commands, *([_trained(runs)] if runs else []), writer]


def _reporting(dataset: str, request: Request) -> list[str]:
    """The words of the command that writes the page."""
    modes = [mode for mode in request.modes if mode not in BASELINES]
    options = {
        "--backbone": request.backbone,
        "--modes": None if set(modes) >= set(registry.names("head")) else ",".join(modes),
        "--regime": request.regime,
        "--target": request.target,
        "--against": None if request.against == "song" else request.against,
        "--ensemble": ",".join(request.ensemble) or None,
        "--neighbours": "train" if request.inductive else None,
        "--audio-base": request.audio,
    }
    words = ["encore", "report", *(request.names or [dataset]), "--html", request.page]
    words += [word for option, value in options.items() if value is not None for word in (option, value)]
    return [*words, *(["--baselines"] if len(modes) < len(request.modes) else []), *request.place]


def _trained(runs: Sequence[tuple[list[Cell], Mapping[str, Any]]]) -> Table:
    """A row for each mode, representation and regime; settings that all share stand in the note alone.

    Modes that read no representation stand beside every one, with the seeds that it shares with them: most count.
    """
    trained = [{key: str(value) for key, value in settings.items()} for _, settings in runs if settings]
    shared = dict(set.intersection(*(set(settings.items()) for settings in trained))) if trained else {}
    rows: dict[tuple[Cell, ...], list[Cell]] = {}
    for row, settings in runs:
        if len(str(row[3])) < len(str(rows.get(tuple(row[:3]), row)[3])):
            continue
        own = ", ".join(f"{key}={value}" for key, value in settings.items() if shared.get(key) != str(value))
        rows[tuple(row[:3])] = [*row[:5], own, *row[5:]]
    titles = ["representation", "mode", "regime", "seeds", "training, s", "other settings", "command", "trained with"]
    common = ", ".join(f"{key}={value}" for key, value in sorted(shared.items()))
    notes = [f"Settings of all: {common}."] if common else []
    machines = {row[-1] for row in rows.values()}
    if len(machines) == 1:
        notes.append(f"Trained with: {machines.pop()}.")
        titles.pop()
    columns = tuple(Column(title, digits=1 if title == "training, s" else 0) for title in titles)
    return Table("runs", "Trained heads", columns, [row[: len(titles)] for row in rows.values()], " ".join(notes))


def embedding(info: CatalogInfo, backbone: str | None = None) -> list[str]:
    """The words of the command that encodes a collection; its files stand for those that the store does not name."""
    own = ["table", "--table", "FILE"] if backbone == "features" else ["folder", "--data", "DIR"]
    words = list(info.origin) or (
        [info.name] if info.name in registry.names("dataset") else [*own, "--name", info.name]
    )
    return ["encore", "embed", *words, *(["--backbone", backbone] if backbone else [])]
