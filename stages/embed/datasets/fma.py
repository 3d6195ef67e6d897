"""FMA: 106,574 songs of the Free Music Archive with artists, albums and a hierarchy of 161 genres.

The release of 2017 in its official files. ``tracks.csv`` has three header rows (group, field, the name of the index)
and cells that run over several lines; ``genres.csv`` holds the hierarchy. The official split shares no artist.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from stages import interrupts
from stages.embed.datasets import UNLABELLED, Dataset, Remote, option
from stages.embed.datasets._walk import FOLLOW_LINKS, root_folder
from stages.embed.tables import MAX_TEXT_BYTES, Table, read_table
from stages.embed.tables.text import line_of
from stages.progress import note
from store.errors import RequestError, unknown
from store.schema import Catalog
from store.words import plural

SUBSETS = {"small": 8_000, "medium": 25_000, "large": 106_574}  # songs; each holds those before it, large is every one
GENRES = ("top", "roots", "all")

# Songs whose length the archive had wrong, so that their 30 s were cut too late: short, or empty.
# Counted by the authors of the collection: github.com/mdeff/fma, issue 8.
BROKEN = frozenset(
    {1486, 5574, 65753, 80391, 98558, 98559, 98560, 98565, 98566, 98567, 98568, 98569, 98571, 99134, 105247}
    | {108924, 108925, 126981, 127336, 133297, 143992}
)

# Addresses, sizes and checksums as the collection's own README tells them.
_HOST = "https://os.unil.cloud.switch.ch/fma"
_METADATA = Remote(
    url=f"{_HOST}/fma_metadata.zip",
    checksum="sha1:f0df49ffe5f2a6008d7dc83c6915b31835dfe733",
    holds=("fma_metadata/tracks.csv", "tracks.csv"),
    size="342 MiB",
)
_ARCHIVES = {
    "small": ("sha1:ade154f733639d52e35e32f5593efe5be76c6d70", "7.2 GiB"),
    "medium": ("sha1:c67b69ea232021025fca9231fc1c7c1a063ab50b", "22 GiB"),
    "large": ("sha1:497109f4dd721066b5ce5e5f250ec604dc78939e", "93 GiB"),
}
_FULL = "full"  # the archive of whole songs, in place of 30 s of each
_SPLITS = {"training": "train", "validation": "validation", "test": "test"}
_COLUMNS = (
    "track_id",
    *("album.id", "artist.id", "artist.name", "set.split", "set.subset"),
    *("track.genre_top", "track.genres", "track.title"),
)
_HEADER_ROWS = 3
_LIST = re.compile(r"\[(?:\d+(?:, ?\d+)*)?\]")

Columns = dict[str, list[Any]]


@dataclass(frozen=True, kw_only=True)
class Fma(Dataset):
    """One clip a song: its 30 s in ``fma_small``, ``fma_medium`` or ``fma_large``, or all of it in ``fma_full``.

    The smallest folder at hand that holds the subset is read.
    """

    NAME = "fma"
    TITLE = "Free Music Archive (FMA)"
    LICENSE = "metadata CC BY 4.0; each song under the licence that its artist chose"
    CITATION = "M. Defferrard, K. Benzi, P. Vandergheynst, X. Bresson: FMA: A Dataset for Music Analysis. ISMIR 2017"
    HOMEPAGE = "https://github.com/mdeff/fma"
    FILES = (
        "tracks.csv and genres.csv come in fma_metadata.zip, the songs in fma_small.zip, fma_medium.zip and "
        "fma_large.zip (encore data fma fetches them), or whole in the folder fma_full."
    )
    BACKBONE = "fcn"

    subset: str = option("small: 8,000 songs of 8 genres; medium: 25,000 of 16; large: all 106,574", "small")
    genres: str = option(
        "top: a song's one root genre; roots: all of its root genres; all: every genre it is tagged with", "top"
    )

    unlabelled: bool = option(UNLABELLED, False)
    follow_links: bool = option(FOLLOW_LINKS, False)

    def __post_init__(self) -> None:
        if self.subset not in SUBSETS:
            raise unknown("--subset", self.subset, SUBSETS)
        if self.genres not in GENRES:
            raise unknown("--genres", self.genres, GENRES)

    def remotes(self) -> tuple[Remote, ...]:
        checksum, size = _ARCHIVES[self.subset]
        name = f"fma_{self.subset}"
        return _METADATA, Remote(url=f"{_HOST}/{name}.zip", checksum=checksum, holds=(name,), size=size)

    def catalog(self) -> Catalog:
        data = self._data()
        tracks = _open(_find(data, "tracks.csv"))
        columns, rows = _read(tracks, tuple(SUBSETS)[: list(SUBSETS).index(self.subset) + 1])
        if self.genres == "top":
            labels = [[name] if name else [] for name in tracks.strings("track.genre_top")]
        else:
            labels = _named(tracks, _Genres(read_table(_find(data, "genres.csv"))), roots=self.genres == "roots")
        faulty = sorted(row for row in rows if int(columns["clip_id"][row]) in BROKEN)
        usable_rows = [row for row in rows if int(columns["clip_id"][row]) not in BROKEN]
        selection = [row for row in usable_rows if labels[row] or self.unlabelled]
        if not any(labels[row] for row in selection):
            raise RequestError(f"{tracks.path} names no song of --subset {self.subset} that has a genre")
        notes = _notes(columns["clip_id"], faulty, len(usable_rows) - len(selection), self.genres)
        if len(rows) != SUBSETS[self.subset]:
            notes.append(
                f"{tracks.path.name} names {plural(len(rows), 'song')} of --subset {self.subset}, and the official "
                f"file {SUBSETS[self.subset]:,}"
            )
        for text in notes:
            note(text)
        columns["labels"] = labels
        columns["path"] = _paths(data, self.subset, columns["clip_id"])
        values_of = {name: [values[row] for row in selection] for name, values in columns.items()}
        return self.build(
            values_of,
            root_folder(data),
            f"{self.subset}, genres {self.genres}",
            follow_links=self.follow_links,
            notes=tuple(notes),
        )

    def _data(self) -> Path:
        if self.data is None:
            raise RequestError(f"fma needs its files: --data DIR (make: DATA=DIR). {self.FILES}")
        return self.data


def _find(data: Path, name: str) -> Path:
    for path in (data / "fma_metadata" / name, data / name):
        if path.is_file():
            return path
    raise RequestError(
        f"there is no {name} in {data} or {data / 'fma_metadata'}. {Fma.FILES} "
        f"Give the folder: --data DIR (make: DATA=DIR)"
    )


def _open(path: Path) -> Table:
    """``tracks.csv`` with its columns named ``group.field``; only those that the catalog needs are parsed."""
    import pyarrow.csv

    if path.stat().st_size > MAX_TEXT_BYTES:
        raise RequestError(f"{path} has more than {MAX_TEXT_BYTES >> 30} GiB, which no release of FMA has")
    try:
        with path.open(encoding="utf-8-sig") as file:
            groups, fields, index = (file.readline().rstrip("\r\n").split(",") for _ in range(_HEADER_ROWS))
        if index[0] != "track_id" or any(index[1:]) or len(groups) != len(fields):
            raise _other_release(path, "its first three lines are not group, field and track_id")
        names = ["track_id", *(f"{group}.{field}" for group, field in zip(groups[1:], fields[1:], strict=True))]
        missing = [name for name in _COLUMNS if name not in names]
        if missing:
            raise _other_release(path, f"it lacks {', '.join(missing)}")
        with interrupts.kept_from_arrow():
            table = pyarrow.csv.read_csv(
                path,
                read_options=pyarrow.csv.ReadOptions(column_names=names, skip_rows=_HEADER_ROWS, block_size=16 << 20),
                parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
                convert_options=pyarrow.csv.ConvertOptions(
                    include_columns=list(_COLUMNS), column_types=dict.fromkeys(_COLUMNS, pa.string())
                ),
            )
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise RequestError(f"{path} cannot be read: {error}. Fetch it again: {Fma.FILES}") from error
    types = dict.fromkeys(_COLUMNS, pa.string())
    return Table(path, table.num_rows, types, table.column, line=partial(line_of, path, _HEADER_ROWS))


def _other_release(path: Path, what: str) -> RequestError:
    return RequestError(f"{path} is not the tracks.csv of FMA's release of 2017: {what}. {Fma.FILES}")


def _read(tracks: Table, subsets: tuple[str, ...]) -> tuple[Columns, list[int]]:
    """Catalog columns of every song, and the rows of the songs in ``subsets``."""
    songs, artists, albums = (tracks.strings(name) for name in ("track_id", "artist.id", "album.id"))
    splits, subset_of = tracks.strings("set.split"), tracks.strings("set.subset")
    row_of: dict[str, int] = {}
    for row, (song, split, subset) in enumerate(zip(songs, splits, subset_of, strict=True)):
        if song is None or not song.isascii() or not song.isdigit() or len(song) > 6:
            raise RequestError(f"{tracks.where(row)}: track_id is {song!r}, and no song of FMA has such an id")
        if row_of.setdefault(song, row) != row:
            raise RequestError(f"{tracks.where(row)}: song {song} stands in {tracks.where(row_of[song])} already")
        if split not in _SPLITS:
            raise RequestError(f"{tracks.where(row)}: set.split is {split!r}; FMA has {', '.join(_SPLITS)}")
        if subset not in SUBSETS:
            raise RequestError(f"{tracks.where(row)}: set.subset is {subset!r}; FMA has {', '.join(SUBSETS)}")
    columns: Columns = {
        "clip_id": songs,
        "song_id": songs,
        "artist_id": artists,
        "artist_name": tracks.strings("artist.name"),
        "album_id": [None if album == "-1" else album for album in albums],
        "title": tracks.text("track.title").to_pylist(),
        "split_official": [_SPLITS[split or ""] for split in splits],
    }
    return columns, [row for row, subset in enumerate(subset_of) if subset in subsets]


class _Genres:
    """``genres.csv``: the name of each genre and of the root above it."""

    def __init__(self, table: Table) -> None:
        missing = [name for name in ("genre_id", "title", "top_level") if name not in table.types]
        if missing:
            raise RequestError(f"{table.path} lacks {', '.join(missing)}, which FMA's genres.csv has. {Fma.FILES}")
        ids = table.strings("genre_id")
        self.path = table.path
        self.name = dict(zip(ids, table.strings("title"), strict=True))
        self.root = {genre: self.name.get(top) for genre, top in zip(ids, table.strings("top_level"), strict=True)}


def _named(tracks: Table, genres: _Genres, *, roots: bool) -> list[list[str]]:
    """The names of each song's genres, or of the roots above them, without repetition."""
    names = genres.root if roots else genres.name
    genre_lists: list[list[str]] = []
    for row, cell in enumerate(tracks.strings("track.genres")):
        if cell is None or not _LIST.fullmatch(cell):
            raise RequestError(f"{tracks.where(row)}: track.genres is {cell!r}, and a list such as [21, 76] is wanted")
        of_song: dict[str, None] = {}
        for genre in re.findall(r"\d+", cell):
            name = names.get(genre)
            if name is None:
                raise RequestError(f"{tracks.where(row)}: genre {genre} does not stand in {genres.path}")
            of_song[name] = None
        genre_lists.append(list(of_song))
    return genre_lists


def _notes(songs: list[str], faulty: list[int], bare: int, genres: str) -> list[str]:
    notes = []
    if faulty:
        names = ", ".join(songs[row] for row in faulty)
        notes.append(f"{plural(len(faulty), 'song')} left out, cut too late and so short or empty: {names}")
    if bare:
        advice = "; --genres roots takes songs of several root genres too" if genres == "top" else ""
        notes.append(f"{plural(bare, 'song')} left out: the collection gives them no {genres} genre{advice}")
    return notes


def _paths(data: Path, subset: str, songs: list[str]) -> list[str]:
    """``000/000002.mp3`` in the folder of the smallest archive at hand that holds the subset."""
    archives = [f"fma_{name}/" for name in (*list(SUBSETS)[list(SUBSETS).index(subset) :], _FULL)]
    bare = "" if (data / "000").is_dir() else archives[0]
    folder = next((name for name in archives if (data / name).is_dir()), bare)
    names = [f"{int(song):06d}" for song in songs]
    return [f"{folder}{name[:3]}/{name}.mp3" for name in names]
