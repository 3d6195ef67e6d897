"""What the commands of ``encore`` share: their options, their registration, and what becomes of their errors.

Nothing heavy is imported here, so that ``encore --help`` answers at once.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import shlex
import sys
import traceback
import typing
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from pipeline.dataset_options import OF_COLLECTION, with_dataset_options
from pipeline.process import INTERRUPTED, is_first_process, libraries_silenced, report_error
from stages import interrupts, progress, registry
from store.errors import EncoreError

COMMON = "Common options"  # how a help calls its groups of options
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
LayerOption = Annotated[
    str | None,
    typer.Option(
        "--layer",
        help="of a representation with layers: K from 0, mean, or mix, which learns a weight for each [the last]",
        metavar="K|mean|mix",
    ),
]
TargetOption = Annotated[
    str | None,
    typer.Option("--target", help="a number instead of labels: a numeric target of the collection", metavar="NAME"),
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1", metavar="NAME")]
DtypeOption = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        help="float16: a representation of its own, half as large, of numbers with three digits",
        metavar="float16",
    ),
]
DatasetArgument = Annotated[str, typer.Argument(metavar="DATASET", help="a name in the store")]
WeightsOption = Annotated[
    str | None, typer.Option("--weights", help="the backbone's weights, where they moved", metavar="FILE")
]
YesOption = Annotated[bool, typer.Option("--yes", help="do not ask")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="change a setting (repeatable; a wrong KEY lists all)", metavar="KEY=VALUE"),
]
REGIMES = "random, album, artist, official; random-5fold, album-5fold, artist-5fold"
RegimeOption = Annotated[str, typer.Option("--regime", help=REGIMES, metavar="R")]
WhichRunsOption = Annotated[
    str, typer.Option("--neighbours", help="train: the runs made with --neighbours train", metavar="all|train")
]
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
CheckpointsOption = Annotated[
    int | None,
    typer.Option("--checkpoints", min=1, max=100, help="the mean score of the K best epochs counts [1]", metavar="K"),
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
MOST_BATCH = 4096  # no batch crosses a shard, which has no more clips
MOST_WORKERS = 1024
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=0, max=MOST_WORKERS, help="processes that load clips", metavar="N")
]
FoldsOption = Annotated[
    str,
    typer.Option(
        "--folds",
        help="K: test every song once, in K folds; auto: in 5 where one test part has fewer than 300 songs; off",
        metavar="auto|off|K",
    ),
]
TuneOption = Annotated[
    str | None,
    typer.Option(
        "--tune",
        help="choose weight decay and width for each split by validation: off, quick (thrice the time) or full [off]",
        metavar="T",
    ),
]
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
_LogOption = Annotated[
    str | None,
    typer.Option(
        "--log", help="append notes, progress and errors to this file", metavar="FILE", rich_help_panel=COMMON
    ),
]


class GroupedHelp(TyperCommand):
    """A command that groups its options in the help by ``rich_help_panel``, in plain text."""

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
    """Commands that get their options only when they are called: a call need not wait for those of all others."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, listed, rest = super().resolve_command(ctx, args)
        make = getattr(getattr(listed, "callback", None), "make", None)  # typer's callback has the attributes of ours
        return name, listed if make is None else make(), rest


PLAIN: dict[str, Any] = {"add_completion": False, "pretty_exceptions_enable": False, "rich_markup_mode": None}


def command(
    group: typer.Typer, *, dataset_options: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a command of its name, with ``--quiet``, ``--debug`` and ``--log`` beside its own options.

    Its errors become one message and an exit code. With ``dataset_options`` it also takes the options of all data sets,
    together in its argument ``options`` and None unless set. The group is a `DeferringGroup`.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        name = function.__name__

        @functools.cache
        def make() -> TyperCommand:
            alone = typer.Typer(**PLAIN)
            whole = with_dataset_options(function) if dataset_options else function
            alone.command(name=name, cls=GroupedHelp)(_guarded(whole))
            return typing.cast(TyperCommand, typer.main.get_command(alone))

        @functools.wraps(function)
        def listed() -> None:
            raise NotImplementedError  # what `make` gives is called

        listed.make = make  # type: ignore[attr-defined]
        _give_signature(listed, [])
        group.command(name=name)(listed)
        return function

    return register


def _guarded(function: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(function)
    def guarded(*, quiet: bool, debug: bool, log: str | None, **values: Any) -> None:
        progress.be_quiet(quiet)
        with interrupts.raised() as ctrl_c:
            try:
                if log is not None and is_first_process():
                    progress.log_to(log)
                    progress.log(shlex.join(["encore", *sys.argv[1:]]))
                with libraries_silenced() if quiet else contextlib.nullcontext():
                    function(**values)
                ctrl_c.check()
                progress.log("done")
            except typer.Exit as end:
                ctrl_c.stops(end)
                progress.log(f"ended with exit code {end.exit_code}", "ERROR" if end.exit_code else "INFO")
                raise
            except (Exception, KeyboardInterrupt) as error:
                if ctrl_c.stops(error) or isinstance(error, KeyboardInterrupt | typer.Abort):
                    progress.log("stopped by Ctrl-C", "WARNING")
                    print("stopped; what was committed is kept, the same command goes on from there", file=sys.stderr)
                    raise typer.Exit(INTERRUPTED) from None
                progress.log(_log_text(error), "ERROR")
                if debug:
                    raise
                raise typer.Exit(report_error(error, function.__name__)) from None
            finally:
                if log is not None:  # else it is that of the command that called this one (`encore recipe`)
                    progress.log_to(None)

    own = inspect.signature(function, eval_str=True)
    common = [
        _flag("quiet", "no progress and no notes"),
        _flag("debug", "show the traceback of an error"),
        inspect.Parameter("log", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_LogOption),
    ]
    _give_signature(guarded, [*own.parameters.values(), *common])
    return guarded


def _log_text(error: Exception) -> str:
    """An error as the log has it: with its traceback where it is a defect."""
    return str(error) if isinstance(error, EncoreError) else "".join(traceback.format_exception(error))


def _flag(name: str, text: str) -> inspect.Parameter:
    annotation = Annotated[bool, typer.Option(f"--{name}", help=text, rich_help_panel=COMMON)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)


def _give_signature(function: Callable[..., None], parameters: list[inspect.Parameter]) -> None:
    """Give a wrapper ``parameters`` for its own, in the form that typer reads."""
    keywords = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    function.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    function.__annotations__ = {p.name: p.annotation for p in keywords}
