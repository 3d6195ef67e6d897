"""Progress and notes on standard error: a bar on a terminal, a line now and then elsewhere, nothing when quiet.

All of them, and more, go to a log file where one is asked for.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Literal

from store.errors import RequestError
from store.words import visible, visible_lines

Level = Literal["INFO", "WARNING", "ERROR"]
_LINE_EVERY_S = 10.0
_quiet = False
_relay: Callable[[str], None] | None = None
_log: IO[bytes] | None = None


def be_quiet(quiet: bool) -> None:
    """Turn progress and notes off, or on again."""
    global _quiet
    _quiet = quiet


def log_to(path: str | None) -> None:
    """Append to the log file at ``path`` from now on, None for none; RequestError where it cannot be written."""
    global _log
    if _log is not None:
        _log.close()
    try:
        _log = None if path is None else open(path, "ab", buffering=0)  # noqa: SIM115 - until the command ends
    except OSError as error:
        raise RequestError(f"the log {path} cannot be written: {error.strerror or error}") from error


def log(text: str, level: Level = "INFO") -> None:
    """Write ``text`` to the log file, if there is one; each of its lines with the time (UTC) and ``level``."""
    if _log is None:
        return
    head = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {level:<7} "
    lines = "".join(f"{head}{visible(line)}\n" for line in text.splitlines())
    with suppress(OSError):  # a full disk ends no work for the log's sake
        _log.write(lines.encode(errors="replace"))


def relay(hand_over: Callable[[str], None]) -> None:
    """Pass notes to ``hand_over`` from now on. A worker process does so, as its own lines would break up a bar."""
    global _relay
    _relay = hand_over


def note(text: str) -> None:
    """Print one line on standard error, unless quiet; the log gets it in any case."""
    if _relay is not None:
        _relay(text)
        return
    log(text)
    if not _quiet:
        _print(text)


@contextmanager
def task(label: str, total: int | None, unit: str = "") -> Iterator[Callable[[int], None]]:
    """Show the progress of some work; yields ``advance(n)``, to be called whenever ``n`` more units are done.

    A terminal gets a bar, which is removed at the end. Anything else gets a line every ten seconds, and none for short
    work; so does the log.
    """
    lines = _lines(label, total, unit)
    if _quiet or not sys.stderr.isatty():
        yield lines
    else:
        with _bar(label, total) as bar:

            def advance(n: int) -> None:
                bar(n)
                lines(n)

            yield advance


@contextmanager
def _bar(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        handle = progress.add_task(label, total=total)
        yield lambda n: progress.update(handle, advance=n)


def _lines(label: str, total: int | None, unit: str) -> Callable[[int], None]:
    count = 0
    start_s = last = time.monotonic()

    def advance(n: int) -> None:
        nonlocal count, last
        count += n
        now = time.monotonic()
        if now - last < _LINE_EVERY_S:
            return
        last = now
        rate = count / (now - start_s)
        of = f"{count:,}/{total:,}" if total is not None else f"{count:,}"
        estimate = f", {(total - count) / rate:,.0f} s left" if total is not None and rate > 0 else ""
        line = f"{label}: {of} {unit} ({rate:,.1f}/s{estimate})".replace("  ", " ")
        log(line)
        if not _quiet and not sys.stderr.isatty():
            _print(line)

    return advance


def _print(text: str) -> None:
    print(visible_lines(text), file=sys.stderr, flush=True)
