"""A stored collection as stage two sees it: arrays of the clips that can be trained on and scored."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.head import splits
from stages.head.graph import ArtistGraph
from store.errors import FormatError, RequestError
from store.layout import Store
from store.reader import Representations
from store.schema import SPLITS, Catalog, CatalogInfo


@dataclass(frozen=True)
class Collection:
    """The live, labelled clips of one catalog, and their representations where heads need them.

    Attributes
    ----------
    rows : [clips] the catalog row of each clip.
    x : [clips, dim] float32, or None where only the metadata was asked for.
    targets : [clips, labels] bool.
    labels : the names of the labels, sorted.
    song, album, artist : [clips] numbers from 0, -1 where unknown.
    official : [clips] the data set's own split: 0 train, 1 validation, 2 test, -1 none.
    backbone : the folder of the representation, or None.
    left_out : clips not here, by reason.
    sides : [clips] float64 for each numeric target that the catalog holds, NaN where a clip has none.
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
    sides: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def multi_label(self) -> bool:
        """Whether any clip carries more than one label."""
        return bool((self.targets.sum(axis=1) > 1).any())

    @cached_property
    def graph(self) -> ArtistGraph:
        return ArtistGraph(torch.from_numpy(self.artist))

    def split(self, regime: str, seed: int) -> splits.Split:
        """The part of each clip in a regime; see `splits.split`."""
        return splits.split(
            regime, song=self.song, album=self.album, artist=self.artist, official=self.official, seed=seed
        )

    def overlap(self, part: splits.Split) -> dict[str, Any]:
        return splits.overlap(part, song=self.song, album=self.album, artist=self.artist)


def from_catalog(catalog: Catalog) -> Collection:
    """The clips of a catalog without representations."""
    return _select(catalog, encoded=np.ones(len(catalog), dtype=bool), x=None, backbone=None)


def load(store: Store, dataset: str, backbone: str | None) -> Collection:
    """The clips of a stored collection with their representations, one vector a clip.

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
    raw = representations.read().reshape(representations.rows, -1)
    x = torch.from_numpy(raw.astype(np.float32, copy=False))
    collection = _select(catalog, encoded=encoded, x=x, backbone=str(representations.name))
    late = len(catalog) - representations.rows
    if late:
        collection.left_out["not encoded yet"] = late
        collection.left_out["failed"] -= late
    assert collection.x is not None
    finite = torch.isfinite(collection.x).all(dim=1)
    if not finite.all():
        row = int(collection.rows[int((~finite).nonzero()[0])])
        raise FormatError(
            f"{dataset}/{representations.name} holds numbers that are not finite, first in catalog row {row}; "
            f"check it: encore store verify {dataset}"
        )
    return collection


def _select(catalog: Catalog, *, encoded: NDArray[np.bool_], x: Tensor | None, backbone: str | None) -> Collection:
    """The clips that are live, encoded and labelled, sorted by artist so that a graph's runs lie together."""
    retired = catalog.column("retired").to_numpy()
    labels, targets = _targets(catalog)
    labelled = targets.any(axis=1)
    usable = ~retired & encoded & labelled
    if not usable.any():
        raise RequestError(f"{catalog.info.name} has no clip that is labelled and encoded; nothing can be trained")
    artist = _codes(catalog, "artist_id")
    rows = np.flatnonzero(usable)
    rows = rows[np.argsort(artist[rows], kind="stable")]
    in_order = x is not None and len(rows) == len(x) and bool((rows == np.arange(len(x))).all())
    held = np.flatnonzero(targets[rows].any(axis=0))
    split_codes = {name: i for i, name in enumerate(SPLITS)}
    official = np.array([split_codes.get(s or "", -1) for s in catalog.strings("split_official")], dtype=np.int8)
    return Collection(
        info=catalog.info,
        rows=rows,
        x=x if x is None or in_order else x[torch.from_numpy(rows)],
        targets=targets[rows][:, held],
        labels=tuple(labels[i] for i in held.tolist()),
        song=_codes(catalog, "song_id")[rows],
        album=_codes(catalog, "album_id")[rows],
        artist=_compact(artist[rows]),
        official=official[rows],
        backbone=backbone,
        left_out={
            "retired": int(retired.sum()),
            "failed": int((~retired & ~encoded).sum()),
            "without labels": int((~retired & encoded & ~labelled).sum()),
        },
        sides={name: values[rows] for name, values in _sides(catalog).items()},
    )


def _codes(catalog: Catalog, name: str) -> NDArray[np.int64]:
    """A column of ids as numbers in the order of the sorted ids, -1 for null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = catalog.column(name).combine_chunks()
    values = pc.unique(column).drop_null().sort()
    found = pc.index_in(column, value_set=values)
    codes: NDArray[np.int64] = pc.fill_null(found, -1).cast(pa.int64()).to_numpy(zero_copy_only=False)
    return codes


def _compact(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same numbers without gaps; -1 stays."""
    used, compact = np.unique(codes, return_inverse=True)
    return compact.astype(np.int64) - int(len(used) > 0 and used[0] < 0)


def _targets(catalog: Catalog) -> tuple[list[str], NDArray[np.bool_]]:
    import pyarrow.compute as pc

    column = catalog.column("labels").combine_chunks()
    flat, owner = column.flatten(), pc.list_parent_indices(column)
    names = pc.unique(flat).drop_null().sort()
    targets = np.zeros((len(catalog), len(names)), dtype=bool)
    targets[owner.to_numpy(), pc.index_in(flat, value_set=names).to_numpy(zero_copy_only=False)] = True
    return names.to_pylist(), targets


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
