"""Engines that agree: the GraphSAGE head against plain DGL and PyTorch Geometric, number by number.

Graph, weights and sampled neighbours are the same on each side; what differs is who samples (DGL's
`NeighborSampler` on expanded edges, or `CliqueGraph.sample`) and who computes.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stages.head.graph import _dgl
from stages.head.graph.cliques import CliqueGraph, neighbour_mean, ragged
from stages.head.heads.gnn import _Network
from stages.head.random import bits
from tests.head.test_graph import ARTISTS, graph_of

pytestmark = pytest.mark.skipif(not _dgl.is_there(), reason="DGL's packages end at Python 3.11")

DIM, WIDTH, LABELS = 6, 4, 3
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
GRAPHS = {
    "mixed": ARTISTS,
    "artists of one song": list(range(12)),
    "unknown artists": [-1] * 9,
    "unknown beside known": [-1, 0, 0, -1, 0],
    "one pair": [0, 0],
    "5,000 songs": [-1, *[0] * 5000, 1],
}


class Case:
    """A graph, features and a network; ``nodes`` are those asked for, few where the artist is large."""

    def __init__(self, name: str) -> None:
        torch.manual_seed(0)
        self.graph: CliqueGraph = graph_of(GRAPHS[name])
        clips = self.graph.clips
        self.x = torch.randn(clips, DIM)
        self.network = _Network(DIM, WIDTH, LABELS, 0.5).eval()
        self.nodes = torch.arange(clips) if clips < 100 else torch.tensor([0, 1, 17, 2500, 5000, 5001])

    def expanded(self) -> Any:
        """The cliques' edges that end in ``nodes``, in DGL; 5,000 songs have 25 million in all."""
        flat, offsets = self.graph.all_neighbours(self.nodes)
        size = torch.diff(offsets, append=offsets.new_tensor([len(flat)]))
        return _dgl.load().graph((flat, self.nodes.repeat_interleave(size)), num_nodes=self.graph.clips)

    def ours(self, flat: Tensor, offsets: Tensor) -> Tensor:
        logits: Tensor = self.network(self.x[self.nodes], neighbour_mean(self.x, flat, offsets))
        return logits

    def finish(self, hidden: Tensor) -> Tensor:
        """From what an engine's SAGEConv gives to logits."""
        network = self.network
        logits: Tensor = network.classify(hidden + torch.cat([network.song.bias, network.neighbours.bias]))
        return logits

    def weights(self) -> tuple[Tensor, Tensor]:
        """The two halves as one SAGEConv has them: side by side, where SAGEConv adds up."""
        own, around = self.network.song.weight, self.network.neighbours.weight
        return torch.cat([own, torch.zeros_like(own)]), torch.cat([torch.zeros_like(around), around])


def by_dgl(case: Case, block: Any) -> Tensor:
    conv = _dgl.load().nn.SAGEConv(DIM, 2 * WIDTH, "mean", bias=False)
    own, around = case.weights()
    with torch.no_grad():
        conv.fc_self.weight.copy_(own)
        conv.fc_neigh.weight.copy_(around)
    rows = case.x[block.srcdata["_ID"]]
    return case.finish(conv(block, (rows, rows[: block.num_dst_nodes()])))


def by_pyg(case: Case, source: Tensor, target: Tensor) -> Tensor:
    from torch_geometric.nn import SAGEConv

    conv = SAGEConv((DIM, DIM), 2 * WIDTH, aggr="mean", bias=False)
    own, around = case.weights()
    with torch.no_grad():
        conv.lin_r.weight.copy_(own)
        conv.lin_l.weight.copy_(around)
    return case.finish(conv((case.x, case.x[case.nodes]), torch.stack([source, target])))


@pytest.mark.parametrize("k", [3, 8, -1])
@pytest.mark.parametrize("name", GRAPHS)
def test_on_neighbours_that_dgl_samples(name: str, k: int) -> None:
    case, dgl = Case(name), _dgl.load()
    _, seeds, (block,) = dgl.dataloading.NeighborSampler([k]).sample(case.expanded(), case.nodes)
    assert torch.equal(seeds, case.nodes)
    source, target = block.edges()
    order = torch.argsort(target, stable=True)
    source, target = block.srcdata["_ID"][source[order]], target[order]
    count = torch.bincount(target, minlength=len(seeds))
    degree = case.graph.degree[case.nodes]
    assert torch.equal(count, degree.clamp(max=k) if k > 0 else degree)
    ours = case.ours(source, count.cumsum(0) - count)
    torch.testing.assert_close(by_dgl(case, block), ours, **CLOSE)
    torch.testing.assert_close(by_pyg(case, source, target), ours, **CLOSE)
    if k < 0:  # what scoring takes for all neighbours, without an edge
        scored = case.network(case.x[case.nodes], case.graph.mean(case.x)[case.nodes])
        torch.testing.assert_close(scored, ours, **CLOSE)


@pytest.mark.parametrize("drop_edge", [0.0, 0.3])
@pytest.mark.parametrize("name", GRAPHS)
def test_on_neighbours_that_we_sample(name: str, drop_edge: float) -> None:
    case = Case(name)
    table = case.graph.sample(case.nodes, 8, bits(0, case.nodes), drop_edge)
    ours = case.ours(*ragged(table))
    target, column = (table >= 0).nonzero(as_tuple=True)
    source = table[target, column]
    expanded = _dgl.load().graph((source, case.nodes[target]), num_nodes=case.graph.clips)
    block = _dgl.load().to_block(expanded, case.nodes)
    torch.testing.assert_close(by_dgl(case, block), ours, **CLOSE)
    torch.testing.assert_close(by_pyg(case, source, target), ours, **CLOSE)


def test_gradients_agree() -> None:
    """One step of training would move the weights alike."""
    case = Case("mixed")
    table = case.graph.sample(case.nodes, 3, bits(0, case.nodes))
    case.ours(*ragged(table)).square().mean().backward()
    target, column = (table >= 0).nonzero(as_tuple=True)
    ours = {name: weight.grad.clone() for name, weight in case.network.named_parameters() if weight.grad is not None}
    assert ours["neighbours.weight"].any()
    from torch_geometric.nn import SAGEConv

    conv = SAGEConv((DIM, DIM), 2 * WIDTH, aggr="mean", bias=False)
    own, around = case.weights()
    conv.lin_r.weight, conv.lin_l.weight = nn.Parameter(own.detach()), nn.Parameter(around.detach())
    case.network.zero_grad()
    edges = torch.stack([table[target, column], target])
    case.finish(conv((case.x, case.x[case.nodes]), edges)).square().mean().backward()
    torch.testing.assert_close(conv.lin_r.weight.grad[:WIDTH], ours["song.weight"], **CLOSE)
    torch.testing.assert_close(conv.lin_l.weight.grad[WIDTH:], ours["neighbours.weight"], **CLOSE)
    torch.testing.assert_close(case.network.classify.output.weight.grad, ours["classify.output.weight"], **CLOSE)
