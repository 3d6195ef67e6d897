"""GraphSAGE over a relation between clips, and over the artist graph."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import cached_property

from torch import Tensor, nn

from stages.head.collection import Collection
from stages.head.graph.cliques import Graph, neighbour_mean, ragged
from stages.head.heads import SCORING, Draw, TrainedHead
from stages.head.heads._layers import Classifier
from stages.head.random import bits
from stages.head.settings import Settings
from stages.splits.regimes import Split


class Sage(TrainedHead):
    """One GraphSAGE layer with the mean of a clip's neighbours, then the output layer.

    ``relu([W_self x + b ; W_neighbours mean(x_neighbours) + c])``: self and neighbours are concatenated after
    weights of their own. Training draws neighbours; scoring takes the exact mean of all of them, or as many
    as ``neighbours_inference`` says. Neighbours are drawn from the whole collection, so that representations
    (never labels) of test clips take part: the thesis's transductive setting.
    """

    READS_NEIGHBOURS = True
    SETTINGS = TrainedHead.SETTINGS | {"neighbours", "neighbours_inference"}

    def __init__(self, data: Collection, x: Tensor, part: Split, settings: Settings) -> None:
        super().__init__(data, x, part, settings)
        self.graph = self.relation()
        self._table: Tensor | None = None
        self._draw: Draw | None = None

    @abstractmethod
    def relation(self) -> Graph:
        """Whose neighbours count."""

    def build(self) -> nn.Module:
        return _Network(self.x.shape[1], self.hidden, self.labels, self.settings.dropout)

    def start_epoch(self, nodes: Tensor, draw: Draw) -> None:
        self._draw = draw
        # Each clip is visited once in an epoch, so one draw for all of them is a fresh draw at every step.
        self._table = self.graph.sample(nodes, draw.k, draw.streams(nodes), draw.drop_edge) if draw.k else None

    def training_inputs(self, nodes: Tensor, places: Tensor) -> tuple[Tensor, ...]:
        if self._table is not None:
            flat, offsets = ragged(self._table[places])
        elif self._draw is not None and self._draw.drop_edge:
            flat, offsets = self.graph.all_neighbours(nodes, self._draw.drop_edge, self._draw.streams(nodes))
        else:
            return self.inputs(nodes)
        return self.x[nodes], neighbour_mean(self.x, flat, offsets)

    def inputs(self, nodes: Tensor) -> tuple[Tensor, ...]:
        return self.x[nodes], self._means(nodes)

    @cached_property
    def _means(self) -> Callable[[Tensor], Tensor]:
        """[nodes, dim] what scoring takes for the neighbours; the same for every epoch, since x is frozen."""
        k = self.settings.neighbours_inference
        if k is None or k >= self.graph.most:
            return self.graph.means(self.x)
        return lambda nodes: neighbour_mean(
            self.x, *ragged(self.graph.sample(nodes, k, bits(SCORING, self.names[nodes])))
        )


class Gnn(Sage):
    """GraphSAGE whose neighbours are the same artist's other clips; with ``inductive`` the training clips of these."""

    NAME = "gnn"
    TITLE = "GraphSAGE over the artist graph"
    CITATION = "Hamilton, Ying and Leskovec, Inductive Representation Learning on Large Graphs, NeurIPS 2017"
    READS_ARTISTS = True
    BY_ARTIST = True
    INDUCTIVE = True

    def relation(self) -> Graph:
        return self.artist_graph()


class _Network(nn.Module):
    def __init__(self, dim: int, hidden: int, labels: int, dropout: float) -> None:
        super().__init__()
        self.song = nn.Linear(dim, hidden)
        self.neighbours = nn.Linear(dim, hidden)
        self.classify = Classifier(2 * hidden, labels, dropout)

    def forward(self, x: Tensor, mean: Tensor) -> Tensor:
        logits: Tensor = self.classify(self.song(x), self.neighbours(mean))
        return logits
