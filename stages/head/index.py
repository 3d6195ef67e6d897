"""An approximate index of a large collection, so that a query need not be compared with every clip.

It has inverted lists (faiss) of the first principal components in eight bits each; what they find is compared again by
the whole representation. The index is built once and cached for the user under a hash of what it was built from, and is
memory-mapped. Its recall is measured on clips of the collection when it is built: more candidates are taken from more
lists until `RECALL` of the true nearest clips is found. Where no number of them is enough, the index is built again
from all components.
"""

from __future__ import annotations

import bisect
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from stages.head.similar import Space
from stages.progress import note, task
from store.errors import EncoreError
from store.words import plural

RECALL = 0.98
_REVISION = 2  # raise it by one when the same collection would give another index
_PROBES, _NEAREST = 64, 10  # clips that it is measured on, and how many of the nearest to each must be found
_CANDIDATES = (500, 1000, 2000, 4000)
_COMPONENTS = 128
_TRAINING = 64  # clips a list that the lists are made from


@dataclass(frozen=True)
class Index:
    """Attributes
    ----------
    recall : the share of the nearest clips that it finds.
    least : how many candidates it takes to find them.
    """

    recall: float
    least: int
    _lists: Any

    def candidates(self, direction: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """The catalog rows of about ``count`` clips near to a unit vector [dim]."""
        rows: NDArray[np.int64] = self._lists.search(direction[None], max(count, self.least))[1][0]
        return rows[rows >= 0]


def open_index(space: Space) -> Index:
    """The index of a collection, which is built where there is none yet.

    Raises
    ------
    EncoreError
        where it cannot be kept.
    """
    import faiss

    path = _path(space)
    details = path.with_suffix(".json")
    if not details.exists():  # which is written last
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _build(space, path, details)
        except OSError as error:
            raise EncoreError(f"the index cannot be kept: {error.filename}: {error.strerror or error}") from error
    record = json.loads(details.read_text())
    return Index(
        float(record["recall"]),
        int(record["candidates"]),
        faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY),
    )


def nearly_nearest(
    space: Space, among: NDArray[np.bool_], vectors: NDArray[np.floating[Any]], count: int
) -> tuple[float, list[tuple[int, float, int]] | None]:
    """The recall of the index, and what `Space.ranked` gives of the songs whose clips it finds near to ``vectors``.

    None where these are fewer than ``count``: then all must be compared.
    """
    index = space.index
    rows = index.candidates(space.direction(vectors), 20 * count)
    songs = space.codes("song_id")
    is_near = np.zeros(int(songs.max()) + 1, dtype=bool)
    is_near[songs[rows[among[rows]]]] = True
    rows = np.flatnonzero(among & is_near[songs])
    cosines = np.full(len(among), np.nan, dtype=np.float32)
    cosines[rows] = space.units(space.vectors(rows)) @ space.direction(vectors)
    near = np.zeros(len(among), dtype=bool)
    near[rows] = True
    ranked = space.rank(cosines, near, "song_id", count)
    return index.recall, ranked if len(ranked) == count else None


def _path(space: Space) -> Path:
    import platformdirs

    digest = xxhash.xxh3_128(f"{_REVISION} {space.name} {space.dim}".encode())
    for shard in space.stored.manifest.shards:
        digest.update(shard.values.encode())
    digest.update(np.packbits(space.usable).tobytes())
    name = f"{space.catalog.info.name}-{digest.hexdigest()}.faiss"
    return Path(platformdirs.user_cache_dir("encore")) / "similar" / name


def _build(space: Space, path: Path, details: Path) -> None:
    import faiss

    rows = np.flatnonzero(space.usable)
    note(f"building an index of {plural(len(rows), 'clip')}, once; it is kept in {path.parent}")
    probes = _spread(rows, _PROBES)
    queries = space.units(space.vectors(probes))
    for components in sorted({min(_COMPONENTS, space.dim), space.dim}):
        index, nearest = _fill(space, rows, components, probes, queries)
        recall, candidates = _enough(index, queries, nearest)
        if recall >= RECALL:
            break
    partial = path.with_suffix(f".{os.getpid()}")
    faiss.write_index(index, str(partial))
    partial.replace(path)
    record = {"recall": recall, "candidates": candidates, "components": components}
    details.write_text(json.dumps(record))


def _fill(
    space: Space, rows: NDArray[np.int64], components: int, probes: NDArray[np.int64], queries: NDArray[np.float32]
) -> tuple[Any, NDArray[np.int64]]:
    """An index of all clips, and [probes, nearest] the catalog rows of those nearest to each probe beside itself."""
    import faiss

    lists = max(1, int(np.sqrt(len(rows))))
    reduction = f"PCA{components}," if components < space.dim else ""
    index: Any = faiss.index_factory(space.dim, f"{reduction}IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    index.train(space.units(space.vectors(_spread(rows, _TRAINING * lists))))
    nearest = np.full((len(probes), _NEAREST), -np.inf, dtype=np.float32)
    nearest_rows = np.full(nearest.shape, -1, dtype=np.int64)
    with task("building the index", len(rows), "clips") as advance:
        for first, chunk in space.chunks():
            own = np.flatnonzero(space.usable[first : first + len(chunk)])
            if not len(own):
                continue
            units, ids = space.units(chunk[own]), first + own
            index.add_with_ids(units, ids)
            cosines = np.where(ids == probes[:, None], -np.inf, queries @ units.T)
            _keep_nearest(nearest, nearest_rows, cosines, np.broadcast_to(ids, cosines.shape))
            advance(len(own))
    return index, nearest_rows


def _enough(index: Any, queries: NDArray[np.float32], nearest: NDArray[np.int64]) -> tuple[float, int]:
    """Recall, and how many candidates give it; sets how many lists are looked at."""
    import faiss

    lists = faiss.extract_index_ivf(index)

    def recall(searched: int, candidates: int) -> float:
        lists.nprobe = searched
        return _recall(index.search(queries, candidates)[1], nearest)

    few = next((count for count in _CANDIDATES if recall(lists.nlist, count) >= RECALL), _CANDIDATES[-1])
    # The fewest lists that are enough; the more are looked at, the more is found.
    enough = bisect.bisect_left(range(1, lists.nlist), RECALL, key=lambda searched: recall(searched, few)) + 1
    return recall(enough, few), few


def _spread(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """About so many of the rows, evenly."""
    return rows[:: max(1, len(rows) // count)]


def _keep_nearest(
    best: NDArray[np.float32], best_rows: NDArray[np.int64], more: NDArray[np.float32], more_rows: NDArray[np.int64]
) -> None:
    """Of the best so far [queries, kept] and others [queries, rows], the best, in place."""
    values, rows = np.hstack([best, more]), np.hstack([best_rows, more_rows])
    place = np.argpartition(-values, best.shape[1] - 1, axis=1)[:, : best.shape[1]]
    best[...], best_rows[...] = (np.take_along_axis(each, place, axis=1) for each in (values, rows))


def _recall(rows: NDArray[np.int64], nearest: NDArray[np.int64]) -> float:
    """The share of the nearest [probes, nearest] that is among the rows [probes, candidates]."""
    there = nearest >= 0
    if not there.any():
        return 1.0
    hits = (nearest[:, :, None] == rows[:, None, :]).any(axis=2)
    return float(hits[there].mean())
