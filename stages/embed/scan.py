"""The files of a library with a mark of their music and their tags; what did not change since is not read again.

What was read is kept among the user's caches on this machine, for one folder in one file, which may be deleted at any
time. A file counts as unchanged while its size and its times of content and of status are the same: programs that write
tags can set the first of these times back, but not the second.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from stages.embed.content import audio_mark
from stages.embed.inputs import song_file
from stages.embed.tags import REVISION, Tags, read_tags
from stages.progress import task
from store.errors import ClipError

_THREADS = 8  # waiting for the disk
_FRESH_NS = 2_000_000_000  # a file this young may change again within the resolution of its times
_SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in ("path", "mark", "tags")),
        *(pa.field(name, pa.int64(), nullable=False) for name in ("size", "modified_ns", "changed_ns")),
    ],
    metadata={"revision": str(REVISION)},
)

State = tuple[int, int, int]  # size, time of content, time of status


@dataclass(frozen=True, slots=True)
class Song:
    """A file of a library: the mark of its music (None where it cannot be read), and its tags."""

    path: str
    mark: str | None
    tags: Tags


def scan(root: Path, paths: Sequence[str], *, follow_links: bool) -> list[Song]:
    """The songs at these paths under ``root``, in their order."""
    file = _cache_file(root)
    cache = _read(file)
    start_ns = time.time_ns()
    entries: dict[str, tuple[State, Song]] = {}
    states = [_state(root, path, follow_links=follow_links) for path in paths]
    unread = []
    for path, state in zip(paths, states, strict=True):
        if state is not None and path in cache and cache[path][0] == state:
            entries[path] = cache[path]
        else:
            unread.append((path, state))
    with task("reading tags", len(unread), "files") as advance:

        def read(entry: tuple[str, State | None]) -> Song:
            song = _read_song(root, entry[0], there=entry[1] is not None)
            advance(1)
            return song

        with ThreadPoolExecutor(_THREADS) as pool:
            songs = dict(zip((path for path, _ in unread), pool.map(read, unread), strict=True))
    for path, state in unread:
        if state is not None and songs[path].mark is not None and start_ns - max(state[1:]) > _FRESH_NS:
            entries[path] = state, songs[path]
    if unread or len(entries) != len(cache):
        _write(file, entries)
    return [songs[path] if path in songs else entries[path][1] for path in paths]


def _state(root: Path, path: str, *, follow_links: bool) -> State | None:
    try:
        status = song_file(root, path, follow_links=follow_links).stat()
    except (ClipError, OSError):
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _read_song(root: Path, path: str, *, there: bool) -> Song:
    try:
        mark = audio_mark(root / path) if there else None
    except OSError:
        mark = None
    return Song(path, mark, read_tags(root / path) if mark is not None else Tags())


def _cache_file(root: Path) -> Path:
    import platformdirs

    name = hashlib.blake2b(os.fsencode(root), digest_size=8).hexdigest()
    return Path(platformdirs.user_cache_dir("encore")) / "libraries" / f"{name}.parquet"


def _read(file: Path) -> dict[str, tuple[State, Song]]:
    """Path -> state and song; nothing where the cache is absent, damaged, or of other rules."""
    import pyarrow.parquet as pq

    try:
        if (pq.read_schema(file).metadata or {}).get(b"revision") != str(REVISION).encode():
            return {}
        columns: dict[str, list[Any]] = pq.read_table(file, schema=_SCHEMA).to_pydict()
        states = zip(columns["size"], columns["modified_ns"], columns["changed_ns"], strict=True)
        tags: dict[str, Tags] = {}
        for text in columns["tags"]:
            if text not in tags:
                tags[text] = Tags(**_parsed(text))
        songs = map(Song, columns["path"], columns["mark"], (tags[text] for text in columns["tags"]))
        return {song.path: (state, song) for state, song in zip(states, songs, strict=True)}
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError, RecursionError):
        return {}


def _parsed(text: str) -> Any:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in json.loads(text).items()}


def _write(file: Path, songs: dict[str, tuple[State, Song]]) -> None:
    """Keep what was read; where that cannot be written it is read again the next time."""
    import pyarrow.parquet as pq

    rows = [
        {
            "path": song.path,
            "mark": song.mark,
            "tags": json.dumps({key: value for key, value in asdict(song.tags).items() if value}),
            "size": state[0],
            "modified_ns": state[1],
            "changed_ns": state[2],
        }
        for state, song in songs.values()
    ]
    part = file.with_name(f"{file.name}.{os.getpid()}")
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), part)
        part.replace(file)
