"""A deep graph convolution over the artist graph."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.head.collection import Collection
from stages.head.heads import Draw, NetworkInput, Spec
from stages.head.heads._layers import Classifier, Dropout, width
from stages.head.heads._neighbours import NeighbourConfig, NeighbourHead
from stages.head.settings import setting
from stages.splits.regimes import Split


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(NeighbourConfig):
    """Beside the settings of a hidden layer and of neighbours:

    Attributes
    ----------
    layers : how many there are.
    initial : the paper's alpha: the share of the first layer's output in every layer.
    theta : layer l's weights count log(theta / l + 1), the identity the rest.
    """

    layers: int = setting(4, least=1, most=1000)
    initial: float = setting(0.5, least=0, most=1)
    theta: float = setting(0.5, above=0)


class Gcnii(NeighbourHead):
    """Four GCNII layers: each mixes the artist's mean with the clip's first hidden vector.

    A training step sees the subgraph of its clips and their drawn neighbours; scoring sees whole artists. Either
    is a union of cliques, in which a layer's propagation (self-loops included) is the mean over a group: exact,
    and linear in clips at any depth. The rest of a layer is PyTorch Geometric's.

    On a GPU two trainings differ in their last digits, and may come to differ in more: the sums over groups, and the
    gradients of rows that several clips look up, are scattered by atomic additions, in the order in which threads
    arrive. On a CPU equal arguments give equal results.
    """

    NAME = "gcnii"
    TITLE = "four GCNII layers over the artist graph"
    CITATION = "Chen, Wei, Huang, Ding and Li, Simple and Deep Graph Convolutional Networks, ICML 2020"
    READS_ARTISTS = True
    BY_ARTIST = True
    IS_DIFFERENTIABLE = True
    INPUTS = (
        NetworkInput("clips", "any numbers; they count in training alone"),
        NetworkInput("x", "the representations of all clips of the artists that are asked about", is_vector=True),
        NetworkInput("group", "the artist of each, as a number from 0"),
        NetworkInput("nodes", "the places of the clips that are asked about"),
    )
    Config = Config

    def __init__(self, collection: Collection, x: Tensor, split: Split, spec: Spec) -> None:
        super().__init__(collection, x, split, spec)
        self.graph = self.artist_graph()
        # A clip of unknown artist is a group of its own.
        alone = self.graph.artists + torch.arange(len(x), device=x.device)
        self.group = torch.where(self.graph.artist >= 0, self.graph.artist, alone)
        self._table: Tensor | None = None

    @staticmethod
    def build(spec: Spec) -> nn.Module:
        return _Network(spec.dim, width(spec), spec.outputs, spec.config)

    def start_epoch(self, nodes: Tensor, draw: Draw) -> None:
        k = self.config.neighbours
        self._table = self.graph.sample(nodes, k, draw.streams(nodes)) if k else None

    def training_inputs(self, nodes: Tensor, places: Tensor) -> tuple[Tensor, ...]:
        if self._table is None:
            return self.inputs(nodes)
        table = self._table[places]
        return self._gather(nodes, torch.unique(torch.cat([nodes, table[table >= 0]])))

    def inputs(self, nodes: Tensor) -> tuple[Tensor, ...]:
        groups = torch.zeros(self.graph.artists + len(self.x), dtype=torch.bool, device=self.x.device)
        groups[self.group[nodes]] = True
        return self._gather(nodes, groups[self.group].nonzero().squeeze(1))

    def _gather(self, nodes: Tensor, clips: Tensor) -> tuple[Tensor, ...]:
        """``clips`` (sorted), their rows, the group of each, numbered from 0, and where the nodes are among them."""
        group = torch.unique(self.group[clips], return_inverse=True)[1]
        return clips, self.x[clips], group, torch.searchsorted(clips, nodes)


class _Network(nn.Module):
    def __init__(self, dim: int, hidden: int, labels: int, config: Config) -> None:
        super().__init__()
        self.song = nn.Linear(dim, hidden)
        self.layers = nn.ModuleList(_layers(hidden, config))
        self.dropout = Dropout(config.dropout)
        self.classify = Classifier(hidden, labels, config.dropout)

    def forward(self, clips: Tensor, x: Tensor, group: Tensor, nodes: Tensor) -> Tensor:
        first = hidden = F.relu(self.song(x))
        *inner, last = self.layers
        for layer in inner:
            hidden = F.relu(layer(self.dropout(hidden, clips), first, (group, group)))
        # What nobody asks for is not computed: the last layer's output is that of the nodes alone.
        hidden = F.relu(last(self.dropout(hidden, clips), first[nodes], (group, group[nodes])))
        logits: Tensor = self.classify(hidden)
        return logits


def _layers(hidden: int, config: Config) -> list[nn.Module]:
    """PyTorch Geometric's layers, whose propagation is taken in closed form."""
    from torch_geometric.nn import GCN2Conv

    class OverGroups(GCN2Conv):  # type: ignore[misc]
        def propagate(self, groups: tuple[Tensor, Tensor], x: Tensor, **_edges: object) -> Tensor:
            return group_mean(x, *groups)

    return [
        OverGroups(hidden, alpha=config.initial, theta=config.theta, layer=1 + i, normalize=False)
        for i in range(config.layers)
    ]


def group_mean(x: Tensor, group: Tensor, groups: Tensor) -> Tensor:
    """[groups, dim] the mean of ``x`` [clips, dim] over some groups; ``group`` [clips] says whose each clip is."""
    size = torch.bincount(group)
    total = x.new_zeros(size.shape[0], x.shape[1]).index_add(0, group, x)
    return (total / size.unsqueeze(1)).index_select(0, groups)
