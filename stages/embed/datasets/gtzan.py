"""GTZAN: 1,000 excerpts of 30 s, 100 of each of ten genres; with its faults and its artists known since.

The fault-filtered split leaves out repetitions, distortions and wrong labels, and shares no artist between its sides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from stages.embed.datasets import Dataset, Remote, option
from stages.embed.datasets._columns import artist_columns
from stages.embed.datasets._keyed import read_keyed
from stages.embed.datasets._walk import FOLLOW_LINKS, is_text, root_folder
from stages.progress import note
from store.errors import RequestError, unknown
from store.schema import Catalog
from store.words import plural

SUBSETS = ("filtered", "all")
GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
INDEX = "GTZANindex.txt"

_LISTS = {"train_filtered.txt": "train", "valid_filtered.txt": "validation", "test_filtered.txt": "test"}
# The archive's host no longer answers everyone, and its checksum is the one that torchaudio checks: the publisher tells
# none. The lists have no checksum. Nothing was fetched to verify these addresses.
_LIST_HOST = "https://raw.githubusercontent.com/jongpillee/music_dataset_split/master/GTZAN_split"
_FOLDERS = ("genres", "genres_original", "Data/genres_original", "")
_MAX_TEXT_BYTES = 1 << 22
_SONG = re.compile(rf"({'|'.join(GENRES)})\.\d{{5}}")
_PATH = re.compile(rf"({'|'.join(GENRES)})/(\1\.\d{{5}})\.(?:wav|au|mp3)")
_INDEXED = re.compile(r"(?P<song>\S+)\.(?:wav|au)\s*:::\s*(?P<artist>.*?)\s*:::\s*(?P<title>.*)")


@dataclass(frozen=True, kw_only=True)
class Gtzan(Dataset):
    """One clip a song: the whole excerpt."""

    NAME = "gtzan"
    TITLE = "GTZAN"
    LICENSE = "unclear: excerpts of commercial recordings, for research"
    CITATION = (
        "G. Tzanetakis, P. Cook: Musical Genre Classification of Audio Signals. IEEE Transactions on Speech and Audio "
        "Processing 10(5), 2002; faults and artists: B. L. Sturm, 2013; split: C. Kereliuk, B. L. Sturm, J. Larsen: "
        "Deep Learning and Music Adversaries. IEEE Transactions on Multimedia 17(11), 2015"
    )
    HOMEPAGE = "http://marsyas.info/downloads/datasets.html"
    FILES = (
        "The songs are in genres.tar.gz (blues/blues.00000.wav or .au and so on); train_filtered.txt, "
        "valid_filtered.txt and test_filtered.txt come with github.com/jongpillee/music_dataset_split; artists in "
        "Sturm's GTZANindex.txt (with GTZAN-Rhythm) or in a table of one's own: --artists FILE."
    )
    BACKBONE = "fcn"

    subset: str = option("filtered: 930 songs without faults, with a split; all: every song", "filtered")
    artists: str | None = option("songs' artists: a two-column table, or JSON (FILE or FILE:KEY), keyed by file name")
    follow_links: bool = option(FOLLOW_LINKS, False)

    def __post_init__(self) -> None:
        if self.subset not in SUBSETS:
            raise unknown("--subset", self.subset, SUBSETS)

    def remotes(self) -> tuple[Remote, ...]:
        songs = Remote(
            url="http://opihi.cs.uvic.ca/sound/genres.tar.gz",
            holds=tuple(f"{folder}/blues" for folder in _FOLDERS[:-1]),
            checksum="sha256:24347e0223d2ba798e0a558c4c172d9d4a19c00bb7963fe055d183dadb4ef2c6",
            size="1.2 GB",
        )
        return songs, *(Remote(url=f"{_LIST_HOST}/{name}", holds=(name,)) for name in _LISTS)

    def catalog(self) -> Catalog:
        if self.data is None:
            raise RequestError(f"gtzan needs its files: --data DIR (make: DATA=DIR). {self.FILES}")
        folder = next((name for name in _FOLDERS if (self.data / name / GENRES[0]).is_dir()), None)
        if folder is None and self.subset == "all":
            raise RequestError(f"there is no folder {GENRES[0]} in {self.data} or its {_FOLDERS[0]}. {self.FILES}")
        path_of = _songs(self.data, folder) if folder is not None else {}
        split = _read_lists(self.data) if self.subset == "filtered" or self._has_lists else {}
        songs = sorted(split if self.subset == "filtered" else path_of)
        names, titles, notes = self._artists(songs)
        absent = len(set(songs) - set(path_of))
        if absent:
            notes.append(f"{absent:,} of {plural(len(songs), 'song')} not under {self.data}")
        for text in notes:
            note(text)
        columns = {
            "clip_id": songs,
            "song_id": songs,
            "path": [path_of.get(song) or f"{_FOLDERS[0]}/{song.split('.')[0]}/{song}.wav" for song in songs],
            "labels": [[song.split(".")[0]] for song in songs],
            "title": titles,
            "split_official": [split.get(song) for song in songs],
            **artist_columns([[name] if name else [] for name in names]),
        }
        return self.build(
            columns, root_folder(self.data), self.subset, follow_links=self.follow_links, notes=tuple(notes)
        )

    @property
    def _has_lists(self) -> bool:
        return self.data is not None and all((self.data / name).is_file() for name in _LISTS)

    def _artists(self, songs: list[str]) -> tuple[list[str | None], list[str | None], list[str]]:
        """Artist and title of each song, and what to say where none is known."""
        assert self.data is not None
        if self.artists is not None:
            keys = [[song, f"{song}.wav", f"{song}.au"] for song in songs]
            artists = read_keyed(self.artists, self.data, "artists").look_up(keys)
            return [names[0] if names else None for names in artists], [None] * len(songs), []
        if not (self.data / INDEX).is_file():
            text = f"no artist is known: put {INDEX} into {self.data}, or give --artists FILE"
            return [None] * len(songs), [None] * len(songs), [text]
        index = _read_index(self.data / INDEX)
        entries = [index.get(song, ("", "")) for song in songs]
        return [artist or None for artist, _ in entries], [title or None for _, title in entries], []


def _songs(data: Path, folder: str) -> dict[str, str]:
    """Song -> path of every excerpt that is there."""
    paths: dict[str, str] = {}
    for genre in GENRES:
        for path in sorted((data / folder / genre).glob(f"{genre}.*")):
            if is_text(str(path)) and _PATH.fullmatch(f"{genre}/{path.name}"):
                paths.setdefault(path.stem, path.relative_to(data).as_posix())
    if not paths:
        raise RequestError(f"there is no song in {data / folder / GENRES[0]} or beside it. {Gtzan.FILES}")
    return paths


def _read_lists(data: Path) -> dict[str, str]:
    """Song -> side of the fault-filtered split."""
    absent = [name for name in _LISTS if not (data / name).is_file()]
    if absent:
        raise RequestError(f"{data} lacks {', '.join(absent)}; --subset all does without. {Gtzan.FILES}")
    sides: dict[str, str] = {}
    for name, side in _LISTS.items():
        for number, line in enumerate(_text(data / name).splitlines(), start=1):
            match = _PATH.fullmatch(line.strip())
            if match is None:
                raise RequestError(
                    f"{data / name}, line {number}: {line[:60]!r}, and a path such as blues/blues.00029.wav is wanted"
                )
            if match[2] in sides:
                raise RequestError(
                    f"{data / name}, line {number}: {match[2]} stands in {sides[match[2]]} already; "
                    f"a song belongs to one side of a split, once"
                )
            sides[match[2]] = side
    return sides


def _read_index(path: Path) -> dict[str, tuple[str, str]]:
    """Song -> artist and title, from lines ``blues.00000.wav ::: artist ::: title``; ``#`` begins a comment."""
    songs: dict[str, tuple[str, str]] = {}
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if line.startswith("#") or not line.strip():
            continue
        match = _INDEXED.fullmatch(line.strip())
        if match is None or not _SONG.fullmatch(match["song"]):
            raise RequestError(f"{path}, line {number}: {line[:60]!r} is not song ::: artist ::: title")
        songs[match["song"]] = match["artist"], match["title"]
    return songs


def _text(path: Path) -> str:
    if path.stat().st_size > _MAX_TEXT_BYTES:
        raise RequestError(f"{path} has more than {_MAX_TEXT_BYTES >> 20} MiB, which no list of GTZAN has")
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")  # the index goes round in both
