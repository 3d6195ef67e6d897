"""Graphs other than the artist's, and the heads on layers of PyTorch Geometric."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages import registry
from stages.head.collection import Collection
from stages.head.graph import neighbours
from stages.head.graph.cliques import CliqueGraph, Graph, neighbour_mean
from stages.head.graph.neighbours import ListedGraph, directions, nearest, nearly_nearest, similar
from stages.head.heads import Draw, TrainedHead
from stages.head.heads.gcnii import group_mean
from stages.head.heads.side_edges import bin_edges, binned, codes, column
from stages.head.random import bits
from store.errors import RequestError
from tests.head.conftest import CPU, bound, make_collection, options
from tests.head.test_graph import ARTISTS, artists, graph_of


def head_of(name: str, data: Collection, **changes: Any) -> TrainedHead:
    head: TrainedHead = bound(name, data, data.split("random", 0), **{"hidden": 10, "dropout": 0.0, **changes})
    return head


def remark_of(name: str, data: Collection, **changes: Any) -> str:
    remark: str = registry.find("head", name).remark(data, options(name, **changes)[0], CPU)
    return remark


def edges_of(graph: Graph, clips: int) -> set[tuple[int, int]]:
    flat, offsets = graph.all_neighbours(torch.arange(clips))
    bounds = [*offsets.tolist(), len(flat)]
    return {(i, j) for i in range(clips) for j in flat[bounds[i] : bounds[i + 1]].tolist()}


@settings(max_examples=20)
@given(st.integers(1, 12), st.sets(st.tuples(st.integers(0, 11), st.integers(0, 11))), st.integers(1, 6))
def test_a_listed_graph_is_its_edges(clips: int, edges: set[tuple[int, int]], k: int) -> None:
    edges = {(target, source) for target, source in edges if max(target, source) < clips}
    target, source = (torch.tensor([edge[i] for edge in edges], dtype=torch.int64) for i in (0, 1))
    graph, nodes = ListedGraph(source, target, clips), torch.arange(clips)
    assert edges_of(graph, clips) == edges
    x = torch.randn(clips, 3)
    flat, offsets = graph.all_neighbours(nodes)
    torch.testing.assert_close(graph.mean(x), neighbour_mean(x, flat, offsets))
    table = graph.sample(nodes, k, bits(0, nodes))
    assert (table >= 0).sum(dim=1).tolist() == graph.degree.clamp(max=k).tolist()
    samples = [(node, clip) for node, row in enumerate(table.tolist()) for clip in row if clip >= 0]
    assert len(set(samples)) == len(samples)
    assert set(samples) <= edges


def from_mean(x: torch.Tensor, train: int) -> torch.Tensor:
    """Directions from the mean of the first rows."""
    return directions(x, x[:train].mean(dim=0))


@pytest.mark.parametrize("block", [1, 70, 2**24])
def test_nearest_are_those_of_sklearn(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.neighbors import NearestNeighbors

    monkeypatch.setattr(neighbours, "_BLOCK", block)
    torch.manual_seed(0)
    unit = from_mean(torch.randn(60, 8) + 3, 40)
    graph = nearest(unit, 5)
    model = NearestNeighbors(n_neighbors=5, metric="cosine").fit(unit.numpy())
    expected = model.kneighbors(return_distance=False)
    assert edges_of(graph, 60) == {(i, int(j)) for i in range(60) for j in expected[i]}
    assert edges_of(nearest(unit[:3], 5), 3) == {(i, j) for i in range(3) for j in range(3) if i != j}
    assert not edges_of(nearest(unit[:1], 5), 1)


def clustered(clips: int, dim: int = 24) -> torch.Tensor:
    """Clips about 40 centres, as songs lie about styles."""
    generator = torch.Generator().manual_seed(0)
    centre = torch.randn(40, dim, generator=generator)[torch.randint(0, 40, (clips,), generator=generator)]
    return from_mean(centre + torch.randn(clips, dim, generator=generator), clips)


def test_the_approximate_index_finds_nearly_all() -> None:
    clips, k = 3000, 16
    unit = clustered(clips)
    threads = torch.get_num_threads()
    graph, expected = nearly_nearest(unit, k), nearest(unit, k)
    assert torch.get_num_threads() == threads
    assert (graph.degree <= k).all()
    edges = edges_of(graph, clips)
    assert all(i != j for i, j in edges)
    assert len(edges) == len(graph.source)
    assert len(edges & edges_of(expected, clips)) / (clips * k) > 0.97
    again = nearly_nearest(unit, k)
    assert torch.equal(again.source, graph.source)
    assert torch.equal(again.degree, graph.degree)
    order = torch.randperm(clips, generator=torch.Generator().manual_seed(1))
    moved = nearly_nearest(unit[order], k, order.argsort())  # the same clips in the same order, lying elsewhere
    assert {(int(order[i]), int(order[j])) for i, j in edges_of(moved, clips)} == edges


@pytest.mark.parametrize("clips", [1, 2, 5])
def test_the_approximate_index_of_few_clips(clips: int) -> None:
    everyone = {(i, j) for i in range(clips) for j in range(clips) if i != j}
    assert edges_of(nearly_nearest(clustered(clips), 16), clips) == everyone
    silent = torch.zeros(clips, 4)
    assert edges_of(nearly_nearest(silent, 16), clips) <= everyone


def test_knn_says_how_it_searched(dataset: Collection) -> None:
    remarks = {index: remark_of("knn", dataset, index=index) for index in ("exact", "approximate")}
    assert remarks == {"exact": "nearest clips found exactly", "approximate": "nearest clips found approximately"}
    assert remark_of("knn", dataset) == remarks["exact"]
    assert remark_of("knn", dataset, many=len(dataset)) == remarks["approximate"]
    assert remark_of("gnn", dataset) == ""


@pytest.mark.parametrize("block", [1, 100, 2**24])
def test_similar_edges_are_same_artist_edges_above_the_threshold(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_BLOCK", block)
    torch.manual_seed(0)
    graph, clips = graph_of(ARTISTS), len(ARTISTS)
    unit = from_mean(torch.randn(clips, 4), clips)
    cosine = unit @ unit.T
    expected = {(i, j) for i, j in edges_of(graph, clips) if cosine[i, j] > 0.2}
    assert edges_of(similar(graph, unit, 0.2, 100), clips) == expected
    few = edges_of(similar(graph, unit, 0.2, 3), clips)
    for i in range(clips):
        best = sorted((j for a, j in expected if a == i), key=lambda j: -float(cosine[i, j]))[:3]
        assert {j for a, j in few if a == i} == set(best)


def test_cluster_edges_are_the_artists_within_clusters(dataset: Collection) -> None:
    assert dataset.x is not None
    head = head_of("cluster-edges", dataset)
    graph = head.graph
    cell = neighbours.closest(dataset.x, head.facts["centroids"])
    assert 1 < len(cell.unique()) <= 8
    edges = edges_of(dataset.graph, len(dataset))
    assert edges_of(graph, len(dataset)) == {(i, j) for i, j in edges if cell[i] == cell[j]}


def test_clusters_are_those_of_sklearn(dataset: Collection) -> None:
    from sklearn.cluster import MiniBatchKMeans

    assert dataset.x is not None
    model = MiniBatchKMeans(8, batch_size=4096, n_init=3, random_state=0)
    labels = model.fit_predict(dataset.x.numpy())
    centroids = neighbours.clusters(dataset.x, torch.arange(len(dataset)), 8)
    np.testing.assert_array_equal(neighbours.closest(dataset.x, centroids), labels)


def test_side_edges_join_equal_values(dataset: Collection, capsys: pytest.CaptureFixture[str]) -> None:
    album = codes(column(dataset, "album"))
    assert ((album < 0) == (dataset.album < 0)).all()
    for code in np.unique(album[album >= 0])[:20]:
        assert len(np.unique(dataset.album[album == code])) == 1
    bpm = np.linspace(60, 200, len(dataset))
    bpm[:7] = np.nan
    code = codes(binned(bpm, bin_edges(bpm, 16)))
    assert (code[:7] == -1).all()
    assert (np.diff(code[7:]) >= 0).all()  # bins keep the order
    size = np.bincount(code[7:])
    assert len(size) == 16
    assert size.max() - size.min() <= 2
    equal = np.full(len(dataset), 120.0)
    assert (codes(binned(equal, bin_edges(equal, 16))) == 0).all()
    sided = replace(dataset, targets={"bpm": bpm})
    assert len(head_of("side-edges", sided, side="bpm", bins=4).facts["edges"]) == 3
    with pytest.raises(RequestError, match="Did you mean bpm"):
        head_of("side-edges", sided, side="bmp")
    for nowhere in (
        head_of("side-edges", replace(dataset, album=np.full(len(dataset), -1))),
        head_of("side-edges", replace(dataset, targets={"bpm": np.full(len(dataset), np.nan)}), side="bpm"),
    ):
        assert not nowhere.inputs(torch.arange(5))[1].any()
    message = capsys.readouterr().err
    assert "has no album" in message
    assert "has no bpm" in message


def test_sides_are_read_from_the_catalog() -> None:
    import pyarrow as pa

    from store.columns import targets

    class Catalog:
        def __init__(self, rows: list[list[tuple[str, float]] | None]) -> None:
            self.targets = pa.chunked_array([pa.array(rows, pa.map_(pa.string(), pa.float64())).slice(1)])

        def column(self, name: str) -> pa.ChunkedArray:
            return self.targets

        def __len__(self) -> int:
            return len(self.targets)

    sides = targets(Catalog([[("bpm", 1.0)], None, [("bpm", 100.0), ("year", 1990.0)], [], [("year", 2000.0)]]))
    np.testing.assert_array_equal(sides["bpm"], [np.nan, 100, np.nan, np.nan])
    np.testing.assert_array_equal(sides["year"], [np.nan, 1990, np.nan, 2000])
    assert targets(Catalog([None, None, None])) == {}


@settings(max_examples=20)
@given(artists)
def test_group_mean_is_the_mean_over_the_artist_and_itself(artist: list[int]) -> None:
    graph = graph_of(artist)
    alone = graph.artists + torch.arange(len(artist))
    group = torch.unique(torch.where(graph.artist >= 0, graph.artist, alone), return_inverse=True)[1]
    x = torch.randn(len(artist), 3)
    torch.testing.assert_close(group_mean(x, group, group), graph.pooled(x), atol=1e-5, rtol=1e-5)


def test_gcnii_is_that_of_pyg_on_expanded_cliques() -> None:
    """The layers by PyTorch Geometric's own propagation over all edges, symmetric norm and self-loops."""
    from torch_geometric.nn import GCN2Conv
    from torch_geometric.nn.conv.gcn_conv import gcn_norm

    data = make_collection(songs=80)
    head = head_of("gcnii", data)
    torch.manual_seed(0)
    network = head.build(head.spec).eval()
    edges, weight = gcn_norm(torch.stack(data.graph.clique_edges()), None, len(data), add_self_loops=True)
    with torch.no_grad():
        first = hidden = torch.relu(network.song(data.x))
        for layer in network.layers:
            theirs = GCN2Conv(10, alpha=layer.alpha, normalize=False)
            theirs.load_state_dict(layer.state_dict())
            theirs.beta = layer.beta
            hidden = torch.relu(theirs(hidden, first, edges, weight))
        expected = network.classify(hidden)
        everything = torch.arange(len(data))
        torch.testing.assert_close(network(*head.inputs(everything)), expected, atol=1e-5, rtol=1e-5)
        some = torch.tensor([5, 70, 3])  # out of order, a part of their artists
        torch.testing.assert_close(network(*head.inputs(some)), expected[some], atol=1e-5, rtol=1e-5)


def test_gat_sees_its_drawn_neighbours_and_no_others() -> None:
    from torch_geometric.nn import GATv2Conv

    data = make_collection(songs=80)
    head = head_of("gat", data)
    torch.manual_seed(0)
    network = head.build(head.spec).eval()
    assert isinstance(network.attend, GATv2Conv)
    everything = torch.arange(len(data))
    with torch.no_grad():
        ours = network(*head.inputs(everything))
        edges = torch.stack(data.graph.clique_edges())
        expected = network.classify(network.song(data.x), network.attend((data.x, data.x), edges))
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["gat", "gcnii", "gnn", "knn"])
@pytest.mark.parametrize("k", [3, None])
def test_all_neighbours_in_training_are_those_of_scoring(name: str, k: int | None) -> None:
    data = make_collection(songs=80)
    head = head_of(name, data, neighbours=k)
    torch.manual_seed(0)
    network = head.build(head.spec).eval()
    nodes = torch.tensor([4, 90, 17])
    head.start_epoch(nodes, Draw(0, head.rows))
    with torch.no_grad():
        training = network(*head.training_inputs(nodes, torch.arange(3)))
        scoring = network(*head.inputs(nodes))
    assert torch.allclose(training, scoring, atol=1e-5) == (k is None)


@pytest.mark.parametrize("name", [n for n in registry.names("head") if hasattr(registry.find("head", n), "build")])
def test_a_clip_alone_scores_as_among_others(name: str) -> None:
    data = make_collection(songs=80)
    unknown = replace(data, artist=np.full(len(data), -1), album=np.full(len(data), -1))
    for one in (data, unknown):
        head = head_of(name, one)
        network = head.build(head.spec).eval()
        with torch.no_grad():
            expected = network(*head.inputs(torch.arange(len(one))))
            alone = torch.cat([network(*head.inputs(torch.tensor([i]))) for i in (0, 50, len(one) - 1)])
        torch.testing.assert_close(alone, expected[[0, 50, -1]], atol=1e-5, rtol=1e-5)


def test_an_artist_graph_without_artists_has_no_similar_edges() -> None:
    graph = CliqueGraph(torch.full((4,), -1))
    assert not edges_of(similar(graph, torch.randn(4, 2), 0.0, 8), 4)


def test_attention_tells_where_it_looks_at_some_neighbours(dataset: Collection) -> None:
    crowd = replace(dataset, artist=np.sort(np.arange(len(dataset)) // 100))
    assert remark_of("gat", crowd) == "a clip looks at 64 neighbours at most"
    assert remark_of("gat", crowd, neighbours_inference=80) == ""
    few = replace(dataset, artist=np.sort(np.arange(len(dataset)) // 10))
    assert remark_of("gat", few) == ""
