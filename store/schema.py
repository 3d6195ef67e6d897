"""The written schemas: catalog, failures, manifest.

Catalog rows never move: row ``i`` of every representation array belongs to catalog row ``i``. New songs are
appended, songs that changed or went are retired by a flag, and ``labels``, ``artist_id``, splits and titles
may be corrected at any time, since none of them decides a representation.
"""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from store.errors import FormatError, RequestError
from store.fingerprint import canonical
from store.keys import texts

# Raise one by one when what is written can no longer be read as before.
CATALOG_FORMAT = 1
MANIFEST_FORMAT = 2

SPLITS = ("train", "validation", "test")

CATALOG_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("song_id", pa.string(), nullable=False),
        pa.field("artist_id", pa.string()),  # null: unknown, no edges
        pa.field("artist_name", pa.string()),
        pa.field("other_artist_ids", pa.list_(pa.string())),  # all but the first-named artist
        pa.field(
            "recording_id", pa.string()
        ),  # songs that are copies or versions of one recording; no split parts them
        pa.field("album_id", pa.string()),
        pa.field("title", pa.string()),
        pa.field("labels", pa.list_(pa.string()), nullable=False),
        pa.field("targets", pa.map_(pa.string(), pa.float64())),
        pa.field("path", pa.string(), nullable=False),  # relative to the collection's data folder, '/' between parts
        pa.field("midi_path", pa.string()),  # the same song as MIDI, where path is audio
        pa.field("source_row", pa.int64()),  # the row of a table of features, from 0
        pa.field("start_s", pa.float64()),
        pa.field("duration_s", pa.float64()),
        pa.field("split_official", pa.string()),  # train, validation, test or null
        pa.field("source", pa.string()),  # mark of the file's content, None until a file was seen
        pa.field("retired", pa.bool_(), nullable=False),
    ]
)

FAILURES_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)

RETIRED = "retired"  # the kind of a row that was not encoded because its song is retired
CONTENT = ("clip_id", "source", "start_s", "duration_s")  # what decides a row's numbers; the rest may be corrected
ENCODED = (*CONTENT, "path", "midi_path", "source_row", "retired")  # what encoding reads
_CORE = ("clip_id", "song_id", "artist_id", "labels", "path")
_INFO_KEY = b"encore"


@dataclass(frozen=True, kw_only=True)
class CatalogInfo:
    """What the catalog says of its collection as a whole.

    ``data_root`` is where the files lay when they were last seen; ``features`` names the columns of a table
    of ready-made features; ``backbone`` is the one that is meant when none is named; ``follow_links`` allows links out
    of ``data_root``. ``keep_copies``: songs of equal files are not one recording; ``first_artist``: of several artists
    the first alone decides the regime ``artist``. ``origin`` is the data set that read the files and the options it was
    given, as words of a command line. ``options`` are those that hold again the next time, each as ``NAME=VALUE`` with
    the value in JSON.
    """

    name: str
    title: str
    version: str
    licence: str
    citation: str
    backbone: str
    data_root: str | None = None
    follow_links: bool = False
    synthetic: bool = False
    keep_copies: bool = False
    first_artist: bool = False
    features: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    origin: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise FormatError where a value is not of its type."""
        for name, value in asdict(self).items():
            if name in ("features", "notes", "origin", "options"):
                right = isinstance(value, tuple) and all(isinstance(item, str) for item in value)
            elif name in ("follow_links", "synthetic", "keep_copies", "first_artist"):
                right = isinstance(value, bool)
            else:
                right = isinstance(value, str) or (name == "data_root" and value is None)
            if not right:
                raise FormatError(f"the catalog's description is not what it should be: its {name} is {_short(value)}")


@dataclass(frozen=True)
class Catalog:
    """The clips of one data set: an Arrow table of `CATALOG_SCHEMA` and what holds for all of them."""

    info: CatalogInfo
    table: pa.Table

    @classmethod
    def build(cls, info: CatalogInfo, columns: dict[str, Any]) -> Catalog:
        """A catalog from columns; absent optional columns are filled with nulls, rows sorted by artist, song, clip.

        Parameters
        ----------
        columns : name -> sequence or Arrow array, all of one length; ``clip_id``, ``song_id``, ``artist_id``,
            ``labels`` and ``path`` must be there.
        """
        missing = [name for name in _CORE if name not in columns]
        strange = [name for name in columns if name not in CATALOG_SCHEMA.names]
        if missing or strange:
            raise ValueError(f"catalog columns missing: {missing}, unknown: {strange}")
        rows = len(columns["clip_id"])
        arrays = []
        for schema_field in CATALOG_SCHEMA:
            if schema_field.name in columns:
                value = columns[schema_field.name]
                is_arrow = isinstance(value, pa.Array | pa.ChunkedArray)
                arrays.append(value.cast(schema_field.type) if is_arrow else pa.array(value, type=schema_field.type))
            elif schema_field.name == "retired":
                arrays.append(pa.repeat(False, rows))
            else:
                arrays.append(pa.nulls(rows, type=schema_field.type))
        table = pa.table(arrays, schema=CATALOG_SCHEMA)
        catalog = cls(info, table)
        catalog = cls(info, table.take(catalog.order()).combine_chunks())
        catalog.check()
        return catalog

    def order(self) -> pa.Array:
        """The rows by artist, song, stretch and clip."""
        keys = self.table.select(["artist_id", "song_id", "start_s", "clip_id"])
        return pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in keys.column_names])

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def column(self, name: str) -> pa.ChunkedArray:
        return self.table.column(name)

    def clips(self, first: int, last: int) -> pa.Table:
        """The columns `ENCODED` of rows [first, last); fewer rows where there are fewer."""
        return self.table.select(ENCODED).slice(first, last - first)

    def strings(self, name: str) -> list[str | None]:
        """A column as Python strings."""
        values: list[str | None] = self.table.column(name).to_pylist()
        return values

    def row_keys(self) -> list[str]:
        """What decides each row's numbers, as text: the clip, its file's content, its stretch. Rows keep theirs."""
        keys: list[str] = texts([self.table.column(name) for name in CONTENT]).to_pylist()
        return keys

    def retired(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """[rows] whether a row is retired."""
        flags: np.ndarray[Any, np.dtype[np.bool_]] = self.table.column("retired").to_numpy()
        return flags

    def live(self) -> Catalog:
        """The catalog without its retired rows."""
        return Catalog(self.info, self.table.filter(pc.invert(self.table.column("retired"))))

    def check(self) -> None:
        """Raise FormatError where the table or the description breaks its own rules."""
        self.info.check()
        if not self.table.schema.equals(CATALOG_SCHEMA, check_metadata=False):
            raise FormatError("the catalog's columns are not those of its format; rebuild it with encore embed")
        for schema_field in CATALOG_SCHEMA:
            if not schema_field.nullable and self.table.column(schema_field.name).null_count:
                raise FormatError(f"the catalog has rows without {schema_field.name}")
        live = self.table.column("clip_id").filter(pc.invert(self.table.column("retired")))
        if len(pc.unique(live)) != len(live):
            counts = pc.value_counts(live)
            first = next(entry["values"].as_py() for entry in counts if entry["counts"].as_py() > 1)
            raise FormatError(f"the clip id {first!r} stands more than once in the catalog")
        splits = set(pc.unique(self.table.column("split_official")).to_pylist()) - {None, *SPLITS}
        if splits:
            raise FormatError(f"unknown official split {sorted(splits)[0]!r}; have: {', '.join(SPLITS)}")

    def to_arrow(self) -> pa.Table:
        """The table with `CatalogInfo` in its schema metadata, as it is written."""
        text = json.dumps({"format": CATALOG_FORMAT, **asdict(self.info)}, sort_keys=True, ensure_ascii=False)
        return self.table.replace_schema_metadata({_INFO_KEY: text.encode()})

    @classmethod
    def from_arrow(cls, table: pa.Table) -> Catalog:
        metadata = table.schema.metadata or {}
        if _INFO_KEY not in metadata:
            raise FormatError("the catalog carries no description of its collection; it was not written by Encore")
        try:
            content: dict[str, Any] = json.loads(metadata[_INFO_KEY])
            version = content.pop("format")
        except (ValueError, KeyError, AttributeError, RecursionError) as error:
            raise FormatError("the catalog's description cannot be read") from error
        check_format("catalog", version, CATALOG_FORMAT)
        strange = [name for name in table.column_names if name not in CATALOG_SCHEMA.names]
        if strange:
            raise RequestError(
                f"the catalog has columns that this Encore does not know ({', '.join(strange)}); a newer release wrote "
                f"it: update Encore, or encode again into another --store"
            )
        names = {f.name for f in fields(CatalogInfo)}
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items() if k in names}
        try:
            info = CatalogInfo(**values)
        except TypeError as error:
            raise FormatError("the catalog's description lacks something") from error
        catalog = cls(info, _completed(table.replace_schema_metadata(None)))
        catalog.check()
        return catalog


def _completed(table: pa.Table) -> pa.Table:
    """The table with nulls for the optional columns that were not there yet when it was written."""
    for index, schema_field in enumerate(CATALOG_SCHEMA):
        if schema_field.nullable and schema_field.name not in table.column_names:
            table = table.add_column(index, schema_field, pa.nulls(table.num_rows, type=schema_field.type))
    return table


@dataclass(frozen=True, kw_only=True)
class ShardRecord:
    """One committed shard: its rows, the clips they belong to, the hash of its numbers, its failures and notes.

    ``file`` is a hash of the file that holds the numbers; None in stores of 0.1.0.
    ``rows`` is the half-open range [first, last) of catalog rows; ``failures`` are (row, kind, reason), and ``notes``
    the same of rows that were encoded all the same. ``layers`` are hashes of the numbers of each layer, none where a
    representation has no layers.
    """

    rows: tuple[int, int]
    clips: str
    values: str
    failures: tuple[tuple[int, str, str], ...] = ()
    notes: tuple[tuple[int, str, str], ...] = ()
    layers: tuple[str, ...] = ()
    file: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The record in JSON's types; without ``layers`` where there are none, as earlier versions wrote it."""
        content = asdict(self)
        return content if self.layers else {key: value for key, value in content.items() if key != "layers"}

    @classmethod
    def parse(cls, content: Any) -> ShardRecord:
        try:
            first, last = (_whole(row, "a shard's row") for row in content["rows"])
            return cls(
                rows=(first, last),
                clips=_text(content["clips"], "a shard's hash of clips"),
                values=_text(content["values"], "a shard's hash of numbers"),
                failures=_of_rows(content["failures"], first, last),
                notes=_of_rows(content.get("notes", ()), first, last),
                layers=tuple(_text(layer, "a layer's hash") for layer in content.get("layers", ())),
                file=None if content.get("file") is None else _text(content["file"], "a hash of a shard's file"),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise FormatError("a shard's record cannot be read") from error


def _of_rows(entries: Any, first: int, last: int) -> tuple[tuple[int, str, str], ...]:
    """(row, kind, reason) of rows in [first, last)."""
    return tuple(
        (_whole(row, "a failed row", first, last - 1), _text(kind, "a kind"), _text(reason, "a reason"))
        for row, kind, reason in entries
    )


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a complete representation is; written last, so that its presence means completeness.

    ``rows`` catalog rows are encoded, in shards of ``shard_rows`` rows; one representation has ``shape`` and
    ``dtype``. ``settings`` holds what the fingerprint was made from.
    """

    backbone: str
    fingerprint: str
    rows: int
    shard_rows: int
    shape: tuple[int, ...]
    dtype: str
    settings: dict[str, Any]
    shards: tuple[ShardRecord, ...] = field(repr=False)
    format: int = MANIFEST_FORMAT

    def to_json(self) -> bytes:
        content = {**asdict(self), "shards": [shard.as_json() for shard in self.shards]}
        return (json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        try:
            content = json.loads(data)
            version = content["format"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise FormatError("the manifest cannot be read") from error
        check_format("manifest", version, MANIFEST_FORMAT)
        try:
            manifest = cls(
                backbone=_text(content["backbone"], "backbone"),
                fingerprint=_text(content["fingerprint"], "fingerprint"),
                rows=_whole(content["rows"], "rows"),
                shard_rows=_whole(content["shard_rows"], "shard_rows", 1),
                shape=tuple(_whole(n, "shape", 1) for n in content["shape"]),
                dtype=_text(content["dtype"], "dtype"),
                settings=dict(canonical(content["settings"])),
                shards=tuple(ShardRecord.parse(shard) for shard in content["shards"]),
            )
            kind = np.dtype(manifest.dtype).kind
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise FormatError("the manifest cannot be read") from error
        if kind not in "fiub":
            raise FormatError(f"dtype cannot be {_short(manifest.dtype)}")
        manifest._check_shards()
        return manifest

    def _check_shards(self) -> None:
        """Raise where the shards are not those of all rows, one behind the other."""
        count = -(-self.rows // self.shard_rows)
        starts = range(0, self.rows, self.shard_rows)
        ranges = [shard.rows for shard in self.shards]
        if len(ranges) != count or ranges != [(first, min(first + self.shard_rows, self.rows)) for first in starts]:
            raise FormatError(f"the manifest's shards are not those of {self.rows} rows, {self.shard_rows} each")


def _whole(value: Any, what: str, least: int = 0, most: int = 2**62) -> int:
    """A whole number as JSON holds it, which knows no other type; FormatError for anything else."""
    if type(value) is int and least <= value <= most:
        return value
    raise FormatError(f"{what} cannot be {_short(value)}")


def _text(value: Any, what: str) -> str:
    if isinstance(value, str):
        return value
    raise FormatError(f"{what} cannot be {_short(value)}")


def _short(value: Any) -> str:
    return textwrap.shorten(json.dumps(value, default=str), 40)


def check_format(what: str, version: object, ours: int) -> None:
    """Raise where a catalog or a manifest was written in another version of its format."""
    if version == ours:
        return
    newer = isinstance(version, int) and version > ours
    remedy = "update Encore" if newer else "open it with the release that wrote it"
    raise RequestError(
        f"the {what} was written in format {version}, and this Encore reads format {ours}; {remedy}, or encode again "
        f"into another --store"
    )
