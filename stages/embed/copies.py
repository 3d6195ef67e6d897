"""Songs whose files hold the same music are one recording, so that no split parts them.

Nothing is decoded: files are compared by size, then by some of their bytes, then as a whole, so that few are read. Tags
are left out (`stages.embed.content`). Copies that were encoded anew are not found here: `encore audit --near-copies`
counts those by what a backbone hears in them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from stages.embed.content import audio_mark, music_of
from stages.progress import note
from store.schema import CATALOG_SCHEMA, Catalog
from store.words import plural

Clip = tuple[str, str | None, float | None, float | None]  # path, MIDI file beside it, start and duration in seconds
Item = TypeVar("Item")

_CHUNK = 1 << 20


def join_copies(catalog: Catalog) -> Catalog:
    """The catalog in which songs with a clip of equal content share a ``recording_id``.

    A clip is equal to another where files and stretch are; one that is the whole file is equal to all of its stretches.
    Rows of tables stay as they are, and files that are not there or hold nothing are nobody's copies.
    """
    has_sources = catalog.column("source").null_count == 0  # its data set has compared the files itself
    if catalog.info.keep_copies or has_sources or catalog.column("source_row").null_count < len(catalog):
        return catalog
    names = ("path", "midi_path", "start_s", "duration_s")
    clips: list[Clip] = list(zip(*(catalog.column(name).to_pylist() for name in names), strict=True))
    songs = catalog.column("song_id").to_pylist()
    root = Path(catalog.info.data_root or ".")
    same = _equal_files(root, {path for clip in clips for path in clip[:2] if path is not None})
    groups = _Groups()
    first_songs: dict[tuple[str, str | None], str] = {}
    first: dict[Clip, str] = {}
    keys = [(same.get(path, path), midi and same.get(midi, midi), start, end) for path, midi, start, end in clips]
    for key, song in zip(keys, songs, strict=True):
        groups.join(song, first.setdefault(key, song))
        if key[2:] == (None, None):
            first_songs.setdefault(key[:2], song)
    for key, song in zip(keys, songs, strict=True):
        groups.join(song, first_songs.get(key[:2], song))
    copies = groups.count()
    if not copies:
        return catalog
    note(
        f"{plural(copies, 'song holds', 'songs hold')} the same as another: they are one recording, which no split "
        f"parts; --keep-copies leaves them apart"
    )
    return _with_recordings(catalog, songs, groups)


def _with_recordings(catalog: Catalog, songs: list[str], groups: _Groups) -> Catalog:
    """The recordings that the catalog names, joined where their songs are copies; a copy's is else its first song's."""
    recording_ids = catalog.strings("recording_id")
    together = _Groups()
    for song, recording in zip(songs, recording_ids, strict=True):
        together.join((0, song), (0, groups.first(song)))
        if recording is not None:
            together.join((0, song), (1, recording))
    names: dict[Hashable, str] = {}
    for song, recording in sorted(
        zip(songs, recording_ids, strict=True), key=lambda pair: (pair[1] is None, pair[1], pair[0])
    ):
        names.setdefault(together.first((0, song)), recording if recording is not None else song)
    several = {groups.first(song) for song in songs if groups.first(song) != song}
    ids = [
        names[together.first((0, song))] if recording is not None or groups.first(song) in several else None
        for song, recording in zip(songs, recording_ids, strict=True)
    ]
    index = catalog.table.schema.get_field_index("recording_id")
    column = pa.array(ids, type=pa.string())
    return Catalog(catalog.info, catalog.table.set_column(index, CATALOG_SCHEMA.field("recording_id"), column))


def _equal_files(root: Path, paths: Iterable[str]) -> dict[str, str]:
    """Path -> the first of all paths whose files hold the same music, for those that have such."""
    groups = [sorted(paths)]
    for mark in (_size, _ends, _whole):
        groups = [equal for group in groups for equal in _by_mark(root, group, mark)]
    return {path: group[0] for group in groups for path in group}


def _by_mark(root: Path, paths: Iterable[str], mark: Callable[[Path], Hashable]) -> list[list[str]]:
    """The paths whose files have equal marks, where several do."""
    groups: dict[Hashable, list[str]] = {}
    for path in paths:
        try:
            groups.setdefault(mark(root / path), []).append(path)
        except (OSError, RuntimeError, ValueError):  # a link that leads back to itself; a name that no disk can have
            continue
    return [group for group in groups.values() if len(group) > 1]


def _size(path: Path) -> Hashable:
    music = music_of(path)
    if not music.size and not music.samples_md5:
        raise OSError(f"{path} holds nothing")
    return (music.samples_md5,) if music.samples_md5 else music.size


def _ends(path: Path) -> Hashable:
    return audio_mark(path)


def _whole(path: Path) -> Hashable:
    """A hash of all music of a file, or the one that the file carries."""
    music = music_of(path)
    if music.samples_md5:
        return music.samples_md5
    digest = hashlib.blake2b(digest_size=16)
    size = music.size
    with path.open("rb") as file:
        file.seek(music.begin)
        while size > 0 and (chunk := file.read(min(size, _CHUNK))):
            digest.update(chunk)
            size -= len(chunk)
    return digest.digest()


class _Groups:
    """Disjoint sets of hashable items."""

    def __init__(self) -> None:
        self._parent: dict[Hashable, Hashable] = {}

    def first(self, item: Item) -> Item:
        """The item that stands for the set of ``item``."""
        root: Hashable = item
        while (above := self._parent.get(root, root)) != root:
            self._parent[root] = self._parent.get(above, above)
            root = above
        return root  # type: ignore[return-value]

    def join(self, one: Hashable, other: Hashable) -> None:
        one, other = self.first(one), self.first(other)
        if one != other:
            self._parent[one] = other

    def count(self) -> int:
        """How many items are not the first of their sets."""
        return sum(item != above for item, above in self._parent.items())
