"""The options of all data sets, on the commands that read one."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from stages import progress, registry

OF_COLLECTION = "The collection: options of some data sets, which stand in [ ]"


_WITHOUT = {"train": {"table"}}  # commands that have no use for a data set: a table holds no songs
_METAVARS = {int: "N", float: "X", str: "TEXT", Path: "DIR"}


def with_dataset_options(function: Callable[..., None]) -> Callable[..., None]:
    """A command with the options of all data sets beside its own; it gets them as its argument ``options``.

    One option may belong to several data sets; its help then says of each what it does there.
    """
    signature = inspect.signature(function, eval_str=True)
    loaded, errors = registry.load("dataset")
    datasets = {name: kind for name, kind in loaded.items() if name not in _WITHOUT.get(function.__name__, ())}
    shared: dict[str, tuple[Any, dict[str, list[str]]]] = {}  # option -> its type, and line of help -> data sets
    reserved = own_options(signature)
    failures = list(errors)
    for name, dataset in datasets.items():
        try:
            options = _options_of(dataset, {option: kind for option, (kind, _) in shared.items()}, reserved)
        except Exception as error:  # another package's plug-in must not keep anyone from the rest
            failures.append(f"the dataset {name!r} offers no options: {type(error).__name__}: {error}")
            continue
        for option, (kind, text) in options.items():
            shared.setdefault(option, (kind, {}))[1].setdefault(text, []).append(name)

    @functools.wraps(function)
    def gathered(**values: Any) -> None:
        for line in failures:
            progress.note(f"left out: {line}")
        function(options={name: values.pop(name) for name in shared}, **values)

    parameters = [p for p in signature.parameters.values() if p.name != "options"]
    for name, (kind, texts) in shared.items():
        parts = [
            text if len(owners) == len(datasets) else f"[{', '.join(owners)}] {text}" for text, owners in texts.items()
        ]
        (plain, *_) = typing.get_args(kind)
        flag = name.replace("_", "-")
        option = typer.Option(
            f"--{flag}/--no-{flag}" if plain is bool else f"--{flag}",
            help="; ".join(parts),
            metavar=_METAVARS.get(plain),
            rich_help_panel=OF_COLLECTION,
        )
        annotation = Annotated.__class_getitem__((kind, option))  # type: ignore[attr-defined]
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    gathered.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    gathered.__annotations__ = {p.name: p.annotation for p in parameters}
    return gathered


def own_options(signature: inspect.Signature) -> set[str]:
    """The options of a command's own, by parameter and by name on the command line, with ``_`` for ``-``."""
    options = (info for p in signature.parameters.values() for info in getattr(p.annotation, "__metadata__", ()))
    # Typer keeps the first name of an annotated option where a default value would be.
    flags = (name for info in options for name in (info.default, *(info.param_decls or ())) if isinstance(name, str))
    return {
        *signature.parameters,
        *(flag.lstrip("-").replace("-", "_") for flag in flags),
        "quiet",
        "debug",
        "log",
        "help",
    }


def _options_of(dataset: Any, others: Mapping[str, Any], reserved: Iterable[str]) -> dict[str, tuple[Any, str]]:
    """A data set's options: field -> (the type that the command line parses, the line of help).

    Raises
    ------
    ValueError
        if the command itself has an option of that name, or another data set has one of a different type.
    """
    hints = typing.get_type_hints(dataset)
    options = {
        field.name: (_optional(hints[field.name]), str(field.metadata["help"])) for field in dataclasses.fields(dataset)
    }
    for name, (kind, _) in options.items():
        if name in reserved:
            raise ValueError(f"--{name} is an option of the command itself")
        if others.get(name, kind) != kind:
            raise ValueError(f"--{name} is of another type than that of other data sets")
    return options


def _optional(kind: Any) -> Any:
    """The type that the command line parses for a field: text where it knows no better."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        (kind,) = (arg for arg in typing.get_args(kind) if arg is not type(None))
    return (kind if kind in (int, float, bool, str, Path) else str) | None
