"""Words of messages that numbers decide."""

from __future__ import annotations


def plural(count: int, one: str, many: str | None = None) -> str:
    """``1 clip``, ``1,234 clips``; ``many`` where that is not ``one`` with an s (``clip is``, ``clips are``)."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def rough_time(seconds: float) -> str:
    """As a person counts: seconds, minutes up to two hours, hours up to two days, days."""
    for unit, size, least in (("days", 86_400, 2), ("hours", 3_600, 2), ("min", 60, 1)):
        if seconds >= least * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(1.0, seconds):.0f} s"
