"""Who made a song, by its tags: performers one by one, and the album that is theirs or a compilation's."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from stages.embed.tables import Missing, lists
from stages.embed.tags import Tags

VARIOUS_ARTISTS = "Various Artists"

# What follows the album's artist where a song's credit names more than that one.
_JOINED = re.compile(
    r"\s*(?:[(\[]\s*(?:(?:feat|ft|featuring|and|with|vs)\b(?=[\s.]))?|[,;&/+]|\b(?:feat|ft|featuring|and|with|x|vs)\b)"
    r"[\s.(\[]*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Credit:
    """The performers of a song, the first-named first, their MusicBrainz identifiers, and the album's id.

    ``ids`` may be more or fewer than ``names``: a credit that no rule splits can stand for several performers.
    """

    names: tuple[str, ...]
    ids: tuple[str, ...]
    album: str | None


def credit_of(
    tags: Tags, separator: re.Pattern[str] | None, nobody: Collection[str], missing: Missing | None = None
) -> Credit:
    """Who performs a song.

    The tag that lists performers one by one counts first, then the credit, split at ``separator``. The album's artist
    stands in where a song has none, and shows where the first name of a longer credit ends (``Simon & Garfunkel`` of
    ``Simon & Garfunkel & The Band``), unless the album is a compilation.

    Parameters
    ----------
    nobody : names, in lower case, that mean no one artist.
    """
    missing = missing or Missing()
    owner = next((name for name in tags.album_artist if name not in missing), None)
    if owner is not None and owner.casefold() in nobody:
        owner = VARIOUS_ARTISTS
    compilation = tags.compilation or owner == VARIOUS_ARTISTS
    leader = None if compilation else owner
    names = tuple(dict.fromkeys(name for name in _names(tags, separator, leader) if name not in missing))
    if compilation:
        owner = VARIOUS_ARTISTS
    owner = owner or next(iter(names), None)
    title = tags.album if tags.album is not None and tags.album not in missing else None
    album = f"{owner} / {title}" if owner and title else title
    return Credit(names, tags.artist_mbids, tags.album_mbid or album)


def _names(tags: Tags, separator: re.Pattern[str] | None, leader: str | None) -> list[str]:
    if tags.artists:
        return list(tags.artists)
    names: list[str] = []
    for text in tags.artist or ((leader,) if leader else ()):
        rest = text[len(leader) :] if leader and text.casefold().startswith(leader.casefold()) else ""
        match = _JOINED.match(rest)
        if leader and match:
            names += [leader, *lists.split(rest[match.end() :], separator)]
        else:
            names += lists.split(text, separator)
    return names


def identified(songs: Sequence[Credit]) -> list[list[str]]:
    """The keys of each song's performers, the first-named first: the MusicBrainz identifier, or else the name.

    A name that elsewhere in the library always goes with one identifier stands for it.
    """
    ids: dict[str, set[str]] = {}
    for credit in songs:
        if len(credit.names) == len(credit.ids):
            for name, id_ in zip(credit.names, credit.ids, strict=True):
                ids.setdefault(name, set()).add(id_)
    ids_by_name = {name: next(iter(each)) for name, each in ids.items() if len(each) == 1}
    return [_keys(credit, ids_by_name) for credit in songs]


def _keys(credit: Credit, ids_by_name: dict[str, str]) -> list[str]:
    if credit.ids and len(credit.names) <= len(credit.ids):
        return list(credit.ids)
    keys = [ids_by_name.get(name, name) for name in credit.names]
    if credit.ids:  # fewer than names: the first is that of the first-named
        keys[0] = credit.ids[0]
    return list(dict.fromkeys(keys))
