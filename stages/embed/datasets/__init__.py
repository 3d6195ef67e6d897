"""Data sets: one file each, a frozen dataclass whose fields are its options on the command line.

A file opens with what a user must know (licence, citation, where the files come from) and turns the
official files into a catalog. It reads metadata only; encoding opens the songs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from store.schema import Catalog


def option(explanation: str, default: Any = None) -> Any:
    """A field of a data set that the command line offers as ``--field-name``, with its one line of help."""
    return field(default=default, metadata={"help": explanation})


@dataclass(frozen=True, kw_only=True)
class Dataset(ABC):
    """One collection of songs.

    Class attributes
    ----------------
    NAME, TITLE : what a user types, and the full name.
    LICENSE, CITATION, HOMEPAGE : of the data.
    FILES : which files it wants under ``--data`` and where they come from, in one or two sentences.
    BACKBONE : the backbone that is meant when none is named.
    SYNTHETIC : True for generated music; it is then said wherever a result is shown.
    """

    NAME: ClassVar[str]
    TITLE: ClassVar[str]
    LICENSE: ClassVar[str]
    CITATION: ClassVar[str]
    HOMEPAGE: ClassVar[str]
    FILES: ClassVar[str]
    BACKBONE: ClassVar[str]
    SYNTHETIC: ClassVar[bool] = False

    data: Path | None = option("the folder that holds the collection's files")

    @abstractmethod
    def catalog(self) -> Catalog:
        """The clips of this collection, from its metadata alone.

        Raises
        ------
        RequestError
            where the files are absent or are not what they should be; the message names file, line and remedy.
        """
