"""Lakh MIDI: 176,581 MIDI files named by the MD5 of their content, 45,129 of them matched to known recordings.

Three subsets: full, matched (by the Million Song Dataset's tracks) and clean (``artist/title.mid``). A song is a
file; files whose best match is one track, and the numbered versions of a title in the clean subset, are one recording
and never parted by a split. Labels come from the matched recordings, so a file can carry those of several.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.embed.datasets import UNLABELLED, Dataset, Remote, option
from stages.embed.datasets._columns import artist_columns, locate
from stages.embed.datasets._keyed import read_keyed
from stages.embed.datasets._msd import (
    GENRE_MAP,
    LMD_HOST,
    MATCHES,
    REMOTES,
    SUMMARY,
    by_file,
    read_assignments,
    read_matches,
    song_columns,
)
from stages.embed.datasets._songs import check_stretches, cut_columns
from stages.embed.datasets._walk import FOLLOW_LINKS, Walk, leads_out, root_folder, walk
from stages.progress import note, task
from store.errors import RequestError, unknown
from store.schema import Catalog
from store.words import plural

SUBSETS = ("full", "matched", "clean")
GENRES = ("topmagd", "masd", "magd")
CLIPS = 4
CLIP_S = 15.0

_FOLDERS = {"full": "lmd_full", "matched": "lmd_matched", "clean": "clean_midi"}
# Addresses of the publisher's page, which tells neither sizes nor checksums; these are the ones that MusPy checks (full
# and matched) or that others report (clean). Nothing was fetched to verify them.
_ARCHIVES = {
    "full": Remote(
        url=f"{LMD_HOST}/lmd_full.tar.gz",
        holds=("lmd_full",),
        checksum="sha256:6fcfe2ac49ca08f3f214cec86ab138d4fc4dabcd7f27f491a838dae6db45a12b",
        size="1.8 GB",
    ),
    "matched": Remote(
        url=f"{LMD_HOST}/lmd_matched.tar.gz",
        holds=("lmd_matched",),
        checksum="sha256:621ff830aed771f469e5bfa13dc12a33c6ed69090adeda63d0b5c47783af0191",
        size="1.4 GB",
    ),
    "clean": Remote(
        url=f"{LMD_HOST}/clean_midi.tar.gz",
        holds=("clean_midi",),
        checksum="sha256:de1bb64cbc0cf35545a05b5c3e786aa6890cfa144edffc4b827ff41bf8c33dc5",
        size="234 MB",
    ),
}
_FILE = re.compile(r"([0-9a-f]{32})\.mid")
_VERSION = re.compile(r"\.\d+$")


@dataclass(frozen=True, slots=True)
class _File:
    """A MIDI file: its id as a song, the MD5 of its content, its path under ``--data``."""

    song: str
    md5: str
    path: str


@dataclass(frozen=True, kw_only=True)
class Lakh(Dataset):
    """Stretches of each labelled file, four of 15 s by default, with ids ``<song>@<start>+<duration>``."""

    NAME = "lakh"
    TITLE = "Lakh MIDI"
    LICENSE = "CC BY 4.0"
    CITATION = (
        "C. Raffel: Learning-Based Methods for Comparing Sequences, with Applications to Audio-to-MIDI Alignment and "
        "Matching. PhD thesis, Columbia University, 2016; labels: A. Schindler, R. Mayer, A. Rauber, ISMIR 2012; "
        "H. Schreiber, ISMIR 2015"
    )
    HOMEPAGE = "https://colinraffel.com/projects/lmd/"
    FILES = (
        "The songs are in lmd_full.tar.gz, lmd_matched.tar.gz or clean_midi.tar.gz; labels in midi_genre_map.json "
        "(github.com/andrebola/patterns-genres) or in tagtraum's msd_tagtraum_cd*.cls; artists through "
        f"{MATCHES} and the Million Song Dataset's {SUMMARY}, or in a table of one's own: --artists FILE."
    )
    BACKBONE = "pianoroll"

    subset: str = option("full: every file; matched: by recording; clean: by artist and title", "full")
    genres: str = option(f"topmagd: 13 genres; masd: 25 styles; magd: 21 genres, from {GENRE_MAP}", "topmagd")
    labels: str | None = option("other labels: FILE.cls keyed by track, or FILE, FILE:KEY keyed by file name")
    artists: str | None = option("songs' artists: a two-column table, or JSON (FILE or FILE:KEY), keyed by file name")
    unlabelled: bool = option(UNLABELLED, False)
    clips: int | None = option("stretches to cut from each song, 0 for whole songs (default 4)")
    clip_s: float | None = option("length of these stretches in seconds (default 15)")
    follow_links: bool = option(FOLLOW_LINKS, False)

    def __post_init__(self) -> None:
        if self.subset not in SUBSETS:
            raise unknown("--subset", self.subset, SUBSETS)
        if self.genres not in GENRES:
            raise unknown("--genres", self.genres, GENRES)
        check_stretches(self.clips, self.clip_s)

    def remotes(self) -> tuple[Remote, ...]:
        return _ARCHIVES[self.subset], *REMOTES

    def catalog(self) -> Catalog:
        if self.data is None:
            raise RequestError(f"lakh needs its files: --data DIR (make: DATA=DIR). {self.FILES}")
        root = root_folder(self.data)
        matches = read_matches(root / MATCHES) if (root / MATCHES).is_file() else {}
        labels = self._labels(matches)
        files, notes = self._files(root, matches, labels)
        notes += self._tell(matches)
        tracks = [matches.get(file.md5, [""])[0] or None for file in files]
        columns: dict[str, Any] = {
            "song_id": [file.song for file in files],
            "path": [file.path for file in files],
            "labels": [labels.get(file.md5, []) for file in files],
            "recording_id": list(map(_title_of, files)) if self.subset == "clean" else tracks,
            **self._artists(root, files, tracks),
        }
        count = CLIPS if self.clips is None else self.clips
        counts = [count] * len(columns["path"])
        clips = cut_columns(root, columns, counts, self.clip_s or CLIP_S, follow_links=self.follow_links)
        for text in notes:
            note(text)
        return self.build(
            clips,
            root,
            f"{self.subset}, {self.labels or self.genres}",
            follow_links=self.follow_links,
            notes=tuple(notes),
        )

    def _labels(self, matches: Mapping[str, list[str]]) -> dict[str, list[str]]:
        """MD5 -> labels."""
        if self.labels is None:
            return read_keyed(f"{GENRE_MAP}:{self.genres}", self.data, "labels").values
        if not self.labels.endswith(".cls"):
            return read_keyed(self.labels, self.data, "labels").values
        path = locate(self.labels, self.data, "file of labels")
        if not matches:
            raise RequestError(
                f"{path} names recordings; {MATCHES} says which file is which and must lie in {self.data}"
            )
        labels = by_file(matches, read_assignments(path))
        if not labels:
            raise RequestError(f"{path} names none of the recordings of {MATCHES}")
        return labels

    def _files(
        self, root: Path, matches: Mapping[str, list[str]], labels: Mapping[str, list[str]]
    ) -> tuple[list[_File], list[str]]:
        """The labelled files of the subset, there or not, in the order of their ids; and what to say of the others.

        Unlabelled ones that are there are among them where they are asked for.
        """
        within = root / _FOLDERS[self.subset]
        within = within if within.is_dir() else root
        there = walk(root, within, follow_links=self.follow_links)
        if self.subset == "clean":
            titles, notes = self._titles(root, within, there)
            files = [file for file in titles if labels.get(file.md5) or self.unlabelled]
            if not any(labels.get(file.md5) for file in files):
                raise RequestError(f"none of the files under {within} ({len(titles):,}) has a label. {self.FILES}")
            without_labels = len(titles) - len(files)
            return files, [
                *notes,
                *(
                    [f"{without_labels:,} of {plural(len(titles), 'file')} left out: no label"]
                    if without_labels
                    else []
                ),
            ]
        paths = _named_by_md5(there, matches)
        files, absent = [], 0
        for md5 in sorted(md5 for md5, of_file in labels.items() if of_file and _FILE.fullmatch(f"{md5}.mid")):
            path = paths.get(md5) or self._official_path(md5, matches)
            if path is not None:
                files.append(_File(md5, md5, path))
                absent += md5 not in paths
        if not files:
            raise RequestError(f"the labels name no file of --subset {self.subset}. {self.FILES}")
        notes = there.notes()
        if absent:
            notes.append(f"{absent:,} of {plural(len(files), 'labelled file')} not under {within}")
        if self.unlabelled:
            free = (md5 for md5 in paths if not labels.get(md5))
            files = sorted([*files, *(_File(md5, md5, paths[md5]) for md5 in free)], key=lambda file: file.song)
        return files, notes

    def _titles(self, root: Path, within: Path, there: Walk) -> tuple[list[_File], list[str]]:
        """The files ``artist/title.mid`` and the MD5 of each; and what to say of those that are not read."""
        start = os.path.relpath(within, root).replace(os.sep, "/")
        title = re.compile(r"(?:" + ("" if start == "." else re.escape(f"{start}/")) + r")([^/]+/[^/]+)\.mid")
        songs = [(path, match[1]) for path in there.files if (match := title.fullmatch(path))]
        outside = [path for path, _ in songs if not self.follow_links and leads_out(root, path)]
        notes = there.notes()
        if outside:
            those = plural(len(outside), "file is a link", "files are links")
            notes.append(f"{those} out of {root} ({outside[0]!r} is the first) and not followed; --follow-links does")
        songs = sorted((path, song) for path, song in songs if path not in set(outside) and (root / path).is_file())
        if not songs:
            why = "".join(f"; {text}" for text in notes)
            raise RequestError(f"there is no artist/title.mid under {within}{why}. {self.FILES}")
        files = []
        with task("hashing MIDI files", len(songs), "files") as advance:
            for path, song in songs:
                with (root / path).open("rb") as file:
                    md5 = hashlib.file_digest(file, "md5").hexdigest()
                files.append(_File(unicodedata.normalize("NFC", song), md5, path))
                advance(1)
        return files, notes

    def _official_path(self, md5: str, matches: Mapping[str, list[str]]) -> str | None:
        """Where the archive has a file; None where it is not in this subset."""
        if self.subset == "full":
            return f"lmd_full/{md5[0]}/{md5}.mid"
        track = matches.get(md5, [""])[0]
        return f"lmd_matched/{track[2]}/{track[3]}/{track[4]}/{track}/{md5}.mid" if track else None

    def _artists(self, root: Path, files: Sequence[_File], tracks: Sequence[str | None]) -> dict[str, list[Any]]:
        if self.artists is not None:
            songs = [[file.song, file.path, f"{file.md5}.mid", file.md5] for file in files]
            return artist_columns(read_keyed(self.artists, self.data, "artists").look_up(songs))
        if self.subset == "clean":
            titles = [file.song.split("/", 1) for file in files]
            return {
                "artist_id": [artist for artist, _ in titles],
                "artist_name": [artist for artist, _ in titles],
                "title": [_VERSION.sub("", title) for _, title in titles],
            }
        return dict(song_columns(root / SUMMARY, tracks))

    def _tell(self, matches: Mapping[str, list[str]]) -> list[str]:
        notes = []
        assert self.data is not None
        if self.subset != "clean" and not matches:
            notes.append(
                f"there is no {MATCHES} in {self.data}: which files are versions of one recording is not known"
            )
        if self.subset != "clean" and self.artists is None and not (matches and (self.data / SUMMARY).is_file()):
            notes.append(f"no artist is known: put {MATCHES} and {SUMMARY} into {self.data}, or give --artists FILE")
        return notes


def _named_by_md5(there: Walk, matches: Mapping[str, list[str]]) -> dict[str, str]:
    """MD5 -> path of every file that is there; of several, the one in the folder of its best match, or the first."""
    paths: dict[str, str] = {}
    for path in there.files:
        above, _, name = path.rpartition("/")
        match = _FILE.fullmatch(name)
        if match is not None:
            md5 = match[1]
            if md5 not in paths or above.rpartition("/")[2] == matches.get(md5, [""])[0]:
                paths[md5] = path
    return paths


def _title_of(file: _File) -> str:
    """Artist and title without the number of the version, in one case: the recording of a file of the clean subset."""
    return _VERSION.sub("", file.song).casefold()
