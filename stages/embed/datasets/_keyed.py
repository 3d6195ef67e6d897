"""Labels, artists or splits that stand in a file of their own, beside the songs.

A two-column table (key, value) or a JSON map from key to value or list of values; ``FILE:KEY`` takes the map that
a JSON file holds under KEY. A key is a song's id, its path, or its file name, the last two with or without suffix.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from stages.embed.datasets._columns import SPLIT_WORDS, locate
from stages.embed.tables import Missing, Table, lists, read_table
from store.errors import RequestError, unknown

MAX_JSON_BYTES = 1 << 30


@dataclass(frozen=True)
class Keyed:
    """What a file says of songs: key -> values, and where each key stands in it."""

    path: Path
    values: dict[str, list[str]] = field(repr=False)
    table: Table | None = None
    rows: dict[str, int] = field(default_factory=dict, repr=False)

    def where(self, key: str) -> str:
        return self.table.where(self.rows[key]) if self.table else f"{self.path}, key {key!r}"

    def splits(self, songs: Sequence[Sequence[str]]) -> list[str | None]:
        """The split of each song, as the catalog writes it; every key must be a song's, on one side."""
        for key, words in self.values.items():
            if len(words) != 1 or words[0].lower() not in SPLIT_WORDS:
                raise RequestError(
                    f"{self.where(key)}: a song belongs to one of {', '.join(SPLIT_WORDS)}, and {key!r} to "
                    f"{' and '.join(map(repr, words)) or 'none'}"
                )
        return [SPLIT_WORDS[words[0].lower()] if words else None for words in self.look_up(songs, only_these=True)]

    def strangers(self, songs: Sequence[Sequence[str]]) -> list[str]:
        """The keys with a value that stand for none of the songs; those of `look_up`."""
        song_keys = {key for keys in songs for key in keys}
        return [key for key, values in self.values.items() if values and key not in song_keys]

    def look_up(self, songs: Sequence[Sequence[str]], *, only_these: bool = False) -> list[list[str]]:
        """The values of each song, none where the file does not name it.

        Parameters
        ----------
        songs : for each song the keys it may stand under, the most exact one first.
        only_these : every key of the file must be a song's.

        Raises
        ------
        RequestError
            where one key stands for several songs, a key for no song (``only_these``), or all keys for none.
        """
        header = unicodedata.normalize("NFC", next(iter(self.table.types))) if self.table else None
        if any(header in keys for keys in songs):
            raise RequestError(
                f"{self.path}, line 1: {header!r} is a song, and the first line must name the columns; add such a line"
            )
        values: list[list[str]] = []
        owner: dict[str, str] = {}
        for keys in songs:
            key = next((key for key in keys if key in self.values), None)
            if key is not None and owner.setdefault(key, keys[0]) != keys[0]:
                raise RequestError(
                    f"{self.where(key)}: {key!r} may be {owner[key]!r} or {keys[0]!r}; name songs by their path there"
                )
            values.append(self.values[key] if key is not None else [])
        strangers = (key for key in self.values if key not in owner)
        if not owner:
            raise RequestError(
                f"{self.path} names none of the songs ({len(songs):,}): its first key is {next(strangers)!r}, "
                f"the first song is {songs[0][0]!r}; name songs by id, path or file name"
            )
        stranger = next(strangers, None) if only_these else None
        if stranger is not None:
            near = next((key for keys in songs for key in keys if key.casefold() == stranger.casefold()), None)
            hint = f" (there is {near!r}: letters differ by case)" if near is not None else ""
            raise RequestError(f"{self.where(stranger)}: there is no song {stranger!r}{hint}; correct or remove it")
        return values


def keys_of(song_id: str, path: str) -> list[str]:
    """The keys under which a file may name a song, the most exact one first."""
    pure = PurePosixPath(unicodedata.normalize("NFC", path))
    return list(dict.fromkeys([song_id, str(pure), str(pure.with_suffix("")), pure.name, pure.stem]))


def read_keyed(
    source: str,
    data: Path | None,
    what: str,
    missing: Missing | None = None,
    separator: re.Pattern[str] | None = None,
) -> Keyed:
    """Read ``FILE`` or ``FILE:KEY``, looked for as `locate` does; RequestError where it cannot be understood.

    Parameters
    ----------
    missing, separator : which words stand for no value, and what separates values, as in `Table.lists`.
    """
    missing = missing or Missing()
    name, _, part = source.rpartition(":")
    if name and Path(name).suffix.lower() == ".json":
        path = locate(name, data, f"file of {what}")
        return Keyed(path, _read_json(path, part, missing, separator))
    path = locate(source, data, f"file of {what}")
    if path.suffix.lower() == ".json":
        return Keyed(path, _read_json(path, None, missing, separator))
    table = read_table(path, missing)
    if len(table.types) != 2:
        have = ", ".join(table.types)
        raise RequestError(f"{path} must have two columns, the song and its {what}; it has: {have}")
    key_column, value_column = table.types
    values: dict[str, list[str]] = {}
    rows: dict[str, int] = {}
    keys = table.text(key_column).to_pylist()
    for row, (key, new) in enumerate(zip(keys, table.lists(value_column, separator), strict=True)):
        if key is None:
            raise RequestError(f"{table.where(row)}: {key_column} is empty; name the song, or remove the line")
        key = unicodedata.normalize("NFC", key)
        rows.setdefault(key, row)
        values[key] = _merged(values.get(key, []), new)
    return Keyed(path, values, table, rows)


def _read_json(
    path: Path, part: str | None, missing: Missing, separator: re.Pattern[str] | None
) -> dict[str, list[str]]:
    if path.stat().st_size > MAX_JSON_BYTES:
        raise RequestError(f"{path} has more than {MAX_JSON_BYTES >> 30} GiB; write it as a two-column table")
    try:
        content = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        raise RequestError(f"{path}, line {error.lineno}: no JSON ({error.msg})") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"{path} cannot be read as JSON: {error}") from error
    if part is not None:
        if not isinstance(content, dict) or not all(isinstance(value, dict) for value in content.values()):
            raise RequestError(f"{path} does not hold several maps; leave out ':{part}'")
        if part not in content:
            raise unknown(f"map in {path}", part, content)
        content = content[part]
    if not isinstance(content, dict) or not content:
        raise RequestError(f"{path} must hold a map from song to value or list of values")
    if all(isinstance(value, dict) for value in content.values()):
        raise RequestError(f"{path} holds several maps; name one of them: {path.name}:{next(iter(content))}")
    values: dict[str, list[str]] = {}
    for key, value in content.items():
        names = [name for text in _json_values(path, key, value) for name in lists.split(text, separator)]
        composed = (unicodedata.normalize("NFC", name) for name in names)
        values[unicodedata.normalize("NFC", key)] = _merged([], (name for name in composed if name not in missing))
    return values


def _json_values(path: Path, key: str, value: Any) -> list[str]:
    items = value if isinstance(value, list) else [value]
    # NaN is how a table's missing value arrives in JSON that pandas wrote.
    items = [item for item in items if item is not None and item == item]
    if not all(isinstance(item, str | int) for item in items):
        raise RequestError(f"{path}: {key!r} holds {str(value)[:60]}, and a text or a list of texts is wanted")
    return [str(item).strip() for item in items]


def _merged(old: list[str], new: Iterable[str]) -> list[str]:
    return list(dict.fromkeys([*old, *(value for value in new if value)]))
