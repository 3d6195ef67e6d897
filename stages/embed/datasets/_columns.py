"""Which column of someone's table means what, and what several readers share: names, splits, artists, labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages import registry
from stages.embed.tables import Table
from store.errors import RequestError, unknown

SPLIT_WORDS = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}

_SHOWN = 30  # columns that a message lists
_OTHER_NAMES = {  # what people call these columns; used for advice, never to guess
    "file": ("path", "filename", "file_name", "filepath", "file_path", "audio", "midi"),
    "artist": ("artists", "artist_name", "artist_id", "performer"),
    "labels": ("label", "genre", "genres", "tag", "tags", "class", "style"),
}


def own_name(name: str | None, reader: str) -> str:
    """The name a user gives to a collection; RequestError where it is absent, ill-formed or Encore's own."""
    from store.layout import check_name

    if name is None:
        raise RequestError(f"give the collection a name: encore embed {reader} --name NAME")
    if name in registry.names("dataset"):
        raise RequestError(f"--name {name}: that is the name of a data set that Encore knows; give another")
    return check_name(name)


def locate(given: str | Path, data: Path | None, what: str) -> Path:
    """A file named on the command line: looked for from the working directory, then in the folder ``data``."""
    places = [Path(given).expanduser()]
    if data is not None and not places[0].is_absolute():
        places.append(data / places[0])
    for path in places:
        if path.is_file():
            return path
    raise RequestError(f"there is no {what}: {' and no '.join(str(path) for path in places)}")


def parse_columns(text: str | None, roles: Sequence[str]) -> dict[str, str]:
    """``artist=Artist,labels=genre`` as role -> column."""
    chosen: dict[str, str] = {}
    for part in (text or "").split(","):
        if not part.strip():
            continue
        role, equals, name = (piece.strip() for piece in part.partition("="))
        if not equals or not name:
            raise RequestError(f"--columns takes role=column, separated by commas, not {part!r}")
        if role not in roles:
            raise unknown("role in --columns", role, roles)
        if role in chosen:
            raise RequestError(f"--columns names {role} twice")
        chosen[role] = name
    return chosen


def choose(table: Table, given: Mapping[str, str], required: Sequence[str], optional: Sequence[str]) -> dict[str, str]:
    """Role -> column of the table: as ``--columns`` says, else the column that is named like the role."""
    named = {role: name for role, name in given.items() if role in (*required, *optional)}
    for role, name in named.items():
        if name not in table.types:
            raise RequestError(f"{table.path} has no column {name!r} for {role}; it has: {_listing(table)}")
    free = {role: role for role in (*required, *optional) if role not in named and role in table.types}
    missing = [role for role in required if role not in named and role not in free]
    if missing:
        advice = ",".join(f"{role}={_likely(role, table)}" for role in missing)
        raise RequestError(
            f"{table.path} has no column named {' or '.join(missing)}; it has: {_listing(table)}. "
            f"Say which it is: --columns {advice}"
        )
    return {**free, **named}


def common_columns(
    table: Table, chosen: Mapping[str, str], data_set: str, *, unlabelled: bool | None = None
) -> dict[str, Any]:
    """The catalog columns that every table can have, as far as ``chosen`` holds their roles.

    ``unlabelled`` is None where the reader offers no ``--unlabelled``.

    Raises
    ------
    RequestError
        where a row has no label and ``unlabelled`` ones are not asked for, or its split is none that is known.
    """
    columns: dict[str, Any] = {}
    if "artist" in chosen:
        columns.update(artist_columns(table.lists(chosen["artist"])))
    if "labels" in chosen:
        columns["labels"] = table.lists(chosen["labels"])
        bare = next((row for row, labels in enumerate(columns["labels"]) if not labels), None)
        if bare is not None and not unlabelled:
            keep = "" if unlabelled is None else ", or keep such rows by --unlabelled"
            raise RequestError(
                f"{table.where(bare)}: {chosen['labels']} is empty; give every row of {data_set} a label, or remove it"
                f"{keep}"
            )
    for role, column in (("album", "album_id"), ("title", "title")):
        if role in chosen:
            columns[column] = table.strings(chosen[role])
    if "split" in chosen:
        words = table.strings(chosen["split"])
        for row, word in enumerate(words):
            if word is not None and word.lower() not in SPLIT_WORDS:
                raise RequestError(
                    f"{table.where(row)}: {chosen['split']} {word!r} is no split; have: {', '.join(SPLIT_WORDS)}, or "
                    f"leave it empty"
                )
        columns["split_official"] = [word and SPLIT_WORDS[word.lower()] for word in words]
    return columns


def own_albums(columns: dict[str, Any]) -> dict[str, Any]:
    """The columns with albums that are their artists' own: two artists' ``Greatest Hits`` are two albums.

    An album by nobody in particular stays one (``Various Artists / Hits``); without an artist its bare title is left.
    """
    if "album_id" not in columns:
        return columns
    pairs = zip(columns["artist_name"], columns["album_id"], strict=True)
    return {**columns, "album_id": [f"{artist} / {album}" if artist and album else album for artist, album in pairs]}


def artist_columns(artists: Sequence[Sequence[str]]) -> dict[str, list[Any]]:
    """Of each song's artists the first-named is its key, the others are kept; none is an unknown artist."""
    first = [names[0] if names else None for names in artists]
    return {
        "artist_id": first,
        "artist_name": first,
        "other_artist_ids": [list(names[1:]) or None for names in artists],
    }


def _listing(table: Table) -> str:
    names = [*table.types, *table.wide]
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _likely(role: str, table: Table) -> str:
    fits = (name for name in table.types if name.casefold() in (role, *_OTHER_NAMES.get(role, ())))
    return next(fits, "...")
