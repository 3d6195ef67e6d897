"""GraphSAGE with DropEdge."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from stages.head.collection import Collection
from stages.head.graph.cliques import neighbour_mean
from stages.head.heads import Draw, Spec
from stages.head.heads.gnn import Gnn, GnnConfig
from stages.head.settings import Between, setting
from stages.splits.regimes import Split


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(GnnConfig):
    """Beside the settings of GraphSAGE over the artist graph:

    Attributes
    ----------
    drop_edge : share of edges that are removed at each training step.
    """

    drop_edge: float = setting(0.3, least=0, below=1, search=Between(0.0, 0.8))


class DropEdge(Gnn):
    """GraphSAGE whose edges are removed at random, anew at every training step; scoring keeps all of them."""

    NAME = "dropedge"
    TITLE = "GraphSAGE with DropEdge"
    CITATION = "Rong, Huang, Xu and Huang, DropEdge: Towards Deep Graph Convolutional Networks, ICLR 2020"
    Config = Config

    def __init__(self, collection: Collection, x: Tensor, split: Split, spec: Spec) -> None:
        super().__init__(collection, x, split, spec)
        self._draw: Draw | None = None

    def start_epoch(self, nodes: Tensor, draw: Draw) -> None:
        """Neighbours are drawn among the edges that stay."""
        k, rate = self.config.neighbours, self.config.drop_edge
        self._table = self.graph.sample(nodes, k, draw.streams(nodes), rate) if k else None
        self._draw = draw

    def training_inputs(self, nodes: Tensor, places: Tensor) -> tuple[Tensor, ...]:
        rate = self.config.drop_edge
        if self._table is not None or self._draw is None or not rate:
            return super().training_inputs(nodes, places)
        edges = self.graph.all_neighbours(nodes, rate, self._draw.streams(nodes))
        return self.x[nodes], neighbour_mean(self.x, *edges)
