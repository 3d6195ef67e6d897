"""What the commands of ``encore`` share: options, those of the data sets, and how errors end.

Nothing heavy is imported here, so that ``encore --help`` answers at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import logging
import os
import sys
import types
import typing
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from stages import progress, registry
from store.errors import EncoreError

INTERRUPTED = 130
_LESS_TO_ENCODE = "a smaller --batch or fewer --workers needs less"
_LESS_TO_LEARN = "a smaller hidden, batch or neighbours (--set key=value) needs less"
_LESS = dict.fromkeys(("head", "compare", "search"), _LESS_TO_LEARN)
# How torch says that it was given no memory, or that no machine has so much.
_REFUSALS = (
    "not enough memory",
    "can't allocate memory",
    "out of memory",
    "calculation overflowed",
    "multiplication overflow",
    "Overflow when unpacking",
)

StoreOption = Annotated[
    str, typer.Option("--store", envvar="ENCORE_STORE", help="folder or fsspec URL (s3://...) of the store")
]
JsonOption = Annotated[bool, typer.Option("--json", help="one JSON document on standard output")]
BackboneOption = Annotated[
    str | None,
    typer.Option("--backbone", help=f"one of: {', '.join(registry.names('backbone'))}; hf:MODEL", metavar="B"),
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="change a setting: key=value (repeatable)")]
REGIMES = "random, album, artist, official; random-5fold, album-5fold, artist-5fold"
NeighboursOption = Annotated[
    str | None,
    typer.Option(
        "--neighbours",
        help="drawn for a clip in training: K, or all; train: training clips alone are anyone's neighbours",
        metavar="K|all|train",
    ),
]
MembersOption = Annotated[
    int | None, typer.Option("--members", min=1, help="networks trained on each split; their mean score counts")
]
ThresholdOption = Annotated[
    str | None, typer.Option("--threshold", help="fixed (0.5); tuned or per-label: on validation", metavar="T")
]
MemoryOption = Annotated[
    float | None,
    typer.Option("--memory", min=0.001, help="hold so much at a time, stream the rest [half of all]", metavar="GIB"),
]
MAX_SEEDS = 1000
SeedsOption = Annotated[int, typer.Option("--seeds", min=1, max=MAX_SEEDS, help="how many, from 0 on")]
DEFAULT_STORE = "./stores"


def command(group: typer.Typer) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command, with ``--quiet`` and ``--debug``; its errors become one message and an exit code."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def guarded(*, quiet: bool, debug: bool, **given: Any) -> None:
            progress.be_quiet(quiet)
            try:
                with _libraries_silenced() if quiet else contextlib.nullcontext():
                    function(**given)
            except KeyboardInterrupt:
                print("stopped; what was committed is kept, the same command goes on from there", file=sys.stderr)
                raise typer.Exit(INTERRUPTED) from None
            except BrokenPipeError:
                raise typer.Exit(1) from None
            except EncoreError as error:
                if debug:
                    raise
                print(f"error: {error}", file=sys.stderr)
                raise typer.Exit(error.exit_code) from None
            except typer.Exit:
                raise
            except OSError as error:  # what a store or a song could not be read for is told where it happens
                if debug:
                    raise
                where = error.filename or "standard output"
                print(f"error: {where} cannot be written or read: {error.strerror}", file=sys.stderr)
                raise typer.Exit(1) from None
            except Exception as error:
                if debug:
                    raise
                if _is_out_of_memory(error):
                    print(f"error: out of memory; {_LESS.get(function.__name__, _LESS_TO_ENCODE)}", file=sys.stderr)
                    raise typer.Exit(1) from None
                print(f"error: unexpected {type(error).__name__}: {error}", file=sys.stderr)
                print("this is a defect in Encore; run the command again with --debug for details", file=sys.stderr)
                raise typer.Exit(1) from None

        own = inspect.signature(function, eval_str=True)
        common = [
            _flag("quiet", "no progress and no notes"),
            _flag("debug", "show the traceback of an error"),
        ]
        _give_signature(guarded, [*own.parameters.values(), *common])
        group.command(name=function.__name__.removeprefix("store_"))(guarded)
        return function

    return register


@contextlib.contextmanager
def _libraries_silenced() -> Iterator[None]:
    """Nothing of what libraries warn of is shown, in this process and in those that it starts."""
    before = os.environ.get("PYTHONWARNINGS")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.environ["PYTHONWARNINGS"] = "ignore"
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
            del os.environ["PYTHONWARNINGS"]
            if before is not None:
                os.environ["PYTHONWARNINGS"] = before


def _is_out_of_memory(error: Exception) -> bool:
    """Whether memory was refused; torch has an error of its own for that on an accelerator alone."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | TypeError) and any(text in str(error) for text in _REFUSALS)
    )


def _flag(name: str, text: str) -> inspect.Parameter:
    annotation = Annotated[bool, typer.Option(f"--{name}", help=text)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)


def _give_signature(function: Callable[..., None], parameters: list[inspect.Parameter]) -> None:
    """Let a wrapper show ``parameters`` as its own, which is what typer reads."""
    named = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    function.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
    function.__annotations__ = {p.name: p.annotation for p in named}


def with_dataset_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of all data sets; they arrive together as ``options``, None where not given."""
    own = inspect.signature(function, eval_str=True)
    found, broken = registry.load("dataset")
    offered: dict[str, tuple[Any, dict[str, list[str]]]] = {}
    left_out = list(broken)
    for name, dataset in found.items():
        try:
            options = _options_of(dataset, {field: kind for field, (kind, _) in offered.items()}, own.parameters)
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
        option = typer.Option(f"--{name.replace('_', '-')}", help="; ".join(parts))
        annotation = Annotated.__class_getitem__((kind, option))  # type: ignore[attr-defined]
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    gathered.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    gathered.__annotations__ = {p.name: p.annotation for p in parameters}
    return gathered


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
        if name in (*taken, "quiet", "debug"):
            raise ValueError(f"--{name} is an option of the command itself")
        if offered.get(name, kind) != kind:
            raise ValueError(f"--{name} is of another type than that of other data sets")
    return found


def _optional(kind: Any) -> Any:
    """The type that the command line parses for a field; what it has no type for arrives as text."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        (kind,) = (arg for arg in typing.get_args(kind) if arg is not type(None))
    return (kind if kind in (int, float, bool, str, Path) else str) | None
