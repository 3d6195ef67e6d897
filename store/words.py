"""Words of messages: those that numbers decide, and names that may hold anything."""

from __future__ import annotations

import unicodedata


def plural(count: int, one: str, many: str | None = None) -> str:
    """``1 clip``, ``1,234 clips``; ``many`` where that is not ``one`` with an s (``clip is``, ``clips are``)."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def rough_time(seconds: float) -> str:
    """As a person counts: seconds, minutes up to two hours, hours up to two days, days."""
    for unit, size, least in (("days", 86_400, 2), ("hours", 3_600, 2), ("min", 60, 1)):
        if seconds >= least * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(1.0, seconds):.0f} s"


def visible(text: str) -> str:
    """A name or title on one line; what a terminal would obey (line breaks, escape sequences) is spelt out."""
    return "".join(
        letter if letter.isprintable() or unicodedata.category(letter) == "Zs" else ascii(letter)[1:-1]
        for letter in text
    )


def visible_lines(text: str) -> str:
    """`visible` of each line of a text."""
    return "\n".join(map(visible, text.split("\n")))
