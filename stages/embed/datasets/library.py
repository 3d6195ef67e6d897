"""One's own music library: a folder of recordings that carry tags, and no table.

``encore embed library --data ~/Music --name mine`` takes artist, album, title, year and genres from the files' tags
(`stages.embed.tags`). A song is known by its music, not by its path or its tags: what was renamed, moved or
tagged anew is the same song and is not encoded again. Files of equal music are one song.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from stages.embed.content import AUDIO
from stages.embed.datasets import UNLABELLED, Dataset, option
from stages.embed.datasets._columns import LIST_ROLES, own_name
from stages.embed.datasets._credits import Credit, credit_of, identified
from stages.embed.datasets._keyed import read_keyed
from stages.embed.datasets._songs import check_stretches, cut_columns, is_midi, songs_under
from stages.embed.datasets._spellings import plain
from stages.embed.datasets._walk import FOLLOW_LINKS, first_few, leads_out, root_folder
from stages.embed.datasets.folder import CLIP_S, MIDI_CLIPS
from stages.embed.scan import Song, scan
from stages.embed.tables import Missing, lists
from stages.paths import at_home
from stages.progress import note
from store.errors import RequestError
from store.schema import Catalog
from store.words import plural

SEPARATORS = "artist=;|artist=feat.|artist=ft.|artist=featuring|labels=;|labels=/"

_SHOWN = 10  # genres that the summary lists


@dataclass(frozen=True, kw_only=True)
class Library(Dataset):
    """Recordings become one clip each, the whole song; of MIDI files four stretches of 15 s are cut, evenly spread.

    A song's id is the mark of its music (`stages.embed.content.audio_mark`). Its targets are ``year``, ``track`` and
    ``replaygain_db``, as far as its tags tell them.
    """

    NAME = "library"
    TITLE = "A music library with tags"
    LICENSE = "that of the songs"
    CITATION = "the collection's own"
    HOMEPAGE = ""
    FILES = "Your own recordings, with artist and genre in their tags."
    BACKBONE = "mfcc"
    MIDI_BACKBONE = "pianoroll"

    name: str | None = option("what the collection is called from now on")
    genre_map: str | None = option(
        "your own names for genres: two columns, genre and label (none: the genre is no label), or such a JSON"
    )
    separator: str | None = option(
        f"what separates several artists or genres in a tag beside | and NUL (default: '{SEPARATORS}')"
    )
    not_missing: str | None = option("words that are names here and elsewhere mean no value: None|NA|...")
    unlabelled: bool = option(UNLABELLED, False)
    clips: int | None = option("stretches to cut from each song, 0 for whole songs (default: MIDI 4, recordings 0)")
    clip_s: float | None = option("length of these stretches in seconds (default 15)")
    follow_links: bool = option(FOLLOW_LINKS, False)

    def __post_init__(self) -> None:
        check_stretches(self.clips, self.clip_s)

    def catalog(self) -> Catalog:
        name = own_name(self.name, self.NAME)
        if self.data is None:
            raise RequestError("library needs a folder of songs: --data DIR (make: DATA=DIR)")
        root = root_folder(self.data)
        genres = self._genre_map()
        paths, there = songs_under(root, follow_links=self.follow_links)
        notes = there.notes()
        songs = self._one_each(root, scan(root, paths, follow_links=self.follow_links), notes)
        columns = self._columns(songs, genres, notes)
        for text in notes:
            note(text)
        counts = [self._clips(path) for path in columns["path"]]
        clips = cut_columns(root, columns, counts, self.clip_s or CLIP_S, follow_links=self.follow_links)
        midi = sum(map(is_midi, columns["path"]))
        return self.build(
            clips,
            root,
            "own",
            name=name,
            title=name,
            backbone=self.MIDI_BACKBONE if 2 * midi > len(columns["path"]) else self.BACKBONE,
            follow_links=self.follow_links,
            notes=tuple(notes),
        )

    def remembered(self) -> dict[str, Any]:
        """All that are not at their default; the mapping file by its absolute path, where there is one."""
        options = {field.name: getattr(self, field.name) for field in fields(self)}
        defaults = {field.name: field.default for field in fields(self)}
        if self.genre_map is not None and at_home(self.genre_map.partition(":")[0]).is_file():
            options["genre_map"] = str(at_home(self.genre_map).absolute())
        return {
            name: value for name, value in options.items() if name not in ("data", "name") and value != defaults[name]
        }

    def _clips(self, path: str) -> int:
        if self.clips is not None:
            return self.clips
        return MIDI_CLIPS if is_midi(path) or self.clip_s is not None else 0

    def _genre_map(self) -> Mapping[str, Sequence[str]]:
        """A genre as `plain` has it -> the user's own labels."""
        if self.genre_map is None:
            return {}
        entries = read_keyed(self.genre_map, self.data, "labels", Missing.but(self.not_missing))
        return {plain(genre): labels for genre, labels in entries.values.items()}

    def _one_each(self, root: Path, files: Iterable[Song], notes: list[str]) -> list[tuple[str, Song]]:
        """The id and the file of each song: of files with equal music the one whose tags tell most, or each."""
        by_mark: dict[str, list[Song]] = {}
        unread = []
        for file in files:
            if file.mark is None:
                unread.append(file.path)
            else:
                by_mark.setdefault(file.mark, []).append(file)
        if unread:
            notes.append(f"{plural(len(unread), 'file', 'files')} cannot be read: {first_few(unread)}")
        if not by_mark:
            linked = not self.follow_links and any(leads_out(root, path) for path in unread)
            hint = "; there are links out of this folder, which --follow-links follows" if linked else ""
            raise RequestError(f"none of the songs under {self.data} can be read: {first_few(unread)}{hint}")
        songs = []
        for mark, copies in by_mark.items():
            copies.sort(key=lambda song: (not song.tags.genre, not song.tags.artist, song.path))
            for number, song in enumerate(copies[: None if self.keep_copies else 1]):
                songs.append((mark.removeprefix(AUDIO) + (f"-{number + 1}" if number else ""), song))
        copies_ = sum(map(len, by_mark.values())) - len(by_mark)
        if copies_ and not self.keep_copies:
            notes.append(
                f"{plural(copies_, 'file holds', 'files hold')} the same music as another and "
                f"{'is' if copies_ == 1 else 'are'} left out; --keep-copies takes each as a song of its own"
            )
        return songs

    def _columns(
        self, songs: list[tuple[str, Song]], genres: Mapping[str, Sequence[str]], notes: list[str]
    ) -> dict[str, Any]:
        """The catalog's columns of the songs that are taken; what was found in their tags goes into ``notes``."""
        patterns = {**lists.separators(SEPARATORS, LIST_ROLES), **lists.separators(self.separator, LIST_ROLES)}
        missing = Missing.but(self.not_missing)
        nobody = {name.strip().casefold() for name in self.various.split("|")} | {""}
        labels = [_labels(song.tags.genre, patterns.get("labels"), genres, missing) for _, song in songs]
        performers = [credit_of(song.tags, patterns.get("artist"), nobody, missing) for _, song in songs]
        notes += _summary(songs, labels, performers, unlabelled=self.unlabelled)
        rows = [row for row, names in enumerate(labels) if names or self.unlabelled]
        if not rows:
            raise RequestError(
                f"none of the songs under {self.data} ({len(songs):,}) has a genre in its tags; write genres there, "
                f"give a table (encore embed folder --table), or keep the songs without: --unlabelled"
            )
        artists = identified([performers[row] for row in rows])
        files = [songs[row][1] for row in rows]
        return {
            "song_id": [songs[row][0] for row in rows],
            "path": [file.path for file in files],
            "source": [file.mark for file in files],
            "title": [file.tags.title for file in files],
            "labels": [labels[row] for row in rows],
            "artist_id": [keys[0] if keys else None for keys in artists],
            "artist_name": [next(iter(performers[row].names), None) for row in rows],
            "other_artist_ids": [list(keys[1:]) or None for keys in artists],
            "album_id": [performers[row].album for row in rows],
            "targets": [_targets(file) for file in files],
        }


def _labels(
    texts: Iterable[str], separator: re.Pattern[str] | None, genres: Mapping[str, Sequence[str]], missing: Missing
) -> list[str]:
    names = (name for text in texts for name in lists.split(text, separator) if name not in missing)
    return list(dict.fromkeys(label for name in names for label in genres.get(plain(name), (name,))))


def _targets(song: Song) -> list[tuple[str, float]] | None:
    numbers = {"year": song.tags.year, "track": song.tags.track, "replaygain_db": song.tags.gain_db}
    return [(name, float(number)) for name, number in numbers.items() if number is not None] or None


def _summary(
    songs: Sequence[tuple[str, Song]],
    labels: Sequence[Sequence[str]],
    performers: Sequence[Credit],
    *,
    unlabelled: bool,
) -> list[str]:
    """What the tags told: songs, artists and genres, how many songs lack each, and tags that are broken."""
    artists = {name for credit in performers for name in credit.names[:1]}
    genres = Counter(name for names in labels for name in names)
    most = ", ".join(f"{name} {count:,}" for name, count in genres.most_common(_SHOWN))
    more = f" and {len(genres) - _SHOWN:,} more" if len(genres) > _SHOWN else ""
    lines = [
        f"tags of {plural(len(songs), 'song')}: {plural(len(artists), 'artist')}, "
        f"{plural(len(genres), 'genre')}" + (f" ({most}{more})" if genres else "")
    ]
    tags = [song.tags for _, song in songs]
    without = {
        "artist": sum(not credit.names for credit in performers),
        "genre": sum(not names for names in labels),
        "album": sum(credit.album is None for credit in performers),
        "title": sum(tag.title is None for tag in tags),
        "year": sum(tag.year is None for tag in tags),
    }
    if any(without.values()):
        lacks = ", ".join(f"{what} {count:,}" for what, count in without.items() if count)
        lines.append(f"songs whose tags lack it: {lacks}")
    if without["genre"] and not unlabelled:
        lines.append(f"{plural(without['genre'], 'song')} without a genre left out; --unlabelled keeps such songs")
    faulty = [f"{song.path} ({song.tags.broken})" for _, song in songs if song.tags.broken]
    if faulty:
        lines.append(f"tags of {plural(len(faulty), 'file')} cannot be read; the first: {faulty[0]}")
    return lines
