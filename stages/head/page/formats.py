"""The tables of a page alone: Markdown, CSV, JSON, LaTeX."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stages.head.page.gather import Story
    from stages.head.page.tables import Table

_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
_LATEX |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
_LATEX |= {letter: f"\\{letter}" for letter in "&%$#_{}"}


def markdown(table: Table) -> str:
    """A table of numbers as they are printed."""
    head = [_cell(column.title) for column in table.columns]
    cells = [list(map(_cell, row)) for row in _texts(table)]
    if table.best is not None:
        row, column = table.best
        cells[row][column] = f"**{cells[row][column]}**"
    lines = [_bar(head), _bar(["---"] * len(head)), *map(_bar, cells)]
    note = [table.note.replace("\n", " "), ""] if table.note else []
    return "\n".join([f"### {table.title}", "", *note, *lines, ""])


def _bar(cells: object) -> str:
    return f"| {' | '.join(cells)} |"  # type: ignore[arg-type]


def _cell(text: str) -> str:
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").split())


def comma_separated(table: Table) -> str:
    """A table as it is stored: fractions, empty where there is nothing; its name stands in the first column."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["table", *(column.name for column in table.columns)])
    writer.writerows([[table.name, *("" if cell is None else cell for cell in row)] for row in table.rows])
    return text.getvalue()


def latex(table: Table) -> str:
    """A table for the package booktabs."""
    lines = [" & ".join(map(_escaped, row)) + r" \\" for row in _texts(table)]
    head = " & ".join(_escaped(column.title) for column in table.columns) + r" \\"
    words = [any(isinstance(row[place], str) for row in table.rows) for place in range(len(table.columns))]
    columns = "".join("l" if word else "r" for word in words)
    body = "\n".join([r"\toprule", head, r"\midrule", *lines, r"\bottomrule"])
    caption = _escaped(f"{table.title}. {table.note}" if table.note else table.title)
    return (
        f"\\begin{{table}}\n\\centering\n\\caption{{{caption}}}\n\\begin{{tabular}}{{{columns}}}\n{body}\n"
        f"\\end{{tabular}}\n\\end{{table}}\n"
    )


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))


def _texts(table: Table) -> list[list[str]]:
    return [[column.text(cell) for column, cell in zip(table.columns, row, strict=True)] for row in table.rows]


_OF_TABLE: dict[str, Callable[[Table], str]] = {"md": markdown, "csv": comma_separated, "latex": latex}
FORMATS = (*_OF_TABLE, "json")


def tables_as(form: str, stories: Sequence[Story]) -> str:
    """The tables of some collections in one of `FORMATS`."""
    if form == "json":
        tables = {story.name: [table.as_json() for table in story.tables] for story in stories}
        return json.dumps(tables, indent=1, ensure_ascii=False, allow_nan=False)
    title = {"md": "## {}\n", "csv": "", "latex": "% {}\n"}[form]
    pieces = []
    for story in stories:
        pieces += [title.format(story.name)] if title else []
        pieces += map(_OF_TABLE[form], story.tables)
    return "\n".join(pieces)
