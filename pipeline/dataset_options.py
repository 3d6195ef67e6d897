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


_METAVARS = {int: "N", float: "X", str: "TEXT", Path: "DIR"}


def with_dataset_options(function: Callable[..., None]) -> Callable[..., None]:
    own = inspect.signature(function, eval_str=True)
    found, broken = registry.load("dataset")
    offered: dict[str, tuple[Any, dict[str, list[str]]]] = {}
    taken = own_options(own)
    left_out = list(broken)
    for name, dataset in found.items():
        try:
            options = _options_of(dataset, {field: kind for field, (kind, _) in offered.items()}, taken)
        except Exception as error:  # another's plug-in: it must not keep anyone from anything else
            left_out.append(f"the dataset {name!r} offers no options: {type(error).__name__}: {error}")
            continue
        for field, (kind, text) in options.items():
            offered.setdefault(field, (kind, {}))[1].setdefault(text, []).append(name)
    everywhere = len(found)

    @functools.wraps(function)
    def gathered(**given: Any) -> None:
        for text in left_out:
            progress.note(f"left out: {text}")
        function(options={name: given.pop(name) for name in offered}, **given)

    parameters = [p for p in own.parameters.values() if p.name != "options"]
    for name, (kind, texts) in offered.items():
        parts = [("" if len(whose) == everywhere else f"[{', '.join(whose)}] ") + text for text, whose in texts.items()]
        (plain, *_) = typing.get_args(kind)
        option = typer.Option(
            f"--{name.replace('_', '-')}",
            help="; ".join(parts),
            metavar=_METAVARS.get(plain),
            rich_help_panel=OF_COLLECTION,
        )
        annotation = Annotated.__class_getitem__((kind, option))  # type: ignore[attr-defined]
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    gathered.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    gathered.__annotations__ = {p.name: p.annotation for p in parameters}
    return gathered


def own_options(own: inspect.Signature) -> set[str]:
    """The options that a command has itself: by its parameters' names, and by what the command line calls them."""
    told = (info for p in own.parameters.values() for info in getattr(p.annotation, "__metadata__", ()))
    # In an annotation the first of an option's names stands where a default value would.
    called = (name for info in told for name in (info.default, *(info.param_decls or ())) if isinstance(name, str))
    return {*own.parameters, *(name.lstrip("-").replace("-", "_") for name in called), "quiet", "debug", "help"}


def _options_of(dataset: Any, offered: Mapping[str, Any], taken: Iterable[str]) -> dict[str, tuple[Any, str]]:
    """A data set's options: field -> the type that the command line parses, and the line of help.

    Raises
    ------
    ValueError
        where a command has an option of that name itself, or another data set one of another type.
    """
    hints = typing.get_type_hints(dataset)
    found = {
        field.name: (_optional(hints[field.name]), str(field.metadata["help"])) for field in dataclasses.fields(dataset)
    }
    for name, (kind, _) in found.items():
        if name in taken:
            raise ValueError(f"--{name} is an option of the command itself")
        if offered.get(name, kind) != kind:
            raise ValueError(f"--{name} is of another type than that of other data sets")
    return found


def _optional(kind: Any) -> Any:
    """The type that the command line parses for a field; what it has no type for arrives as text."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        (kind,) = (arg for arg in typing.get_args(kind) if arg is not type(None))
    return (kind if kind in (int, float, bool, str, Path) else str) | None
