"""How long work shows itself: a bar on a terminal, a line now and then in a log, nothing when quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOG_EVERY_S = 10.0
_quiet = False
_relay: Callable[[str], None] | None = None


def be_quiet(quiet: bool) -> None:
    """Show no progress and no notes from now on (``--quiet``)."""
    global _quiet
    _quiet = quiet


def relay(hand_over: Callable[[str], None]) -> None:
    """Hand all notes over from now on, to one that can show them: what this process prints would cross a bar."""
    global _relay
    _relay = hand_over


def note(text: str) -> None:
    """One line for the person who waits, on standard error."""
    if _relay is not None:
        _relay(text)
    elif not _quiet:
        print(text, file=sys.stderr, flush=True)


@contextmanager
def task(label: str, total: int | None, unit: str = "") -> Iterator[Callable[[int], None]]:
    """Show how far a piece of work is; yields ``advance(n)``, to be called after each ``n`` done.

    On a terminal this is a bar that goes away when the work is done. Elsewhere a line appears every ten
    seconds, so that short work leaves no line at all.
    """
    if _quiet:
        yield lambda _n: None
    elif sys.stderr.isatty():
        with _bar(label, total) as advance:
            yield advance
    else:
        yield _lines(label, total, unit)


@contextmanager
def _bar(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        handle = progress.add_task(label, total=total)
        yield lambda n: progress.update(handle, advance=n)


def _lines(label: str, total: int | None, unit: str) -> Callable[[int], None]:
    done = 0
    started = last = time.monotonic()

    def advance(n: int) -> None:
        nonlocal done, last
        done += n
        now = time.monotonic()
        if now - last < _LOG_EVERY_S:
            return
        last = now
        rate = done / (now - started)
        of = f"{done:,}/{total:,}" if total is not None else f"{done:,}"
        left = f", {(total - done) / rate:,.0f} s left" if total is not None and rate > 0 else ""
        print(f"{label}: {of} {unit} ({rate:,.1f}/s{left})".replace("  ", " "), file=sys.stderr, flush=True)

    return advance
