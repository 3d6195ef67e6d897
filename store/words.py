"""Words of messages that numbers decide."""

from __future__ import annotations


def plural(count: int, one: str, many: str | None = None) -> str:
    """``1 clip``, ``1,234 clips``; ``many`` where that is not ``one`` with an s (``clip is``, ``clips are``)."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"
