"""A stored collection as stage two sees it: arrays of the clips that can be trained on and scored."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages import columns, splits
from stages.division import Division
from stages.head.graph import ArtistGraph
from stages.progress import note
from store.errors import FormatError, RequestError
from store.layout import Store
from store.reader import Representations
from store.schema import Catalog, CatalogInfo

_GAP = 256  # rows that are not wanted are read with their neighbours rather than skipped where they are so few


@dataclass(frozen=True)
class Collection:
    """The live, labelled clips of one catalog, and their representations where heads need them.

    Attributes
    ----------
    rows : [clips] the catalog row of each clip.
    x : [clips, dim] float32, or None where they are not held in memory.
    targets : [clips, labels] bool.
    labels : the names of the labels, sorted.
    song, album, artist : [clips] numbers from 0, -1 where unknown.
    official : [clips] the data set's own split: 0 train, 1 validation, 2 test, -1 none.
    backbone : the folder of the representation, or None.
    recording : [clips] numbers from 0 that copies and versions of one recording share; None where every song is one.
    left_out : clips not here, by reason.
    division : the splits of the whole catalog, whatever of it is encoded; None deals among these clips alone.
    trained_on : [clips] whether the backbone was trained on the clip's song, as the store remembers; None where it was
        not trained on this collection.
    trained_in : the regime in which it was, where the store remembers that too.
    sides : [clips] float64 for each numeric target that the catalog holds, NaN where a clip has none.
    artist_ids : the id of each artist number.
    stored : where the representations can be read; None where there are none.
    whole_training : of clips taken out of others to be trained together: all of these, and their split.
    """

    info: CatalogInfo
    rows: NDArray[np.int64]
    x: Tensor | None
    targets: NDArray[np.bool_]
    labels: tuple[str, ...]
    song: NDArray[np.int64]
    album: NDArray[np.int64]
    artist: NDArray[np.int64]
    official: NDArray[np.int8]
    backbone: str | None
    left_out: dict[str, int]
    recording: NDArray[np.int64] | None = None
    division: Division | None = None
    trained_on: NDArray[np.bool_] | None = None
    trained_in: str | None = None
    sides: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    artist_ids: tuple[str, ...] = ()
    stored: Stored | None = None
    whole_training: tuple[Collection, splits.Split] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def multi_label(self) -> bool:
        """Whether any clip carries more than one label."""
        if self.whole_training is not None:
            return self.whole_training[0].multi_label
        return bool((self.targets.sum(axis=1) > 1).any())

    @cached_property
    def graph(self) -> ArtistGraph:
        return ArtistGraph(torch.from_numpy(self.artist))

    def mark(self) -> str:
        """A hash of all that is known of the clips but their representations."""
        digest = hashlib.sha256(repr((self.info.name, self.labels)).encode())
        held = [getattr(self, name) for name in ("rows", "targets", "song", "album", "artist", "official", "recording")]
        for values in [*held, *(self.sides[name] for name in sorted(self.sides))]:
            digest.update(b"-" if values is None else np.ascontiguousarray(values).data)
        return digest.hexdigest()

    @property
    def dim(self) -> int:
        """How many numbers a representation has."""
        if self.x is not None:
            return self.x.shape[1]
        if self.stored is None:
            raise ValueError("this collection was loaded without representations")
        return self.stored.dim

    def held(self) -> Collection:
        """The same with all representations in memory."""
        return self if self.x is not None else self.take(0, len(self))

    def take(self, first: int, last: int) -> Collection:
        """Clips [first, last) with their representations; artists and songs keep their numbers."""
        if self.x is not None and (first, last) == (0, len(self)):
            return self
        cut = slice(first, last)
        if self.x is not None:
            x = self.x[cut]
        elif self.stored is not None:
            x = self.stored.read(self.rows[cut])
        else:
            raise ValueError("this collection was loaded without representations")
        arrays = {name: getattr(self, name)[cut] for name in ("rows", "targets", "song", "album", "artist", "official")}
        maybe = {name: getattr(self, name) for name in ("recording", "trained_on")}
        arrays |= {name: None if values is None else values[cut] for name, values in maybe.items()}
        sides = {name: values[cut] for name, values in self.sides.items()}
        return replace(self, **arrays, x=x, sides=sides)

    def shown(self, part: splits.Split, parts: tuple[int, ...] = (0,)) -> Collection:
        """The collection as a head may see it: the labels of clips outside ``parts`` of a split are all False.

        What is known without them stays: names of labels, whether clips carry several, the artist graph.
        """
        masked = replace(self, targets=self.targets & np.isin(part, parts)[:, None], division=None)
        masked.__dict__.update(multi_label=self.multi_label, graph=self.graph)  # these are read off all clips
        return masked

    def split(self, regime: str, seed: int) -> splits.Split:
        """The part of each clip in a regime; see `parts`."""
        return self.parts(regime, seed)[0]

    def parts(self, regime: str, seed: int) -> list[splits.Split]:
        """The one split of a regime, or those of its k-fold version; see `Division.parts`."""
        if self.division is not None:
            found = [part[self.rows] for part in self.division.parts(regime, seed)]
            self._tell_of_songs_trained_on(f"{regime}, seed {seed}", found)
            return found
        names = ("song", "album", "artist", "official", "recording", "targets")
        return splits.folds(regime, seed, of={name: getattr(self, name) for name in names})

    def overlap(self, part: splits.Split) -> dict[str, Any]:
        """What the parts of a split share (`splits.overlap`); ``trained_on`` counts test songs its backbone knows."""
        shared = splits.overlap(part, song=self.song, album=self.album, artist=self.artist, recording=self.recording)
        return shared if self.trained_on is None else {**shared, "trained_on": self._songs_trained_on(part)}

    def _songs_trained_on(self, part: splits.Split) -> int:
        assert self.trained_on is not None
        return len(np.unique(self.song[(part == 2) & self.trained_on]))

    def _tell_of_songs_trained_on(self, split: str, parts: list[splits.Split]) -> None:
        count = 0 if self.trained_on is None else max(map(self._songs_trained_on, parts))
        if count:
            note(
                f"{self.backbone} was trained on {count:,} of the test songs of {split}: scores there are too good"
                + (
                    f"; the split that it was trained in, with seed 0, has none (--regime {self.trained_in} --seeds 1)"
                    if self._knows_no_test_song_where_trained()
                    else ""
                )
            )

    def _knows_no_test_song_where_trained(self) -> bool:
        """False, too, where training began from weights that had already heard some of them, in another regime."""
        if self.trained_in is None or self.division is None:
            return False
        try:
            (part,) = self.division.parts(self.trained_in, 0)
        except RequestError:  # the collection can no longer be split so
            return False
        return not self._songs_trained_on(part[self.rows])


def from_catalog(catalog: Catalog, store: Store | None = None, *, keeps: bool = True) -> Collection:
    """The clips of a catalog without representations; ``store`` and ``keeps`` are those of `Division`."""
    return _select(Division(catalog, store, keeps), encoded=np.ones(len(catalog), dtype=bool), backbone=None)


class Stored:
    """The representations of a stored collection, read where they are wanted."""

    def __init__(self, representations: Representations) -> None:
        self.representations = representations
        self.dim = math.prod(representations.shape)

    def read(self, rows: NDArray[np.int64]) -> Tensor:
        """[rows, dim] float32 of some catalog rows, which lie in few runs; FormatError for one that is not finite."""
        order = np.argsort(rows, kind="stable")
        runs = np.split(order, np.flatnonzero(np.diff(rows[order]) > _GAP) + 1)
        whole = len(runs) == 1 and len(rows) > 0 and bool((np.diff(rows) == 1).all())
        x = self._read(int(rows[0]), int(rows[-1]) + 1) if whole else torch.empty(len(rows), self.dim)
        for run in () if whole or not len(rows) else runs:
            first = int(rows[run[0]])
            block = self._read(first, int(rows[run[-1]]) + 1)
            x[torch.from_numpy(run)] = block[torch.from_numpy(rows[run] - first)]
        # What is not finite makes their sum so; a fiftieth of the time that looking at each number takes.
        if not x.sum().isfinite() and not (finite := torch.isfinite(x).all(dim=1)).all():
            row, held = int(rows[int((~finite).nonzero()[0])]), self.representations
            raise FormatError(
                f"{held.dataset}/{held.name} holds numbers that are not finite, first in catalog row {row}; "
                f"check it: encore store verify {held.dataset}"
            )
        return x

    def _read(self, first: int, last: int) -> Tensor:
        raw = self.representations.read(first, last).reshape(last - first, -1)
        return torch.from_numpy(raw.astype(np.float32, copy=False))


def load(store: Store, dataset: str, backbone: str | None, *, held: bool = True) -> Collection:
    """The clips of a stored collection with their representations, one vector a clip.

    Parameters
    ----------
    held : whether these are read into memory at once; else `Collection.take` reads some of them.

    Raises
    ------
    RequestError
        where the collection or the representation is not there, or is not complete.
    FormatError
        where what is there does not hold what it should.
    """
    catalog = store.read_catalog(dataset)
    representations = Representations(store, catalog, store.find(dataset, backbone))
    encoded = np.zeros(len(catalog), dtype=bool)
    encoded[: representations.rows] = representations.encoded()
    collection = _select(Division(catalog, store), encoded=encoded, backbone=str(representations.name))
    late = int((~catalog.retired()[representations.rows :]).sum())
    if late:
        collection.left_out["not encoded yet"] = late
        collection.left_out["failed"] -= late
    trained_on, regime = _trained_on(store, catalog, f"{dataset}/{representations.name}", collection)
    collection = replace(collection, stored=Stored(representations), trained_on=trained_on, trained_in=regime)
    return collection.held() if held else collection


def _trained_on(
    store: Store, catalog: Catalog, folder: str, data: Collection
) -> tuple[NDArray[np.bool_] | None, str | None]:
    """[clips] whether the backbone was trained on a clip's song, and the regime in which it was."""
    import pyarrow.compute as pc

    if not store.files.exists(f"{folder}/trained_on.parquet"):
        return None, None
    table = store.read_table(f"{folder}/trained_on.parquet")
    known: NDArray[np.bool_] = pc.is_in(catalog.column("song_id"), value_set=table.column("song_id")).to_numpy()
    regime = (table.schema.metadata or {}).get(b"regime")
    return known[data.rows], None if regime is None else regime.decode()


def _select(division: Division, *, encoded: NDArray[np.bool_], backbone: str | None) -> Collection:
    """The clips that are live, encoded and labelled, sorted by artist so that a graph's runs lie together."""
    catalog, artist, targets = division.catalog, division.artist, division.targets
    retired = catalog.retired()
    labelled = targets.any(axis=1)
    usable = ~retired & encoded & labelled
    if not usable.any():
        raise RequestError(f"{catalog.info.name} has no clip that is labelled and encoded; nothing can be trained")
    rows = np.flatnonzero(usable)
    rows = rows[np.argsort(artist[rows], kind="stable")]
    held = np.flatnonzero(targets[rows].any(axis=0))
    artist_ids = np.asarray(catalog.strings("artist_id"), dtype=object)[rows]
    return Collection(
        info=catalog.info,
        rows=rows,
        x=None,
        targets=targets[rows][:, held],
        labels=tuple(division.labels[i] for i in held.tolist()),
        song=division.song[rows],
        album=division.album[rows],
        artist=_compact(artist[rows]),
        artist_ids=tuple(dict.fromkeys(name for name in artist_ids if name is not None)),
        official=columns.official(catalog)[rows],
        backbone=backbone,
        left_out={
            "retired": int(retired.sum()),
            "failed": int((~retired & ~encoded).sum()),
            "without labels": int((~retired & encoded & ~labelled).sum()),
        },
        recording=None if division.recording is None else division.recording[rows],
        division=division,
        sides={name: values[rows] for name, values in _sides(catalog).items()},
    )


def _compact(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same numbers without gaps; -1 stays."""
    used, compact = np.unique(codes, return_inverse=True)
    return compact.astype(np.int64) - int(len(used) > 0 and used[0] < 0)


def _sides(catalog: Catalog) -> dict[str, NDArray[np.float64]]:
    """The catalog's numeric targets as columns, NaN where a clip has none."""
    import pyarrow.compute as pc

    column = catalog.column("targets").combine_chunks().drop_null()
    clips = catalog.column("targets").is_valid().to_numpy().nonzero()[0]
    names, values = column.keys, column.items
    offsets = column.offsets.to_numpy()
    clip_of = np.repeat(clips, np.diff(offsets))
    begin, end = (int(offsets[0]), int(offsets[-1])) if len(column) else (0, 0)
    names, values = names[begin:end], values[begin:end].to_numpy(zero_copy_only=False)
    found = {}
    for name in pc.unique(names).to_pylist():
        of_name = pc.equal(names, name).to_numpy(zero_copy_only=False)
        found[name] = np.full(len(catalog), np.nan)
        found[name][clip_of[of_name]] = values[of_name]
    return found
