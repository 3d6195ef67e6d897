"""Recipes: one study a file, as the commands that repeat it, found by listing this folder.

A file holds ``RECIPE``. Its commands are those that a person would type, without ``encore`` and ``--store``; the words
``{data}``, ``{page}`` and ``{work}`` in them stand for the folder of ``--data``, the page to write, and a folder for
what the recipe makes itself. The small form runs on generated music, in a minute or less, and shows that every command
of the whole one works.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from store.errors import FormatError, unknown

if TYPE_CHECKING:
    from store.layout import Store

_AGAIN = ("embed",)  # commands that see for themselves whether anything is left to do
QUICK = "--seeds 1 --folds off --set epochs=2 --set steps=2"  # for ``compare`` in a small form: two epochs of one split


@dataclass(frozen=True)
class Need:
    """Files that a recipe reads and does not bring.

    Attributes
    ----------
    files : a pattern under the folder of ``--data``.
    get : where they come from.
    count : how many match the pattern where all are there.
    """

    files: str
    get: str
    count: int = 1


@dataclass(frozen=True)
class Step:
    """A command, and how many minutes it takes on two cores (of a shared machine without a GPU)."""

    minutes: float
    command: str


@dataclass(frozen=True)
class Figure:
    """A score, as a study printed it and as the store has it.

    Attributes
    ----------
    title : what was scored, as the table calls it.
    study : what the study reports; None where it reports no such figure.
    metric : its name in JSON documents.
    scale, digits : what a score is multiplied by, and with how many digits it is printed.
    """

    title: str
    metric: str
    study: float | None
    dataset: str
    backbone: str
    mode: str
    regime: str = "random"
    target: str | None = None
    inductive: bool = False
    scale: float = 100.0
    digits: int = 2


def _nothing(data: Path, work: Path) -> None:
    """What most recipes make themselves."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A study.

    Attributes
    ----------
    title, study : what it asks, and whose study it is.
    whole, small : the commands of its two forms, in order; those of the whole one may depend on what a store holds.
    needs : what the whole form reads.
    measured : whether the minutes of the whole form were measured; else they are estimates from the parts.
    disk : how much the store then holds, in words.
    figures : what the study reports beside ours, of the whole form.
    why : why ours differ.
    closing : what is printed last, from the store.
    prepare : makes the files under ``{work}`` that the whole form reads, from the folder of ``--data``.
    """

    title: str
    study: str
    whole: tuple[Step, ...] | Callable[[Store], tuple[Step, ...]]
    small: tuple[Step, ...]
    needs: tuple[Need, ...] = ()
    measured: bool = False
    disk: str
    figures: tuple[Figure, ...] = ()
    why: str = ""
    closing: Callable[[Store], list[str]] | None = None
    prepare: Callable[[Path, Path], None] = field(default=_nothing)

    def steps(self, store: Store, *, small: bool) -> tuple[Step, ...]:
        """The commands of one of its forms."""
        if small:
            return self.small
        return self.whole(store) if callable(self.whole) else self.whole


class Journal:
    """Which commands of a recipe were done; it is kept in the store that they were done in.

    Commands that see for themselves whether anything is left are never kept: they are quick where nothing is.
    """

    def __init__(self, store: Store, kind: str, *, again: bool) -> None:
        self.files, self.file = store.files, f"recipe-{kind}.json"
        self.end_times: dict[str, float] = {}  # by command, in seconds since 1970
        if not again and self.files.exists(self.file):
            try:
                self.end_times = dict(json.loads(self.files.read(self.file)))
            except (TypeError, ValueError) as error:
                raise FormatError(f"{self.files.show(self.file)} is damaged; --again begins anew") from error

    def has(self, command: Sequence[str]) -> bool:
        return shlex.join(command) in self.end_times

    def add(self, command: Sequence[str]) -> None:
        if command[0] not in _AGAIN:
            self.end_times[shlex.join(command)] = time.time()
            self.files.write(self.file, json.dumps(self.end_times, indent=1).encode())


def names() -> list[str]:
    """The names of all recipes, sorted; imports none of them."""
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name.replace("_", "-") for name in modules if not name.startswith("_"))


def find(name: str) -> Recipe:
    """The recipe of a name; RequestError where there is none."""
    if name not in names():
        raise unknown("recipe", name, names())
    recipe: Recipe = importlib.import_module(f"{__name__}.{name.replace('-', '_')}").RECIPE
    return recipe
