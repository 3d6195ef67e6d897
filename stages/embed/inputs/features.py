"""Rows of a table of ready-made features.

A process reads the columns of a table once and answers from memory, about a microsecond a row; vectors that together
are larger than `MOST_BYTES` are read where they lie instead.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from stages.embed.inputs import Clip, Kind
from store.errors import ClipError, RequestError, unknown
from store.words import plural

MOST_BYTES = 1 << 30  # of vectors, for them to be kept in memory
MOST_NUMBERS = 1 << 31  # of columns of numbers, which are always kept in memory

_NUMBERED = re.compile(r"(?P<name>.+)\[(?P<index>\d+)\]", re.DOTALL)

Rows = np.ndarray[Any, np.dtype[np.float32]]


class FeatureRows:
    """The numbers of some columns of a table: ``float32 [rows, columns]``, NaN where a cell holds none.

    Number ``i`` of a column of vectors ``features`` is called ``features[i]``. Vectors may also lie beside the table,
    in a file of numpy's (``features.npy[i]``).
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        from stages.embed.tables import read_table
        from stages.embed.tables.npy import with_arrays

        vectors = [match["name"] for name in columns if (match := _NUMBERED.fullmatch(name))]
        table = with_arrays(read_table(path), vectors)
        self.path = path
        self.shape = (table.rows, len(columns))
        self._blocks: dict[str, tuple[list[int], list[int]]] = {}  # name -> its columns, and where they go
        narrow: dict[int, str] = {}
        for place, name in enumerate(columns):
            match = _NUMBERED.fullmatch(name)
            block = table.blocks.get(match["name"]) if match else None
            if match and block and name not in table.types and int(match["index"]) < block.width:
                indices, places = self._blocks.setdefault(match["name"], ([], []))
                indices.append(int(match["index"]))
                places.append(place)
            elif name in table.types:
                narrow[place] = name
            else:
                raise unknown(f"column of {path}", name, table.names)
        if table.rows * len(narrow) > MOST_NUMBERS:
            raise RequestError(
                f"{path}: {plural(len(narrow), 'column')} of {plural(table.rows, 'row')} are too much to hold at "
                f"once; write the features as one two-dimensional dataset of an HDF5 file"
            )
        self._vectors = table.blocks
        self._narrow = np.empty((table.rows, len(narrow)), dtype=np.float32)
        self._narrow_places = list(narrow)
        for i, name in enumerate(narrow.values()):
            values, strange = table.floats(name)
            if strange.any():
                row = int(np.argmax(strange))
                cell = table.text(name)[row].as_py()
                raise RequestError(
                    f"{table.where(row)}: {name} is {cell!r}, and a feature is a number; correct it, or leave {name} "
                    f"out of --columns features=..."
                )
            with np.errstate(over="ignore"):  # what single precision cannot hold is not finite
                self._narrow[:, i] = values
        self._whole: Rows | None = None
        if not self._blocks:
            self._whole = self._narrow
        elif 4 * table.rows * len(columns) <= MOST_BYTES:
            self._whole = self.take(slice(0, table.rows))

    def take(self, rows: slice | Sequence[int]) -> Rows:
        """The rows of a slice (``start`` and ``stop``), or those of a list, in its order: ``[rows, columns]``."""
        if self._whole is not None:
            return self._whole[rows]
        narrow = self._narrow[rows]
        numbers: Rows = np.empty((len(narrow), self.shape[1]), dtype=np.float32)
        numbers[:, self._narrow_places] = narrow
        for name, (indices, places) in self._blocks.items():
            numbers[:, places] = self._vectors[name].take(rows)[:, indices]
        return numbers

    def __len__(self) -> int:
        return self.shape[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeaturesInput:
    """The numbers of a clip's row in the ``columns`` of its table."""

    KIND: ClassVar[Kind] = "features"
    REVISION: ClassVar[int] = 1

    columns: tuple[str, ...] = ()

    def load(self, clip: Clip) -> Rows:
        """``float32 [1, columns]``.

        Raises
        ------
        ClipError
            ``missing`` if the table or the row is not there; ``not-finite`` if a number is missing, not finite or
            beyond single precision.
        """
        arrays, failures = self.load_many([clip])
        if failures:
            raise failures[0][1]
        return arrays

    def load_many(self, clips: Sequence[Clip]) -> tuple[Rows, list[tuple[int, ClipError]]]:
        """The rows of the clips that can be read, in order, and the index and error of each other clip."""
        values: Rows = np.full((len(clips), len(self.columns)), np.nan, dtype=np.float32)
        failures: dict[int, ClipError] = {}
        for path in dict.fromkeys(clip.path for clip in clips):
            places = [i for i, clip in enumerate(clips) if clip.path == path]
            try:
                table = _rows(path, _mark(path), self.columns)
            except OSError:
                failures.update((i, ClipError("missing", "the table is not there")) for i in places)
                continue
            present = []
            for i in places:
                row = clips[i].source_row
                if row is not None and 0 <= row < len(table):
                    present.append(i)
                else:
                    failures[i] = ClipError(
                        "missing", f"the table has {plural(len(table), 'row')} and no row {row} (from 0)"
                    )
            if present:
                values[present] = table.take([clips[i].source_row or 0 for i in present])
        for i in np.flatnonzero(~np.isfinite(values).all(axis=1)).tolist():
            if i not in failures:
                failures[i] = ClipError("not-finite", self._name_missing(values[i]))
        readable = [i for i in range(len(clips)) if i not in failures]
        return values[readable], sorted(failures.items())

    def _name_missing(self, row: Rows) -> str:
        names = [name for name, value in zip(self.columns, row.tolist(), strict=True) if not np.isfinite(value)]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return f"no finite number in {', '.join(names[:3])}{more}"


def _mark(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=2)
def _rows(path: Path, _mark: tuple[int, int], columns: tuple[str, ...]) -> FeatureRows:
    return FeatureRows(path, columns)
