"""The process that a command is: its streams, its errors, its exit codes."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TYPE_CHECKING, Any

from store.errors import EncoreError, is_out_of_memory

if TYPE_CHECKING:
    pass
import logging
import warnings
from collections.abc import Iterator


class _Results(io.FileIO):
    """Standard output, whose errors bear its name."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            error.filename = STANDARD_OUTPUT
            raise


class _Notes(io.FileIO):
    """Standard error, which drops what it cannot write: what is told of the work must never end it."""

    def write(self, data: Any) -> int:
        with contextlib.suppress(OSError):
            return super().write(data)
        return len(data)


def _take_standard_streams() -> None:
    """Streams of few letters show ? for others; one that is closed takes what is written and drops it."""
    while os.open(os.devnull, os.O_RDWR) <= 2:  # or a file of the store takes the place, and what is printed, later
        pass
    for name, kind, number in (("stdout", _Results, 1), ("stderr", _Notes, 2)):
        stream = getattr(sys, name)
        encoding = "utf-8" if stream is None else stream.encoding
        raw = io.BufferedWriter(kind(number, "w", closefd=False))
        taken = io.TextIOWrapper(raw, encoding, errors="replace", line_buffering=kind is _Notes or raw.isatty())
        setattr(sys, name, taken)


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
