"""Attention over the artist graph."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from stages.head.collection import Collection
from stages.head.heads import SCORING, Draw, NetworkInput, Spec
from stages.head.heads._layers import Classifier, width
from stages.head.heads._neighbours import NeighbourHead
from stages.head.heads.gnn import SageConfig
from stages.head.random import bits
from stages.head.settings import setting
from stages.splits.regimes import Split


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(SageConfig):
    """Beside the settings of a hidden layer and of neighbours:

    Attributes
    ----------
    attention_heads : how many there are; they share the hidden layer's width.
    most : neighbours that a clip looks at where the other settings say all.
    """

    attention_heads: int = setting(4, least=1, most=1024)
    most: int = setting(64, least=1, most=100_000)


class Gat(NeighbourHead):
    """The song beside what GATv2's four attention heads take from the artist's other clips.

    Attention has no closed form: it needs each edge, n (n - 1) for an artist of n clips. So a clip looks at a
    draw of its neighbours: as many as the settings say in training, anew in every epoch, and for scoring at
    ``neighbours_inference``, or at most 64, drawn once.

    On a GPU two trainings differ in their last digits, and may come to differ in more: PyTorch Geometric scatters the
    sums over edges, and the gradients of neighbours that several clips share, by atomic additions, in the order in
    which threads arrive. On a CPU equal arguments give equal results.
    """

    NAME = "gat"
    TITLE = "GATv2 attention over the artist graph"
    CITATION = "Brody, Alon and Yahav, How Attentive are Graph Attention Networks?, ICLR 2022"
    READS_ARTISTS = True
    BY_ARTIST = True
    IS_DIFFERENTIABLE = True
    Config = Config
    INPUTS = (
        *NeighbourHead.INPUTS,
        NetworkInput("neighbours", "the representations of all clips that are a neighbour of any", is_vector=True),
        NetworkInput("edges", "from which of these, above, to which of the clips, below"),
    )

    def __init__(self, collection: Collection, x: Tensor, split: Split, spec: Spec) -> None:
        super().__init__(collection, x, split, spec)
        self.graph = self.artist_graph()
        self._table = torch.empty(0)

    @classmethod
    def remark(cls, collection: Collection, config: Any, device: torch.device) -> str:
        limited = config.neighbours is None or config.neighbours_inference is None
        at_most = f"a clip looks at {config.most} neighbours at most"
        return at_most if limited and collection.graph.most > config.most else ""

    @staticmethod
    def build(spec: Spec) -> nn.Module:
        return _Network(spec.dim, width(spec), spec.outputs, spec.config.dropout, spec.config.attention_heads)

    def start_epoch(self, nodes: Tensor, draw: Draw) -> None:
        self._table = self.graph.sample(nodes, self.config.neighbours or self.config.most, draw.streams(nodes))

    def training_inputs(self, nodes: Tensor, places: Tensor) -> tuple[Tensor, ...]:
        return self._gather(nodes, self._table[places])

    def inputs(self, nodes: Tensor) -> tuple[Tensor, ...]:
        return self._gather(nodes, self._scored[nodes])

    @cached_property
    def _scored(self) -> Tensor:
        """[clips, k] the neighbours that scoring looks at."""
        nodes = torch.arange(len(self.x), device=self.x.device)
        k = self.config.neighbours_inference or self.config.most
        return self.graph.sample(nodes, k, bits(SCORING, self.rows))

    def _gather(self, nodes: Tensor, table: Tensor) -> tuple[Tensor, ...]:
        """The nodes' rows, the rows of all their neighbours, each once, and the edges from these to those."""
        target, column = (table >= 0).nonzero(as_tuple=True)
        clips, source = torch.unique(table[target, column], return_inverse=True)
        return self.x[nodes], self.x[clips], torch.stack([source, target])


class _Network(nn.Module):
    def __init__(self, dim: int, hidden: int, labels: int, dropout: float, heads: int) -> None:
        from torch_geometric.nn import GATv2Conv

        super().__init__()
        each = -(-hidden // heads)
        self.song = nn.Linear(dim, hidden)
        self.attend = GATv2Conv(dim, each, heads=heads, add_self_loops=False)
        self.classify = Classifier(hidden + heads * each, labels, dropout)

    def forward(self, x: Tensor, neighbours: Tensor, edges: Tensor) -> Tensor:
        logits: Tensor = self.classify(self.song(x), self.attend((neighbours, x), edges))
        return logits
