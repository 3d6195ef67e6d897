"""Which columns of a table are features where none are named: numbers that describe a song.

A column that only counts or names the rows is none, nor is one that repeats the label or the artist: a head would read
the answer there, or the artist where it must not know one. Whoever wants such a column names it in ``--columns
features=...``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.embed.datasets._columns import texts
from stages.embed.tables import Table, first_twice
from store.errors import RequestError
from store.words import plural

# Twelve binary cells agree with the label by chance once in 4,096 times, eight rows are in order once in 40,320.
_ROWS_IN_ORDER = 8
_ROWS_BEYOND_LABELS = 12
_BITS = 12.0  # the same for artists, who are many and have few songs: a rare value may be one artist's by chance
_BLOCK_ROWS = 1 << 12  # of a column of vectors, read together
_SAMPLE = 8  # numbers of a vector that stand for it
_NUMBERED = re.compile(r"\[\d+\]$")
_ID_NAME = re.compile(
    r"(?i:unnamed: ?\d.*|level_\d+|index|idx|id|row|row[ _-]?(id|nr|number)|nr|no|#|.*[ _.-]id)|.*[a-z]I[dD]"
)


def all_features(
    table: Table,
    others: Sequence[str],
    labels: Sequence[Sequence[str]],
    artists: Sequence[str | None],
    songs: Sequence[str],
) -> tuple[list[str], list[str]]:
    """Every column of numbers without another role that describes songs; and what to say of those left out.

    Parameters
    ----------
    others : the columns that have another role.
    labels, artists, songs : of each row.
    """
    is_first = np.zeros(table.rows, bool)
    is_first[np.unique(songs, return_index=True)[1]] = True
    groups = {
        "a label": _numbered(labels, is_first),
        "an artist": _numbered([[n] if n else [] for n in artists], is_first),
    }
    features: list[str] = []
    passed: dict[str, str] = {}
    strange: dict[str, str] = dict(table.unreadable)
    for name in table.names:
        if name in others or name in strange:
            continue
        why = None if name in table.blocks else table.why_no_numbers(name)
        if why is not None:
            strange[name] = why
            continue
        why = _why_no_feature(table, name, groups)
        if why is None:
            features += feature_columns(table, name)
        else:
            passed[name] = why
    notes = []
    if passed:
        notes.append(
            f"no features: {texts(f'{name} ({why})' for name, why in passed.items())}; if they are, name them: "
            f"--columns features=A|B|..."
        )
    if strange:
        notes.append(f"no numbers: {texts(f'{name} {why}' for name, why in strange.items() if name not in others)}")
    if table.nameless:
        notes.append(
            f"columns to which the header of {table.path.name} gives no name are left out: {table.nameless:,}; "
            f"name them there if they are features"
        )
    return features, [text for text in notes if text != "no numbers: "]


def named_features(table: Table, names: Iterable[str]) -> list[str]:
    """The features that ``--columns features=A|B|...`` names."""
    names = list(names)
    twice = first_twice(names)
    if twice is not None:
        raise RequestError(f"--columns features=... names {twice} twice")
    for name in names:
        if name in table.unreadable:
            raise RequestError(f"{table.path}: {name} is no feature: it {table.unreadable[name]}")
    return [column for name in names for column in feature_columns(table, name)]


def feature_columns(table: Table, name: str) -> list[str]:
    """``name``, or the numbers of a column of vectors: ``name[0]``, ``name[1]``..."""
    return [f"{name}[{i}]" for i in range(table.blocks[name].width)] if name in table.blocks else [name]


def describe_features(features: Sequence[str]) -> str:
    """Notes on which columns are features where none were named."""
    columns = Counter(_NUMBERED.sub("", name) for name in features)
    words = (name if count == 1 else f"{name} ({count:,} numbers)" for name, count in columns.items())
    return f"features: every column of numbers that is named nothing else: {texts(words)}"


def _why_no_feature(table: Table, name: str, groups: Mapping[str, NDArray[np.int64]]) -> str | None:
    """Why a column of numbers or vectors does not describe songs; None where it does."""
    values = _sample(table, name)
    if name not in table.blocks:
        if _ID_NAME.fullmatch(name):
            return "called like an id"
        if _counts_rows(values[:, 0]):
            return "whole numbers that count the rows"
    for what, group in groups.items():
        rows, bits = _agreement(values, group)
        if rows >= _ROWS_BEYOND_LABELS if what == "a label" else bits >= _BITS:
            return f"one value {what}"
    return None


def _counts_rows(values: NDArray[np.floating[Any]]) -> bool:
    """Whole numbers that rise or fall with every row, or are 0 to n, each once: the index of shuffled rows."""
    if len(values) < _ROWS_IN_ORDER or not np.isfinite(values).all() or (values % 1 != 0).any():
        return False
    steps = np.diff(values)
    if (steps > 0).all() or (steps < 0).all():
        return True
    return bool(values.max() - values.min() == len(values) - 1 and len(np.unique(values)) == len(values))


def _numbered(sets: Sequence[Sequence[str]], is_first: NDArray[np.bool_]) -> NDArray[np.int64]:
    """[rows] a number that songs of one set of names share; -1 for an empty set, and for a song's further rows."""
    number: dict[frozenset[str], int] = {}
    numbers = [number.setdefault(frozenset(names), len(number)) if names else -1 for names in sets]
    return np.where(is_first, numbers, -1)


def _sample(table: Table, name: str) -> NDArray[np.floating[Any]]:
    """[rows, 1] the numbers of a column; of vectors the first few: [rows, up to `_SAMPLE`]."""
    if name not in table.blocks:
        return table.floats(name)[0][:, None]
    steps = range(0, table.rows, _BLOCK_ROWS)
    blocks = [table.blocks[name].take(slice(at, min(at + _BLOCK_ROWS, table.rows)))[:, :_SAMPLE] for at in steps]
    return np.concatenate(blocks)


def _agreement(values: NDArray[np.floating[Any]], group: NDArray[np.int64]) -> tuple[int, float]:
    """How many rows have the value of their group's first row, and how surprising that is, in bits.

    Both are 0 unless all rows of each group have one value, and not all rows do. Without a relation, a row would agree
    as often as any two rows do. Rows with a missing number or without a group do not count.

    Parameters
    ----------
    values : [rows, width].
    group : [rows], -1 for none.
    """
    complete = np.isfinite(values).all(axis=1) & (group >= 0)
    if not complete.any():
        return 0, 0.0
    _, value, count = np.unique(values[complete], axis=0, return_inverse=True, return_counts=True)
    _, first, place = np.unique(group[complete], return_index=True, return_inverse=True)
    value = value.ravel()  # some versions of numpy keep the axes
    if len(count) == 1 or (value != value[first][place]).any():
        return 0, 0.0
    rows = len(value) - len(first)
    return rows, float(-rows * np.log2(np.square(count / len(value)).sum()))


def onehot_columns(table: Table, patterns: str) -> dict[str, str]:
    """Column -> label, from ``--labels-onehot``: names separated by ``|``, or ``genre_*``, where ``*`` is the label.

    Raises
    ------
    RequestError
        where no column has such a name.
    """
    label_of: dict[str, str] = {}
    for pattern in filter(None, map(str.strip, patterns.split("|"))):
        before, star, after = pattern.partition("*")
        if not star:
            if pattern not in table.types:
                raise RequestError(f"{table.path} has no column {pattern!r} for --labels-onehot")
            label_of[pattern] = pattern
            continue
        fits = [n for n in table.types if n.startswith(before) and n.endswith(after) and len(n) > len(before + after)]
        if not fits:
            raise RequestError(f"{table.path} has no column {pattern!r} for --labels-onehot")
        label_of |= {name: name[len(before) : len(name) - len(after)].strip() for name in fits}
    return label_of


def onehot_labels(table: Table, columns: dict[str, str]) -> list[list[str]]:
    """The labels of each row: those in whose column it holds 1.

    Raises
    ------
    RequestError
        where a cell holds another number than 0 or 1, or text.
    """
    labels: list[list[str]] = [[] for _ in range(table.rows)]
    for name, label in columns.items():
        values, strange = table.floats(name)
        wrong = strange | ~(np.isnan(values) | (values == 0) | (values == 1))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise RequestError(
                f"{table.where(row)}: {name} is {table.read(name)[row].as_py()!r}, and a column of --labels-onehot "
                f"holds 0 or 1; it names {plural(len(columns), 'column')}"
            )
        for row in np.flatnonzero(values == 1).tolist():
            labels[row].append(label)
    return labels
