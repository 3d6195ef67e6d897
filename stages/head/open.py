"""Open a stored collection: the clips that can be trained on and scored, with what heads read of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stages.head import layers
from stages.head.collection import Collection
from stages.head.heads import Head
from stages.head.options import Configs, resolve
from stages.head.scores.task import task_of
from stages.head.settings import Settings
from stages.head.stored import Stored
from stages.head.thesis import settings_for
from stages.progress import note
from stages.splits.kept import KeptSplits
from store import columns
from store.errors import RequestError
from store.layout import Store, match, split_layer
from store.reader import Representations
from store.schema import Catalog


def open_collection(
    store: Store,
    dataset: str,
    backbone: str | None,
    heads: Sequence[type[Head]],
    changes: Mapping[str, str],
    *,
    held: bool = True,
) -> tuple[Collection, Settings, Configs]:
    """A stored collection with what the heads read of it, and the settings of their training and of each of them.

    Parameters
    ----------
    changes : the settings that differ from those of the backbone, as text.
    held : whether representations are read into memory at once.
    """
    resolve(heads, changes)  # refuses wrong settings before anything large is read
    data = _load(store, dataset, backbone, heads, held=held)
    # The representation's own name tells the backbone: the request may name none, or a part of it.
    preset = settings_for(dataset, (data.backbone or "").rpartition("-")[0])
    return data, *resolve(heads, changes, preset)


def _load(store: Store, dataset: str, backbone: str | None, heads: Sequence[type[Head]], *, held: bool) -> Collection:
    if any(head.READS_SONGS for head in heads):
        stored = [str(name) for name in store.complete(dataset)]
        name, layer = split_layer(backbone)
        return load(store, dataset, layers.named(name or default_backbone(store, dataset, stored), layer), held=held)
    return from_catalog(store.read_catalog(dataset), store)


def default_backbone(store: Store, dataset: str, names: Sequence[str]) -> str | None:
    """Of several representations the one of the collection's default backbone, which is noted; None where none is."""
    fitting = match(names, store.read_catalog(dataset).info.backbone) if len(names) > 1 else []
    if len(fitting) != 1:
        return None
    others = ", ".join(name for name in names if name != fitting[0])
    note(f"{fitting[0]} is taken, the default of {dataset}; there are also: {others} (--backbone)")
    return fitting[0]


def from_catalog(catalog: Catalog, store: Store | None = None, *, keeps: bool = True) -> Collection:
    """The clips of a catalog without representations; ``store`` and ``keeps`` are those of `KeptSplits`."""
    return _select(KeptSplits(catalog, store, keeps), encoded=np.ones(len(catalog), dtype=bool), backbone=None)


def load(store: Store, dataset: str, backbone: str | None, *, held: bool = True) -> Collection:
    """The clips of a stored collection with their representations, one vector a clip.

    Parameters
    ----------
    backbone : may end in the layer to read (``mert@7``, ``mert@mix``); see `stages.head.layers`.
    held : whether these are read into memory at once; else `Collection.take` reads some of them.

    Raises
    ------
    RequestError
        where the collection or the representation is not there, or is not complete.
    FormatError
        where what is there does not hold what it should.
    """
    catalog = store.read_catalog(dataset)
    wanted, layer = split_layer(backbone)
    representations = Representations(store, catalog, store.find(dataset, wanted))
    name = str(representations.name)
    layer = layers.choose(name, representations.shape, layer)
    stored = Stored(representations, _read_as(layer))
    encoded = np.zeros(len(catalog), dtype=bool)
    encoded[: representations.rows] = representations.encoded()
    collection = _select(KeptSplits(catalog, store), encoded=encoded, backbone=layers.named(name, layer))
    late = int((~catalog.retired()[representations.rows :]).sum())
    if late:
        collection.left_out["not encoded yet"] = late
        collection.left_out["failed"] -= late
    trained_on, regime = _trained_on(store, catalog, f"{dataset}/{representations.name}", collection)
    collection = replace(collection, stored=stored, trained_on=trained_on, trained_in=regime)
    return collection.held() if held else collection


def _read_as(layer: str | None) -> int | Literal["mean"] | None:
    if layer is None or layer == layers.MIX:
        return None
    return "mean" if layer == layers.MEAN else int(layer)


def _trained_on(
    store: Store, catalog: Catalog, folder: str, data: Collection
) -> tuple[NDArray[np.bool_] | None, str | None]:
    """[clips] whether the backbone was trained on a clip's song, and the regime in which it was."""
    import pyarrow.compute as pc

    if not store.exists(f"{folder}/trained_on.parquet"):
        return None, None
    table = store.read_table(f"{folder}/trained_on.parquet")
    known: NDArray[np.bool_] = pc.is_in(catalog.column("song_id"), value_set=table.column("song_id")).to_numpy()
    regime = (table.schema.metadata or {}).get(b"regime")
    return known[data.rows], None if regime is None else regime.decode()


def _select(splits: KeptSplits, *, encoded: NDArray[np.bool_], backbone: str | None) -> Collection:
    """The clips that are live, encoded and labelled, sorted by artist so that a graph's runs lie together."""
    catalog, artist, targets = splits.catalog, splits.artist, splits.labels
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
        labels=targets[rows][:, held],
        label_names=tuple(splits.label_names[i] for i in held.tolist()),
        task=task_of(targets[rows]),
        song=splits.song[rows],
        album=splits.album[rows],
        artist=_compact(artist[rows]),
        artist_ids=tuple(dict.fromkeys(name for name in artist_ids if name is not None)),
        official=columns.official(catalog)[rows],
        backbone=backbone,
        left_out={
            "retired": int(retired.sum()),
            "failed": int((~retired & ~encoded).sum()),
            "without labels": int((~retired & encoded & ~labelled).sum()),
        },
        recording=None if splits.recording is None else splits.recording[rows],
        splits=splits,
        targets={name: values[rows] for name, values in _sides(catalog).items()},
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
