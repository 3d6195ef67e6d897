"""What a person reads on standard output: tables of at most 80 columns, or one JSON document."""

from __future__ import annotations

import csv
import dataclasses
import json
import sys
import textwrap
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from store.words import visible

if TYPE_CHECKING:
    from stages.head.modes import Mode

WIDTH = 80


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    json.dump(value, sys.stdout, indent=1, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")


def print_result(result: Any, text: Callable[[Any], str], *, json: bool) -> None:
    """Print a result: as the text that a person reads, or as one JSON document."""
    if not json:
        print(text(result))
    elif hasattr(result, "as_json"):
        print_json(result.as_json())
    elif dataclasses.is_dataclass(result) and not isinstance(result, type):
        print_json(dataclasses.asdict(result))
    else:
        print_json(result)


def print_csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """A table as CSV on standard output, its columns named in the first line."""
    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def bold(text: str) -> str:
    """The text in bold where standard output is a terminal; as it is elsewhere."""
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False, soft_wrap=True)
    with console.capture() as capture:
        console.print(text, style="bold", end="")
    return capture.get()


def table_width(head: Sequence[str], rows: Sequence[Sequence[str]], gap: int = 1) -> int:
    """How wide the lines of a `table` are."""
    return sum(max(len(row[i]) for row in (head, *rows)) + gap for i in range(len(head))) - gap


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], emphasised: Collection[tuple[int, int]] = frozenset()
) -> str:
    """Columns two spaces apart (one where the line would be too long), words to the left, numbers to the right.

    Parameters
    ----------
    emphasised : row and column of the cells that are `bold`.
    """
    rows = [[visible(cell) for cell in row] for row in rows]
    words = [i == 0 or any(row[i][:1].isalpha() for row in rows) for i in range(len(head))]
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    gap = "  " if table_width(head, rows, 2) <= WIDTH else " "

    def line(cells: Sequence[str], number: int = -1) -> str:
        columns = zip(cells, widths, words, strict=True)
        texts = [cell.ljust(width) if word else cell.rjust(width) for cell, width, word in columns]
        for column in [column for row, column in emphasised if row == number]:
            texts[column] = texts[column].replace(cells[column], bold(cells[column]))
        return gap.join(texts).rstrip()

    return "\n".join((line(head), gap.join("-" * w for w in widths), *(line(row, i) for i, row in enumerate(rows))))


def wrapped(text: str, indent: str = "  ", first: str = "") -> list[str]:
    """A sentence in lines of at most 80 columns, all but the first of them indented."""
    text = visible(text.translate({ord("\n"): " ", ord("\t"): " "}))
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False)


def shell_lines(command: str) -> list[str]:
    """A command as a shell takes it over several lines, broken before its options."""
    lines = [""]
    for piece in command.replace(" --", "\n--").split("\n"):
        if lines[-1] and len(lines[-1]) + len(piece) + 3 > WIDTH:
            lines[-1] += " \\"
            lines.append("  ")
        lines[-1] += (" " if lines[-1].strip() else "") + piece
    return lines


def rules_text(modes: Iterable[Mode]) -> list[str]:
    """What the rules of modes choose, one line a head that has several."""
    return list(dict.fromkeys(mode.about for mode in modes if mode.about))


def overlap_text(*splits: dict[str, Any]) -> str:
    """How many songs the splits have, and how many test artists stand in train too; ranges where splits differ."""
    songs = " / ".join(_range([of["songs"] for of in by_part]) for by_part in zip(*map(_sizes, splits), strict=True))
    shared = _range([overlap["shared_artists"] for overlap in splits])
    artists = _range([overlap["test"]["artists"] for overlap in splits])
    trained_on = _range([overlap.get("trained_on", 0) for overlap in splits])
    leak = "" if trained_on == "0" else f"\nthe backbone was trained on {trained_on} of the test songs"
    for kind in ("songs", "recordings"):  # an official split is taken as it is
        twice = _range([overlap["shared"]["train-test"].get(kind, 0) for overlap in splits])
        leak += "" if twice == "0" else f"\n{kind} that stand in train and in test: {twice}"
    guests = _range([overlap.get("shared_any_artist", 0) for overlap in splits])
    if shared == "0" and guests == "0":
        return f"{songs} songs; train and test share no artist{leak}"
    if shared == "0":
        return f"{songs} songs; train and test share no first-named artist, but {guests} of all{leak}"
    which = "the only test artist" if artists == "1" else f"{shared} of the {artists} test artists"
    sides = f"{which} {'is' if shared == '1' else 'are'} also in train"
    gap = "; " if len(f"{songs} songs; {sides}") <= WIDTH else "\n"
    return f"{songs} songs{gap}{sides}{leak}"


def _sizes(overlap: dict[str, Any]) -> list[Any]:
    return [overlap[part] for part in ("train", "validation", "test")]


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,}-{high:,}"
