"""The processes that a command has started, and theirs, as Linux lists them."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def descendants(pid: int) -> dict[int, str]:
    """The processes under ``pid``, each with its command line; those that have ended are left out."""
    entries = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    parents = {child: parent for child in entries if (parent := _parent(child)) is not None}
    under = {pid}
    while more := {child for child, parent in parents.items() if parent in under} - under:
        under |= more
    return {child: _command_line(child) for child in under - {pid}}


def grandchildren(pid: int) -> list[int]:
    """The processes that those started by ``pid`` have started, and theirs."""
    return [process for process in descendants(pid) if _parent(process) not in (pid, None)]


def signal_all(pids: list[int], number: signal.Signals) -> None:
    """Send a signal to each process that is still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _parent(pid: int) -> int | None:
    """The process that started ``pid``, None where that has ended."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return None
    return int(parent) if state != "Z" else None


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
