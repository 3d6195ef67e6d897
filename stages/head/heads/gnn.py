"""GraphSAGE over a relation between clips, and over the artist graph."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

from torch import Tensor, nn

from stages.head.collection import Collection
from stages.head.graph.cliques import Graph, neighbour_mean, ragged
from stages.head.heads import SCORING, Draw, NetworkInput, Spec
from stages.head.heads._layers import Classifier, width
from stages.head.heads._neighbours import MOST, NeighbourConfig, NeighbourHead
from stages.head.random import bits
from stages.head.settings import setting
from stages.splits.regimes import Split


@dataclass(frozen=True, kw_only=True, slots=True)
class SageConfig(NeighbourConfig):
    """Beside the settings of a hidden layer and of neighbours:

    Attributes
    ----------
    neighbours_inference : neighbours drawn once for scoring; None for all, exactly.
    """

    neighbours_inference: int | None = setting(None, least=1, most=MOST)


class Sage(NeighbourHead):
    """One GraphSAGE layer with the mean of a clip's neighbours, then the output layer.

    ``relu([W_self x + b ; W_neighbours mean(x_neighbours) + c])``: self and neighbours are concatenated after
    weights of their own. Training draws neighbours; scoring takes the exact mean of all of them, or as many
    as ``neighbours_inference`` says. Neighbours are drawn from the whole collection, so that representations
    (never labels) of test clips take part: the thesis's transductive setting.
    """

    Config = SageConfig
    INPUTS = (
        *NeighbourHead.INPUTS,
        NetworkInput("mean", "the mean of its neighbours' representations; NaN where it has none", is_vector=True),
    )

    def __init__(self, collection: Collection, x: Tensor, split: Split, spec: Spec, graph: Graph | None = None) -> None:
        super().__init__(collection, x, split, spec)
        self.graph = self.relation() if graph is None else graph
        self._table: Tensor | None = None

    def reading(self, x: Tensor) -> Self:
        """The head on other representations [clips, dim] of its clips; similar ones stay their neighbours."""
        if not self.COMPARES:
            return super().reading(x)
        return type(self)(self.collection, x, self.split, replace(self.spec, dim=x.shape[1]), self.graph)

    @abstractmethod
    def relation(self) -> Graph:
        """Whose neighbours count."""

    @staticmethod
    def build(spec: Spec) -> nn.Module:
        return _Network(spec.dim, width(spec), spec.outputs, spec.config.dropout)

    def start_epoch(self, nodes: Tensor, draw: Draw) -> None:
        # Each clip is visited once in an epoch, so one draw for all of them is a fresh draw at every step.
        k = self.config.neighbours
        self._table = self.graph.sample(nodes, k, draw.streams(nodes)) if k else None

    def training_inputs(self, nodes: Tensor, places: Tensor) -> tuple[Tensor, ...]:
        if self._table is None:
            return self.inputs(nodes)
        return self.x[nodes], neighbour_mean(self.x, *ragged(self._table[places]))

    def inputs(self, nodes: Tensor) -> tuple[Tensor, ...]:
        return self.x[nodes], self._means(nodes)

    @cached_property
    def _means(self) -> Callable[[Tensor], Tensor]:
        """[nodes, dim] what scoring takes for the neighbours; the same for every epoch, since x is frozen."""
        k = self.config.neighbours_inference
        if k is None or k >= self.graph.most:
            return self.graph.means(self.x)
        return lambda nodes: neighbour_mean(
            self.x, *ragged(self.graph.sample(nodes, k, bits(SCORING, self.rows[nodes])))
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class GnnConfig(SageConfig):
    """Beside GraphSAGE's settings:

    Attributes
    ----------
    inductive : only training clips are neighbours, so that a clip is scored as one that came after the training.
    """

    inductive: bool = False


class Gnn(Sage):
    """GraphSAGE whose neighbours are the same artist's other clips; with ``inductive`` the training clips of these."""

    NAME = "gnn"
    TITLE = "GraphSAGE over the artist graph"
    CITATION = "Hamilton, Ying and Leskovec, Inductive Representation Learning on Large Graphs, NeurIPS 2017"
    READS_ARTISTS = True
    BY_ARTIST = True
    IS_DIFFERENTIABLE = True
    Config = GnnConfig

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
