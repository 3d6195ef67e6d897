"""How what a page shows was made: commands, seeds, settings, versions, machines; enough to run it again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from stages import registry
from stages.environment import environment, version
from stages.head.page import tables
from stages.head.page.tables import Cell, Column, Table
from stages.head.runs.pool import ENSEMBLE, PooledRuns, reads_neighbours

_LIBRARIES = ("dgl", "torch-geometric", "scikit-learn", "faiss-cpu", "pyarrow", "zarr")


def runs(pool: PooledRuns) -> list[tuple[list[Cell], Mapping[str, Any]]]:
    """How the runs were made, a row a mode, with its settings."""
    rows: list[tuple[list[Cell], Mapping[str, Any]]] = []
    for mode, runs in pool.runs.items():
        record = runs[0].record
        if mode == ENSEMBLE:
            continue
        seeds = ", ".join(dict.fromkeys(str(run.record.seed) for run in runs))
        command = f"encore head {record.dataset}"
        command += f" --backbone {record.representation}" if record.representation else ""
        command += f" --mode {mode.name} --regime {record.regime} --seeds {max(r.record.seed for r in runs) + 1}"
        command += "" if pool.data.target is None else f" --target {shlex.quote(pool.data.target)}"
        command += " --neighbours train" if pool.inductive and reads_neighbours(mode.name) else ""
        seconds = sum(run.record.seconds for run in runs)
        machines = "; ".join(dict.fromkeys(_machine(run.record.environment) for run in runs))
        row: list[Cell] = [record.representation, str(mode), record.regime, seeds, seconds, command, machines]
        rows.append((row, record.all_settings() or {}))
    return rows


def _machine(environment: Mapping[str, str] | None) -> str:
    """What a run was trained with, in a line."""
    return (
        "not recorded" if environment is None else ", ".join(f"{name} {value}" for name, value in environment.items())
    )


def how(dataset: str, names: Sequence[str], runs: Sequence[tuple[list[Cell], Mapping[str, Any]]]) -> list[Table]:
    """The commands that make all of this again, and what they ran on."""
    embeds: dict[str, Cell] = {f"encode {name}": embed_command(dataset, name) for name in names}
    embeds |= {"audit": f"encore audit {dataset}", "this page": f"encore report {dataset} --html FILE"}
    here = environment(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    versions: dict[str, Cell] = {**here, **{name: version(name) for name in _LIBRARIES}}
    page = tables.pairs("versions", "This page was written by", ("what", "version"), versions)
    commands = tables.pairs("commands", "Commands", ("what for", "command"), embeds)
    return [commands, *([_trained(runs)] if runs else []), page]


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


def embed_command(dataset: str, representation: str) -> str:
    backbone = representation.rpartition("-")[0]
    if dataset in registry.names("dataset"):
        return f"encore embed {dataset} --backbone {backbone}"
    kind = "table --table FILE" if backbone == "features" else f"folder --data DIR --backbone {backbone}"
    return f"encore embed {kind} --name {dataset}"
