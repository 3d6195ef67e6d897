"""Closed forms over the artist graph against propagation step by step, and against PyTorch Geometric."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.head.collection import Collection
from stages.head.fit import count
from stages.head.heads import correct_and_smooth
from stages.head.heads.artist import Artist
from stages.head.heads.label_propagation import LabelPropagation
from stages.head.heads.random_features import RandomFeatures
from tests.head.conftest import bound, make_collection
from tests.head.test_graph import ARTISTS, artists, graph_of

STEPS = 400
WEIGHTS = {"atol": 1e-5, "rtol": 1e-5}  # PyTorch Geometric weighs its edges in float32


def dense(artist: list[int]) -> torch.Tensor:
    """The adjacency of the clique graph, normalised on both sides."""
    one = graph_of(artist).artist
    adjacent = ((one[:, None] == one[None, :]) & (one[:, None] >= 0)).double().fill_diagonal_(0)
    root = adjacent.sum(dim=1).clamp(min=1).rsqrt()
    return root[:, None] * adjacent * root[None, :]


@settings(max_examples=20)
@given(artists, st.floats(0.05, 0.95))
def test_propagation_is_the_inverse(artist: list[int], alpha: float) -> None:
    graph, y = graph_of(artist), torch.rand(len(artist), 3, dtype=torch.float64)
    expected = (1 - alpha) * torch.linalg.solve(torch.eye(len(artist)).double() - alpha * dense(artist), y)
    alone = graph.degree == 0
    expected[alone] = y[alone]
    torch.testing.assert_close(graph.propagate(y, alpha), expected)


def test_powers_with_self_loops_are_one_mean() -> None:
    """What `sgc` rests on: SIGN's blocks [x, S x, S S x, ...] hold the clip and its artist's mean, no more."""
    graph, x = graph_of(ARTISTS), torch.randn(len(ARTISTS), 4, dtype=torch.float64)
    once = graph.pooled(x)
    one = graph.artist
    looped = ((one[:, None] == one[None, :]) & (one[:, None] >= 0)).double().fill_diagonal_(1)
    torch.testing.assert_close(once, looped / looped.sum(dim=1, keepdim=True) @ x)
    torch.testing.assert_close(graph.pooled(once), once)


def test_correct_and_smooth_is_that_of_pyg() -> None:
    from torch_geometric.nn import CorrectAndSmooth

    torch.manual_seed(0)
    graph = graph_of(ARTISTS)
    edges = torch.stack(graph.clique_edges())
    score = torch.softmax(torch.randn(len(ARTISTS), 4, dtype=torch.float64), dim=1)
    labels = torch.eye(4, dtype=torch.float64)[torch.randint(4, (len(ARTISTS),))]
    train = torch.rand(len(ARTISTS)) < 0.5
    theirs = CorrectAndSmooth(STEPS, 0.9, STEPS, 0.8)
    linked = graph.degree > 0  # a clip without neighbours fades there, and keeps its score here
    size = correct_and_smooth.mean_error(score, labels, train)
    corrected = correct_and_smooth.correct(graph, score, labels, train, size, 0.9)
    expected = theirs.correct(score, labels[train], train, edges)
    torch.testing.assert_close(corrected[linked], expected[linked], **WEIGHTS)
    torch.testing.assert_close(corrected[~linked & ~train], score[~linked & ~train])
    smoothed = correct_and_smooth.smooth(graph, corrected.clamp(0, 1), labels, train, 0.8)
    expected = theirs.smooth(corrected.clamp(0, 1), labels[train], train, edges)
    torch.testing.assert_close(smoothed[linked], expected[linked], **WEIGHTS)
    torch.testing.assert_close(smoothed[~linked & ~train], score[~linked & ~train])


def test_without_training_labels_nothing_is_corrected() -> None:
    graph, score = graph_of(ARTISTS), torch.rand(len(ARTISTS), 3)
    nobody = torch.zeros(len(ARTISTS), dtype=torch.bool)
    nobody[0] = True  # one training clip, of an unknown artist: its error goes nowhere
    labels = torch.ones_like(score)
    size = correct_and_smooth.mean_error(score, labels, nobody)
    corrected = correct_and_smooth.correct(graph, score, labels, nobody, size, 0.9)
    torch.testing.assert_close(corrected[1:], score[1:])


def test_label_propagation_is_the_artists_share_of_its_training_clips() -> None:
    """With one clip a song the clips that are not trained on have the score of `artist`, where that has one."""
    data = make_collection(clips=1)
    part = data.split("random", 0)
    spread = count(LabelPropagation, data, part, LabelPropagation.Config())[0][""]
    share = next(iter(count(Artist, data, part, Artist.Config())[0].values()))
    taught = np.unique(data.artist[(part == 0) & (data.artist >= 0)])
    reached = np.isin(data.artist, taught)
    others = part != 0
    np.testing.assert_allclose(spread.score[others & reached], share.score[others & reached], atol=1e-6)
    left = spread.score[others & ~reached]
    assert len(left)
    np.testing.assert_allclose(left, np.broadcast_to(data.labels[part == 0].mean(axis=0), left.shape), atol=1e-6)


@pytest.mark.parametrize("clips", [1, 3])
def test_label_propagation_is_that_over_the_graph(clips: int) -> None:
    """Counts of each artist give what the closed form over the whole graph gives, also to training clips."""
    data = make_collection(songs=150, artists=40, clips=clips)
    part = data.split("random", 0)
    train = torch.from_numpy(part == 0).unsqueeze(1)
    labels = torch.from_numpy(data.labels) & train
    spread = data.graph.propagate(torch.cat([labels, train], dim=1).double(), 0.9)
    reached = spread[:, -1] > 0
    expected = spread[reached, :-1] / spread[reached, -1:]
    scores = count(LabelPropagation, data, part, LabelPropagation.Config())[0][""].score[reached.numpy()]
    np.testing.assert_allclose(scores, expected.numpy(), atol=1e-6)
    assert not reached.all()


def test_random_features_belong_to_the_clip_and_know_nothing(dataset: Collection) -> None:
    assert dataset.x is not None
    part = dataset.split("random", 0)
    one = bound(RandomFeatures, dataset, part).x
    torch.testing.assert_close(bound(RandomFeatures, replace(dataset, x=dataset.x * 2 + 1), part).x, one)
    half = np.arange(0, len(dataset), 2)
    torch.testing.assert_close(bound(RandomFeatures, dataset.select(half), part[half]).x, one[::2])
    correlation = np.corrcoef(one.T.numpy(), dataset.x.T.numpy())[:16, 16:]
    assert np.abs(correlation).max() < 0.2  # 1,000 clips: a deviation of 0.03


@pytest.mark.parametrize("name", ["correct-and-smooth", "label-propagation", "sgc"])
def test_works_where_no_artist_is_known(name: str) -> None:
    from tests.head.test_heads import predict

    data = make_collection(songs=120)
    data = replace(data, artist=np.full(len(data), -1))
    part = data.split("random", 0)
    prediction = predict(name, data, part)
    assert np.isfinite(prediction.score).all()
    if name == "correct-and-smooth":
        song = predict("song", data, part)
        np.testing.assert_allclose(prediction.score[part != 0], song.score[part != 0], atol=1e-6)
