"""A table of ready-made features: a song's numbers beside its artist and labels, one row a song, or one a piece of it.

CSV, TSV, Parquet, or HDF5. The features are the columns that ``--columns features=A|B|...`` names, else every column of
numbers that describes songs (`stages.embed.datasets._features`). A column of vectors (lists of numbers in Parquet,
two-dimensional data in HDF5, or a file ``features=vectors.npy`` beside the table) counts as many features as it is
wide: ``name[0]``, ``name[1]``...
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.embed.datasets import option
from stages.embed.datasets._columns import (
    MANY_COLUMNS,
    check_targets,
    choose,
    common_columns,
    keep_labelled,
    locate,
    open_table,
    own_name,
    parse_columns,
)
from stages.embed.datasets._features import (
    all_features,
    describe_features,
    named_features,
    onehot_columns,
    onehot_labels,
)
from stages.embed.datasets._keyed import keys_of
from stages.embed.datasets._own import OwnTable, own_albums
from stages.embed.datasets._segments import look_numbered, merge_rows, song_ids
from stages.embed.inputs.features import FeatureRows
from stages.embed.tables import Table
from stages.embed.tables.npy import with_arrays
from stages.progress import note
from store.errors import RequestError
from store.schema import Catalog
from store.words import plural

_EXPECTED = ("artist", "labels")
_OPTIONAL = ("song", "album", "recording", "title", "split")
_BLOCK_NUMBERS = 1 << 24


@dataclass(frozen=True, kw_only=True)
class FeatureTable(OwnTable):
    """A catalog of a table's rows; ``source`` is a mark of a row's numbers, so that a row whose numbers change is seen.

    It does not depend on which of them are chosen as features: another choice is another representation of these songs.

    A song's id is its cell in the column ``song``, which several rows may share, or else ``row-000123`` (from 0):
    without that column, rows may be corrected and appended; one that is inserted or removed shifts all behind it, which
    are then encoded anew.
    """

    NAME = "table"
    TITLE = "A table of ready-made features"
    LICENSE = "that of the table"
    CITATION = "the table's own"
    HOMEPAGE = ""
    FILES = "Your own table of features, a row for each song or piece of one: CSV, TSV, Parquet or HDF5."
    BACKBONE = "features"

    labels_onehot: str | None = option("columns of 0 and 1, one a label: rock|jazz, or genre_*, instead of labels")
    segments: bool = option("songs' names end in the number of a piece: blues.00000.3.wav is one of blues.00000", False)

    def catalog(self) -> Catalog:
        name = own_name(self.name, self.NAME)
        if self.table is None:
            raise RequestError("table needs a table of features: --table FILE")
        path = locate(self.table, self.data, "table").resolve()
        names_of = parse_columns(self.columns, (*_EXPECTED, *_OPTIONAL, *MANY_COLUMNS))
        table = with_arrays(open_table(path, self.not_missing), names_of.get("features", ()))
        onehot = {} if self.labels_onehot is None else onehot_columns(table, self.labels_onehot)
        beside = {"artist": self.artists, "labels": self.labels or self.labels_onehot, "split": self.splits}
        names_of |= {role: [] for role, file in beside.items() if file is not None}
        choice = choose(table, names_of, (), _EXPECTED, _OPTIONAL)
        targets = names_of.get("targets", [])
        columns = common_columns(
            table,
            choice,
            targets,
            separator=self.separator,
        )
        if onehot:
            columns["labels"] = onehot_labels(table, onehot)
        columns["song_id"] = song_ids(table, choice.get("song"), segments=self.segments)
        labels = self.look_up(columns, [keys_of(song, song) for song in columns["song_id"]])
        labels_from = self.labels_onehot or choice.get("labels") if labels is None else labels.path.name
        _complete(columns, table)
        others = [*choice.values(), *targets, *onehot]
        every, passed = all_features(table, others, *(columns[n] for n in ("labels", "artist_id", "song_id")))
        features, notes = every, passed
        if "features" in names_of:
            features, notes = named_features(table, names_of["features"]), []
            check_targets(targets, features, "feature")
        elif features:
            note(describe_features(every))
        if not features:
            raise RequestError(
                f"{path} has no column of numbers besides {', '.join(choice.values())}. {' '.join(passed)}".strip()
            )
        columns["source_row"] = list(range(table.rows))
        columns["path"] = [path.name] * table.rows
        columns["source"] = _marks(FeatureRows(path, list(dict.fromkeys([*every, *features]))))
        marks = self._equal(path, every, features, columns)
        clips, of_songs = merge_rows(columns, marks, table)
        notes += of_songs
        if not self.segments:
            _tell_of_segments(table, choice.get("song"), columns["song_id"], columns["labels"])
        for text in notes:
            note(text)
        if labels_from is not None:
            clips, left_out = keep_labelled(clips, labels_from, unlabelled=self.unlabelled)
            notes += left_out
        _tell_of_equals(clips["song_id"], clips["source"])
        return self.build(
            own_albums(clips), path.parent, "own", name=name, title=name, features=tuple(features), notes=tuple(notes)
        )

    def _equal(self, path: Path, every: list[str], features: list[str], columns: dict[str, list[str]]) -> list[str]:
        """A mark of each row's features alone, where songs have several rows."""
        songs = columns["song_id"]
        if set(features) >= set(every) or len(set(songs)) == len(songs):
            return columns["source"]
        return _marks(FeatureRows(path, features))


def _complete(columns: dict[str, list[object]], table: Table) -> None:
    """Fill in what the table does not tell, and say so."""
    rows = table.rows
    if "artist_id" not in columns:
        note(f"{table.path.name} has no column of artists: every artist is unknown, and modes that read them have none")
        columns["artist_id"] = [None] * rows
    if "labels" not in columns:
        note(f"{table.path.name} has no column of labels: it can be embedded; heads and splits need some")
        columns["labels"] = [[] for _ in range(rows)]


def _tell_of_segments(table: Table, column: str | None, songs: Sequence[str], labels: Sequence[Sequence[str]]) -> None:
    """Say where songs, or the cells of a column that is not named as ``song``, look like pieces of songs."""
    candidates = [column] if column is not None else [n for n in table.types if table.why_no_numbers(n) == "holds text"]
    for name in candidates:
        cells = songs if name == column else table.strings(name)
        if len(set(cells)) == len(cells) and look_numbered(cells, labels):
            note(
                f"{name} looks like numbered pieces of songs ({cells[0]!r}); splits keep the pieces of a song together "
                f"where they are said to be: --columns song={name} --segments"
            )
            return


def _tell_of_equals(songs: Sequence[str], marks: Sequence[str]) -> None:
    """Say how many songs have exactly the numbers of another."""
    pairs = set(zip(songs, marks, strict=True))
    count = sum(each for each in Counter(mark for _, mark in pairs).values() if each > 1)
    if count:
        note(
            f"{plural(count, 'song has', 'songs have')} exactly the numbers of another; where they are copies, a "
            f"column recording keeps them together in every split"
        )


def _marks(rows: FeatureRows) -> list[str]:
    """A hash of each row's numbers."""
    marks: list[str] = []
    step = max(1, _BLOCK_NUMBERS // rows.shape[1])
    for start in range(0, len(rows), step):
        block = np.ascontiguousarray(rows.take(slice(start, min(len(rows), start + step))), dtype="<f4")
        marks += [hashlib.blake2b(row, digest_size=8).hexdigest() for row in block]
    return marks
