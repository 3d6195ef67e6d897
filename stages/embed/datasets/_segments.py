"""Rows of a table that are pieces of songs: names that end in a count, and songs that stand in several rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from stages.embed.datasets._columns import check_songs, complete_songs
from stages.embed.tables import Table
from store.errors import RequestError
from store.words import plural

_COUNT = re.compile(r"(?P<song>.*\S)[ ._-]+(?:segment|seg|part|clip|chunk|slice)?[ ._-]?(?P<count>\d+)$", re.IGNORECASE)
_SUFFIX = re.compile(r"\.(wav|mp3|flac|ogg|au|aiff?|m4a|npy|midi?)$", re.IGNORECASE)


def song_of(segment: str) -> str | None:
    """The song of a numbered piece: ``blues.00000`` for ``blues.00000.3.wav``; None where no number ends the name."""
    match = _COUNT.fullmatch(_SUFFIX.sub("", segment))
    return match["song"] if match else None


def look_numbered(names: Sequence[str | None], labels: Sequence[Sequence[str]]) -> bool:
    """Whether names are those of pieces: most songs have several, counted without gaps, of the same labels.

    More songs than labels must come of it: ``blues.00001`` is the first song of a genre, not the first piece of one.
    """
    songs: dict[str, list[int]] = {}
    labels_of: dict[str, set[frozenset[str]]] = {}
    for name, of_row in zip(names, labels, strict=True):
        match = _COUNT.fullmatch(_SUFFIX.sub("", name)) if name else None
        if match is None:
            return False
        songs.setdefault(match["song"], []).append(int(match["count"]))
        labels_of.setdefault(match["song"], set()).add(frozenset(of_row))
    sets = {labels for each in labels_of.values() for labels in each}
    runs = sum(len(c) > 1 and len(set(c)) == len(c) and max(c) - min(c) < 2 * len(c) for c in songs.values())
    return len(songs) > 2 * len(sets) and 2 * runs > len(songs) and all(len(each) == 1 for each in labels_of.values())


def song_ids(table: Table, column: str | None, *, segments: bool) -> list[str]:
    """The song of each row: its cell, or what ``--segments`` leaves of it, or a number of its own.

    Raises
    ------
    RequestError
        where a cell is empty, or no number ends it where ``segments`` says so.
    """
    if column is None:
        return [f"row-{row:06d}" for row in range(table.rows)]
    songs = table.strings(column)
    for row, song in enumerate(songs):
        if song is None:
            raise RequestError(f"{table.where(row)}: {column} is empty; give every song an id")
        if segments:
            songs[row] = song_of(song)
            if songs[row] is None:
                raise RequestError(
                    f"{table.where(row)}: {column} is {song!r}, and with --segments every name ends in the number of a "
                    f"piece, as blues.00000.3.wav does"
                )
    return [song for song in songs if song is not None]


def merge_rows(columns: Mapping[str, Any], marks: Sequence[str], table: Table) -> tuple[dict[str, Any], list[str]]:
    """Catalog columns with a row for each clip, and what to say of it.

    The rows of a song are its clips. Rows of a song with equal features are one clip that carries the labels of all.
    The first clip of a song has the song's id, the others ``song#1``, ``song#2``.

    Parameters
    ----------
    marks : of each row, equal where its features are.

    Raises
    ------
    RequestError
        where rows of a song do not agree on artist, album or split, or on labels while their features differ.
    """
    songs: list[str] = columns["song_id"]
    if len(set(songs)) == len(songs):
        return {**columns, "clip_id": songs}, []
    rows = columns["source_row"]
    others = complete_songs({name: values for name, values in columns.items() if name != "labels"})
    check_songs(others, lambda row: table.where(rows[row]))
    columns = {**others, "labels": columns["labels"]}
    first: dict[tuple[str, str], int] = {}
    labels: dict[int, dict[str, None]] = {}
    for row, key in enumerate(zip(songs, marks, strict=True)):
        labels.setdefault(first.setdefault(key, row), {}).update(dict.fromkeys(columns["labels"][row]))
    firsts = list(first.values())
    clips = {name: [values[row] for row in firsts] for name, values in columns.items()}
    clips["labels"] = [list(labels[row]) for row in firsts]
    clips = complete_songs(clips)
    check_songs(clips, lambda row: table.where(clips["source_row"][row]))
    counts: dict[str, int] = {}
    clips["clip_id"] = []
    for song in clips["song_id"]:
        counts[song] = counts.get(song, -1) + 1
        clips["clip_id"].append(f"{song}#{counts[song]}" if counts[song] else song)
    merged = len(songs) - len(firsts)
    notes = [f"{plural(len(counts), 'song')} in {plural(len(songs), 'row')}: the rows of a song are its clips"]
    if merged:
        rows = plural(merged, "row repeats", "rows repeat")
        notes.append(f"{rows} the features of another row of the same song: one clip, with the labels of both")
    return clips, notes
