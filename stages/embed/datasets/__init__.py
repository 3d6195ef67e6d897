"""Data sets: one file each, a frozen dataclass whose fields are its options on the command line.

A file opens with what a user must know (licence, citation, where the files come from) and turns the
official files into a catalog. It reads metadata only; encoding opens the songs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar
from urllib.parse import urlsplit

from stages.embed.datasets._spellings import merge_spellings, spellings
from stages.progress import note
from store.schema import Catalog, CatalogInfo
from store.words import plural

UNLABELLED = "keep songs without a label too: train learns from them, heads and splits leave them out"
VARIOUS = "Various Artists|Various|V.A.|VA|Unknown Artist|Unknown|[unknown]"
_VARIOUS_ARTISTS = "89ad4ac3-39f7-470e-9410-963566e08709"  # what MusicBrainz calls them


def option(explanation: str, default: Any = None) -> Any:
    """A field of a data set that the command line offers as ``--field-name``, with its one line of help."""
    return field(default=default, metadata={"help": explanation})


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A file that a collection is fetched from.

    Attributes
    ----------
    url : its official address.
    holds : where its content lies under ``--data``; any one of these paths shows that it is there. Archives (.zip,
        .tar.gz) are unpacked under ``--data``, other files are put at the first of these paths.
    checksum : ``sha256:...``, ``sha1:...`` or ``md5:...`` where the publisher or a library that checks it tells one.
    size : for a person, where it is known.
    into : the folder under ``--data`` that an archive is unpacked in.
    file : what the file is called, where the address does not end in it.
    """

    url: str
    holds: tuple[str, ...]
    checksum: str | None = None
    size: str = ""
    into: str = ""
    file: str = ""

    @property
    def name(self) -> str:
        """What the file is called."""
        return self.file or PurePosixPath(urlsplit(self.url).path).name


@dataclass(frozen=True, kw_only=True)
class Dataset(ABC):
    """One collection of songs.

    Class attributes
    ----------------
    NAME, TITLE : what a user types, and the full name.
    LICENSE, CITATION, HOMEPAGE : of the data.
    FILES : which files it wants under ``--data`` and where they come from, in one or two sentences.
    BACKBONE : the backbone that is meant when none is named.
    MIDI_BACKBONE : the same for collections that are mostly MIDI, where the files decide.
    SYNTHETIC : True for generated music; it is then said wherever a result is shown.
    """

    NAME: ClassVar[str]
    TITLE: ClassVar[str]
    LICENSE: ClassVar[str]
    CITATION: ClassVar[str]
    HOMEPAGE: ClassVar[str]
    FILES: ClassVar[str]
    BACKBONE: ClassVar[str]
    MIDI_BACKBONE: ClassVar[str | None] = None
    SYNTHETIC: ClassVar[bool] = False

    data: Path | None = option("the folder that holds the collection's files")
    various: str = option(f"artists' names that mean no one artist, separated by | (default: {VARIOUS})", VARIOUS)
    merge_spellings: bool = option(
        "artists and labels that differ by case, blanks, accents or punctuation are one", False
    )
    first_artist: bool = option("of several artists the first alone decides the regime artist, not any of them", False)
    keep_copies: bool = option("songs whose files hold the same are not one recording, so splits may part them", False)

    @abstractmethod
    def catalog(self) -> Catalog:
        """The clips of this collection, from its metadata alone.

        Raises
        ------
        RequestError
            where the files are absent or are not what they should be; the message names file, line and remedy.
        """

    def remembered(self) -> dict[str, Any]:
        """The options that hold again the next time the collection is read under its name, in JSON types."""
        return {}

    def remotes(self) -> tuple[Remote, ...]:
        """The files that `encore data` can fetch for these options; what it cannot fetch stands in ``FILES``."""
        return ()

    def build(self, columns: dict[str, Any], root: Path, version: str, **about: Any) -> Catalog:
        """The catalog of some columns (`Catalog.build`) with `resolve_artists`, described by what the data set says.

        Parameters
        ----------
        root : the folder that paths are relative to.
        version : which release or choice of the collection this is.
        about : further fields of `CatalogInfo`, or others in place of the data set's own.
        """
        info = {
            "name": self.NAME,
            "title": self.TITLE,
            "licence": self.LICENSE,
            "citation": self.CITATION,
            "backbone": self.BACKBONE,
            "synthetic": self.SYNTHETIC,
        }
        return Catalog.build(
            CatalogInfo(**{**info, "data_root": str(root), "version": version, **about}), self.resolve_artists(columns)
        )

    def resolve_artists(self, columns: dict[str, Any]) -> dict[str, Any]:
        """Catalog columns without artists that are no one artist, and with one spelling a name where asked for.

        Empty ids, and ids and names that ``--various`` lists (case is ignored), become null, so that they join no
        songs; the name is kept for people to read. With ``--merge-spellings``, spellings of an artist or a label are
        merged; without it, a note counts those that differ by spelling only.
        """
        columns = self._spelled(columns)
        ids: list[str | None] = columns["artist_id"]
        names: list[str | None] = columns.get("artist_name", ids)
        nobody = {name.strip().casefold() for name in self.various.split("|")} | {""}
        if "various artists" in nobody:
            nobody.add(_VARIOUS_ARTISTS)
        is_nobody = {name: (name or "").strip().casefold() in nobody for name in {*ids, *names}}
        artists = [
            None if is_nobody[id_] or (name is not None and is_nobody[name]) else id_
            for id_, name in zip(ids, names, strict=True)
        ]
        if "other_artist_ids" not in columns:
            return {**columns, "artist_id": artists}
        others = [
            [name for name in each or () if name.strip().casefold() not in nobody] or None
            for each in columns["other_artist_ids"]
        ]
        return {**columns, "artist_id": artists, "other_artist_ids": others}

    def _spelled(self, columns: dict[str, Any]) -> dict[str, Any]:
        others = columns.get("other_artist_ids", [])
        artists = spellings(chain(columns["artist_id"], chain.from_iterable(each or () for each in others)))
        labels = spellings(chain.from_iterable(columns["labels"]))
        if not self.merge_spellings:
            _tell_of_spellings("artist", artists)
            _tell_of_spellings("label", labels)
            return columns
        return merge_spellings(columns, artists, labels)


def _tell_of_spellings(what: str, spelling: Mapping[str, str]) -> None:
    """Say where names differ by spelling only: they are taken as they are written."""
    pairs = sorted((name, common) for name, common in spelling.items() if name != common)
    if pairs:
        one, other = sorted(pairs[0])
        note(
            f"{plural(len(pairs), f'{what} is', f'{what}s are')} written like another but for case, blanks, accents "
            f"or punctuation ({one!r} and {other!r} are the first); each spelling counts as its own {what}; if they "
            f"are the same: --merge-spellings"
        )
