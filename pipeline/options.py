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
import signal
import sys
import types
import typing
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from stages import progress, registry
from store.errors import EncoreError, is_out_of_memory

INTERRUPTED = 130
STANDARD_OUTPUT = "standard output"  # the name of the file in its errors
_LESS_TO_LEARN = "a smaller hidden, batch or neighbours (--set key=value) needs less"
_LESS_HELD = f"{_LESS_TO_LEARN}, so does a smaller --memory, and OMP_NUM_THREADS=1, which trains one network at a time"
# What takes less memory, by command.
_LESS = {
    "embed": "a smaller --batch or fewer --workers needs less",
    "train": "a smaller batch (--set batch=N) or fewer --workers needs less",
    "head": _LESS_HELD,
    "compare": _LESS_HELD,
    "search": _LESS_TO_LEARN,
}
_MORE = "other programs may have it, or a limit is set (ulimit -v, that of a container)"

COMMON = "Common options"  # how a help calls its groups of options
OF_COLLECTION = "The collection: options of some data sets, which stand in [ ]"
StoreOption = Annotated[
    str,
    typer.Option(
        "--store",
        envvar="ENCORE_STORE",
        help="folder or fsspec URL (s3://...) of the store",
        metavar="DIR",
        rich_help_panel=COMMON,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="one JSON document on standard output", rich_help_panel=COMMON)
]
BACKBONES = f"one of: {', '.join(registry.names('backbone'))}; hf:MODEL"
BackboneOption = Annotated[
    str | None,
    typer.Option(
        "--backbone",
        help=f"{BACKBONES} [the only one that is stored, or the data set's default]",
        metavar="B",
    ),
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1", metavar="NAME")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="change a setting (repeatable; a wrong KEY lists all)", metavar="KEY=VALUE"),
]
REGIMES = "random, album, artist, official; random-5fold, album-5fold, artist-5fold"
NeighboursOption = Annotated[
    str | None,
    typer.Option(
        "--neighbours",
        help="drawn for a clip in training: K, or all; train: training clips alone are anyone's neighbours",
        metavar="K|all|train|K,train",
    ),
]
MAX_SEEDS = 1000
MembersOption = Annotated[
    int | None,
    typer.Option(
        "--members", min=1, max=MAX_SEEDS, help="networks trained on each split; their mean score counts", metavar="N"
    ),
]
ThresholdOption = Annotated[
    str | None, typer.Option("--threshold", help="fixed (0.5); tuned or per-label: on validation", metavar="T")
]
MemoryOption = Annotated[
    float | None,
    typer.Option(
        "--memory", min=0.001, max=1e6, help="hold so much at a time, stream the rest [half of all]", metavar="GIB"
    ),
]
WorkersOption = Annotated[int | None, typer.Option("--workers", min=0, help="processes that load clips", metavar="N")]
ModeOption = Annotated[str, typer.Option("--mode", help=f"one of: {', '.join(registry.names('head'))}", metavar="M")]
SeedsOption = Annotated[
    int,
    typer.Option(
        "--seeds",
        min=1,
        max=MAX_SEEDS,
        help="how many, from 0 on; tables give mean and population deviation",
        metavar="N",
    ),
]
DEFAULT_STORE = "./stores"
_METAVARS = {int: "N", float: "X", str: "TEXT", Path: "DIR"}


class GroupedHelp(TyperCommand):
    """A command whose help shows its options in groups, as ``rich_help_panel`` says, without rich's frames."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": [], OF_COLLECTION: [], COMMON: []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            if parameter.param_type_name == "argument":
                groups["Arguments"].append((parameter.metavar or record[0], record[1]))
            else:
                common = COMMON if parameter.name == "help" else "Options"
                groups[getattr(parameter, "rich_help_panel", None) or common].append(record)
        for title, records in groups.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class DeferringGroup(TyperGroup):
    """Commands, some of which get options only when they are called: those of data sets cost their imports."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, found, rest = super().resolve_command(ctx, args)
        return name, _complete[name]() if name in _complete else found, rest


_complete: dict[str, Callable[[], TyperCommand]] = {}  # by name, the command with the options of all data sets
PLAIN: dict[str, Any] = {"add_completion": False, "pretty_exceptions_enable": False, "rich_markup_mode": None}


def command(
    group: typer.Typer, *, dataset_options: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command, with ``--quiet`` and ``--debug``; its errors become one message and an exit code.

    With ``dataset_options`` it also has the options of all data sets, which arrive together as ``options``, None where
    not given. ``group`` is then a `DeferringGroup`, and lists the command without them.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        name = function.__name__.removeprefix("store_")
        if not dataset_options:
            group.command(name=name, cls=GroupedHelp)(_guarded(function))
            return function

        def complete() -> TyperCommand:
            alone = typer.Typer(**PLAIN)
            alone.command(name=name, cls=GroupedHelp)(_guarded(_with_dataset_options(function)))
            return typing.cast(TyperCommand, typer.main.get_command(alone))

        @functools.wraps(function)
        def listed() -> None:
            raise NotImplementedError  # `complete` is what is called

        _give_signature(listed, [])
        group.command(name=name)(listed)
        _complete[name] = complete
        return function

    return register


def _guarded(function: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(function)
    def guarded(*, quiet: bool, debug: bool, **given: Any) -> None:
        progress.be_quiet(quiet)
        if callable(signal.getsignal(signal.SIGINT)):  # it may have ended the process until now
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with _libraries_silenced() if quiet else contextlib.nullcontext():
                function(**given)
        except (KeyboardInterrupt, typer.Abort):  # the second is what a question makes of the first
            print("stopped; what was committed is kept, the same command goes on from there", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None
        except typer.Exit:
            raise
        except Exception as error:
            if debug:
                raise
            raise typer.Exit(tell(error, function.__name__)) from None

    own = inspect.signature(function, eval_str=True)
    common = [
        _flag("quiet", "no progress and no notes"),
        _flag("debug", "show the traceback of an error"),
    ]
    _give_signature(guarded, [*own.parameters.values(), *common])
    return guarded


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


def tell(error: Exception, name: str = "") -> int:
    """Say what ended the command ``name``; the exit code."""
    if is_out_of_memory(error):
        print(f"error: out of memory; {_LESS.get(name, _MORE)}", file=sys.stderr)
        return 1
    if isinstance(error, EncoreError):
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if isinstance(error, BrokenPipeError) and error.filename == STANDARD_OUTPUT:
        return 1  # its reader went away, and knows
    if isinstance(error, OSError):  # what a store or a song could not be read for is told where it happens
        where = "" if error.filename is None else f"{error.filename}: "
        print(f"error: {where}cannot be written or read: {error.strerror or str(error) or 'OSError'}", file=sys.stderr)
        return 1
    print(f"error: unexpected {type(error).__name__}: {error}", file=sys.stderr)
    print("this is a defect in Encore; run the command again with --debug for details", file=sys.stderr)
    return 1


def _flag(name: str, text: str) -> inspect.Parameter:
    annotation = Annotated[bool, typer.Option(f"--{name}", help=text, rich_help_panel=COMMON)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)


def _give_signature(function: Callable[..., None], parameters: list[inspect.Parameter]) -> None:
    """Let a wrapper show ``parameters`` as its own, which is what typer reads."""
    named = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    function.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
    function.__annotations__ = {p.name: p.annotation for p in named}


def _with_dataset_options(function: Callable[..., None]) -> Callable[..., None]:
    own = inspect.signature(function, eval_str=True)
    found, broken = registry.load("dataset")
    offered: dict[str, tuple[Any, dict[str, list[str]]]] = {}
    taken = _taken(own)
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


def _taken(own: inspect.Signature) -> set[str]:
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
