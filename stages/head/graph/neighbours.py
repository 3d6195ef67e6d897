"""Relations that representations tell: nearest clips, similar clips of an artist, clusters."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from stages.head.graph.cliques import CliqueGraph, Graph, neighbour_mean
from stages.splits.regimes import Split

_BLOCK = 2**24  # similarities held at a time, 64 MiB
_LINKS, _BUILD, _LOOK = 16, 60, 64  # of the approximate index: M, efConstruction and efSearch of its paper


class ListedGraph(Graph):
    """A graph whose edges are listed.

    Parameters
    ----------
    source, target : [edges] int64; a clip's neighbours are the sources of the edges that end in it.
    clips : how many clips there are.
    """

    def __init__(self, source: Int[Tensor, " edges"], target: Int[Tensor, " edges"], clips: int) -> None:
        self.source = source[torch.argsort(target, stable=True)]
        self.degree = torch.bincount(target, minlength=clips)
        self.begin = self.degree.cumsum(0) - self.degree

    def mean(self, x: Float[Tensor, "clips dim"]) -> Float[Tensor, "clips dim"]:
        return neighbour_mean(x, self.source, self.begin)

    def _to_clips(self, nodes: Int[Tensor, " batch"], picks: Int[Tensor, "batch k"]) -> Int[Tensor, "batch k"]:
        if not len(self.source):
            return picks
        place = (self.begin[nodes].unsqueeze(1) + picks).clamp(min=0, max=len(self.source) - 1)
        return torch.where(picks >= 0, self.source[place], -1)


def centre(x: Float[Tensor, "clips dim"] | None, split: Split) -> Float[Tensor, " dim"]:
    """The mean of the training clips."""
    assert x is not None
    train = torch.from_numpy(split == 0).to(x.device).nonzero().squeeze(1)
    return x[train].mean(dim=0)


def directions(x: Float[Tensor, "clips dim"], centre: Float[Tensor, " dim"]) -> Float[Tensor, "clips dim"]:
    """Unit vectors from ``centre``: where that is the mean, products of two are cosines of about zero on average."""
    return F.normalize(x - centre.to(x.device), dim=1)


def nearest(unit: Float[Tensor, "clips dim"], k: int) -> ListedGraph:
    """Each clip's ``k`` nearest others by cosine, exactly: blocks of one large matrix product."""
    clips = len(unit)
    k = min(k, clips - 1)
    columns = []
    for rows in torch.split(torch.arange(clips, device=unit.device), max(1, _BLOCK // clips)):
        alike = unit[rows] @ unit.T
        alike[torch.arange(len(rows), device=unit.device), rows] = -torch.inf
        columns.append(alike.topk(k, dim=1).indices)
    target = torch.arange(clips, device=unit.device).repeat_interleave(k)
    return ListedGraph(torch.cat(columns).flatten(), target, clips)


def nearly_nearest(unit: Float[Tensor, "clips dim"], k: int, order: Int[Tensor, " clips"] | None = None) -> ListedGraph:
    """Most of each clip's ``k`` nearest others by cosine, in time that hardly grows faster than the clips.

    By faiss's index of hierarchical navigable small worlds (Malkov and Yashunin, IEEE TPAMI 42(4), 2020), which finds
    99 of 100 in the time in which inverted lists found 85. It is built by one thread, clip by clip in ``order``, so
    that it is the same each time; all threads look up.
    """
    import faiss

    clips = len(unit)
    k = min(k, clips - 1)
    order = torch.arange(clips) if order is None else order.cpu()
    rows = unit[order.to(unit.device)].cpu().numpy()
    index = faiss.IndexHNSWFlat(unit.shape[1], _LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = _BUILD, max(_LOOK, 2 * k)
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        index.add(rows)
    finally:
        faiss.omp_set_num_threads(threads)
    neighbours = torch.from_numpy(index.search(rows, k + 1)[1])
    neighbours[neighbours == torch.arange(clips).unsqueeze(1)] = -1  # itself, and what was not found
    place = (neighbours >= 0).cumsum(dim=1)
    target, column = ((neighbours >= 0) & (place <= k)).nonzero(as_tuple=True)
    return ListedGraph(order[neighbours[target, column]].to(unit.device), order[target].to(unit.device), clips)


def similar(graph: CliqueGraph, unit: Float[Tensor, "clips dim"], least: float, most: int) -> ListedGraph:
    """Same-artist edges between clips whose cosine is above ``least``; of more than ``most``, the most alike ones.

    Memory grows with clips times ``most`` at worst, never with the square of an artist.
    """
    sources, targets = [graph.order[:0]], [graph.order[:0]]
    for begin, count in zip(graph.begin.tolist(), graph.count.tolist(), strict=True):
        members = graph.order[begin : begin + count]
        of_artist = unit[members]
        for places in torch.split(torch.arange(count, device=unit.device), max(1, _BLOCK // max(1, count))):
            alike = of_artist[places] @ of_artist.T
            alike[torch.arange(len(places), device=unit.device), places] = -torch.inf
            value, column = alike.topk(min(most, count), dim=1)
            row, rank = (value > least).nonzero(as_tuple=True)
            sources.append(members[column[row, rank]])
            targets.append(members[places[row]])
    return ListedGraph(torch.cat(sources), torch.cat(targets), len(unit))


def clusters(x: Float[Tensor, "clips dim"], order: Int[Tensor, " clips"], k: int) -> Float[Tensor, "k dim"]:
    """The centroids of k-means; ``order`` is a fixed order of the clips, so that theirs does not matter."""
    from sklearn.cluster import MiniBatchKMeans

    model = MiniBatchKMeans(min(k, len(x)), batch_size=4096, n_init=3, random_state=0, compute_labels=False)
    model.fit(x[order].cpu().numpy())
    return torch.from_numpy(model.cluster_centers_).to(x.dtype)


def closest(x: Float[Tensor, "clips dim"], centroids: Float[Tensor, "k dim"]) -> Int[Tensor, " clips"]:
    """The number of the centroid next to each clip, by Euclidean distance."""
    centroids = centroids.to(x.device)
    sizes = centroids.square().sum(dim=1)
    cells = [(sizes - 2 * rows @ centroids.T).argmin(dim=1) for rows in torch.split(x, max(1, _BLOCK // len(sizes)))]
    return torch.cat(cells)
