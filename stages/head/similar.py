"""The songs or artists whose representations lie nearest to a song's, an artist's or any other.

Nearness is the cosine between clips, each number of a representation standardised over the collection, and a song's or
an artist's is the mean over its clips. It is exact: the collection is read twice, piece by piece, and of each clip two
numbers are kept. Beyond `EXACT` clips an index (`stages.head.index`) finds songs that may be nearest, and only these
are compared. Words, which a text tower puts into the space of the clips, are compared by the plain cosine, as such
towers are trained: the mean of recordings is not that of words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stages.head import layers
from store import columns
from store.errors import RequestError, nearest, unknown
from store.layout import Store, split_layer
from store.reader import Representations
from store.rows import Rows
from store.words import plural

if TYPE_CHECKING:
    from stages.head.index import Index

EXACT = 1_000_000  # clips that are all compared
_CHUNK_BYTES = 1 << 20  # of numbers that are worked on at a time, in the processor's cache
_LEAST = 1e-12
_FAR = 30.0  # deviations from 0, from which on a mean is taken away before it is multiplied, so that no digits are lost
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
    plain : compared by the plain cosine, nothing standardised, as words are.
    """

    title: str
    rows: NDArray[np.int64]
    song: str | None
    artist: str | None
    plain: bool = False


class Space:
    """The live, encoded clips of a collection, with or without labels.

    Parameters
    ----------
    backbone : may end in a layer (``mert@7``, ``mert@mean``); of a representation with layers the last is taken, which
        is noted, and ``mix`` takes all of them side by side.

    Attributes
    ----------
    dim : how many numbers are compared.
    """

    def __init__(self, store: Store, dataset: str, backbone: str | None) -> None:
        self.catalog = store.read_catalog(dataset)
        representation, layer = split_layer(backbone)
        self.stored = Representations(store, self.catalog, store.find(dataset, representation))
        self._layer = layers.choose(str(self.stored.name), self.stored.shape, layer)
        self.name: str = layers.with_layer(str(self.stored.name), self._layer) or str(self.stored.name)
        self.usable = np.zeros(len(self.catalog), dtype=bool)
        self.usable[: self.stored.rows] = self.stored.encoded()
        self.usable &= ~self.catalog.retired()
        if not self.usable.any():
            raise RequestError(f"{dataset}/{self.stored.name} has no clip that is encoded; there is nothing to compare")
        self.dim = int(np.prod(self.stored.shape if self._layer in (None, layers.MIX) else self.stored.shape[1:]))
        self._rows = Rows(self.stored)
        self._norms: NDArray[np.float32] | None = None
        self._codes: dict[str, NDArray[np.int64]] = {}

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """[rows, dim] the representations of some catalog rows, as they are stored."""
        return self.read(self._rows.take(rows))

    def read(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """[clips, dim] what is compared of representations [clips, *shape]."""
        return layers.read(values, self._layer)

    def cosines(self, vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """[rows] the cosine of each catalog row with the mean of ``vectors`` [clips, dim]; NaN where not encoded.

        The first call reads the collection twice, every other once.
        """
        shift, scale = (values.astype(np.float32) for values in self._standard)
        mean = self.direction(vectors)
        has_norms = self._norms is not None
        norms = self._norms if self._norms is not None else np.ones(len(self.catalog), dtype=np.float32)
        cosines = np.full(len(self.catalog), np.nan, dtype=np.float32)
        weights = (scale * mean).astype(np.float32)
        if has_norms and np.abs(shift * scale).max() < _FAR:
            for first, shard in self._shards():
                cosines[first : first + len(shard)] = shard.astype(np.float32, copy=False) @ weights
            cosines -= float(shift.astype(np.float64) @ weights)
        else:
            buffer = np.empty((_chunk_rows(self.dim), self.dim), dtype=np.float32)
            for first, chunk in self.chunks():
                offsets = np.subtract(chunk, shift, out=buffer[: len(chunk)])
                np.dot(offsets, weights, out=cosines[first : first + len(chunk)])
                if not has_norms:
                    offsets *= scale
                    norms[first : first + len(chunk)] = np.sqrt(np.einsum("ij,ij->i", offsets, offsets))
        self._norms = norms
        cosines /= norms.clip(min=_LEAST)
        cosines[~self.usable] = np.nan
        return cosines

    def plain_cosines(self, vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """[rows] the cosine of each catalog row with the mean of ``vectors`` [clips, dim]; NaN where not encoded."""
        mean = vectors.mean(axis=0, dtype=np.float32)
        mean /= max(float(np.linalg.norm(mean)), _LEAST)
        cosines = np.full(len(self.catalog), np.nan, dtype=np.float32)
        for first, chunk in self.chunks():
            values = chunk.astype(np.float32, copy=False)
            norms = np.linalg.norm(values, axis=1).clip(min=_LEAST)
            cosines[first : first + len(values)] = values @ mean / norms
        cosines[~self.usable] = np.nan
        return cosines

    def direction(self, vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """[dim] the unit vector of the mean of some representations [clips, dim], standardised."""
        shift, scale = self._standard
        mean = ((vectors - shift) * scale).mean(axis=0)
        mean /= max(float(np.linalg.norm(mean)), _LEAST)
        direction: NDArray[np.float32] = mean.astype(np.float32)
        return direction

    def units(self, chunk: NDArray[np.float32]) -> NDArray[np.float32]:
        """[rows, dim] representations as unit vectors, standardised."""
        shift, scale = (values.astype(np.float32) for values in self._standard)
        unit: NDArray[np.float32] = (chunk - shift) * scale
        unit /= np.linalg.norm(unit, axis=1, keepdims=True).clip(min=_LEAST)
        return unit

    @cached_property
    def _standard(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """[dim] the mean of each number over the collection, and one over its deviation; 1 where that is 0."""
        with np.errstate(over="ignore", invalid="ignore"):
            mean, variance = self._moments(np.float32)
        if not np.isfinite(variance).all():  # numbers whose squares no float32 holds
            mean, variance = self._moments(np.float64)
        deviation = np.sqrt(variance)
        return mean, 1 / np.where(deviation > 1e-9, deviation, 1.0)

    def _moments(self, precision: type[np.floating[Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """[dim] mean and variance of each number over the collection; the sums of a chunk are in ``precision``."""
        count, total, squares = 0, np.zeros(self.dim), np.zeros(self.dim)
        origin: NDArray[np.floating[Any]] | None = None  # sums of what lies around 0 keep their digits
        for first, chunk in self.chunks():
            usable = self.usable[first : first + len(chunk)]
            if not usable.any():
                continue
            values = (chunk if usable.all() else chunk[usable]).astype(precision, copy=False)
            origin = values.mean(axis=0, dtype=np.float64).astype(precision) if origin is None else origin
            offsets = values - origin
            count += len(offsets)
            total += offsets.sum(axis=0)
            squares += np.einsum("ij,ij->j", offsets, offsets)
        assert origin is not None
        mean = total / count
        return origin + mean, (squares / count - mean**2).clip(min=0)

    def chunks(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """A first row and [rows, dim] what is compared of the rows from there on, as many as a cache holds."""
        step = _chunk_rows(self.dim)
        for first, shard in self._shards():
            for begin in range(0, len(shard), step):
                yield first + begin, shard[begin : begin + step]

    def _shards(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Of one layer only that layer is read; all numbers are mapped where they can be."""
        if self._layer in (None, layers.MIX):
            for first, values in self._rows.shards():
                yield first, values.reshape(len(values), -1)
            return
        layer = None if self._layer == layers.MEAN else int(self._layer or 0)
        for record in self.stored.manifest.shards:
            values = self.stored.read(*record.rows, layer)
            yield record.rows[0], values if layer is not None else layers.read(values, layers.MEAN)

    def find(self, text: str, otherwise: str = "") -> Query:
        """The song that ``text`` names by id, title, or ``ARTIST - TITLE``, or else the artist.

        Parameters
        ----------
        otherwise : what else it could have been and is not, for the message.

        Raises
        ------
        RequestError
            where it names none, or several songs.
        """
        kind, _, rest = text.partition(":")
        if kind == "artist" and rest:
            return self._artist(rest.strip()) or self._nothing(rest.strip(), "")
        return self.by_name(text) or self._nothing(text, otherwise)

    def by_name(self, text: str) -> Query | None:
        """The song or else the artist of that name, None without any; RequestError where it names several songs."""
        return self._song(text) or self._artist(text)

    def song(self, song_id: str) -> Query:
        """The song of that id."""
        rows = self._carrying(self.catalog.column("song_id"), song_id)
        first = int(rows[0])
        return Query(self._title(first), rows, song_id, self._value("artist_id", first))

    def _song(self, text: str) -> Query | None:
        for names in (self.catalog.column("song_id"), *self._titles):
            rows = self._carrying(names, text)
            if not len(rows):
                rows = self._carrying(pc.utf8_lower(names), text.lower())
            songs = pc.unique(self.catalog.column("song_id").take(pa.array(rows))).to_pylist()
            if len(songs) > 1:
                first = ", ".join(f"{song} ({self.song(song).title})" for song in songs[:_SHOWN])
                raise RequestError(f"{plural(len(songs), 'song')} are called {text!r}; name one by its id: {first}")
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
            for names, spelling in ((values, text), (pc.utf8_lower(values), text.lower())):
                rows = self._carrying(names, spelling)
                if len(rows):
                    artist = self._value("artist_id", int(rows[0]))
                    rows = self._carrying(self.catalog.column("artist_id"), artist)
                    return Query(f"artist {self._value('artist_name', int(rows[0])) or artist}", rows, None, artist)
        return None

    def _carrying(self, names: pa.ChunkedArray, name: str | None) -> NDArray[np.int64]:
        """The usable rows that have this name; none where it is None."""
        return np.flatnonzero(self.usable & pc.equal(names, name).fill_null(False).to_numpy())

    def _nothing(self, text: str, otherwise: str) -> Query:
        names = [self.catalog.column(name) for name in ("song_id", "title", "artist_name")]
        near = nearest(text, (name for values in names for name in pc.unique(values).drop_null().to_pylist()))
        raise RequestError(f"{self.catalog.info.name} has no encoded song or artist {text!r}{otherwise}.{near}")

    def mask(self, filters: Mapping[str, str]) -> NDArray[np.bool_]:
        """[rows] the usable rows that carry the label, or are of the artist or the album (each by id or name)."""
        mask = self.usable.copy()
        for kind, value in filters.items():
            if kind == "label":
                names, matrix = columns.labels(self.catalog)
                if value not in names:
                    raise unknown("label", value, names)
                mask &= matrix[:, names.index(value)]
            else:
                ids = ("artist_id", "artist_name") if kind == "artist" else ("album_id",)
                hits = [pc.equal(self.catalog.column(name), value).fill_null(False).to_numpy() for name in ids]
                if not np.any(hits):
                    raise RequestError(f"--filter {kind}={value}: no song of {self.catalog.info.name} has that {kind}")
                mask &= np.any(hits, axis=0)
        return mask

    def rank(
        self, cosines: NDArray[np.float32], among: NDArray[np.bool_], column: str, count: int
    ) -> list[tuple[int, float, int]]:
        """The nearest songs (``song_id``) or artists (``artist_id``): first catalog row, mean cosine, clips of each."""
        number = self.codes(column)
        rows = np.flatnonzero(among & (number >= 0))
        if not len(rows) or not count:
            return []
        codes = number[rows]
        if len(rows) < len(number) // 16:  # to sort few is less than to count all
            codes = np.unique(codes, return_inverse=True)[1]
        clips, total = np.bincount(codes), np.bincount(codes, weights=cosines[rows])
        there = np.flatnonzero(clips)
        mean, count = total[there] / clips[there], min(count, len(there))
        near = np.flatnonzero(mean >= np.partition(mean, len(mean) - count)[len(mean) - count])
        best = near[np.argsort(-mean[near], kind="stable")][:count]
        first = (rows[(codes == code).argmax()] for code in there[best].tolist())
        return [
            (int(row), float(mean[place]), int(clips[there[place]]))
            for row, place in zip(first, best.tolist(), strict=True)
        ]

    def codes(self, column: str) -> NDArray[np.int64]:
        """[rows] the ids of a column as numbers (`store.columns.codes`)."""
        if column not in self._codes:
            self._codes[column] = columns.codes(self.catalog, column)
        return self._codes[column]

    @cached_property
    def index(self) -> Index:
        """The approximate index, for collections that are too large to compare every clip."""
        from stages.head.index import open_index

        return open_index(self)

    def _value(self, column: str, row: int) -> str | None:
        value: str | None = self.catalog.column(column)[row].as_py()
        return value

    def _title(self, row: int) -> str:
        artist, title = self._value("artist_name", row), self._value("title", row)
        return " - ".join(part for part in (artist, title or self._value("song_id", row)) if part)


def _chunk_rows(dim: int) -> int:
    return max(1, _CHUNK_BYTES // (4 * dim))


def parse_filters(pairs: Sequence[str]) -> dict[str, str]:
    """``["label=jazz"]`` as a dictionary; RequestError for anything that is no filter."""
    filters: dict[str, str] = {}
    for pair in pairs:
        kind, equals, value = pair.partition("=")
        if not equals or not value:
            raise RequestError(f"a filter is label=NAME, artist=NAME or album=ID, not {pair!r}")
        if kind not in FILTERS:
            raise unknown("filter", kind, FILTERS)
        if kind in filters:
            raise RequestError(f"--filter names {kind} twice")
        filters[kind] = value
    return filters
