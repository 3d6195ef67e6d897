"""The artists of a collection by the names that people give them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from stages.progress import note
from store.errors import nearest
from store.schema import Catalog


class Artists:
    """Finds artists by id or name; case is ignored if nothing matches exactly.

    Parameters
    ----------
    ids : the artists with clips that a head can read.
    """

    def __init__(self, catalog: Catalog, ids: Sequence[str]) -> None:
        self._ids = set(ids)
        live = catalog.live()
        clips = Counter(zip(live.strings("artist_id"), live.strings("artist_name"), strict=True))
        self._by_name: dict[str, str] = {}
        self._names: dict[str, str] = {}
        for (artist, name), _ in clips.most_common():
            if artist is not None and artist in self._ids:
                self._names.setdefault(artist, name or artist)
                for spelling in (artist, name or artist):
                    self._by_name.setdefault(spelling, artist)
        self._folded: dict[str, str] = {}
        for name, artist in self._by_name.items():
            self._folded.setdefault(name.casefold(), artist)
        self._unknown: set[str] = set()

    def has(self, artist: str | None) -> bool:
        """Whether an id is one of the collection."""
        return artist in self._ids

    def name(self, artist: str | None) -> str | None:
        """The artist's name, or the id where the collection gives none."""
        return self._names.get(artist, artist) if artist is not None else None

    def find(self, name: str | None, *, quiet: bool = False) -> str | None:
        """The id of the artist of this name; a name that the collection lacks is returned as it is, and noted once."""
        if name is None:
            return None
        artist = self._by_name.get(name) or self._folded.get(name.casefold())
        if artist is None and not quiet and name not in self._unknown:
            self._unknown.add(name)
            note(
                f"the collection has no artist {name!r}: of its songs only those given here are known."
                f"{nearest(name, self._by_name)}"
            )
        return artist or name
