"""One's own songs: a folder of recordings or MIDI files, and what is known of them.

With a table (CSV, TSV, Parquet, HDF5), a row is a song, or with ``start_s`` and ``duration_s`` one stretch of a song:
``encore embed folder --data DIR --table songs.csv --name NAME``. Without a table every recording and MIDI file under
the folder is a song, and artists, labels and splits stand in files of their own, keyed by the songs' names:
``encore embed folder --data midi --artists artists.tsv --labels genres.json:topmagd --name NAME``. Such files may
also stand in for a column of a table. A song that the labels do not name is left out, since no head can learn from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stages.embed.datasets import option
from stages.embed.datasets._columns import (
    LIST_ROLES,
    check_songs,
    choose,
    common_columns,
    complete_songs,
    keep_labelled,
    locate,
    open_table,
    own_name,
    parse_columns,
)
from stages.embed.datasets._keyed import keys_of
from stages.embed.datasets._own import OwnTable, own_albums
from stages.embed.datasets._songs import (
    check_stretches,
    clip_id,
    cut,
    cut_columns,
    is_midi,
    is_song,
    named_songs,
    songs_under,
    spread,
    stable_id,
    stretches_along,
)
from stages.embed.datasets._walk import FOLLOW_LINKS, Walk, root_folder
from stages.embed.tables import Table
from stages.progress import note
from store.errors import RequestError
from store.schema import Catalog, CatalogInfo
from store.words import plural

MIDI_CLIPS = 4
CLIP_S = 15.0

_ROLES = ("file", "artist", "labels", "song", "album", "recording", "title", "split", "start_s", "duration_s")

_BESIDE = frozenset({".csv", ".tsv", ".json", ".parquet", ".h5", ".hdf5", ".txt", ".md"})

Columns = dict[str, list[Any]]


@dataclass(frozen=True, kw_only=True)
class Folder(OwnTable):
    """Recordings become one clip each, the whole song; of MIDI files four stretches of 15 s are cut, evenly spread.

    A song's id is its cell in the column ``song``, or else its path in the folder. The id of a stretch is
    ``<song>@<start>+<duration>``.
    """

    NAME = "folder"
    TITLE = "A folder of songs"
    LICENSE = "that of the songs"
    CITATION = "the collection's own"
    HOMEPAGE = ""
    FILES = "Your own recordings or MIDI files, with a table of artists and labels beside them."
    BACKBONE = "fcn"
    MIDI_BACKBONE = "pianoroll"

    clips: int | None = option("stretches to cut from each song, 0 for whole songs (default: MIDI 4, recordings 0)")
    clip_s: float | None = option("length of these stretches in seconds (default 15)")
    follow_links: bool = option(FOLLOW_LINKS, False)

    def __post_init__(self) -> None:
        check_stretches(self.clips, self.clip_s)

    def catalog(self) -> Catalog:
        name = own_name(self.name, self.NAME)
        there = None
        if self.table is not None:
            root, columns = self._from_table()
        else:
            root, columns, there = self._from_files()
        labels_from = self._look_up(columns, there) or self._label_column
        columns = complete_songs(columns)
        check_songs(columns, columns["path"].__getitem__)
        columns, left_out = keep_labelled(columns, labels_from, unlabelled=self.unlabelled)
        notes = (*left_out, *(there.notes() if there is not None else ()))
        midi = sum(map(is_midi, columns["path"]))
        return self.build(
            self._cut(root, own_albums(columns)),
            root,
            "own",
            name=name,
            title=name,
            backbone=self.MIDI_BACKBONE if 2 * midi > len(columns["path"]) else self.BACKBONE,
            follow_links=self.follow_links,
            notes=notes,
        )

    @property
    def _label_column(self) -> str:
        return next(iter(parse_columns(self.columns, (*_ROLES, "targets")).get("labels", ())), "labels")

    def _from_table(self) -> tuple[Path, Columns]:
        """The folder, and the catalog columns of each row of the table."""
        assert self.table is not None
        names_of = parse_columns(self.columns, (*_ROLES, "targets"))
        path = locate(self.table, self.data, "table")
        root = root_folder(self.data if self.data is not None else path.parent)
        table = open_table(path, self.not_missing)
        beside = {"artist": self.artists, "labels": self.labels, "split": self.splits}
        roles = [role for role in _ROLES if beside.get(role) is None]
        needed = ("file",) if self.unlabelled else ("file", "labels")
        required = [role for role in needed if role in roles]
        expected = [role for role in LIST_ROLES if role in roles and role not in required]
        optional = [role for role in roles if role not in (*required, *expected)]
        choice = choose(table, names_of, required, expected, optional)
        columns: Columns = common_columns(
            table,
            choice,
            names_of.get("targets", ()),
            separator=self.separator,
        )
        if "artist" not in choice and "artist" in roles:
            note(f"{path.name} has no column of artists: every artist is unknown, and modes that read them have none")
        columns.setdefault("artist_id", [None] * table.rows)
        columns["path"] = named_songs(table, choice["file"], root, follow_links=self.follow_links)
        own = table.strings(choice["song"]) if "song" in choice else [None] * table.rows
        columns["song_id"] = [song or stable_id(path) for song, path in zip(own, columns["path"], strict=True)]
        columns["start_s"] = table.seconds(choice["start_s"]) if "start_s" in choice else [None] * table.rows
        columns["duration_s"] = (
            table.seconds(choice["duration_s"], above=True) if "duration_s" in choice else [None] * table.rows
        )
        return root, _merge_repeats(table, columns)

    def _from_files(self) -> tuple[Path, Columns, Walk]:
        """The folder, every song in it, and what else lies there; the labels are still to be looked up."""
        if self.data is None:
            raise RequestError("folder needs songs: --data DIR (make: DATA=DIR), with --table FILE or --labels FILE")
        if self.labels is None and not self.unlabelled:
            raise RequestError(
                "folder needs labels: --table FILE with the columns file, artist and labels; or --labels FILE with two "
                "columns, song and labels; or --unlabelled, where none are known"
            )
        if self.columns is not None:
            raise RequestError("--columns names the columns of a table; give --table, or leave it out")
        root = root_folder(self.data)
        paths, there = songs_under(root, follow_links=self.follow_links)
        for text in (*there.notes(), *_passed_over(there)):
            note(text)
        nothing = [None] * len(paths)
        ids = [stable_id(path) for path in paths]
        columns: Columns = {"path": paths, "song_id": ids}
        return root, columns | dict.fromkeys(("artist_id", "start_s", "duration_s"), nothing), there

    def _look_up(self, columns: Columns, there: Walk | None) -> str | None:
        """Fill in what stands in files beside the songs; the name of the file of labels, where there is one."""
        columns.setdefault("labels", [[]] * len(columns["path"]))
        if self.artists is None and self.splits is None and self.labels is None:
            return None
        songs = [keys_of(song, path) for song, path in zip(columns["song_id"], columns["path"], strict=True)]
        labels = self.look_up(columns, songs)
        if labels is None:
            return None
        for what, strangers in _sort_strangers(labels.strangers(songs), there).items():
            more = plural(len(strangers), "more song that is", "more songs that are")
            note(f"{labels.path.name} has labels for {more} {what} ({strangers[0]!r} is the first)")
        return labels.path.name

    def _cut(self, root: Path, columns: Columns) -> Columns:
        """The columns with a row for each clip."""
        stretch_of_row = list(zip(columns["start_s"], columns["duration_s"], strict=True))
        counts = [
            self._clips(path) if stretch == (None, None) else 0
            for path, stretch in zip(columns["path"], stretch_of_row, strict=True)
        ]
        cuts = cut(root, columns["path"], counts, self.clip_s or CLIP_S, follow_links=self.follow_links)
        stretches = [
            (row, stretch)
            for row, cutting in enumerate(cuts)
            for stretch in (cutting if counts[row] else [stretch_of_row[row]])
        ]
        clips = {name: [values[row] for row, _ in stretches] for name, values in columns.items()}
        clips["start_s"] = [start_s for _, (start_s, _) in stretches]
        clips["duration_s"] = [duration_s for _, (_, duration_s) in stretches]
        clips["clip_id"] = list(map(clip_id, clips["song_id"], clips["start_s"], clips["duration_s"]))
        return clips

    def _clips(self, path: str) -> int:
        if self.clips is not None:
            return self.clips
        return MIDI_CLIPS if is_midi(path) or self.clip_s is not None else 0


def _passed_over(there: Walk) -> list[str]:
    """How many files are no songs by their names, by suffix; tables and texts beside the songs are expected."""
    suffixes = Counter(PurePosixPath(path).suffix.lower() or "no suffix" for path in there.files if not is_song(path))
    others = {suffix: count for suffix, count in sorted(suffixes.items()) if suffix not in _BESIDE}
    if not others:
        return []
    counts = ", ".join(f"{count:,} {suffix}" for suffix, count in others.items())
    return [f"{plural(sum(others.values()), 'file is', 'files are')} of no format that is read: {counts}"]


def _sort_strangers(strangers: list[str], there: Walk | None) -> dict[str, list[str]]:
    """The keys that stand for no song, by what they stand for: what is there and not read is not absent."""
    unread = {
        key for path in (there.files if there is not None else ()) if not is_song(path) for key in keys_of(path, path)
    }
    sorted_: dict[str, list[str]] = {}
    for key in strangers:
        what = "not here"
        if there is not None and there.hides(key):
            what = "behind links that are not followed"
        elif key in unread:
            what = "here, and of no format that is read"
        sorted_.setdefault(what, []).append(key)
    return sorted_


def _merge_repeats(table: Table, columns: Columns) -> Columns:
    """The columns with a row for each clip, which carries the labels of all rows that repeat it.

    Raises
    ------
    RequestError
        where a song stands twice with other files, or its rows do not agree on what holds for all of it.
    """
    columns = complete_songs(columns)
    check_songs({name: values for name, values in columns.items() if name != "labels"}, table.where)
    first: dict[str, int] = {}
    labels: dict[int, dict[str, None]] = {}
    for row, song in enumerate(columns["song_id"]):
        clip = clip_id(song, columns["start_s"][row], columns["duration_s"][row])
        before = first.setdefault(clip, row)
        if columns["path"][before] != columns["path"][row]:
            raise RequestError(
                f"{table.where(row)}: {song!r} stands in {table.where(before)} already, with another file; give each "
                f"an id of its own in the column song, or start_s and duration_s"
            )
        labels.setdefault(before, {}).update(dict.fromkeys(columns["labels"][row] if "labels" in columns else ()))
    rows = list(labels)
    rows_merged = {name: [values[row] for row in rows] for name, values in columns.items()}
    if "labels" in columns:
        rows_merged["labels"] = [list(of_row) for of_row in labels.values()]
    check_songs(rows_merged, lambda place: table.where(rows[place]))
    if len(rows) < table.rows:
        repeats = plural(table.rows - len(rows), "row repeats", "rows repeat")
        note(f"{repeats} the file and stretch of another row: one clip, with the labels of both")
    return rows_merged


def songs_in(folder: Path) -> list[Path]:
    """Every recording and MIDI file under a folder; RequestError where there is none."""
    root = root_folder(folder)
    paths, there = songs_under(root, follow_links=False)
    for text in there.notes():
        note(text)
    return [root / path for path in paths]


def clips_of(name: str, paths: Sequence[Path], count: int, clip_s: float) -> Catalog:
    """The clips of some files as a catalog that is in no store: ``count`` stretches of each, or the whole for 0.

    A song's id is the place of its file among ``paths``.
    """
    root = Path("/")
    columns: Columns = {
        "path": [path.relative_to(root).as_posix() for path in paths],
        "song_id": [f"{number:09}" for number in range(len(paths))],
    }
    return _unlabelled(name, cut_columns(root, columns, [count] * len(paths), clip_s, follow_links=True))


def stretches_of(length_s: float, count: int, clip_s: float) -> list[tuple[float | None, float | None]]:
    """Start and duration in seconds of the clips that `clips_of` cuts from a song of that length."""
    return spread(length_s, count, clip_s)


def along(name: str, paths: Sequence[Path], clip_s: float, hop_s: float) -> Catalog:
    """The same with a stretch of ``clip_s`` seconds every ``hop_s`` seconds, all within the song."""
    clips = [
        (f"{number:09}", path, stretch)
        for number, path in enumerate(paths)
        for stretch in stretches_along(path, clip_s, hop_s)
    ]
    columns: Columns = {
        "path": [path.relative_to("/").as_posix() for _, path, _ in clips],
        "song_id": [song for song, _, _ in clips],
        "start_s": [start_s for _, _, (start_s, _) in clips],
        "duration_s": [duration_s for _, _, (_, duration_s) in clips],
        "clip_id": [clip_id(song, *stretch) for song, _, stretch in clips],
    }
    return _unlabelled(name, columns)


def in_segments(
    catalog: Catalog, rows: NDArray[np.int64], segments_s: float, hop_s: float
) -> tuple[Catalog, NDArray[np.int64]]:
    """The stretches of some clips as clips of their own, and [stretches] the catalog row of each.

    A clip of 30 s has 19 stretches of 3 s that begin 1.5 s after each other; one that is shorter is its own stretch.
    """
    root = Path(catalog.info.data_root or ".").resolve()
    paths = catalog.strings("path")
    clips = zip(catalog.column("start_s").to_pylist(), catalog.column("duration_s").to_pylist(), strict=True)
    bounds = dict(enumerate(clips))
    stretches = [
        (row, *stretch)
        for row in rows.tolist()
        for stretch in stretches_along(root / (paths[row] or ""), segments_s, hop_s, bounds[row])
    ]
    owner, starts, lengths = zip(*stretches, strict=True)
    table = catalog.table.take(pa.array(owner))
    ids = [f"{clip}@{start or 0:g}" for clip, start in zip(table.column("clip_id").to_pylist(), starts, strict=True)]
    for name, values in (("clip_id", ids), ("start_s", starts), ("duration_s", lengths)):
        field = table.schema.field(name)
        table = table.set_column(table.schema.get_field_index(name), field, pa.array(values, field.type))
    return Catalog(catalog.info, table.combine_chunks()), np.array(owner, dtype=np.int64)


def _unlabelled(name: str, columns: Columns) -> Catalog:
    info = CatalogInfo(
        name=name,
        title=name,
        version="own",
        licence=Folder.LICENSE,
        citation=Folder.CITATION,
        backbone=Folder.BACKBONE,
        data_root="/",
        follow_links=True,
    )
    rows = len(columns["path"])
    return Catalog.build(info, {**columns, "artist_id": [None] * rows, "labels": [[]] * rows})
