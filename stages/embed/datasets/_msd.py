"""What the Lakh collections take from the Million Song Dataset: matches, the summary of songs, genre assignments."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.embed.datasets import Remote
from stages.embed.tables.hdf5 import hdf5_file
from store.errors import RequestError
from store.words import plural

MATCHES = "match_scores.json"
SUMMARY = "msd_summary_file.h5"

GENRE_MAP = "midi_genre_map.json"

# The publisher of the map: A. Ferraro, K. Lemström: On Large-Scale Genre Classification in Symbolically Encoded Music
# by Automatic Identification of Repeating Patterns, DLfM 2018. Addresses are those of the publishers' pages, which tell
# no checksum; that of the matches is one that readers of the file check. Sizes without a checksum are as others report
# them; nothing was fetched from these hosts to verify it.
LMD_HOST = "http://hog.ee.columbia.edu/craffel/lmd"
REMOTES = (
    Remote(
        url=f"https://raw.githubusercontent.com/andrebola/patterns-genres/master/data/{GENRE_MAP}",
        holds=(GENRE_MAP,),
        size="3.7 MB",
    ),
    Remote(
        url=f"{LMD_HOST}/{MATCHES}",
        holds=(MATCHES,),
        checksum="sha256:267bc606dfa21f0ad0601a4a080972cd4ae8088fe4003b9bb2811b5be060a102",
        size="7.2 MB",
    ),
    Remote(
        url=f"http://millionsongdataset.com/sites/default/files/AdditionalFiles/{SUMMARY}",
        holds=(SUMMARY,),
        size="301 MB",
    ),
)

_MAX_JSON_BYTES = 1 << 30
_MAX_TEXT_BYTES = 1 << 28
_TRACK = re.compile(r"TR[A-Z]{5}[0-9A-F]{11}")
_MD5 = re.compile(r"[0-9a-f]{32}")
_GAP = re.compile(r"\t| {2,}")
_BLOCK_ROWS = 1 << 13  # a song's strings take 8 kB in the summary


@dataclass(frozen=True, slots=True)
class Song:
    """One song of the Million Song Dataset; None for what is empty there."""

    artist_id: str | None
    artist_name: str | None
    album_id: str | None
    title: str | None


def read_matches(path: Path) -> dict[str, list[str]]:
    """MD5 of a MIDI file -> the tracks that ``match_scores.json`` matches it to, the best one first.

    The file maps track to MD5 to confidence; of equal confidences the first track by name is better.
    """
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise RequestError(f"{path} has more than {_MAX_JSON_BYTES >> 30} GiB, and the official file has 7 MB")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path} cannot be read as JSON: {error}; fetch it again") from error
    if not isinstance(content, dict):
        raise RequestError(f"{path} must hold a map from track to files; fetch it again")
    scores: dict[str, list[tuple[float, str]]] = {}
    for track, files in content.items():
        if not _TRACK.fullmatch(track) or not isinstance(files, dict):
            raise RequestError(f"{path}: {track!r} is no track with its files; fetch it again")
        for md5, score in files.items():
            if not _MD5.fullmatch(md5) or isinstance(score, bool) or not isinstance(score, int | float):
                raise RequestError(
                    f"{path}: {track} holds {md5!r} with {score!r}, and an MD5 with a confidence is wanted"
                )
            scores.setdefault(md5, []).append((-score, track))
    return {md5: [track for _, track in sorted(tracks)] for md5, tracks in scores.items()}


def read_summary(path: Path, tracks: Collection[str]) -> dict[str, Song]:
    """The songs of ``tracks`` in the dataset's summary (groups ``metadata`` and ``analysis``), read block by block."""
    names = np.array(sorted(tracks), dtype="S18")
    song_of_track: dict[str, Song] = {}
    with hdf5_file(path) as file:
        songs = _table(path, file, "metadata/songs", ("artist_id", "artist_name", "release", "title"))
        analysis = _table(path, file, "analysis/songs", ("track_id",))
        if len(songs) != len(analysis):
            raise RequestError(
                f"{path}: metadata has {plural(len(songs), 'song')} and analysis {len(analysis):,}; fetch it again"
            )
        ids = analysis.fields("track_id")
        fields = songs.fields(["artist_id", "artist_name", "release", "title"])
        for start in range(0, len(songs), _BLOCK_ROWS):
            block = ids[start : start + _BLOCK_ROWS]
            hits = np.flatnonzero(np.isin(block, names))
            if not len(hits):
                continue
            rows = fields[start : start + _BLOCK_ROWS][hits]
            for track, row in zip(block[hits], rows, strict=True):
                song_of_track[track.decode()] = _song(path, row)
    return song_of_track


def _table(path: Path, file: Any, name: str, fields: tuple[str, ...]) -> Any:
    """A compound dataset that lies in the file itself."""
    import h5py

    group, _, table = name.partition("/")
    own = isinstance(file.get(group, getlink=True), h5py.HardLink) and isinstance(file[group], h5py.Group)
    if own and isinstance(file[group].get(table, getlink=True), h5py.HardLink):
        data = file[group][table]
        if isinstance(data, h5py.Dataset) and not data.is_virtual and not data.external:
            missing = [field for field in fields if field not in (data.dtype.names or ())]
            if not missing:
                return data
            raise RequestError(f"{path}: /{name} lacks {', '.join(missing)}; {_wanted()}")
    raise RequestError(f"{path} has no table /{name}; {_wanted()}")


def _wanted() -> str:
    return f"give the Million Song Dataset's {SUMMARY}"


def _song(path: Path, row: Any) -> Song:
    try:
        artist, name, release, title = (
            (row[f] or b"").decode() or None for f in ("artist_id", "artist_name", "release", "title")
        )
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: a name is not UTF-8 ({error}); {_wanted()}") from error
    return Song(artist, name, f"{artist}/{release}" if release else None, title)


def read_assignments(path: Path) -> dict[str, list[str]]:
    """Track -> genres: lines of track, genre and perhaps a second genre, tabs or several blanks between them.

    The form of tagtraum's ``msd_tagtraum_*.cls``, of the Million Song Dataset benchmarks' ``msd-*Assignment.cls`` and
    of the Lakh Pianoroll Dataset's ``masd_labels.txt``; ``#`` begins a comment.
    """
    if path.stat().st_size > _MAX_TEXT_BYTES:
        raise RequestError(f"{path} has more than {_MAX_TEXT_BYTES >> 20} MiB, which no list of genres has")
    genres_of: dict[str, list[str]] = {}
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.startswith("#") or not line.strip():
                    continue
                track, *genres = (cell.strip() for cell in _GAP.split(line.strip()))
                if not _TRACK.fullmatch(track) or not 1 <= len(genres) <= 2 or not all(genres):
                    raise RequestError(
                        f"{path}, line {number}: {line.strip()[:60]!r} is no track with one genre or two behind tabs"
                    )
                if track in genres_of:
                    raise RequestError(f"{path}, line {number}: {track} stands in an earlier line already")
                genres_of[track] = list(dict.fromkeys(genres))
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path} cannot be read: {error}") from error
    return genres_of


def song_columns(summary: Path, tracks: Sequence[str | None]) -> dict[str, list[str | None]]:
    """Artist, album and title of each song by its track, as catalog columns; nulls where the summary is not there."""
    names = {track for track in tracks if track}
    details = read_summary(summary, names) if names and summary.is_file() else {}
    songs = [details.get(track) if track else None for track in tracks]
    return {
        name: [getattr(song, name) if song else None for song in songs]
        for name in ("artist_id", "artist_name", "album_id", "title")
    }


def by_file(matches: Mapping[str, list[str]], of_track: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """MD5 -> what its matched tracks carry, without repetition, those of the best match first."""
    labels_of = {
        md5: list(dict.fromkeys(label for track in tracks for label in of_track.get(track, ())))
        for md5, tracks in matches.items()
    }
    return {md5: labels for md5, labels in labels_of.items() if labels}
