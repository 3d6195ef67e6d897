"""Attention over the artist graph."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor, nn

from stages.head.collection import Collection
from stages.head.heads import SCORING, Draw, TrainedHead
from stages.head.heads._layers import Classifier
from stages.head.random import bits
from stages.head.settings import Settings
from stages.splits.regimes import Split

_HEADS = 4
_MOST = 64  # neighbours a clip looks at where the settings say "all"


class Gat(TrainedHead):
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
    READS_NEIGHBOURS = True
    SETTINGS = TrainedHead.SETTINGS | {"neighbours", "neighbours_inference"}
    BY_ARTIST = True

    def __init__(self, data: Collection, x: Tensor, part: Split, settings: Settings) -> None:
        super().__init__(data, x, part, settings)
        self.graph = data.graph.to(x.device)
        self._table = torch.empty(0)
        cut = settings.neighbours is None or settings.neighbours_inference is None
        if cut and self.whole[0].graph.most > _MOST:
            self.remark = f"a clip looks at {_MOST} neighbours at most"

    def build(self) -> nn.Module:
        return _Network(self.x.shape[1], self.hidden, self.labels, self.settings.dropout)

    def start_epoch(self, nodes: Tensor, draw: Draw) -> None:
        self._table = self.graph.sample(nodes, draw.k or _MOST, draw.streams(nodes))

    def training_inputs(self, nodes: Tensor, places: Tensor) -> tuple[Tensor, ...]:
        return self._gather(nodes, self._table[places])

    def inputs(self, nodes: Tensor) -> tuple[Tensor, ...]:
        return self._gather(nodes, self._drawn[nodes])

    @cached_property
    def _drawn(self) -> Tensor:
        """[clips, k] the neighbours that scoring looks at."""
        nodes = torch.arange(len(self.x), device=self.x.device)
        return self.graph.sample(nodes, self.settings.neighbours_inference or _MOST, bits(SCORING, self.names))

    def _gather(self, nodes: Tensor, table: Tensor) -> tuple[Tensor, ...]:
        """The nodes' rows, the rows of all their neighbours, each once, and the edges from these to those."""
        target, column = (table >= 0).nonzero(as_tuple=True)
        clips, source = torch.unique(table[target, column], return_inverse=True)
        return self.x[nodes], self.x[clips], torch.stack([source, target])


class _Network(nn.Module):
    def __init__(self, dim: int, hidden: int, labels: int, dropout: float) -> None:
        from torch_geometric.nn import GATv2Conv

        super().__init__()
        width = -(-hidden // _HEADS)
        self.song = nn.Linear(dim, hidden)
        self.attend = GATv2Conv(dim, width, heads=_HEADS, add_self_loops=False)
        self.classify = Classifier(hidden + _HEADS * width, labels, dropout)

    def forward(self, x: Tensor, neighbours: Tensor, edges: Tensor) -> Tensor:
        logits: Tensor = self.classify(self.song(x), self.attend((neighbours, x), edges))
        return logits
