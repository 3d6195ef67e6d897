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
from stages.head.scores.task import REGRESSION, task_of
from stages.head.settings import Settings
from stages.head.stored import Stored
from stages.head.thesis import settings_for
from stages.progress import note
from stages.splits.kept import KeptSplits
from store import columns
from store.errors import RequestError, unknown
from store.layout import Store, match, split_layer
from store.reader import Representations
from store.runs import target_suffix
from store.schema import Catalog
from store.words import plural

_LONGEST = 150  # characters of a folder's name that a target may take


def open_collection(
    store: Store,
    dataset: str,
    backbone: str | None,
    heads: Sequence[type[Head]],
    changes: Mapping[str, str],
    *,
    target: str | None = None,
    in_memory: bool = True,
) -> tuple[Collection, Settings, Configs]:
    """A stored collection with what the heads read of it, and the settings of their training and of each of them.

    Parameters
    ----------
    changes : the settings that differ from those of the backbone, as text.
    target : the numeric target that heads learn; None for the labels.
    in_memory : whether representations are read into memory at once.
    """
    resolve(heads, changes)  # refuses wrong settings before anything large is read
    data = _load(store, dataset, backbone, heads, target, in_memory=in_memory)
    # The representation's own name tells the backbone: the request may name none, or a part of it.
    preset = settings_for(dataset, (data.backbone or "").rpartition("-")[0])
    return data, *resolve(heads, changes, preset)


def _load(
    store: Store,
    dataset: str,
    backbone: str | None,
    heads: Sequence[type[Head]],
    target: str | None,
    *,
    in_memory: bool,
) -> Collection:
    if any(head.READS_SONGS for head in heads):
        complete = [str(name) for name in store.complete(dataset)]
        name, layer = split_layer(backbone)
        representation = layers.with_layer(name or default_backbone(store, dataset, complete), layer)
        return load(store, dataset, representation, target=target, in_memory=in_memory)
    return from_catalog(store.read_catalog(dataset), store, target=target)


def default_backbone(store: Store, dataset: str, names: Sequence[str]) -> str | None:
    """Of several representations the one of the collection's default backbone, which is noted; None where none is."""
    fitting = match(names, store.read_catalog(dataset).info.backbone) if len(names) > 1 else []
    if len(fitting) != 1:
        return None
    others = ", ".join(name for name in names if name != fitting[0])
    note(f"{fitting[0]} is taken, the default of {dataset}; there are also: {others} (--backbone)")
    return fitting[0]


def from_catalog(
    catalog: Catalog, store: Store | None = None, *, target: str | None = None, keeps: bool = True
) -> Collection:
    """The clips of a catalog without representations; ``store`` and ``keeps`` are those of `KeptSplits`."""
    splits = KeptSplits(catalog, store, keeps)
    return _select(splits, encoded=np.ones(len(catalog), dtype=bool), backbone=None, target=target)


def load(
    store: Store, dataset: str, backbone: str | None, *, target: str | None = None, in_memory: bool = True
) -> Collection:
    """The clips of a stored collection with their representations, one vector a clip.

    Parameters
    ----------
    backbone : may end in the layer to read (``mert@7``, ``mert@mix``); see `stages.head.layers`.
    target : the numeric target that is asked for; None for the labels.
    in_memory : whether these are read into memory at once; else `Collection.take` reads some of them.

    Raises
    ------
    RequestError
        where the collection or the representation is not there, or is not complete.
    FormatError
        where what is there does not hold what it should.
    """
    catalog = store.read_catalog(dataset)
    base, layer = split_layer(backbone)
    representations = Representations(store, catalog, store.find(dataset, base))
    name = str(representations.name)
    layer = layers.choose(name, representations.shape, layer)
    stored = Stored(representations, _read_as(layer))
    encoded = np.zeros(len(catalog), dtype=bool)
    encoded[: representations.rows] = representations.encoded()
    splits = KeptSplits(catalog, store)
    collection = _select(splits, encoded=encoded, backbone=layers.with_layer(name, layer), target=target)
    late = int((~catalog.retired()[representations.rows :]).sum())
    if late:
        collection.left_out["not encoded yet"] = late
        collection.left_out["failed"] -= late
    trained_on, regime = _trained_on(store, catalog, f"{dataset}/{representations.name}", collection)
    collection = replace(collection, stored=stored, trained_on=trained_on, trained_in=regime)
    return collection.in_memory() if in_memory else collection


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
    in_training: NDArray[np.bool_] = pc.is_in(catalog.column("song_id"), value_set=table.column("song_id")).to_numpy()
    regime = (table.schema.metadata or {}).get(b"regime")
    return in_training[data.rows], None if regime is None else regime.decode()


def _select(splits: KeptSplits, *, encoded: NDArray[np.bool_], backbone: str | None, target: str | None) -> Collection:
    """The clips that are live, encoded and have what is asked for, sorted by artist: a graph's runs lie together.

    Where numbers are asked for these are clips that the splits divide: the labelled ones, where any label is known.
    """
    catalog, artist, labels = splits.catalog, splits.artist, splits.labels
    retired, targets = catalog.retired(), columns.targets(catalog)
    has_labels: NDArray[np.bool_] = np.asarray(labels.any(axis=1))
    if target is not None and not has_labels.any():
        has_labels = np.ones_like(has_labels)
    numbers = None if target is None else _numbers(targets, target, catalog.info.name)
    has_answer = has_labels if numbers is None else has_labels & ~np.isnan(numbers)
    usable = ~retired & encoded & has_answer
    if not usable.any():
        has = "labelled" if target is None else f"labelled, has a {target}"
        raise RequestError(f"{catalog.info.name} has no clip that is {has} and encoded; nothing can be trained")
    rows = np.flatnonzero(usable)
    rows = rows[np.argsort(artist[rows], kind="stable")]
    present = np.flatnonzero(labels[rows].any(axis=0))
    artist_ids = np.asarray(catalog.strings("artist_id"), dtype=object)[rows]
    live = ~retired & encoded
    left_out = {
        "retired": int(retired.sum()),
        "failed": int((~retired & ~encoded).sum()),
        "without labels": int((live & ~has_labels).sum()),
    }
    if target is not None:
        left_out[f"without {target}"] = int((live & has_labels & ~has_answer).sum())
    return Collection(
        info=catalog.info,
        rows=rows,
        x=None,
        labels=labels[rows][:, present],
        label_names=tuple(splits.label_names[i] for i in present.tolist()),
        task=task_of(labels[rows]) if target is None else REGRESSION,
        song=splits.song[rows],
        album=splits.album[rows],
        artist=_compact(artist[rows]),
        artist_ids=tuple(dict.fromkeys(name for name in artist_ids if name is not None)),
        official=columns.official(catalog)[rows],
        backbone=backbone,
        left_out=left_out,
        recording=None if splits.recording is None else splits.recording[rows],
        splits=splits,
        target=target,
        numbers=None if numbers is None else numbers[rows],
        targets={name: values[rows] for name, values in targets.items() if name != target},
    )


def _numbers(targets: Mapping[str, NDArray[np.float64]], target: str, dataset: str) -> NDArray[np.float64]:
    """[rows] the target that is asked for, NaN where a row has none; RequestError where it is none to learn."""
    if not targets:
        raise RequestError(
            f"{dataset} has no numeric target with a finite number in any row; name columns of numbers when you embed "
            f"it: --columns targets=Popularity"
        )
    if target not in targets:
        raise unknown(f"numeric target of {dataset}", target, targets)
    if len(target_suffix(target)) > _LONGEST:
        raise RequestError(f"{target!r} is too long for the name of a folder of runs; give the column a shorter name")
    infinite = int(np.isinf(targets[target]).sum())
    if infinite:
        raise RequestError(
            f"{target} is infinite in {plural(infinite, 'row')} of {dataset}; correct the table and embed it again"
        )
    return targets[target]


def _compact(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same numbers without gaps; -1 stays."""
    values, compact = np.unique(codes, return_inverse=True)
    return compact.astype(np.int64) - int(len(values) > 0 and values[0] < 0)
