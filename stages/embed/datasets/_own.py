"""What `folder` and `table` share: a table of one's own songs, and files of labels, artists and splits beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stages.embed.datasets import UNLABELLED, Dataset, option
from stages.embed.datasets._columns import (
    LIST_ROLES,
    artist_columns,
    columns_option,
    not_missing_option,
    separator_option,
)
from stages.embed.datasets._keyed import Keyed, read_keyed
from stages.embed.tables import Missing, lists


@dataclass(frozen=True, kw_only=True)
class OwnTable(Dataset):
    """A collection that is described by a table, by files beside it, or by both."""

    table: str | None = option(
        "CSV, TSV, Parquet or HDF5 with the columns artist, labels (folder: file too); song, title..."
    )
    name: str | None = option("what the collection is called from now on")
    columns: str | None = columns_option()
    separator: str | None = separator_option()
    not_missing: str | None = not_missing_option()
    artists: str | None = option("songs' artists: a two-column table, or JSON (FILE or FILE:KEY), keyed by file name")
    labels: str | None = option("songs' labels, in the same form; songs that it does not name are left out")
    unlabelled: bool = option(UNLABELLED, False)
    splits: str | None = option("songs' official split, in the same form")

    def look_up(self, columns: dict[str, Any], songs: Sequence[Sequence[str]]) -> Keyed | None:
        """Fill in the columns that stand in files of their own; the file of labels, where there is one.

        Parameters
        ----------
        songs : the keys of each row, under any of which a file may name it.
        """
        if self.artists is not None:
            columns.update(artist_columns(self._read(self.artists, "artist").look_up(songs)))
        if self.splits is not None:
            columns["split_official"] = self._read(self.splits, "split").splits(songs)
        if self.labels is None:
            return None
        labels = self._read(self.labels, "labels")
        columns["labels"] = labels.look_up(songs)
        return labels

    def _read(self, file: str, role: str) -> Keyed:
        """A file of its own, read as a column of that role would be."""
        separator = lists.separators(self.separator, LIST_ROLES).get(role)
        what = {"artist": "artists", "split": "splits"}.get(role, role)
        return read_keyed(file, self.data, what, Missing.but(self.not_missing), separator)


def own_albums(columns: dict[str, Any]) -> dict[str, Any]:
    """The columns with albums that are their artists' own: two artists' ``Greatest Hits`` are two albums.

    An album by nobody in particular stays one (``Various Artists / Hits``); without an artist its bare title is left.
    """
    if "album_id" not in columns or "artist_name" not in columns:
        return columns
    pairs = zip(columns["artist_name"], columns["album_id"], strict=True)
    return {**columns, "album_id": [f"{artist} / {album}" if artist and album else album for artist, album in pairs]}
