"""Lakh Pianoroll (LPD-5): the Lakh MIDI files as piano rolls of five tracks, 24 steps a beat.

Two subsets: cleansed (21,425 rolls, the best-matching file of each recording) and full (174,154). A song is a roll,
named by the MD5 of its MIDI file; ``cleansed_ids.txt``, the folders and ``match_scores.json`` say which recording of
the Million Song Dataset it is, and that says its artist. Rolls of one recording are never parted by a split.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.embed.datasets import UNLABELLED, Dataset, Remote, option
from stages.embed.datasets._columns import artist_columns
from stages.embed.datasets._keyed import read_keyed
from stages.embed.datasets._msd import (
    GENRE_MAP,
    MATCHES,
    REMOTES,
    SUMMARY,
    by_file,
    read_assignments,
    read_matches,
    song_columns,
)
from stages.embed.datasets._songs import check_stretches, cut_columns
from stages.embed.datasets._walk import FOLLOW_LINKS, Walk, root_folder, walk
from stages.progress import note
from store.errors import RequestError, unknown
from store.schema import Catalog
from store.words import plural

SUBSETS = ("cleansed", "full")
CLIPS = 8
CLIP_S = 15.0

_IDS = "cleansed_ids.txt"
# As the publisher's pages (docs/dataset.md and docs/labels.md of github.com/salu133445/lakh-pianoroll-dataset) link
# them; they tell neither sizes nor checksums, and moved twice before. Nothing was fetched to verify these addresses;
# where one answers with a web page, Encore says so, and what a browser fetches there goes under --data.
_HOST = "https://ucsdcloud-my.sharepoint.com"
_PEOPLE = "g/personal/h3dong_ucsd_edu"
_ARCHIVES = {
    "cleansed": "Ebu0hMewNeRPs7wIHB0SPyIBoFuC1-rAU5yUK5q2flt1BA?e=uDLp37",
    "full": "EWaJUNAZJv1Gs9Z_qGaZ23EBt9VEfPB12z2uyq05g75XSA?e=b1QgOP",
}
_CLEANSED_IDS = "EfmNwSfQ0yhIobAwvFY7kysBpmgTIuFXqL8klAeS6IN_zQ?e=Nxiy75"
_AMG_LISTS = "EbqjoeUiIj9DhODGZOIVBIMBTK1PhDN86rRb29_iTmfhuQ?"
_ID_LISTS = ("id_lists/amg", "amg")
_MAX_TEXT_BYTES = 1 << 26
_FILE = re.compile(r"([0-9a-f]{32})\.npz")
_LIST = re.compile(r"id_list_(.+)\.txt")
_TRACK = re.compile(r"TR[A-Z]{5}[0-9A-F]{11}")
_PAIR = re.compile(r"([0-9a-f]{32})\s+(TR[A-Z]{5}[0-9A-F]{11})")


@dataclass(frozen=True, kw_only=True)
class Lpd(Dataset):
    """Stretches of each labelled roll, at most eight of 15 s, with ids ``<song>@<start>+<duration>``."""

    NAME = "lpd"
    TITLE = "Lakh Pianoroll (LPD-5)"
    LICENSE = "CC BY 4.0"
    CITATION = (
        "H.-W. Dong, W.-Y. Hsiao, L.-C. Yang, Y.-H. Yang: MuseGAN: Multi-track Sequential Generative Adversarial "
        "Networks for Symbolic Music Generation and Accompaniment. AAAI 2018"
    )
    HOMEPAGE = "https://hermandong.com/lakh-pianoroll-dataset/"
    FILES = (
        "lpd_5_cleansed.tar.gz or lpd_5_full.tar.gz, cleansed_ids.txt and the lists of ids for each label "
        "(id_lists_amg.tar.gz and others) are linked from hermandong.com/lakh-pianoroll-dataset/dataset; other labels "
        f"in {GENRE_MAP}; artists through {SUMMARY}, or in a table of one's own: --artists FILE."
    )
    BACKBONE = "pianoroll"

    subset: str = option("cleansed: one roll of each recording; full: every roll", "cleansed")
    labels: str | None = option(
        "a folder of lists id_list_<label>.txt, FILE.cls or .txt keyed by track, or FILE:KEY keyed by file name "
        f"(default: {_ID_LISTS[0]}, else {GENRE_MAP}:topmagd)"
    )
    artists: str | None = option("songs' artists: a two-column table, or JSON (FILE or FILE:KEY), keyed by file name")
    unlabelled: bool = option(UNLABELLED, False)
    clips: int | None = option("stretches to cut from each song, 0 for whole songs (default 8)")
    clip_s: float | None = option("length of these stretches in seconds (default 15)")
    follow_links: bool = option(FOLLOW_LINKS, False)

    def __post_init__(self) -> None:
        if self.subset not in SUBSETS:
            raise unknown("--subset", self.subset, SUBSETS)
        check_stretches(self.clips, self.clip_s)

    def remotes(self) -> tuple[Remote, ...]:
        rolls = f"lpd_5_{self.subset}"
        return (
            Remote(
                url=f"{_HOST}/:u:/{_PEOPLE}/{_ARCHIVES[self.subset]}&download=1",
                file=f"{rolls}.tar.gz",
                holds=(f"lpd_5/{rolls}", rolls),
            ),
            Remote(url=f"{_HOST}/:t:/{_PEOPLE}/{_CLEANSED_IDS}&download=1", file=_IDS, holds=(_IDS,)),
            Remote(url=f"{_HOST}/:u:/{_PEOPLE}/{_AMG_LISTS}download=1", file="id_lists_amg.tar.gz", holds=_ID_LISTS),
            *REMOTES,
        )

    def catalog(self) -> Catalog:
        if self.data is None:
            raise RequestError(f"lpd needs its files: --data DIR (make: DATA=DIR). {self.FILES}")
        root = root_folder(self.data)
        matches = read_matches(root / MATCHES) if (root / MATCHES).is_file() else {}
        if self.subset == "cleansed" and (root / _IDS).is_file():
            matches |= {md5: [track] for md5, track in _read_ids(root / _IDS).items()}
        paths, there = self._rolls(root, matches)
        labels = self._labels(root, matches)
        songs = sorted(md5 for md5 in paths if labels.get(md5) or self.unlabelled)
        if not any(labels.get(md5) for md5 in songs):
            raise RequestError(f"the labels name none of the {len(paths):,} rolls under {root}. {self.FILES}")
        tracks = [matches.get(md5, [""])[0] or None for md5 in songs]
        columns: dict[str, Any] = {
            "song_id": songs,
            "path": [paths[md5] for md5 in songs],
            "labels": [labels.get(md5, []) for md5 in songs],
            "recording_id": tracks,
            **self._artists(root, songs, paths, tracks),
        }
        count = CLIPS if self.clips is None else self.clips
        counts = [count] * len(columns["path"])
        clips = cut_columns(root, columns, counts, self.clip_s or CLIP_S, follow_links=self.follow_links)
        return self.build(
            clips,
            root,
            f"{self.subset}, {self.labels or 'default labels'}",
            follow_links=self.follow_links,
            notes=self._notes(root, len(paths) - len(songs), len(paths), len(set(labels) - set(paths)), there),
        )

    def _rolls(self, root: Path, matches: dict[str, list[str]]) -> tuple[dict[str, str], Walk]:
        """MD5 -> path of the rolls that are there; where no match is known, the folder of a track is one."""
        name = f"lpd_5_{self.subset}"
        within = next((root / place for place in (f"lpd_5/{name}", name) if (root / place).is_dir()), root)
        there = walk(root, within, follow_links=self.follow_links)
        paths: dict[str, str] = {}
        for path in there.files:
            above, _, file = path.rpartition("/")
            match = _FILE.fullmatch(file)
            if match is not None:
                paths.setdefault(match[1], path)
                track = above.rpartition("/")[2]
                if _TRACK.fullmatch(track):
                    matches.setdefault(match[1], [track])
        if not paths:
            why = "".join(f"; {text}" for text in there.notes())
            raise RequestError(f"there is no piano roll (<md5>.npz) under {within}{why}. {self.FILES}")
        return paths, there

    def _labels(self, root: Path, matches: Mapping[str, list[str]]) -> dict[str, list[str]]:
        """MD5 -> labels."""
        source = self.labels or next((place for place in _ID_LISTS if (root / place).is_dir()), f"{GENRE_MAP}:topmagd")
        for place in (Path(source), root / source):
            if place.is_dir():
                return by_file(matches, _read_lists(place))
            if place.is_file() and place.suffix in (".cls", ".txt"):
                return by_file(matches, read_assignments(place))
        return read_keyed(source, self.data, "labels").values

    def _artists(
        self, root: Path, songs: list[str], paths: Mapping[str, str], tracks: list[str | None]
    ) -> dict[str, list[Any]]:
        if self.artists is None:
            return dict(song_columns(root / SUMMARY, tracks))
        keys = [[md5, paths[md5], f"{md5}.npz", f"{md5}.mid"] for md5 in songs]
        return artist_columns(read_keyed(self.artists, self.data, "artists").look_up(keys))

    def _notes(self, root: Path, bare: int, rolls: int, absent: int, there: Walk) -> tuple[str, ...]:
        notes = there.notes()
        if bare:
            notes.append(f"{bare:,} of {plural(rolls, 'roll')} left out: no label")
        if absent:
            notes.append(f"{absent:,} labelled songs have no roll under {root}")
        if self.artists is None and not (root / SUMMARY).is_file():
            notes.append(f"no artist is known: put {SUMMARY} into {root}, or give --artists FILE")
        for text in notes:
            note(text)
        return tuple(notes)


def _read_ids(path: Path) -> dict[str, str]:
    """MD5 -> track, a line each."""
    track_of: dict[str, str] = {}
    for number, line in _lines(path):
        match = _PAIR.fullmatch(line)
        if match is None:
            raise RequestError(f"{path}, line {number}: {line[:60]!r} is no MD5 with its track; fetch the file again")
        if track_of.setdefault(match[1], match[2]) != match[2]:
            raise RequestError(f"{path}, line {number}: {match[1]} stands in an earlier line with another track")
    return track_of


def _read_lists(folder: Path) -> dict[str, list[str]]:
    """Track -> labels, from files ``id_list_<label>.txt`` that hold a track a line."""
    labels_of: dict[str, list[str]] = {}
    lists = sorted((match[1], path) for path in folder.iterdir() if (match := _LIST.fullmatch(path.name)))
    if not lists:
        raise RequestError(f"there is no id_list_<label>.txt in {folder}")
    for label, path in lists:
        for number, line in _lines(path):
            if not _TRACK.fullmatch(line):
                raise RequestError(f"{path}, line {number}: {line[:60]!r} is no track; fetch the file again")
            of_track = labels_of.setdefault(line, [])
            if label not in of_track:
                of_track.append(label)
    return labels_of


def _lines(path: Path) -> list[tuple[int, str]]:
    """Number (from 1) and text of every line that holds something."""
    if path.stat().st_size > _MAX_TEXT_BYTES:
        raise RequestError(f"{path} has more than {_MAX_TEXT_BYTES >> 20} MiB, which no list of ids has")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path} cannot be read: {error}") from error
    return [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
