"""A table of ready-made features: one row a song, its numbers beside artist and labels.

CSV, TSV, Parquet, or HDF5 (a dataset a column, or a two-dimensional one whose columns are called ``name[0]``,
``name[1]``...). The features are the columns that ``--columns features=A|B|...`` names, else every column that holds
numbers only and has no other role (a year or a duration among them; columns without a name never).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.embed.datasets import Dataset, option
from stages.embed.datasets._columns import choose, common_columns, locate, own_albums, own_name, parse_columns
from stages.embed.inputs.features import FeatureRows
from stages.embed.tables import Table, first_twice, read_table
from stages.progress import note
from store.errors import RequestError
from store.schema import Catalog, CatalogInfo

_REQUIRED = ("artist", "labels")
_OPTIONAL = ("song", "album", "title", "split")
_BLOCK_NUMBERS = 1 << 24


@dataclass(frozen=True, kw_only=True)
class FeatureTable(Dataset):
    """One clip a row; ``source`` is a mark of all the row's numbers, so that a row whose numbers change is seen.

    It does not depend on which of them are chosen as features: another choice is another representation of these songs.

    A song's id is its cell in the column ``song``, or else ``row-000123`` (from 0): without that column, rows may be
    corrected and appended; one that is inserted or removed shifts all behind it, which are then encoded anew.
    """

    NAME = "table"
    TITLE = "A table of ready-made features"
    LICENSE = "that of the table"
    CITATION = "the table's own"
    HOMEPAGE = ""
    FILES = "Your own table of features, one row per song: CSV, TSV, Parquet or HDF5."
    BACKBONE = "features"

    table: str | None = option(
        "CSV, TSV, Parquet or HDF5 with the columns artist, labels (folder: file too); song, title..."
    )
    name: str | None = option("what the collection is called from now on")
    columns: str | None = option("columns of other names: artist=Artist,labels=Genre (table: features=A|B|... too)")

    def catalog(self) -> Catalog:
        name = own_name(self.name, self.NAME)
        if self.table is None:
            raise RequestError("table needs a table of features: --table FILE")
        path = locate(self.table, self.data, "table").resolve()
        given = parse_columns(self.columns, (*_REQUIRED, *_OPTIONAL, "features"))
        table = read_table(path)
        chosen = choose(table, given, _REQUIRED, _OPTIONAL)
        every, notes = _numbers(table, list(chosen.values()))
        features = every
        if "features" in given:
            features, notes = _named(table, given["features"]), ()
        else:
            note(
                f"features: every column of numbers that is named nothing else: {', '.join(every[:20])}"
                + (f" and {len(every) - 20:,} more" if len(every) > 20 else "")
            )
        for text in notes:
            note(text)
        if not features:
            raise RequestError(f"{path} has no column of numbers besides {', '.join(chosen.values())}")
        songs = _song_ids(table, chosen.get("song"))
        columns = {
            "clip_id": songs,
            "song_id": songs,
            "path": [path.name] * table.rows,
            "source_row": np.arange(table.rows),
            "source": _marks(FeatureRows(path, list(dict.fromkeys([*every, *features])))),
            **common_columns(table, chosen, name),
        }
        info = CatalogInfo(
            name=name,
            title=name,
            version="own",
            licence=self.LICENSE,
            citation=self.CITATION,
            backbone=self.BACKBONE,
            data_root=str(path.parent),
            features=tuple(features),
            notes=notes,
        )
        return Catalog.build(info, self.known(own_albums(columns)))


def _named(table: Table, named: str) -> list[str]:
    """The feature columns that ``--columns features=A|B|...`` names."""
    wanted = [name.strip() for name in named.split("|") if name.strip()]
    twice = first_twice(wanted)
    if twice is not None:
        raise RequestError(f"--columns features=... names {twice} twice")
    return [column for name in wanted for column in _numbered(table, name)]


def _numbers(table: Table, taken: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """All columns of numbers without another role, and what a person should know of those that are nearly such."""
    numbers, notes = [], []
    for name in (*table.types, *table.wide):
        if name in taken:
            continue
        numeric, row = table.is_numeric(name)
        if numeric:
            numbers += _numbered(table, name)
        elif row is not None:
            cell = table.strings(name)[row] or ""
            point = "; write decimals with a point" if "," in cell else ""
            notes.append(f"the column {name} is no feature: {table.where(row)} holds {cell!r}{point}")
    if table.nameless:
        notes.append(
            f"columns to which the header of {table.path.name} gives no name are left out: {table.nameless:,}; "
            f"name them there if they are features"
        )
    return numbers, tuple(notes)


def _numbered(table: Table, name: str) -> list[str]:
    """``name``, or the columns of a two-dimensional dataset of that name."""
    return [f"{name}[{i}]" for i in range(table.wide[name])] if name in table.wide else [name]


def _song_ids(table: Table, column: str | None) -> list[str]:
    if column is None:
        return [f"row-{row:06d}" for row in range(table.rows)]
    seen: dict[str, int] = {}
    for row, song in enumerate(table.strings(column)):
        if song is None:
            raise RequestError(f"{table.where(row)}: {column} is empty; give every song an id")
        if song in seen:
            raise RequestError(
                f"{table.where(row)}: {column} {song!r} stands in {table.where(seen[song])} already; one row a song"
            )
        seen[song] = row
    return list(seen)


def _marks(rows: FeatureRows) -> list[str]:
    """A hash of each row's numbers."""
    marks: list[str] = []
    step = max(1, _BLOCK_NUMBERS // rows.shape[1])
    for start in range(0, len(rows), step):
        block = np.ascontiguousarray(rows.take(slice(start, start + step)), dtype="<f4")
        marks += [hashlib.blake2b(row, digest_size=8).hexdigest() for row in block]
    return marks
