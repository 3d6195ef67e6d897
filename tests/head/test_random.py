"""Random numbers by counter: the published generator, and draws that hang on nothing but the clip."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from stages.head.graph.cliques import CliqueGraph
from stages.head.random import binomial, bits, key, normal, uniform
from tests.head.test_graph import artists, graph_of


def test_the_generator_is_splitmix64() -> None:
    """Against the first outputs of the reference implementation (Vigna, splitmix64.c) for the seed 1234567."""
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    numbers = torch.arange(5)
    for values in (
        bits(1234567, numbers),
        bits(torch.full((5,), 1234567), numbers),
        torch.stack([bits(torch.tensor(1234567), i) for i in range(5)]),
    ):
        assert [number % 2**64 for number in values.tolist()] == expected


def test_streams_are_uniform_and_apart() -> None:
    nodes = torch.arange(200_000)
    first, second = uniform(bits(key(0, 1), nodes)), uniform(bits(key(0, 2), nodes))
    assert key(0, "a") != key(0, "b")
    assert float(first.min()) >= 0
    assert float(first.max()) < 1
    for one in (first, second):
        assert stats.kstest(one.numpy(), "uniform").pvalue > 1e-4
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.012
    columns = uniform(bits(bits(key(3), nodes[:50_000]).unsqueeze(1), torch.arange(4)))
    off = torch.corrcoef(columns.T) - torch.eye(4, dtype=torch.float64)
    assert float(off.abs().max()) < 0.024


def test_normals_are_normal() -> None:
    numbers = normal(bits(key("normal"), torch.arange(200_000)))
    assert stats.kstest(numbers.numpy(), "norm").pvalue > 1e-4
    ends = normal(torch.tensor([0, -1]))  # all bits clear, all bits set
    assert ends.isfinite().all()
    assert float(ends[0]) < -8 < 8 < float(ends[1])


@pytest.mark.parametrize("p", [0.1, 0.7, 0.999])
def test_binomial_is_its_distribution(p: float) -> None:
    sizes = torch.tensor([0, 1, 5, 40])
    draws = binomial(sizes.repeat(50_000), p, bits(7, torch.arange(200_000))).view(-1, 4)
    for n, counts in zip(sizes.tolist(), draws.T, strict=True):
        expected = stats.binom.pmf(range(n + 1), n, p) * len(counts)
        observed = torch.bincount(counts, minlength=n + 1).numpy()
        common = expected > 5
        rare = ~common
        frequencies = [*observed[common], observed[rare].sum() + 1], [*expected[common], expected[rare].sum() + 1]
        assert stats.chisquare(*frequencies, sum_check=False).pvalue > 1e-4


@settings(max_examples=30)
@given(artists, st.integers(1, 9), st.sampled_from([0.0, 0.3]), st.randoms(use_true_random=False))
def test_a_clip_draws_the_same_in_any_batch(artist: list[int], k: int, drop_edge: float, random: object) -> None:
    graph = graph_of(artist)
    nodes = torch.arange(len(artist))
    streams = bits(0, nodes)
    table = graph.sample(nodes, k, streams, drop_edge)
    some = torch.tensor(random.sample(range(len(artist)), len(artist)))[: len(artist) // 2 + 1]  # type: ignore[attr-defined]
    assert torch.equal(graph.sample(some, k, streams[some], drop_edge), table[some])
    alone = [graph.all_neighbours(node, drop_edge, streams[node])[0] for node in some.split(1)]
    assert torch.equal(graph.all_neighbours(some, drop_edge, streams[some])[0], torch.cat(alone))


def test_an_artist_draws_the_same_in_a_part_of_the_collection() -> None:
    artist = torch.tensor([-1, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2])
    names = torch.arange(13) * 3
    graph, part = CliqueGraph(artist), CliqueGraph(artist[5:])
    nodes = torch.arange(5, 13)
    for drop_edge in (0.0, 0.4):
        samples = part.sample(nodes - 5, 3, bits(1, names[nodes]), drop_edge)
        expected = graph.sample(nodes, 3, bits(1, names[nodes]), drop_edge)
        assert torch.equal(torch.where(samples >= 0, samples + 5, -1), expected)
