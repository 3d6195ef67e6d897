"""A map of a representation: every clip as a point of the plane, near the clips that sound like it.

Representations are standardised, reduced to their first principal components, and laid out by t-SNE (van der Maaten
and Hinton, Visualizing Data using t-SNE, JMLR 9, 2008). Of a large collection t-SNE lays out a sample, the landmarks;
every other clip is put at the weighted mean of its nearest landmarks. Neighbourhoods mean something on such a map;
distances between far clips and the sizes of clusters do not.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from stages.head.collection import Collection
from stages.progress import note
from store.errors import EncoreError, StoreError
from store.layout import Store
from store.words import plural

SEED = 0
COMPONENTS = 50  # as van der Maaten and Hinton reduce to
LANDMARKS = 3_000
NEAREST = 5  # landmarks between which another clip lies
MOST_CLIPS = 100_000  # more points cannot be told apart, and make the page large
_REVISION = 2  # of the method: raise it where maps would come out otherwise
_BLOCK = 2_048  # clips whose distances to all landmarks are held at once
_FEW = 1_000  # points that one thread lays out in a second

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Map:
    """Where clips lie.

    Attributes
    ----------
    rows : [points] the catalog row of each point, ascending.
    place : [points, 2] float32, each axis in [0, 1].
    method : how it was made, in a sentence.
    """

    rows: NDArray[np.int64]
    place: Floats
    method: str


def map_of(store: Store, data: Collection, seed: int = SEED) -> Map:
    """The map of a collection that was opened with its representations; it is kept in the store beside these.

    Raises
    ------
    ValueError
        where the collection was opened without representations.
    """
    if data.stored is None:
        raise ValueError("this collection was loaded without representations")
    file = f"{data.info.name}/{data.backbone}/map.parquet"
    mark = _mark(data, seed)
    cache = _read(store, file, mark)
    if cache is not None:
        return cache
    sample = _sample(len(data), MOST_CLIPS, seed)
    note(f"drawing the map of {plural(len(sample), 'clip')} of {data.backbone}, once")
    rows = data.rows[sample]
    # In pieces, as rows far apart are read with all that lies between them.
    pieces = np.array_split(rows, -(-len(rows) // _BLOCK))
    x = _reduced(torch.cat([data.stored.read(piece) for piece in pieces]))
    place, how = layout(x, seed)
    sampled = (
        ""
        if len(sample) == len(data)
        else f"; {plural(len(sample), 'clip')} drawn at random stand for all {len(data):,}"
    )
    order = np.argsort(rows)
    result = Map(rows[order], place[order], f"{how}{sampled}; seed {seed}")
    _write(store, file, mark, result)
    return result


def layout(x: Floats, seed: int = SEED, landmarks: int = LANDMARKS) -> tuple[Floats, str]:
    """[points, 2] where points ``x`` [points, dim] lie, each axis in [0, 1], and in words how they were laid out."""
    from sklearn.manifold import TSNE

    sample = _sample(len(x), landmarks, seed)
    if len(sample) < 4:
        place = np.stack([np.arange(len(x)), np.zeros(len(x))], axis=1).astype(np.float32)
        return _unit(place), "too few clips for t-SNE: side by side"
    points = x[sample]
    tsne = TSNE(
        perplexity=min(30.0, (len(sample) - 1) / 3), init=_start(points), random_state=seed, method="barnes_hut"
    )
    # Threads of a few points wait for each other: where other work shares the cores, a second becomes minutes.
    threads = threadpool_limits(1 if len(points) < _FEW else None)
    with (
        threads,
        warnings.catch_warnings(),
        np.errstate(all="ignore"),
    ):  # clips that are all alike have no spread to divide by
        warnings.simplefilter("ignore")
        place = tsne.fit_transform(points).astype(np.float32)
    place = np.nan_to_num(place)
    if len(sample) == len(x):
        return _unit(place), "t-SNE"
    how = f"t-SNE of {plural(len(sample), 'clip')} drawn at random, the others between their {NEAREST} nearest of these"
    return _unit(_between(x, points, place)), how


def _start(x: Floats) -> Floats:
    """[points, 2] the first two components, as small as t-SNE likes to begin with, where there are two."""
    start = np.zeros((len(x), 2), dtype=np.float32)
    start[:, : min(2, x.shape[1])] = x[:, :2]
    start += 1e-3 * np.random.default_rng(SEED).standard_normal(start.shape).astype(np.float32)
    return start / max(float(start[:, 0].std()), 1e-6) * np.float32(1e-4)


def _between(x: Floats, landmarks: Floats, place: Floats) -> Floats:
    """[points, 2] the mean place of each point's nearest landmarks, weighted by how near they are."""
    out = np.empty((len(x), 2), dtype=np.float32)
    others, places = torch.from_numpy(landmarks), torch.from_numpy(place)
    for first in range(0, len(x), _BLOCK):
        distance, nearest = torch.cdist(torch.from_numpy(x[first : first + _BLOCK]), others).topk(
            NEAREST, largest=False
        )
        weight = 1 / (distance.square() + 1e-6)  # so a landmark stays where it is
        weight /= weight.sum(dim=1, keepdim=True)
        out[first : first + len(nearest)] = (places[nearest] * weight[:, :, None]).sum(dim=1).numpy()
    return out


def _reduced(x: torch.Tensor) -> Floats:
    """[points, components] the first principal components of standardised representations [points, dim]."""
    from sklearn.decomposition import PCA

    x = x - x.mean(dim=0)
    deviation = x.std(dim=0, correction=0)
    standard: Floats = (x / torch.where(deviation > 0, deviation, torch.ones_like(deviation))).numpy()
    components = min(COMPONENTS, *standard.shape)
    if components < 1 or not standard.any():
        return np.zeros((len(standard), 1), dtype=np.float32)
    solver = "covariance_eigh" if standard.shape[1] <= 1_000 else "randomized"
    reduced: Floats = PCA(components, random_state=SEED, svd_solver=solver).fit_transform(standard)
    return np.ascontiguousarray(reduced, dtype=np.float32)


def _unit(place: Floats) -> Floats:
    """The same places with each axis from 0 to 1; in the middle of one in which they do not differ."""
    low, high = place.min(axis=0), place.max(axis=0)
    unit: Floats = (place - low) / np.where(high > low, high - low, 1).astype(np.float32)
    return unit + np.where(high > low, 0, 0.5).astype(np.float32)


def _sample(count: int, most: int, seed: int) -> NDArray[np.int64]:
    """``most`` of ``count`` places at random, ascending; all where there are no more."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


def _mark(data: Collection, seed: int) -> str:
    """A hash of what decides a map: the clips, their numbers, the method."""
    assert data.stored is not None
    manifest = data.stored.representations.manifest
    values = [shard.values for shard in manifest.shards]
    digest = hashlib.sha256(json.dumps([_REVISION, seed, LANDMARKS, MOST_CLIPS, values]).encode())
    digest.update(np.ascontiguousarray(np.sort(data.rows)).data)
    return digest.hexdigest()[:32]


def _read(store: Store, file: str, mark: str) -> Map | None:
    """The map in a file; None where it is not there, is damaged, or is of other clips."""
    try:
        table = store.read_table(file)
    except EncoreError:
        return None
    metadata = table.schema.metadata or {}
    if metadata.get(b"mark") != mark.encode() or not {"row", "x", "y"} <= set(table.column_names):
        return None
    place = np.stack([table.column(axis).to_numpy().astype(np.float32) for axis in "xy"], axis=1)
    return Map(table.column("row").to_numpy().astype(np.int64), place, metadata.get(b"method", b"").decode())


def _write(store: Store, file: str, mark: str, picture: Map) -> None:
    """Keep a map; a store that cannot be written does without."""
    import pyarrow as pa

    table = pa.table({"row": picture.rows, "x": picture.place[:, 0], "y": picture.place[:, 1]})
    try:
        store.write_table(file, table.replace_schema_metadata({"mark": mark, "method": picture.method}))
    except StoreError as error:
        note(f"the map is not kept: {error}")
