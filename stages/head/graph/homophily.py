"""Label homophily of the artist graph: how alike are the labels at the two ends of an edge."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def homophily(
    artist: NDArray[np.int64], labels: NDArray[np.bool_], *, per_node: bool = False
) -> dict[str, float | None]:
    """Mean over all same-artist edges, by three definitions; None for a graph without edges.

    ``per_node``: the mean over clips of the mean over a clip's edges, so that an artist counts by its clips instead of
    by their square; clips without a neighbour are left out.

    ``exact``: the share of edges whose ends carry the same set of labels (the thesis's). ``jaccard``: the mean
    of shared labels over all labels of the two. ``any``: the share whose ends have a label in common.

    Computed from the distinct label sets of each artist, never from the edges.

    Parameters
    ----------
    artist : [clips], -1 where unknown.
    labels : [clips, labels].
    """
    has_artist = artist >= 0
    artist, labels = artist[has_artist], labels[has_artist]
    sizes = np.bincount(artist) if len(artist) else np.zeros(1, dtype=np.int64)
    pairs = int((sizes * (sizes - 1)).sum())
    if not pairs:
        return {"exact": None, "jaccard": None, "any": None}
    label_sets = np.packbits(labels, axis=1)
    sets, which = np.unique(label_sets, axis=0, return_inverse=True)
    which = which.reshape(-1).astype(np.int64)
    codes, how_many = np.unique(artist * len(sets) + which, return_counts=True)
    owner, label_set = codes // len(sets), codes % len(sets)
    members = np.unpackbits(sets, axis=1, count=labels.shape[1]).astype(np.float64)
    begin = np.searchsorted(owner, np.arange(len(sizes) + 1))
    sums = np.zeros((3, len(sizes)))  # over the directed edges of each artist
    # A loop over artists, each one small matrix product; an artist has few distinct label sets.
    for who, (first, last) in enumerate(zip(begin[:-1].tolist(), begin[1:].tolist(), strict=True)):
        if last == first:
            continue
        count = how_many[first:last].astype(np.float64)
        members_of = members[label_set[first:last]]
        shared = members_of @ members_of.T
        size = members_of.sum(axis=1)
        union = size[:, None] + size[None, :] - shared
        weight = np.outer(count, count)
        weight[np.diag_indices(len(count))] = count * (count - 1)
        same = weight.diagonal().sum()
        sums[:, who] = same, (weight * _ratio(shared, union)).sum(), (weight * (shared > 0)).sum()
    if per_node:
        has_several = sizes > 1
        means = (sums[:, has_several] / (sizes[has_several] - 1)).sum(axis=1) / sizes[has_several].sum()
    else:
        means = sums.sum(axis=1) / pairs
    return dict(zip(("exact", "jaccard", "any"), means.tolist(), strict=True))


def _ratio(shared: NDArray[np.float64], union: NDArray[np.float64]) -> NDArray[Any]:
    """Shared over union; two clips without any label count as alike."""
    return np.divide(shared, union, out=np.ones_like(shared), where=union > 0)
