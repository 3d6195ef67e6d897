"""The artist graph: clips as nodes, an edge between two clips of the same artist.

The graph is a union of cliques, so it is never expanded on the way to a result. It is held as the bipartite
clip-artist graph, one edge a clip, in DGL where DGL is installed; a message from each clip to its artist gives the
artists' sums, and the mean over a clip's neighbours is ``(sum over its artist - itself) / (n - 1)``, exact and linear
in clips. An unknown artist (-1) has no edges.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from stages.head.graph import _dgl
from stages.head.random import binomial, bits, uniform

_COLUMNS = 128  # of x squared at a time
_IN_CACHE = 2**19  # numbers that a processor's cache holds while they are worked on, 2 MiB


class Graph(ABC):
    """A relation among clips, held so that neighbours can be drawn and averaged without listing all edges at once.

    Attributes
    ----------
    degree : [clips] neighbours of a clip.
    """

    degree: Tensor

    @cached_property
    def most(self) -> int:
        """The largest number of neighbours that a clip has."""
        return int(self.degree.max()) if len(self.degree) else 0

    @abstractmethod
    def mean(self, x: Float[Tensor, "clips dim"]) -> Float[Tensor, "clips dim"]:
        """The mean over each clip's neighbours; zero for a clip that has none."""

    def means(self, x: Float[Tensor, "clips dim"]) -> Callable[[Int[Tensor, " batch"]], Float[Tensor, "batch dim"]]:
        """`mean` for some clips at a time."""
        return self.mean(x).__getitem__

    @abstractmethod
    def _to_clips(self, nodes: Int[Tensor, " batch"], picks: Int[Tensor, "batch k"]) -> Int[Tensor, "batch k"]:
        """From the number of a neighbour (from 0, -1 for none) to its clip."""

    def sample(
        self, nodes: Int[Tensor, " batch"], k: int, streams: Int[Tensor, " batch"], drop_edge: float = 0.0
    ) -> Int[Tensor, "batch k"]:
        """At most ``k`` distinct neighbours of each node, drawn uniformly, -1 where there are fewer.

        Each node draws from a stream of its own (`stages.head.random`), so that its neighbours are the same in any
        batch. DropEdge (Rong et al. 2020) removes each edge with probability ``drop_edge`` before the draw. Which edges
        stay does not matter, since a uniform sample of a uniform sample is uniform: only how many do,
        Binomial(degree, 1 - drop_edge). The draw is Floyd's: the i-th of k from n takes a random one of the
        first n - k + i + 1, or the last of these where that one is taken.
        """
        degree = self.degree[nodes]
        k = min(k, self.most)  # a table is no wider than any clip can fill it
        remaining = binomial(degree, 1.0 - drop_edge, bits(streams, -1)) if drop_edge else degree
        count = remaining.clamp(max=k)
        picks = torch.full((len(nodes), k), -1, dtype=torch.int64, device=nodes.device)
        draws = uniform(bits(streams.unsqueeze(1), torch.arange(k, device=nodes.device)))
        for i in range(k):
            last = degree - count + i
            pick = (draws[:, i] * (last + 1)).long()
            is_repeated = (picks[:, :i] == pick.unsqueeze(1)).any(dim=1)
            picks[:, i] = torch.where(i < count, torch.where(is_repeated, last, pick), -1)
        return self._to_clips(nodes, picks)

    def all_neighbours(
        self, nodes: Int[Tensor, " batch"], drop_edge: float = 0.0, streams: Int[Tensor, " batch"] | None = None
    ) -> tuple[Int[Tensor, " total"], Int[Tensor, " batch"]]:
        """All neighbours of the nodes one behind the other, and where each node's begin; edges dropped at random."""
        degree = self.degree[nodes]
        owner = torch.repeat_interleave(torch.arange(len(nodes), device=nodes.device), degree)
        number = torch.arange(len(owner), device=nodes.device) - (degree.cumsum(0) - degree)[owner]
        if streams is not None and drop_edge:
            stays = uniform(bits(streams[owner], number)) >= drop_edge
            owner, number = owner[stays], number[stays]
            degree = torch.bincount(owner, minlength=len(nodes))
        flat = self._to_clips(nodes[owner], number.unsqueeze(1)).squeeze(1)
        return flat, degree.cumsum(0) - degree


class CliqueGraph(Graph):
    """The same-artist graph of clips.

    Parameters
    ----------
    artist : [clips] int64, the artist of each clip from 0, or -1 where it is unknown.
    sources : [clips] bool, the clips that may be neighbours; all where None. Any clip may have neighbours.

    Attributes
    ----------
    order : [sources of a known artist] clips sorted by artist; an artist's clips are one run of it.
    begin, count : [artists] where an artist's run begins in ``order`` and how long it is.
    place : [clips] where a clip stands in ``order``; behind its end where it does not.
    degree : [clips] neighbours of a clip.
    """

    def __init__(self, artist: Int[Tensor, " clips"], sources: Bool[Tensor, " clips"] | None = None) -> None:
        self.artist, self.sources = artist, sources
        self.clips = len(artist)
        self.artists = int(artist.max()) + 1 if len(artist) else 0
        source = artist if sources is None else torch.where(sources, artist, -1)
        ranked = torch.argsort(source, stable=True)
        self.order = ranked[int((source < 0).sum()) :]
        self.count = torch.bincount(artist[self.order], minlength=self.artists)
        self.begin = self.count.cumsum(0) - self.count
        self.place = torch.full_like(artist, len(self.order))
        self.place[self.order] = torch.arange(len(self.order), device=artist.device)
        code = artist.clamp(min=0)
        own = (source >= 0).long()
        self.degree = torch.where(artist >= 0, self.count[code] - own, 0) if self.artists else torch.zeros_like(artist)

    def to(self, device: torch.device) -> CliqueGraph:
        if self.artist.device == device:
            return self
        return CliqueGraph(self.artist.to(device), None if self.sources is None else self.sources.to(device))

    @property
    def edges(self) -> int:
        """Pairs of clips that share an artist (a graph library counts each pair twice, once a direction)."""
        return int((self.count * (self.count - 1)).sum()) // 2

    @cached_property
    def heterograph(self) -> Any:
        """The graph in DGL: node types ``clip`` and ``artist``, edge types ``by`` and ``made``, one edge a clip."""
        dgl = _dgl.load()
        clips, artists = self.order, self.artist[self.order]
        sources = clips if self.sources is None else (self.artist >= 0).nonzero().squeeze(1)
        return dgl.heterograph(
            {("clip", "by", "artist"): (clips, artists), ("artist", "made", "clip"): (self.artist[sources], sources)},
            num_nodes_dict={"clip": self.clips, "artist": self.artists},
        )

    def clique(self) -> Any:
        """The expanded homogeneous graph in DGL, n (n - 1) edges an artist: what plain layers of DGL read."""
        source, target = self.clique_edges()
        return _dgl.load().graph((source, target), num_nodes=self.clips)

    def clique_edges(self) -> tuple[Int[Tensor, " edges"], Int[Tensor, " edges"]]:
        """Sources and targets of all directed edges, in the order of the targets."""
        nodes = torch.arange(self.clips, device=self.artist.device)
        flat, offsets = self.all_neighbours(nodes)
        sizes = torch.diff(offsets, append=offsets.new_tensor([len(flat)]))
        return flat, torch.repeat_interleave(nodes, sizes)

    def mean(self, x: Float[Tensor, "clips dim"]) -> Float[Tensor, "clips dim"]:
        """The mean over each clip's neighbours; zero for a clip that has none."""
        if not self.artists:
            return torch.zeros_like(x)
        if x.requires_grad and torch.is_grad_enabled():
            return self.mean_of(slice(None), x, self.sums(x))
        sums, means = self.sums(x), _unfilled(x)
        # Rows that stay in the cache between the steps are written to memory once.
        step = max(1, _IN_CACHE // max(1, x.shape[1])) if x.device.type == "cpu" else len(x)
        for first in range(0, len(x), step):
            some = slice(first, first + step)
            self.mean_of(some, x[some], sums, out=means[some])
        return means

    def means(self, x: Float[Tensor, "clips dim"]) -> Callable[[Int[Tensor, " batch"]], Float[Tensor, "batch dim"]]:
        """`mean` for some clips at a time, from the sums of the artists alone."""
        sums = self.sums(x)
        return lambda nodes: self.mean_of(nodes, x[nodes], sums)

    def sums(self, x: Float[Tensor, "clips dim"], *, squared: bool = False) -> Float[Tensor, "artists dim"]:
        """The sum of ``x``, or of its squares, over each artist's clips that may be neighbours."""
        if not self.artists:
            return x.new_zeros(1, x.shape[1])
        # DGL's packages that fit every torch are built for the CPU; the sums are the same anywhere.
        total = self._sums_by_dgl if x.device.type == "cpu" and _dgl.is_there() else self._sums
        if not squared:
            return total(x)
        parts = torch.split(x, _COLUMNS, dim=1)  # not all squares at once
        return torch.cat([total(part * part) for part in parts], dim=1)

    def mean_of(
        self,
        nodes: Int[Tensor, " batch"] | slice,
        x: Float[Tensor, "batch dim"],
        sums: Float[Tensor, "artists dim"],
        out: Float[Tensor, "batch dim"] | None = None,
    ) -> Float[Tensor, "batch dim"]:
        """`mean` for some clips, whose own rows are ``x``, from their artists' sums; into ``out`` where it is given."""
        degree = self.degree[nodes].unsqueeze(1)
        own = x if self.sources is None else x * self.sources[nodes].unsqueeze(1)
        total = torch.index_select(sums, 0, self.artist[nodes].clamp(min=0), out=out)
        return total.sub_(own).mul_((degree > 0).to(x.dtype) / degree.clamp(min=1))

    def pooled(self, x: Float[Tensor, "clips dim"]) -> Float[Tensor, "clips dim"]:
        """The mean over a clip's neighbours and itself; the clip's own row where it has no neighbour."""
        degree = self.degree.unsqueeze(1)
        return self.mean(x).mul_(degree).add_(x).div_(degree + 1)

    def propagate(self, y: Float[Tensor, "clips labels"], alpha: float) -> Float[Tensor, "clips labels"]:
        """``(1 - alpha) (I - alpha S)^-1 y``, ``S`` the normalised adjacency: propagation run to its end, exactly.

        Zhou et al., Learning with Local and Global Consistency, NIPS 2003, eq. 4. In a clique of n clips
        ``S = (J - I) / (n - 1)`` has two eigenvalues, 1 on what all of them share and -1 / (n - 1) on what sets
        them apart, so that a clip keeps the mean of its artist and ``(1 - alpha) / (1 + alpha / (n - 1))`` of its
        distance from it. A clip without neighbours keeps all it has.
        """
        pooled = self.pooled(y)
        share = (1 - alpha) / (1 + alpha / self.degree.clamp(min=1))
        return pooled + share.to(y.dtype).unsqueeze(1) * (y - pooled)

    def _sums_by_dgl(self, x: Float[Tensor, "clips dim"]) -> Float[Tensor, "artists dim"]:
        function = _dgl.load().function
        graph = self.heterograph
        with graph.local_scope():
            graph.nodes["clip"].data["x"] = x
            graph.update_all(function.copy_u("x", "m"), function.sum("m", "sum"), etype="by")
            sums: Tensor = graph.nodes["artist"].data["sum"]
            return sums

    def _sums(self, x: Float[Tensor, "clips dim"]) -> Float[Tensor, "artists dim"]:
        """The same in torch alone; run by run, so that it comes out the same each time on a GPU too."""
        return F.embedding_bag(self.order, x, self.begin, mode="sum")

    def _to_clips(self, nodes: Int[Tensor, " batch"], picks: Int[Tensor, "batch k"]) -> Int[Tensor, "batch k"]:
        """From the number of a neighbour (from 0, the node itself left out, -1 for none) to its clip."""
        begin = self.begin[self.artist[nodes].clamp(min=0)].unsqueeze(1) if self.artists else picks
        place = begin + picks
        place = place + (place >= self.place[nodes].unsqueeze(1))
        if not len(self.order):
            return picks
        return torch.where(picks >= 0, self.order[place.clamp(min=0, max=len(self.order) - 1)], -1)


def ragged(table: Int[Tensor, "batch k"]) -> tuple[Int[Tensor, " total"], Int[Tensor, " batch"]]:
    """A table padded with -1 as its entries one behind the other and where each row's begin."""
    mask = table >= 0
    count = mask.sum(dim=1)
    return table[mask], count.cumsum(0) - count


def neighbour_mean(
    x: Float[Tensor, "clips dim"], flat: Int[Tensor, " total"], offsets: Int[Tensor, " batch"]
) -> Float[Tensor, "batch dim"]:
    """The mean over each node's listed neighbours, without a copy of their rows; zero where none is listed."""
    return F.embedding_bag(flat, x, offsets, mode="mean")


def _unfilled(x: Tensor) -> Tensor:
    """A tensor like ``x``; in main memory NumPy's, which asks for huge pages: small ones cost more than the sums."""
    return torch.empty_like(x) if x.device.type != "cpu" else torch.from_numpy(np.empty_like(x.numpy()))
