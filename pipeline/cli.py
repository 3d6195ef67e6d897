"""The ``encore`` command: the list of its commands, each of which lies in a file of its own.

Those files import nothing heavy on their top level, so that ``encore --help`` answers at once.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

import typer

from pipeline import export, stores
from pipeline.audit import audit
from pipeline.compact import compact
from pipeline.copy import copy
from pipeline.data import data
from pipeline.doctor import doctor
from pipeline.embed import embed
from pipeline.gc import gc
from pipeline.head import compare, head
from pipeline.options import PLAIN, DeferringGroup, command
from pipeline.predict import predict
from pipeline.process import report_error, take_standard_streams
from pipeline.recipe import recipe
from pipeline.redeal import redeal
from pipeline.repair import repair
from pipeline.report import report
from pipeline.search import search
from pipeline.serve import serve
from pipeline.similar import similar
from pipeline.stress import stress
from pipeline.train import train
from store.errors import is_out_of_memory

app = typer.Typer(
    name="encore",
    help="Encode a music collection once; train genre heads over the artist graph for ever.",
    no_args_is_help=True,
    cls=DeferringGroup,
    **PLAIN,
)
store_app = typer.Typer(
    name="store",
    help="Look at what a store holds, check it, remove from it.",
    no_args_is_help=True,
    cls=DeferringGroup,
)
export_app = typer.Typer(
    name="export",
    help="Representations and trained heads as files for other programs.",
    no_args_is_help=True,
    cls=DeferringGroup,
)
app.add_typer(store_app)
app.add_typer(export_app)

_COMMANDS: dict[typer.Typer, tuple[Callable[..., None], ...]] = {
    app: (embed, train, audit, data, head, compare, search, report, predict, similar, serve, stress, recipe, doctor),
    store_app: (stores.ls, stores.show, stores.verify, stores.remove, redeal, repair, gc, compact, copy),
    export_app: (export.representation, export.head),
}
_READ_SONGS = (embed, train, audit, data)  # these have the options of all data sets
for group, functions in _COMMANDS.items():
    for function in functions:
        command(group, dataset_options=function in _READ_SONGS)(function)


def _take_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """Say nothing of an error that no caller gets; a Ctrl-C among them comes again (`stages.interrupts`)."""
    if "--debug" in sys.argv and not issubclass(unraisable.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)


def main() -> None:
    """Run the command that the arguments name, and end the process with its exit code."""
    sys.unraisablehook = _take_unraisable
    take_standard_streams()
    code: object = 0
    try:
        app()
    except SystemExit as end:
        code = end.code
    except (ImportError, OSError, MemoryError) as error:  # outside of commands: help, the imports of data sets
        if isinstance(error, ImportError) and not is_out_of_memory(error):
            raise
        code = report_error(error)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # what was done is still to be said
    try:
        sys.stdout.flush()
    except OSError as error:
        code = code or report_error(error)
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
    # Libraries' threads that are still starting up abort an orderly exit, and with it the exit code.
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    main()
