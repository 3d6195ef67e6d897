"""MTG-Jamendo: 55,000 full Creative Commons songs by artists of Jamendo, tagged by the artists.

The subsets genre, top50, instrument and mood in their official files: tab-separated lines of ``TRACK_ID ARTIST_ID
ALBUM_ID PATH DURATION TAGS...``, one file for each side of each of five splits. No split shares an artist between its
sides.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.embed.datasets import UNLABELLED, Dataset, Remote, option
from stages.embed.datasets._walk import FOLLOW_LINKS, root_folder
from store.errors import RequestError, unknown
from store.schema import SPLITS, Catalog
from store.words import plural

THESIS_GENRES = frozenset(
    {"electronic", "soundtrack", "pop", "ambient", "rock", "classical", "easylistening", "alternative", "chillout"}
    | {"dance", "hiphop", "indie", "folk", "orchestral", "jazz"}
)
GENRES = ("thesis", "all")
EXCERPTS = ("full", "30s")
SPLIT_NUMBERS = range(5)
EXCERPT_S = 30.0

SUBSETS = {  # what the lists are called, and which tags they hold
    "genre": ("genre", "genre"),
    "top50": ("top50tags", "(?:genre|instrument|mood/theme)"),
    "instrument": ("instrument", "instrument"),
    "mood": ("moodtheme", "mood/theme"),
}

# The publisher's repository, which tells no checksums for its lists; nothing was fetched to verify the addresses.
_REPOSITORY = "https://raw.githubusercontent.com/MTG/mtg-jamendo-dataset/master/data/splits"
_AUDIO_FOLDERS = ("", "audio/")
_COLUMNS = {  # what a cell of each column looks like
    "TRACK_ID": r"track_\d+",
    "ARTIST_ID": r"artist_\d+",
    "ALBUM_ID": r"album_\d+",
    "PATH": r"\d+/\d+\.mp3",
    "DURATION": r"\d+(?:\.\d+)?",
}
_HEADER = [*_COLUMNS, "TAGS"]


@dataclass(frozen=True, kw_only=True)
class Mtg(Dataset):
    """One clip a song: the whole track, or the 30 s in its middle."""

    NAME = "mtg"
    TITLE = "MTG-Jamendo"
    LICENSE = "metadata CC BY-NC-SA 4.0; each song under the Creative Commons licence that its artist chose"
    CITATION = (
        "D. Bogdanov, M. Won, P. Tovstogan, A. Porter, X. Serra: The MTG-Jamendo Dataset for Automatic Music Tagging. "
        "Machine Learning for Music Discovery Workshop, ICML 2019"
    )
    HOMEPAGE = "https://github.com/MTG/mtg-jamendo-dataset"
    FILES = (
        "The lists autotagging_genre-{train,validation,test}.tsv (and those of the other subsets) come with the GitHub "
        "repository MTG/mtg-jamendo-dataset (data/splits/split-0 to split-4); the songs are fetched by its "
        "scripts/download/download.py (--dataset raw_30s --type audio, or audio-low); where they lie elsewhere, "
        "--audio DIR says where."
    )
    BACKBONE = "fcn"

    audio: Path | None = option("the folder of the songs (00/ to 99/), where it is not under --data")
    subset: str = option("genre, top50 (the 50 most frequent tags), instrument or mood", "genre")
    genres: str | None = option("thesis: the 15 genres of the thesis (default for genre); all: every genre")
    split: int | None = option("number of the official split, 0 to 4 (default 0)")
    unlabelled: bool = option(UNLABELLED, False)
    excerpt: str = option("full: whole songs; 30s: the middle 30 seconds of each", "full")
    follow_links: bool = option(FOLLOW_LINKS, False)

    def __post_init__(self) -> None:
        if self.subset not in SUBSETS:
            raise unknown("--subset", self.subset, SUBSETS)
        if self.genres is not None and self.genres not in GENRES:
            raise unknown("--genres", self.genres, GENRES)
        if self.genres is not None and self.subset != "genre":
            raise RequestError(f"--genres chooses among genres; leave it out with --subset {self.subset}")
        if self.excerpt not in EXCERPTS:
            raise unknown("--excerpt", self.excerpt, EXCERPTS)
        if self.split is not None and self.split not in SPLIT_NUMBERS:
            raise RequestError(f"--split takes 0 to {SPLIT_NUMBERS[-1]}, not {self.split}")
        if self.audio is not None and not self.audio.is_dir():
            raise RequestError(f"--audio {self.audio} is not a folder")

    def remotes(self) -> tuple[Remote, ...]:
        place = f"split-{self.split or 0}"
        return tuple(
            Remote(url=f"{_REPOSITORY}/{place}/{name}", holds=(f"data/splits/{place}/{name}", f"{place}/{name}", name))
            for name in self._names
        )

    @property
    def _names(self) -> list[str]:
        return [f"autotagging_{SUBSETS[self.subset][0]}-{side}.tsv" for side in SPLITS]

    def catalog(self) -> Catalog:
        data = self._data()
        lists = self._lists(data)
        thesis = self.subset == "genre" and self.genres != "all"
        tags = THESIS_GENRES if thesis else None
        columns = _read(lists, self._names, SUBSETS[self.subset][1], tags, unlabelled=self.unlabelled)
        if not any(columns["labels"]):
            raise RequestError(f"{lists} names no song that has one of the tags that are asked for")
        root = self.audio or data
        columns["path"] = _on_disk(root, columns["path"])
        length_s = columns.pop("length_s")
        if self.excerpt == "30s":
            columns["start_s"] = [max(0.0, round((s - EXCERPT_S) / 2, 3)) for s in length_s]
            columns["duration_s"] = [EXCERPT_S] * len(length_s)
        return self.build(
            columns,
            root_folder(root),
            f"split-{self.split or 0}, {'thesis genres' if thesis else self.subset}, {self.excerpt}",
            follow_links=self.follow_links,
        )

    def _data(self) -> Path:
        if self.data is None:
            raise RequestError(
                f"mtg needs its files: --data DIR (make: DATA=DIR), a folder with {self._names[0]} or a clone of "
                f"the repository. {self.FILES}"
            )
        return self.data

    def _lists(self, data: Path) -> Path:
        """The folder of the three lists of the split that was asked for."""
        number = f"split-{self.split or 0}"
        if (data / self._names[0]).is_file() and self.split is not None and data.name != number:
            raise RequestError(
                f"{data} holds the lists of one split only, and which one does not show; leave out --split, or give "
                f"--data a clone of the repository, with {number}/ in data/splits"
            )
        for folder in (data, data / number, data / "splits" / number, data / "data" / "splits" / number):
            absent = [name for name in self._names if not (folder / name).is_file()]
            if not absent:
                return folder
            if len(absent) < len(self._names):
                raise RequestError(f"{folder} lacks {', '.join(absent)}. {self.FILES}")
        raise RequestError(
            f"there is no {self._names[0]} in {data} or its data/splits/{number}. {self.FILES} "
            f"Give the folder: --data DIR (make: DATA=DIR)"
        )


def _read(
    folder: Path, names: list[str], category: str, selection: frozenset[str] | None, *, unlabelled: bool
) -> dict[str, list[Any]]:
    """Catalog columns from a split's three lists; labels, and songs if not ``unlabelled``, restricted to ``selection``.

    Tags of one category are labels by their names; where a list mixes categories, they keep them (``genre---rock``).
    """
    tag = f"{category}---[^\\t]+"
    cells = [*_COLUMNS.values(), f"{tag}(?:\\t{tag})*"]
    pattern = re.compile("\\t".join(f"({cell})" for cell in cells))
    columns: dict[str, list[Any]] = {
        name: []
        for name in ("clip_id", "song_id", "artist_id", "album_id", "path", "length_s", "labels", "split_official")
    }
    places: dict[str, tuple[Path, int]] = {}
    for side, name in zip(SPLITS, names, strict=True):
        path = folder / name
        for line, text in _lines(path):
            match = pattern.fullmatch(text)
            if match is None:
                raise _malformed(path, line, text, cells)
            song, artist, album, file, length, tags = match.groups()
            if song in places:
                before, at = places[song]
                raise RequestError(
                    f"{path}, line {line}: {song} stands in {before.name}, line {at}, already; "
                    f"a song belongs to one side of a split, once"
                )
            places[song] = path, line
            labels = [tag.removeprefix(f"{category}---") for tag in tags.split("\t")]
            if selection is not None:
                labels = [label for label in labels if label in selection]
            if labels or unlabelled:
                row = (song, song, artist, album, file, float(length), labels, side)
                for column, value in zip(columns.values(), row, strict=True):
                    column.append(value)
    return columns


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number (from 1) and text of every line behind the header, which is checked."""
    try:
        with path.open(encoding="utf-8") as file:
            _check_header(path, file.readline().rstrip("\n"))
            for line, text in enumerate(file, start=2):
                yield line, text.rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path} cannot be read: {error}. {Mtg.FILES}") from error


def _check_header(path: Path, text: str) -> None:
    names = text.split("\t")
    missing = [name for name in _HEADER if name not in names]
    if missing or names != _HEADER:
        wrong = f"lacks {', '.join(missing)}" if missing else "has its columns in another order"
        raise RequestError(
            f"{path}, line 1: the header {wrong}; an official list has {' '.join(_HEADER)}, separated by tabs. "
            f"{Mtg.FILES}"
        )


def _malformed(path: Path, line: int, text: str, patterns: list[str]) -> RequestError:
    cells = text.split("\t", len(_HEADER) - 1)
    for name, pattern, cell in zip(_HEADER, patterns, cells, strict=False):
        if not re.fullmatch(pattern, cell):
            return RequestError(
                f"{path}, line {line}: {name} is {cell[:60]!r}, which no official list has; fetch the file again"
            )
    return RequestError(
        f"{path}, line {line}: {plural(len(cells), 'column')}, and {len(_HEADER)} are the least; fetch the file again"
    )


def _on_disk(root: Path, paths: list[str]) -> list[str]:
    """The paths as the songs are named on this disk: in ``audio/`` or not, full or low bitrate (``.low.mp3``)."""
    for folder in _AUDIO_FOLDERS:
        if not (root / folder).is_dir():
            continue
        for suffix in (".mp3", ".low.mp3"):
            files = [folder + path.removesuffix(".mp3") + suffix for path in paths]
            if any(os.path.isfile(f"{root}/{path}") for path in files):
                return files
    return paths
