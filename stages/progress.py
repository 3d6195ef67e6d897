"""Progress and notes on standard error: a bar on a terminal, a line now and then in a log, nothing when quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOG_EVERY_S = 10.0
_quiet = False
_relay: Callable[[str], None] | None = None


def be_quiet(quiet: bool) -> None:
    """Turn progress and notes off, or on again."""
    global _quiet
    _quiet = quiet


def relay(hand_over: Callable[[str], None]) -> None:
    """Pass notes to ``hand_over`` from now on. A worker process does so, as its own lines would break up a bar."""
    global _relay
    _relay = hand_over


def note(text: str) -> None:
    """Print one line on standard error, unless quiet."""
    if _relay is not None:
        _relay(text)
    elif not _quiet:
        print(text, file=sys.stderr, flush=True)


@contextmanager
def task(label: str, total: int | None, unit: str = "") -> Iterator[Callable[[int], None]]:
    """Show the progress of some work; yields ``advance(n)``, to be called whenever ``n`` more units are done.

    A terminal gets a bar, which is removed at the end. A log gets a line every ten seconds, and none for short work.
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
    count = 0
    start_s = last = time.monotonic()

    def advance(n: int) -> None:
        nonlocal count, last
        count += n
        now = time.monotonic()
        if now - last < _LOG_EVERY_S:
            return
        last = now
        rate = count / (now - start_s)
        of = f"{count:,}/{total:,}" if total is not None else f"{count:,}"
        remaining = f", {(total - count) / rate:,.0f} s left" if total is not None and rate > 0 else ""
        print(f"{label}: {of} {unit} ({rate:,.1f}/s{remaining})".replace("  ", " "), file=sys.stderr, flush=True)

    return advance
