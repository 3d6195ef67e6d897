"""The songs or artists whose representations lie nearest to a song's, an artist's or any other.

Nearness is the cosine between clips, each number of a representation standardised over the collection, and a song's or
an artist's is the mean over its clips. It is exact: the collection is read twice, block by block, and of each clip one
number is kept. An index would cost more than the one look that it is for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from store import columns
from store.errors import RequestError, nearest, unknown
from store.layout import Store
from store.reader import Representations
from store.rows import Rows

_BLOCK_BYTES = 1 << 26  # of a representation held at a time
_LEAST = 1e-12
FILTERS = ("label", "artist", "album")
_SHOWN = 5


@dataclass(frozen=True)
class Query:
    """What is asked about.

    Attributes
    ----------
    title : in words.
    rows : [clips] its catalog rows; none for what is not in the collection.
    song, artist : its ids, None where it is no song, or unknown.
    """

    title: str
    rows: NDArray[np.int64]
    song: str | None
    artist: str | None


class Space:
    """The live, encoded clips of a collection, with or without labels."""

    def __init__(self, store: Store, dataset: str, backbone: str | None) -> None:
        self.catalog = store.read_catalog(dataset)
        self.stored = Representations(store, self.catalog, store.find(dataset, backbone))
        self.usable = np.zeros(len(self.catalog), dtype=bool)
        self.usable[: self.stored.rows] = self.stored.encoded()
        self.usable &= ~self.catalog.retired()
        if not self.usable.any():
            raise RequestError(f"{dataset}/{self.stored.name} has no clip that is encoded; there is nothing to compare")

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """[rows, dim] the representations of some catalog rows, as they are stored."""
        values: NDArray[np.float64] = Rows(self.stored).take(rows).reshape(len(rows), -1).astype(np.float64)
        return values

    def cosines(self, vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """[rows] the cosine of each catalog row with the mean of ``vectors`` [clips, dim]; NaN where not encoded."""
        shift, scale = self._standard
        mean = ((vectors - shift) * scale).mean(axis=0)
        mean /= max(float(np.linalg.norm(mean)), _LEAST)
        cosines = np.full(len(self.catalog), np.nan, dtype=np.float32)
        for first, block in self._blocks():
            unit = (block - shift) * scale
            unit /= np.linalg.norm(unit, axis=1, keepdims=True).clip(min=_LEAST)
            cosines[first : first + len(block)] = unit @ mean
        cosines[~self.usable] = np.nan
        return cosines

    @cached_property
    def _standard(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """[dim] the mean of each number over the collection, and one over its deviation; 1 where that is 0."""
        count, total, squares = 0, np.zeros(1), np.zeros(1)
        origin: NDArray[np.float64] | None = None  # sums of what lies around 0 keep their digits
        for first, block in self._blocks():
            block = block[self.usable[first : first + len(block)]]
            if not len(block):
                continue
            origin = block[0] if origin is None else origin
            moved = block - origin
            count += len(block)
            total = total + moved.sum(axis=0)
            squares = squares + np.square(moved).sum(axis=0)
        assert origin is not None
        mean = total / count
        deviation = np.sqrt((squares / count - mean**2).clip(min=0))
        return origin + mean, 1 / np.where(deviation > 1e-9, deviation, 1.0)

    def _blocks(self) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """The first row of each block of whole shards, and [rows, dim] its numbers; those that failed are 0."""
        manifest = self.stored.manifest
        shard_bytes = manifest.shard_rows * int(np.prod(manifest.shape)) * 8
        step = manifest.shard_rows * max(1, _BLOCK_BYTES // max(1, shard_bytes))
        for first in range(0, self.stored.rows, step):
            block = self.stored.read(first, min(first + step, self.stored.rows))
            values = block.reshape(len(block), -1).astype(np.float64)
            values[~self.usable[first : first + len(block)]] = 0.0
            yield first, values

    def find(self, text: str) -> Query:
        """The song that ``text`` names by id, title, or ``ARTIST - TITLE``, or else the artist.

        Raises
        ------
        RequestError
            where it names none, or several songs.
        """
        kind, _, rest = text.partition(":")
        if kind == "artist" and rest:
            return self._artist(rest.strip()) or self._nothing(rest.strip())
        return self._song(text) or self._artist(text) or self._nothing(text)

    def song(self, song_id: str) -> Query:
        """The song of that id."""
        rows = np.flatnonzero(self.usable & pc.equal(self.catalog.column("song_id"), song_id).to_numpy())
        first = int(rows[0])
        return Query(self._title(first), rows, song_id, self._value("artist_id", first))

    def _song(self, text: str) -> Query | None:
        for names in (self.catalog.column("song_id"), *self._titles):
            rows = np.flatnonzero(self.usable & pc.equal(names, text).fill_null(False).to_numpy())
            if not len(rows):
                lower = pc.utf8_lower(names)
                rows = np.flatnonzero(self.usable & pc.equal(lower, text.lower()).fill_null(False).to_numpy())
            songs = pc.unique(self.catalog.column("song_id").take(pa.array(rows))).to_pylist()
            if len(songs) > 1:
                first = ", ".join(f"{song} ({self.song(song).title})" for song in songs[:_SHOWN])
                raise RequestError(f"{len(songs):,} songs are called {text!r}; name one by its id: {first}")
            if songs:
                return self.song(songs[0])
        return None

    @cached_property
    def _titles(self) -> list[pa.ChunkedArray]:
        title, artist = (self.catalog.column(name) for name in ("title", "artist_name"))
        return [title, pc.binary_join_element_wise(artist, title, " - ")]

    def _artist(self, text: str) -> Query | None:
        for name in ("artist_id", "artist_name"):
            values = self.catalog.column(name)
            for side, wanted in ((values, text), (pc.utf8_lower(values), text.lower())):
                rows = np.flatnonzero(self.usable & pc.equal(side, wanted).fill_null(False).to_numpy())
                if len(rows):
                    artist = self._value("artist_id", int(rows[0]))
                    rows = np.flatnonzero(self.usable & pc.equal(self.catalog.column("artist_id"), artist).to_numpy())
                    return Query(f"artist {self._value('artist_name', int(rows[0])) or artist}", rows, None, artist)
        return None

    def _nothing(self, text: str) -> Query:
        names = [self.catalog.column(name) for name in ("song_id", "title", "artist_name")]
        near = nearest(text, (name for values in names for name in pc.unique(values).drop_null().to_pylist()))
        raise RequestError(
            f"{self.catalog.info.name} has no encoded song or artist {text!r}, and there is no such file.{near}"
        )

    def mask(self, filters: Mapping[str, str]) -> NDArray[np.bool_]:
        """[rows] the usable rows that carry the label, or are of the artist or the album (each by id or name)."""
        mask = self.usable.copy()
        for kind, value in filters.items():
            if kind == "label":
                names, carried = columns.labels(self.catalog)
                if value not in names:
                    raise unknown("label", value, names)
                mask &= carried[:, names.index(value)]
            else:
                ids = ("artist_id", "artist_name") if kind == "artist" else ("album_id",)
                hits = [pc.equal(self.catalog.column(name), value).fill_null(False).to_numpy() for name in ids]
                if not np.any(hits):
                    raise RequestError(f"--filter {kind}={value}: no song of {self.catalog.info.name} has that {kind}")
                mask &= np.any(hits, axis=0)
        return mask

    def ranked(
        self, cosines: NDArray[np.float32], among: NDArray[np.bool_], column: str, count: int
    ) -> list[tuple[int, float, int]]:
        """The nearest songs (``song_id``) or artists (``artist_id``): first catalog row, mean cosine, clips of each."""
        number = columns.codes(self.catalog, column)
        rows = np.flatnonzero(among & (number >= 0))
        codes, first, place, clips = np.unique(number[rows], return_index=True, return_inverse=True, return_counts=True)
        mean = np.bincount(place, weights=cosines[rows], minlength=len(codes)) / np.maximum(clips, 1)
        best = np.argsort(-mean, kind="stable")[:count]
        return [(int(rows[first[i]]), float(mean[i]), int(clips[i])) for i in best.tolist()]

    def _value(self, column: str, row: int) -> str | None:
        value: str | None = self.catalog.column(column)[row].as_py()
        return value

    def _title(self, row: int) -> str:
        artist, title = self._value("artist_name", row), self._value("title", row)
        return " - ".join(part for part in (artist, title or self._value("song_id", row)) if part)


def parse_filters(pairs: Sequence[str]) -> dict[str, str]:
    """``["label=jazz"]`` as a dictionary; RequestError for anything that is no filter."""
    filters: dict[str, str] = {}
    for pair in pairs:
        kind, equals, value = pair.partition("=")
        if not equals or not value:
            raise RequestError(f"--filter takes label=NAME, artist=NAME or album=ID, not {pair!r}")
        if kind not in FILTERS:
            raise unknown("filter", kind, FILTERS)
        if kind in filters:
            raise RequestError(f"--filter names {kind} twice")
        filters[kind] = value
    return filters
