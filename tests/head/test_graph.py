"""The artist graph against plain DGL, PyTorch Geometric and networks of edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.head.graph import _dgl
from stages.head.graph.cliques import CliqueGraph, neighbour_mean, ragged
from stages.head.graph.homophily import homophily
from stages.head.random import bits

# Isolated clips, artists of one clip, unknown artists, a large artist, clips of an artist apart from each other.
ARTISTS = [-1, 0, 1, 1, 2, 2, 2, -1, 3, *[4] * 50, 1, 5, 3, -1]

needs_dgl = pytest.mark.skipif(not _dgl.is_there(), reason="DGL's packages end at Python 3.11")
artists = st.lists(st.integers(-1, 6), min_size=1, max_size=60)


def graph_of(artist: list[int]) -> CliqueGraph:
    _, compact = np.unique([a for a in artist if a >= 0], return_inverse=True)
    codes = np.full(len(artist), -1)
    codes[np.asarray(artist) >= 0] = compact
    return CliqueGraph(torch.from_numpy(codes))


def slow_mean(artist: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The definition, clip by clip."""
    mean = torch.zeros_like(x)
    for i, a in enumerate(artist.tolist()):
        others = [j for j, b in enumerate(artist.tolist()) if b == a and j != i and a >= 0]
        if others:
            mean[i] = x[others].mean(dim=0)
    return mean


@settings(max_examples=20)
@given(artists)
def test_mean_is_the_mean_over_all_neighbours(artist: list[int]) -> None:
    graph = graph_of(artist)
    x = torch.randn(len(artist), 5)
    expected = slow_mean(graph.artist, x)
    torch.testing.assert_close(graph.mean(x), expected, atol=1e-5, rtol=1e-5)
    nodes = torch.arange(len(artist)).flip(0)
    torch.testing.assert_close(graph.means(x)(nodes), expected[nodes], atol=1e-5, rtol=1e-5)
    flat, offsets = graph.all_neighbours(torch.arange(len(artist)))
    torch.testing.assert_close(neighbour_mean(x, flat, offsets), expected, atol=1e-5, rtol=1e-5)


@needs_dgl
def test_sums_by_dgl_and_by_torch_are_the_same() -> None:
    graph, x = graph_of(ARTISTS), torch.randn(len(ARTISTS), 3)
    torch.testing.assert_close(graph._sums_by_dgl(x), graph._sums(x))
    expected = torch.stack([x[graph.artist == a].sum(dim=0) for a in range(graph.artists)])
    torch.testing.assert_close(graph.sums(x), expected)
    torch.testing.assert_close(graph.sums(x, squared=True), graph.sums(x * x))


@needs_dgl
def test_mean_is_two_hops_over_the_heterograph() -> None:
    """DGL alone: clip to artist and back, each hop a sum."""
    function, graph = _dgl.load().function, graph_of(ARTISTS)
    x, heterograph = torch.randn(len(ARTISTS), 3), graph.heterograph
    heterograph.nodes["clip"].data["x"] = x
    heterograph.update_all(function.copy_u("x", "m"), function.sum("m", "sum"), etype="by")
    heterograph.update_all(function.copy_u("sum", "m"), function.sum("m", "total"), etype="made")
    degree = graph.degree.unsqueeze(1)
    expected = (heterograph.nodes["clip"].data["total"] - x) / degree.clamp(min=1) * (degree > 0)
    torch.testing.assert_close(graph.mean(x), expected)


def test_mean_by_blocks_is_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, x = graph_of(ARTISTS), torch.randn(len(ARTISTS), 4, dtype=torch.float64)
    expected = graph.mean(x)
    monkeypatch.setattr("stages.head.graph.cliques._IN_CACHE", 3 * 4)
    torch.testing.assert_close(graph.mean(x), expected, atol=0, rtol=0)
    torch.testing.assert_close(expected, slow_mean(graph.artist, x))


def test_mean_leaves_the_features_alone() -> None:
    graph, x = graph_of(ARTISTS), torch.randn(len(ARTISTS), 3)
    before = x.clone()
    graph.mean(x)
    torch.testing.assert_close(x, before, atol=0, rtol=0)


def sage_halves(dim: int, width: int) -> tuple[torch.nn.Linear, torch.nn.Linear]:
    torch.manual_seed(0)
    return torch.nn.Linear(dim, width), torch.nn.Linear(dim, width)


@needs_dgl
def test_dgl_sage_conv_on_expanded_cliques() -> None:
    """[W_self x ; W_neighbours mean] is a SAGEConv whose two matrices are padded with zeros."""
    dgl = _dgl.load()
    graph, x = graph_of(ARTISTS), torch.randn(len(ARTISTS), 6)
    song, neighbours = sage_halves(6, 4)
    conv = dgl.nn.SAGEConv(6, 8, "mean", bias=False)
    with torch.no_grad():
        conv.fc_self.weight.copy_(torch.cat([song.weight, torch.zeros(4, 6)]))
        conv.fc_neigh.weight.copy_(torch.cat([torch.zeros(4, 6), neighbours.weight]))
        expected = conv(graph.clique(), x) + torch.cat([song.bias, neighbours.bias])
        ours = torch.cat([song(x), neighbours(graph.mean(x))], dim=1)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_pyg_sage_conv_on_expanded_cliques() -> None:
    from torch_geometric.nn import SAGEConv

    graph, x = graph_of(ARTISTS), torch.randn(len(ARTISTS), 6)
    song, neighbours = sage_halves(6, 4)
    conv = SAGEConv(6, 8, aggr="mean", bias=False)
    with torch.no_grad():
        conv.lin_r.weight.copy_(torch.cat([song.weight, torch.zeros(4, 6)]))
        conv.lin_l.weight.copy_(torch.cat([torch.zeros(4, 6), neighbours.weight]))
        expected = conv(x, torch.stack(graph.clique_edges())) + torch.cat([song.bias, neighbours.bias])
        ours = torch.cat([song(x), neighbours(graph.mean(x))], dim=1)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


@needs_dgl
def test_the_heterograph_has_one_edge_a_known_clip() -> None:
    graph = graph_of(ARTISTS)
    heterograph = graph.heterograph
    known = sum(a >= 0 for a in ARTISTS)
    assert heterograph.num_edges("by") == heterograph.num_edges("made") == known
    assert heterograph.num_nodes("clip") == len(ARTISTS)
    assert graph.clique().num_edges() == 2 * graph.edges
    assert graph.edges == sum(n * (n - 1) // 2 for n in np.bincount([a for a in ARTISTS if a >= 0]).tolist())


@settings(max_examples=20)
@given(artists, st.integers(1, 9), st.integers(0, 1000))
def test_a_sample_holds_distinct_neighbours_and_as_many_as_there_are(artist: list[int], k: int, seed: int) -> None:
    graph = graph_of(artist)
    nodes = torch.arange(len(artist))
    table = graph.sample(nodes, k, bits(seed, nodes))
    assert (table >= 0).sum(dim=1).tolist() == graph.degree.clamp(max=k).tolist()
    for node, row in enumerate(table.tolist()):
        neighbours = [clip for clip in row if clip >= 0]
        assert len(set(neighbours)) == len(neighbours)
        assert node not in neighbours
        assert all(graph.artist[clip] == graph.artist[node] for clip in neighbours)


def test_samples_are_uniform() -> None:
    graph = CliqueGraph(torch.tensor([0] * 7 + [1] * 3))
    rounds, k = 20_000, 3
    table = graph.sample(torch.full((rounds,), 2), k, bits(0, torch.arange(rounds)))
    share = torch.bincount(table.flatten(), minlength=10).double() / rounds
    expected = torch.tensor([0.5, 0.5, 0, 0.5, 0.5, 0.5, 0.5, 0, 0, 0], dtype=torch.float64)
    # The deviation of a share of 20,000 draws is 0.0035; five of them make a false alarm one in a million.
    assert (share - expected).abs().max() < 0.018


def test_drop_edge_drops_at_its_rate_and_anew() -> None:
    graph = CliqueGraph(torch.zeros(101, dtype=torch.int64))
    nodes = torch.arange(101).repeat(40)
    streams = bits(0, torch.arange(len(nodes)))
    samples = graph.sample(nodes, 100, streams, drop_edge=0.3)
    rate = (samples >= 0).double().mean()
    assert abs(float(rate) - 0.7) < 0.005  # 404,000 edges: a deviation of 0.0007
    assert not torch.equal(samples, graph.sample(nodes, 100, bits(1, torch.arange(len(nodes))), drop_edge=0.3))
    # With few neighbours wanted, the number left is min(k, Binomial(degree, 0.7)).
    few = CliqueGraph(torch.zeros(6, dtype=torch.int64))
    left = (few.sample(torch.zeros(40_000, dtype=torch.int64), 4, bits(0, torch.arange(40_000)), 0.3) >= 0).sum(dim=1)
    binomial = torch.distributions.Binomial(5, torch.tensor(0.7))
    odds = binomial.log_prob(torch.arange(6.0)).exp()
    expected = torch.cat([odds[:4], odds[4:].sum().unsqueeze(0)])
    shares = torch.bincount(left, minlength=5) / len(left)
    assert (shares - expected).abs().max() < 0.0125
    flat, offsets = graph.all_neighbours(nodes, 0.3, streams)
    assert abs(len(flat) / (len(nodes) * 100) - 0.7) < 0.005
    assert len(offsets) == len(nodes)


def test_ragged_is_the_table_without_its_padding() -> None:
    flat, offsets = ragged(torch.tensor([[3, 4, -1], [-1, -1, -1], [5, -1, -1]]))
    assert flat.tolist() == [3, 4, 5]
    assert offsets.tolist() == [0, 2, 2]


def test_a_graph_without_edges_or_artists() -> None:
    for artist in (torch.full((4,), -1), torch.arange(4)):
        graph = CliqueGraph(artist)
        assert graph.edges == 0
        assert not graph.mean(torch.randn(4, 2)).any()
        assert (graph.sample(torch.arange(4), 3, torch.arange(4)) == -1).all()


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(-1, 3), st.sets(st.integers(0, 3))), min_size=1, max_size=30))
def test_homophily_is_the_mean_over_edges(clips: list[tuple[int, set[int]]]) -> None:
    artist = np.array([a for a, _ in clips])
    targets = np.array([[label in labels for label in range(4)] for _, labels in clips])
    edges = [(x, y) for i, (a, x) in enumerate(clips) for j, (b, y) in enumerate(clips) if i != j and a == b and a >= 0]
    result = homophily(artist, targets)
    if not edges:
        assert result == {"exact": None, "jaccard": None, "any": None}
        return
    assert result["exact"] == pytest.approx(np.mean([x == y for x, y in edges]))
    assert result["jaccard"] == pytest.approx(np.mean([len(x & y) / len(x | y) if x | y else 1 for x, y in edges]))
    assert result["any"] == pytest.approx(np.mean([bool(x & y) for x, y in edges]))


def test_homophily_of_one_large_artist() -> None:
    """5,000 songs of one artist with many sets of labels, against DGL-free counting of equal pairs."""
    rng = np.random.default_rng(0)
    targets = rng.random((5000, 12)) < 0.3
    result = homophily(np.zeros(5000, dtype=np.int64), targets)
    codes = targets @ (1 << np.arange(12))
    same = sum(n * (n - 1) for n in np.bincount(codes).tolist())
    assert result["exact"] == pytest.approx(same / (5000 * 4999))


@pytest.mark.parametrize("seed", range(4))
def test_only_sources_are_neighbours(seed: int) -> None:
    """Against the definition: the mean over the sources of the same artist, the clip itself left out."""
    rng = np.random.default_rng(seed)
    artist = torch.from_numpy(rng.integers(-1, 6, 60))
    sources = torch.from_numpy(rng.random(60) < 0.6)
    x = torch.from_numpy(rng.standard_normal((60, 3)).astype(np.float32))
    graph = CliqueGraph(artist, sources)
    alike = (
        (artist[:, None] == artist[None]) & (artist >= 0)[:, None] & sources[None] & ~torch.eye(60, dtype=torch.bool)
    )
    np.testing.assert_array_equal(graph.degree, alike.sum(dim=1))
    expected = (alike.float() @ x) / alike.sum(dim=1, keepdim=True).clamp(min=1)
    torch.testing.assert_close(graph.mean(x), expected)
    if _dgl.is_there():
        torch.testing.assert_close(graph._sums_by_dgl(x), graph._sums(x))
    nodes = torch.arange(60)
    torch.testing.assert_close(graph.means(x)(nodes), expected)
    flat, offsets = graph.all_neighbours(nodes)
    torch.testing.assert_close(neighbour_mean(x, flat, offsets), expected)
    table = graph.sample(nodes, 3, bits(seed, nodes))
    for node, row in enumerate(table.tolist()):
        neighbours = [clip for clip in row if clip >= 0]
        assert len(neighbours) == len(set(neighbours)) == min(3, int(alike[node].sum()))
        assert all(alike[node, clip] for clip in neighbours)
