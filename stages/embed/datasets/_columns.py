"""Which column of someone's table means what, and what several readers share: names, splits, artists, labels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stages import registry
from stages.embed.datasets import option
from stages.embed.tables import Missing, Table, lists, read_table
from stages.paths import at_home
from stages.progress import note
from store.errors import RequestError, unknown
from store.words import plural

SPLIT_WORDS = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}
LIST_ROLES = ("artist", "labels")  # whose cells may hold several values
MANY_COLUMNS = ("features", "targets")  # roles that several columns can have

_SHOWN = 30  # columns that a message lists
_SHARE_OF_LISTS = 0.1  # of the cells that look like lists, from which on a user is told
_OTHER_NAMES = {  # what people call these columns; used for advice, never to guess
    "file": ("path", "filename", "filepath", "audio", "midi"),
    "artist": ("artists", "artistname", "artistid", "performer", "singer", "band", "composer"),
    "labels": ("label", "genre", "genres", "tag", "tags", "class", "style"),
}
_PART_OF_NAME = {"artist": "artist", "labels": "genre"}
_OF_A_SONG = {
    "split_official": "split",
    "artist_id": "artist",
    "album_id": "album",
    "recording_id": "recording",
    "labels": "labels",
}
_WITH_ARTIST = ("artist_id", "artist_name", "other_artist_ids")  # which are filled in together
_AT_COMMA, _AT_BAR = (re.compile(rf'{separator}(?=(?:[^"]*"[^"]*")*[^"]*$)') for separator in (",", r"\|"))


def columns_option() -> Any:
    return option(
        "columns of other names: artist=Artist,labels=Genre; several: targets=BPM|Year (table: features=A|B|... too); "
        "a name that holds a comma or | stands in double quotes, and artist= says that there is none"
    )


def separator_option() -> Any:
    return option(
        "what separates several artists or labels in a cell beside |: ';', or 'artist=;|artist= feat. |labels=,'"
    )


def not_missing_option() -> Any:
    return option("words that are names here and elsewhere mean no value: None|NA|...")


def own_name(name: str | None, reader: str) -> str:
    """The name a user gives to a collection; RequestError where it is absent, ill-formed or Encore's own."""
    from store.layout import check_name

    if name is None:
        raise RequestError(f"give the collection a name: encore embed {reader} --name NAME")
    if name in registry.names("dataset"):
        raise RequestError(f"--name {name}: that is the name of a data set that Encore knows; give another")
    return check_name(name)


def locate(place: str | Path, data: Path | None, what: str) -> Path:
    """A file named on the command line: looked for from the working directory, then in the folder ``data``."""
    places = [at_home(place)]
    if data is not None and not places[0].is_absolute():
        places.append(data / places[0])
    for path in places:
        if path.is_file():
            return path
    raise RequestError(f"there is no {what}: {' and no '.join(str(path) for path in places)}")


def open_table(path: Path, not_missing: str | None = None) -> Table:
    """`read_table`, with a note on cells of many lines."""
    table = read_table(path, Missing.but(not_missing))
    for name, row, lines in table.long_cells():
        note(
            f"{table.where(row)}: a cell of the column {name} begins in this row and holds {lines:,} lines; if a quote "
            f"was left open there, the rows behind it are lost: close it, or write it twice"
        )
    return table


def parse_columns(text: str | None, roles: Sequence[str]) -> dict[str, list[str]]:
    """``artist=Artist,features=A|B`` as role -> columns; none for ``artist=``.

    Raises
    ------
    RequestError
        where the text is not of this form, or a role is none of ``roles`` or stands twice.
    """
    columns_of: dict[str, list[str]] = {}
    for part in _AT_COMMA.split(text or ""):
        if not part.strip():
            continue
        role, equals, names = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise RequestError(
                f"--columns takes role=column, separated by commas, not {part!r}; a column whose name holds a comma "
                f"stands in double quotes"
            )
        if role not in roles:
            raise unknown("role in --columns", role, roles)
        if role in columns_of:
            raise RequestError(f"--columns names {role} twice")
        parts = _AT_BAR.split(names) if role in MANY_COLUMNS else [names]
        columns_of[role] = [name for part in parts if (name := _unquoted(part))]
    return columns_of


def choose(
    table: Table,
    names_of: Mapping[str, Sequence[str]],
    required: Sequence[str],
    expected: Sequence[str],
    optional: Sequence[str],
) -> dict[str, str]:
    """Role -> column of the table: as ``--columns`` says, else the column that is named like the role.

    Parameters
    ----------
    expected : roles that a table may lack; where it has a column that looks like one of them, that must be said.

    Raises
    ------
    RequestError
        where a column is not there.
    """
    roles = (*required, *expected, *optional)
    by_name = {role: [role] for role in roles if role not in names_of and role in table.blocks}
    for role, names in {**by_name, **names_of}.items():
        for name in names if role in roles else ():
            if name in table.types:
                continue
            if name not in table.blocks:
                raise RequestError(f"{table.path} has no column {name!r} for {role}; it has: {listing(table)}")
            raise RequestError(
                f"{table.path}: the column {name!r} for {role} holds vectors of numbers; write texts there, or say "
                f"that it is something else: --columns {role}="
            )
    names_by_role = {role: names[0] for role, names in names_of.items() if names and role in roles}
    free = {role: role for role in roles if role not in names_of and role in table.types}
    absent = [role for role in (*required, *expected) if role not in names_by_role and role not in free]
    missing = [role for role in absent if role in required or (role not in names_of and _likely(role, table))]
    if missing:
        advice = ",".join(f"{role}={_quoted(_likely(role, table) or '...')}" for role in missing)
        none = [f"{role}=" for role in missing if role not in required]
        where_none = f" (or {','.join(none)} where there is none)" if none else ""
        raise RequestError(
            f"{table.path} has no column named {' or '.join(missing)}; it has: {listing(table)}. "
            f"Say which it is: --columns {advice}{where_none}"
        )
    return {**free, **names_by_role}


def common_columns(
    table: Table,
    choice: Mapping[str, str],
    targets: Sequence[str] = (),
    *,
    separator: str | None,
) -> dict[str, Any]:
    """The catalog columns that every table can have, as far as ``choice`` holds their roles.

    Raises
    ------
    RequestError
        where a row's split is none that is known, or a target is no number, or the label.
    """
    patterns = lists.separators(separator, LIST_ROLES)
    columns: dict[str, Any] = {}
    if "artist" in choice:
        columns.update(artist_columns(table.lists(choice["artist"], patterns.get("artist"))))
    if "labels" in choice:
        columns["labels"] = table.lists(choice["labels"], patterns.get("labels"))
    for role, column in (("album", "album_id"), ("recording", "recording_id")):
        if role in choice:
            columns[column] = table.strings(choice[role])
    if "title" in choice:  # a song may well be called None
        columns["title"] = table.text(choice["title"]).to_pylist()
    if "split" in choice:
        words = table.strings(choice["split"])
        for row, word in enumerate(words):
            if word is not None and word.lower() not in SPLIT_WORDS:
                raise RequestError(
                    f"{table.where(row)}: {choice['split']} {word!r} is no split; have: {', '.join(SPLIT_WORDS)}, or "
                    f"leave it empty"
                )
        columns["split_official"] = [word and SPLIT_WORDS[word.lower()] for word in words]
    if targets:
        check_targets(targets, [choice["labels"]] if "labels" in choice else [], "label")
        columns["targets"] = _targets(table, targets)
    _tell_of_missing(table, {role: column for role, column in choice.items() if role != "title"})
    for role in LIST_ROLES:
        if role in choice and role not in patterns:
            _tell_of_lists(table, role, choice[role])
    return columns


def check_songs(columns: Mapping[str, Any], where: Callable[[int], str]) -> None:
    """Raise if two rows of a song disagree on a column that describes the song; ``where`` names a row in the message.

    Labels are such a column, because heads and audits count songs by their labels.
    """
    songs: dict[str, int] = {}
    for row, song in enumerate(columns["song_id"]):
        first = songs.setdefault(song, row)
        for name in _OF_A_SONG if first != row else ():
            if name not in columns:
                continue
            here, there = (_shown(columns[name][each]) for each in (row, first))
            if here != there:
                raise RequestError(
                    f"{where(row)}: the song {song!r} has the {_OF_A_SONG[name]} {here!r} here and {there!r} in "
                    f"{where(first)}; a song has one: correct these rows, or give each an id of its own in the column "
                    f"song"
                )


def complete_songs(columns: Mapping[str, Any]) -> dict[str, Any]:
    """The columns, with values that a row lacks taken from the first row of the same song that has one."""
    songs = columns["song_id"]
    complete = dict(columns)
    if len(set(songs)) == len(songs):
        return complete
    for name in _OF_A_SONG:
        if name not in columns:
            continue
        source: dict[str, int] = {}
        for row, song in enumerate(songs):
            if columns[name][row]:
                source.setdefault(song, row)
        rows = [row if columns[name][row] else source.get(song, row) for row, song in enumerate(songs)]
        for each in _WITH_ARTIST if name == "artist_id" else (name,):
            if each in columns:
                complete[each] = [columns[each][row] for row in rows]
    return complete


def keep_labelled(
    columns: Mapping[str, Any], source: str, *, unlabelled: bool
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The rows that have a label, or all if ``unlabelled``; and what to say of songs that were left out.

    Parameters
    ----------
    source : what gives the labels, for the note: a column or a file.

    Raises
    ------
    RequestError
        where no row has one.
    """
    rows = [row for row, labels in enumerate(columns["labels"]) if labels]
    songs = set(columns["song_id"])
    if unlabelled or len(rows) == len(columns["labels"]):
        return dict(columns), ()
    if not rows:
        raise RequestError(
            f"{source} gives no label to any of the songs ({len(songs):,}); name what does, or keep them by "
            f"--unlabelled"
        )
    labelled = {name: [values[row] for row in rows] for name, values in columns.items()}
    bare = songs - set(labelled["song_id"])
    if not bare:
        return labelled, ()
    them = "it" if len(bare) == 1 else "them"
    text = f"{len(bare):,} of {plural(len(songs), 'song')} left out: {source} has no label for {them}"
    note(f"{text} ({min(bare)!r} is the first); --unlabelled keeps {them}")
    return labelled, (text,)


def artist_columns(artists: Sequence[Sequence[str]]) -> dict[str, list[Any]]:
    """Of each song's artists the first-named is its key, the others are kept; none is an unknown artist."""
    first = [names[0] if names else None for names in artists]
    return {
        "artist_id": first,
        "artist_name": first,
        "other_artist_ids": [list(names[1:]) or None for names in artists],
    }


def listing(table: Table) -> str:
    """The table's columns, as a message shows them."""
    names = table.names
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _unquoted(name: str) -> str:
    name = name.strip()
    if len(name) >= 2 and name[0] == name[-1] == '"':
        return name[1:-1].replace('""', '"')
    return name


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if re.search('[,|"]', name) else name


def _likely(role: str, table: Table) -> str | None:
    """The column that may have a role, by its name."""
    plain = {name: re.sub(r"[\W_]+", "", name.casefold()) for name in table.types}
    exact = (name for name in plain if plain[name] in (role, *_OTHER_NAMES.get(role, ())))
    part = _PART_OF_NAME.get(role, "")
    near = (name for name in plain if part and part in plain[name] and table.why_no_numbers(name) == "holds text")
    return next(exact, None) or next(near, None)


def check_targets(targets: Sequence[str], others: Sequence[str], what: str) -> None:
    """RequestError where a target is one of the ``others`` too, which tell what a head is to estimate."""
    for name in targets:
        if name in others:
            raise RequestError(
                f"{name} is named as a target and as a {what}, which would tell it; leave out one of them"
            )


def _targets(table: Table, names: Sequence[str]) -> list[list[tuple[str, float]]]:
    """The numbers of each row by the names of their columns; what a cell does not hold is left out."""
    values = {}
    for name in names:
        if name not in table.types:
            raise RequestError(f"{table.path} has no column {name!r} for targets; it has: {listing(table)}")
        values[name], strange = table.floats(name)
        if strange.any():
            row = int(strange.argmax())
            raise RequestError(
                f"{table.where(row)}: {name} is {table.text(name)[row].as_py()!r}, and a target is a number; correct it"
            )
    rows = zip(*(column.tolist() for column in values.values()), strict=True)
    return [[(name, v) for name, v in zip(values, row, strict=True) if v - v == 0] for row in rows]  # finite ones


def _tell_of_missing(table: Table, choice: Mapping[str, str]) -> None:
    """Say how many cells hold no value where a word or a number that is none says so."""
    counts = []
    words: Counter[str] = Counter()
    for role in ("artist", "labels", "album", "recording", "song", "split"):
        if role not in choice:
            continue
        here = table.words_for_missing(choice[role])
        words += here
        if here:
            each = ", ".join(f"{word} {count:,}" for word, count in here.most_common(3))
            counts.append(f"{choice[role]} {sum(here.values()):,} ({each})")
    if counts:
        note(
            f"cells of {table.path.name} that say that there is no value: {'; '.join(counts)}; where that is a name: "
            f"--not-missing {words.most_common(1)[0][0]}"
        )


def _tell_of_lists(table: Table, role: str, column: str) -> None:
    """Say where many cells may hold several values that are taken as one."""
    if table.why_no_numbers(column) != "holds text":
        return
    cells = Counter(cell for cell in table.strings(column) if cell is not None)
    likely = [cell for cell in cells if lists.looks_like_list(cell)]
    count = sum(cells[cell] for cell in likely)
    if count < _SHARE_OF_LISTS * max(1, sum(cells.values())):
        return
    examples = ", ".join(repr(cell) for cell in likely[:3])
    if 2 * sum(map(lists.looks_like_record, likely)) > len(likely):
        note(
            f"{column}: {count:,} of {plural(sum(cells.values()), 'cell')} look like records or lists in lists "
            f"({examples}), and each is taken as one {'label' if role == 'labels' else role}; write the names alone: "
            f'["A", "B"]'
        )
        return
    note(
        f"{column}: {count:,} of {plural(sum(cells.values()), 'cell')} look like lists ({examples}), and each is "
        f"taken as one {'label' if role == 'labels' else role}; if they are: --separator "
        f"'{role}={lists.usual_separator(likely)}'"
    )


def _shown(value: Any) -> Any:
    """A cell as it is compared and shown: several labels in one order."""
    return "|".join(sorted(set(value))) if isinstance(value, list) else value


def texts(names: Iterable[str], most: int = 20) -> str:
    """Names for a message, not more of them than one can read."""
    every = list(names)
    return ", ".join(every[:most]) + (f" and {len(every) - most:,} more" if len(every) > most else "")
