"""The process that a command is: its streams, its errors, its exit codes."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from store.errors import EncoreError, RequestError, is_out_of_memory
from store.words import visible_lines

INTERRUPTED = 130  # the exit code after Ctrl-C
STANDARD_OUTPUT = "standard output"  # the name of the file in its errors
_LESS_TRAINING = "a smaller hidden, batch or neighbours (--set key=value) needs less"
_LESS_HEAD = f"{_LESS_TRAINING}, so does a smaller --memory, and OMP_NUM_THREADS=1, which trains one network at a time"
_LESS = {  # what takes less memory, by command
    "embed": "a smaller --batch or fewer --workers needs less",
    "train": "a smaller batch (--set batch=N) or fewer --workers needs less",
    "head": _LESS_HEAD,
    "compare": _LESS_HEAD,
    "search": _LESS_TRAINING,
}
_OTHER_CAUSES = "other programs may have it, or a limit is set (ulimit -v, that of a container)"


class _Results(io.FileIO):
    """Standard output, with its name in its errors."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            error.filename = STANDARD_OUTPUT
            raise


class _Notes(io.FileIO):
    """Standard error, which drops what it cannot write: a lost note must never end the work."""

    def write(self, data: Any) -> int:
        with contextlib.suppress(OSError):
            return super().write(data)
        return len(data)


def take_standard_streams() -> None:
    """Reopen standard output and error so that a closed one, or one of another encoding, breaks nothing.

    Characters that the encoding lacks become ``?``; what is written to a closed stream is dropped.
    """
    while os.open(os.devnull, os.O_RDWR) <= 2:  # else a file of the store would get the number, and what is printed
        pass
    for name, kind, number in (("stdout", _Results, 1), ("stderr", _Notes, 2)):
        stream = getattr(sys, name)
        encoding = "utf-8" if stream is None else stream.encoding
        raw = io.BufferedWriter(kind(number, "w", closefd=False))
        text = io.TextIOWrapper(raw, encoding, errors="replace", line_buffering=kind is _Notes or raw.isatty())
        setattr(sys, name, text)


def share_processors() -> None:
    """Have torch's threads sleep while they wait for each other, if torch is not imported yet.

    By default they keep their processors busy for milliseconds, which the processes that decode could have: with these
    beside it, a network on two processors took thrice as long. OMP_WAIT_POLICY says otherwise where it is set.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def is_first_process() -> bool:
    """Whether this process speaks for all; False in those that ``torchrun`` started beside it."""
    return os.environ.get("RANK", "0") == "0"


def confirmed(verb: str, what: str, *, yes: bool) -> bool:
    """Whether a person says yes to what a command is about to do, as ``remove`` ``3 files``.

    Raises
    ------
    RequestError
        where there is nobody to ask, and ``--yes`` was not said.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise RequestError(f"this {verb}s {what}; say --yes to do it")
    import typer

    return typer.confirm(f"{verb.capitalize()} {what}?", err=True)


@contextlib.contextmanager
def libraries_silenced() -> Iterator[None]:
    """Silence the warnings of libraries, in this process and in those that it starts."""
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


def report_error(error: Exception, command: str = "") -> int:
    """Print why the command of that name ended; returns its exit code."""
    if is_out_of_memory(error):
        print(f"error: out of memory; {_LESS.get(command, _OTHER_CAUSES)}", file=sys.stderr)
        return 1
    if isinstance(error, EncoreError):
        print(f"error: {visible_lines(str(error))}", file=sys.stderr)
        return error.exit_code
    if isinstance(error, BrokenPipeError) and error.filename == STANDARD_OUTPUT:
        return 1  # its reader went away, and needs no message
    if isinstance(error, OSError):  # of none of the store's files and no song: their errors are made where they happen
        where = "" if error.filename is None else f"{error.filename}: "
        print(f"error: {where}cannot be written or read: {error.strerror or str(error) or 'OSError'}", file=sys.stderr)
        return 1
    print(f"error: unexpected {type(error).__name__}: {error}", file=sys.stderr)
    print("this is a defect in Encore; run the command again with --debug for details", file=sys.stderr)
    return 1
