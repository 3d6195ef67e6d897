"""The gated head: it trusts the artist where the artist tells, and the song where the artist misleads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages import registry
from stages.head.collection import Collection
from stages.head.fit import count
from stages.head.heads import CountedHead, Draw
from stages.head.heads._encoding import PiecewiseLinear, normal_edges, spread_edges
from stages.head.heads.artist import Artist
from stages.head.heads.gated import Gated
from stages.head.scores.task import task_of
from stages.head.testing import INFO, collection_of
from stages.splits.regimes import Split
from tests.head.conftest import bound, make_collection, train
from tests.head.test_graph import ARTISTS as MIXED

QUICK = {"hidden": 16, "epochs": 20, "batch": 128}
ARTISTS, SONGS, LABELS, DIM = 80, 2000, 4, 8


@pytest.fixture(scope="module")
def two_kinds() -> Collection:
    """Half of the artists keep to one label, the others have any; the representation shows a song's label in noise."""
    rng = np.random.default_rng(0)
    artist = np.sort(rng.integers(0, ARTISTS, SONGS))
    label = np.where(artist % 2 == 0, (artist // 2) % LABELS, rng.integers(0, LABELS, SONGS))
    targets = np.eye(LABELS, dtype=bool)[label]
    x = 2 * targets @ rng.standard_normal((LABELS, DIM)) + 2.8 * rng.standard_normal((SONGS, DIM))
    return collection_of(x, targets, artist)


def test_it_falls_back_on_the_song_where_the_artist_misleads(two_kinds: Collection) -> None:
    part = two_kinds.split("random", 0)
    tested = part == 2
    faithful = two_kinds.artist % 2 == 0
    right = {}
    for mode in ("song", "artist", "gated"):
        head = registry.find("head", mode)
        if mode == "artist":
            prediction = count(head, two_kinds, part, head.Config())[0]["most frequent"]
        else:
            trained = train(head, two_kinds, part, **QUICK)
            prediction = trained.prediction
        right[mode] = (prediction.decision == two_kinds.labels).all(axis=1).astype(float)
    means = {mode: (hits[tested & faithful].mean(), hits[tested & ~faithful].mean()) for mode, hits in right.items()}
    assert means["gated"][0] > means["artist"][0] - 0.02 > means["song"][0] + 0.1
    difference = (right["gated"] - right["song"])[tested & ~faithful]
    assert difference.mean() >= -0.05 - 2 * difference.std() / np.sqrt(len(difference))
    assert means["gated"][1] > means["artist"][1] + 0.1
    assert means["song"][1] > means["artist"][1] + 0.1
    weights = trained.state["pool.weights"]  # of the gated head, trained last: validation has told its experts apart
    assert float(weights.max()) > 2 * float(weights.min())


@pytest.mark.parametrize(
    ("decides", "expert", "regime"),
    [
        ("song", "song", "random"),
        ("song", "linear", "artist"),
        ("neighbours", "gnn", "artist"),
        ("labels", "label-propagation", "random"),
        ("nothing", "label-propagation", "random"),
    ],
)
def test_it_is_not_below_the_expert_that_knows(decides: str, expert: str, regime: str) -> None:
    """A song's own numbers, its neighbours' mean, its artist's labels, or chance decide; over three splits, since a
    test part has few artists, and the labels of an artist's songs go together.
    """
    rng = np.random.default_rng(1)
    artist = np.sort(rng.integers(0, 150, 1200))
    label, taste = rng.integers(0, 3, 1200), rng.integers(0, 3, 150)[artist]
    x = 2 * rng.standard_normal((1200, 6))
    if decides == "neighbours":
        label = taste
    elif decides == "labels":
        label = np.where(rng.random(1200) < 0.8, taste, label)
    if decides in ("song", "neighbours"):
        x[:, :3] += 2 * np.eye(3)[label]
    data = collection_of(x, np.eye(3, dtype=bool)[label], artist)
    differences, artists = [], []
    for seed in range(3):
        part = data.split(regime, seed)
        right = [_hits(mode, data, part)[part == 2] for mode in ("gated", expert)]
        differences.append(right[0].astype(float) - right[1])
        artists.append(data.artist[part == 2])
    difference = np.concatenate(differences)
    by_artist = np.bincount(np.concatenate(artists), difference - difference.mean())
    noise = 2 * np.sqrt(np.square(by_artist).sum()) / len(difference)  # two standard errors
    assert difference.mean() >= -noise - 0.005


def _hits(mode: str, data: Collection, part: Split) -> np.ndarray:
    """[clips] which clips' labels a mode is right about."""
    head = registry.find("head", mode)
    if issubclass(head, CountedHead):
        prediction = count(head, data, part, head.Config())[0][""]
    else:
        prediction = train(head, data, part, hidden=16, epochs=12, steps=4, batch=256).prediction
    hits: np.ndarray = (prediction.decision == data.labels).all(axis=1)
    return hits


def test_without_labels_of_the_artist_there_is_no_evidence(two_kinds: Collection) -> None:
    """Unknown artists, and those without a training song, leave the logits to the network that reads no labels."""
    part = two_kinds.split("artist", 0)
    some = np.flatnonzero(part == 2)[:5]
    artist = two_kinds.artist.copy()
    artist[some[:2]] = -1
    data = replace(two_kinds, artist=artist)
    head = bound(Gated, data, part, **QUICK)
    torch.manual_seed(0)
    network = head.build(head.spec).eval()
    nodes = torch.from_numpy(some)
    with torch.no_grad():
        before = network(*head.inputs(nodes))
        network.gate[-1].bias += 100.0
        torch.testing.assert_close(network(*head.inputs(nodes)), before, atol=1e-4, rtol=0)
        clips = torch.from_numpy(np.flatnonzero(part == 0)[:5])
        assert float(network(*head.inputs(clips)).abs().max()) > 10


def test_the_last_expert_hears_the_evidence_alone(two_kinds: Collection) -> None:
    """A constant, and for songs of an artist with labels the more of a label the more of the others carry it."""
    part = two_kinds.split("random", 0)
    artist = np.where(np.arange(SONGS) < 5, -1, two_kinds.artist)
    head = bound(Gated, replace(two_kinds, artist=artist), part, **QUICK)
    torch.manual_seed(0)
    network = head.build(head.spec).eval()
    network.pool.weights.copy_(torch.eye(6)[-1])
    inputs = head.inputs(torch.arange(SONGS))
    with torch.no_grad():
        gain = network(*inputs) - network.alone
        others = network(torch.zeros_like(inputs[0]), *inputs[1:]) - network.alone
    assert float(gain[:5].abs().max()) < 1e-5
    known, (counts, songs) = inputs[-1] > 0, inputs[-2:]
    more = counts / songs.unsqueeze(1) > network.prior + 0.1
    assert (gain[known][more[known]] > 0.01).all()
    assert int(more[known].sum()) > SONGS / 4
    assert torch.equal(gain > 0, others > 0)  # a song's own numbers change how far it goes, and not where


@pytest.mark.parametrize("inductive", [False, True])
def test_mean_and_deviation_are_those_of_the_artists_other_clips(inductive: bool) -> None:
    """The definition, clip by clip; zeros where there are no others."""
    data = replace(make_collection(songs=len(MIXED), clips=1), artist=np.array(MIXED))
    assert data.x is not None
    x, part = data.x.double(), data.split("random", 0)
    head = bound(Gated, replace(data, x=x), part, inductive=inductive)
    own, mean, deviation, degree, *_ = head.inputs(torch.arange(len(x)))
    assert torch.equal(own, x)
    for clip, artist in enumerate(MIXED):
        among = (data.artist == artist) & (artist >= 0) & (np.arange(len(x)) != clip) & ((part == 0) | (not inductive))
        others = x[torch.from_numpy(among)]
        expected = others if len(others) else torch.zeros_like(x[:1])
        assert degree[clip] == len(others)
        torch.testing.assert_close(mean[clip], expected.mean(dim=0), atol=1e-6, rtol=0)
        torch.testing.assert_close(deviation[clip], expected.std(dim=0, unbiased=False), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("regime", "share"), [("random", 0.05), ("artist", 0.95)])
def test_as_many_artists_are_hidden_as_validation_has_new_ones(
    two_kinds: Collection, regime: str, share: float
) -> None:
    head = bound(Gated, two_kinds, two_kinds.split(regime, 0), **QUICK)
    assert head.facts["hidden"] == share


def test_training_hides_the_labels_of_some_artists_anew_in_each_epoch(two_kinds: Collection) -> None:
    part = two_kinds.split("random", 0)
    head = bound(Gated, two_kinds, part, **QUICK)
    head.spec = replace(head.spec, facts={**head.facts, "hidden": 0.5})
    nodes = torch.from_numpy(np.flatnonzero(part == 0))
    artist = torch.from_numpy(two_kinds.artist)[nodes]
    known = head.inputs(nodes)
    assert (known[-1] > 0).all()
    epochs = []
    for epoch in (1, 2):
        head.start_epoch(nodes, Draw(epoch, head.rows))
        *_, counts, songs = head.training_inputs(nodes, torch.arange(len(nodes)))
        hidden = torch.zeros(ARTISTS, dtype=torch.bool)
        hidden[artist[songs == 0]] = True
        assert 0.3 < float(hidden.float().mean()) < 0.7
        visible = (~hidden[artist]).float()  # all clips of an artist alike
        assert torch.equal(songs, known[-1] * visible)
        assert torch.equal(counts, known[-2] * visible.unsqueeze(1))
        for one, other in zip(head.inputs(nodes), known, strict=True):
            assert torch.equal(one, other)
        epochs.append(hidden)
    assert 0.3 < float((epochs[0] ^ epochs[1]).float().mean()) < 0.7


@pytest.mark.parametrize("inductive", [False, True])
def test_an_epoch_shows_some_of_the_neighbours(two_kinds: Collection, inductive: bool) -> None:
    """Mean, deviation and number are those of clips that are drawn anew; some artists show all, some hardly any."""
    part = two_kinds.split("random", 0)
    head = bound(Gated, two_kinds, part, inductive=inductive, **QUICK)
    nodes = torch.from_numpy(np.flatnonzero(part == 0))
    everyone = head.inputs(nodes)[3]
    degrees = []
    for epoch in (1, 2):
        head.start_epoch(nodes, Draw(epoch, head.rows))
        x, mean, deviation, degree, *_ = head.training_inputs(nodes, torch.arange(len(nodes)))
        assert (degree <= everyone).all()
        share = degree / everyone
        assert 0.4 < float(share.mean()) < 0.8
        assert 0.05 < float((share == 1).float().mean()) < 0.5
        sources = torch.zeros(len(two_kinds), dtype=torch.bool)
        sources[head._shown.order] = True
        assert not inductive or not sources[torch.from_numpy(part != 0)].any()
        for place in (0, 5, 100):
            among = sources & (torch.from_numpy(two_kinds.artist == two_kinds.artist[nodes[place]]))
            among[nodes[place]] = False
            assert degree[place] == among.sum()
            if degree[place]:
                torch.testing.assert_close(mean[place], head.x[among].mean(dim=0), atol=1e-5, rtol=0)
                spread = head.x[among].std(dim=0, unbiased=False)
                torch.testing.assert_close(deviation[place], spread, atol=1e-3, rtol=0)
        assert torch.equal(x, head.x[nodes])
        degrees.append(degree)
    assert not torch.equal(*degrees)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 12), st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=8))
def test_the_parts_of_a_number_add_up_to_it(bins: int, numbers: list[float]) -> None:
    """So a linear layer over the parts can do all that one over the numbers can."""
    x = torch.tensor(numbers).unsqueeze(1)
    for edges in (normal_edges(bins), spread_edges(bins)):
        parts = PiecewiseLinear(edges)(x)
        assert parts.shape == (len(numbers), bins)
        total = x if bins == 1 else edges[0] + (parts * edges.diff()).sum(dim=1, keepdim=True)
        torch.testing.assert_close(total, x, atol=1e-3, rtol=1e-5)


CLIPS = st.tuples(st.integers(0, 3), st.integers(-1, 1), st.integers(-1, 2), st.integers(0, 7))


@settings(max_examples=60, deadline=None)
@given(st.lists(CLIPS, min_size=1, max_size=12))
def test_counts_are_those_of_other_songs_whatever_the_catalog_holds(clips: list[tuple[int, int, int, int]]) -> None:
    """Clips of a song that differ in artist, part and labels too; against the definition, clip by clip."""
    song, artist, part, sets = np.array([(0, 0, 0, 1), *clips]).T
    targets = (sets[:, None] >> np.arange(3) & 1).astype(bool)
    order = np.argsort(artist, kind="stable")
    song, artist, part, targets = song[order], artist[order], part[order], targets[order]
    places = np.arange(len(song))
    data = Collection(
        info=INFO,
        rows=places,
        x=torch.zeros(len(song), 2),
        labels=targets,
        label_names=("a", "b", "c"),
        task=task_of(targets),
        song=song,
        album=places,
        artist=artist,
        artist_ids=("0", "1", "2"),
        official=part.astype(np.int8),
        backbone="fcn-0123456789ab",
        left_out={},
    )
    head = bound(Gated, data, part.astype(np.int8))
    for clip in places.tolist():
        others = (artist == artist[clip]) & (artist >= 0) & (song != song[clip]) & (part == 0)
        songs = [targets[others & (song == other)].any(axis=0) for other in np.unique(song[others])]
        assert head.songs[clip] == len(songs)
        np.testing.assert_array_equal(head.counts[clip], np.sum(songs, axis=0) if songs else np.zeros(3))
    for prediction in count(Artist, data, part.astype(np.int8), Artist.Config())[0].values():
        assert ((prediction.score >= 0) & (prediction.score <= 1)).all()
