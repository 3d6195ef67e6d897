"""Every head in the folder: the contract, and what is special to each."""

from __future__ import annotations

import ctypes
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.tree import DecisionTreeClassifier

from stages import registry
from stages.head.collection import Collection
from stages.head.fit import evaluate
from stages.head.heads import CountedHead, Draw, Head, TrainedHead
from stages.head.heads._layers import Dropout, DropoutMasks
from stages.head.heads.artist import Artist
from stages.head.heads.gnn import Gnn
from stages.head.random import bits
from stages.head.scores.prediction import Prediction
from stages.head.settings import Settings
from stages.head.training import loop as training
from stages.head.training import stretches as shards
from stages.head.training.threads import keep_freed_memory
from stages.splits.regimes import Split
from store.errors import EncoreError, RequestError
from tests.head.conftest import make_collection

SETTINGS = Settings(hidden=32, epochs=8, batch=64, learning_rate=3e-3)
HEADS = registry.names("head")
TRAINED = [name for name in HEADS if issubclass(registry.find("head", name), TrainedHead)]
INDUCTIVE = [name for name in HEADS if registry.find("head", name).INDUCTIVE]
CPU = torch.device("cpu")


def predict(name: str, data: Collection, part: Split, settings: Settings = SETTINGS, seed: int = 0) -> Prediction:
    head: type[Head] = registry.find("head", name)
    if issubclass(head, CountedHead):
        return next(iter(head().predict(data, part).values()))
    assert issubclass(head, TrainedHead)
    return training.train(head, data, part, settings, seed=seed, device=CPU).prediction


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("multi", [True, False])
def test_contract(name: str, multi: bool) -> None:
    """Every clip is scored once, in [0, 1], better than guessing (but for a control), and the same from a seed."""
    data = make_collection(multi=multi)
    part = data.split("random", 0)
    found = predict(name, data, part)
    assert found.score.shape == found.chosen.shape == data.targets.shape
    assert (found.score >= 0).all()
    assert (found.score <= 1).all()
    if not multi:
        assert (found.chosen.sum(axis=1) <= 1).all()
    again = predict(name, data, part)
    np.testing.assert_array_equal(found.score, again.score)
    main = "micro_f1" if multi else "accuracy"
    nothing = Prediction(np.zeros(data.targets.shape, dtype=np.float32), np.zeros(data.targets.shape, dtype=bool))
    nothing.chosen[:, data.targets[part == 0].mean(axis=0).argmax()] = True
    gain = evaluate(found, data, part)[main] - evaluate(nothing, data, part)[main]
    assert gain < 0.1 if name == "random-features" else gain > 0.1


@pytest.mark.parametrize("name", HEADS)
def test_the_order_of_clips_does_not_matter_to_the_artist_graph(name: str) -> None:
    """Clips of an artist need not lie together (songs that were added later lie behind)."""
    data = make_collection(songs=120)
    part = data.split("random", 0)
    head = registry.find("head", name)
    if not issubclass(head, TrainedHead):
        shuffled = np.random.default_rng(0).permutation(len(data))
        moved = _reorder(data, shuffled)
        np.testing.assert_allclose(
            predict(name, moved, part[shuffled]).score, predict(name, data, part).score[shuffled]
        )
        return
    shuffled = np.random.default_rng(0).permutation(len(data))
    moved = _reorder(data, shuffled)
    assert data.x is not None
    assert moved.x is not None
    torch.manual_seed(0)
    here = head(data, data.x, part, SETTINGS)
    network = here.build().eval()
    there = head(moved, moved.x, part[shuffled], SETTINGS)
    nodes = torch.arange(len(data))
    with torch.no_grad():
        one, two = network(*here.inputs(nodes)), network(*there.inputs(nodes))
    torch.testing.assert_close(two, one[torch.from_numpy(shuffled)], atol=1e-5, rtol=1e-5)


def _reorder(data: Collection, order: np.ndarray) -> Collection:
    assert data.x is not None
    return Collection(
        info=data.info,
        rows=data.rows[order],
        x=data.x[torch.from_numpy(order)],
        targets=data.targets[order],
        labels=data.labels,
        song=data.song[order],
        album=data.album[order],
        artist=data.artist[order],
        official=data.official[order],
        backbone=data.backbone,
        left_out={},
    )


def test_artist_only_is_a_decision_tree() -> None:
    """With one label a song, a decision tree over the artist's id says what our table says."""
    data = make_collection(multi=False, clips=1)
    part = data.split("random", 0)
    found = Artist().predict(data, part)["most frequent"]
    seen = np.isin(data.artist, data.artist[(part == 0) & (data.artist >= 0)]) & (data.artist >= 0)
    onehot = np.eye(int(data.artist.max()) + 1)
    known = data.artist >= 0
    truth = data.targets.argmax(axis=1)
    train = (part == 0) & known
    tree = DecisionTreeClassifier(random_state=0).fit(onehot[data.artist[train]], truth[train])
    share = tree.predict_proba(onehot[data.artist[seen]])
    np.testing.assert_allclose(found.score[seen][:, tree.classes_], share, atol=1e-6)
    clear = np.sort(share, axis=1)[:, -1] > np.sort(share, axis=1)[:, -2] + 1e-9
    np.testing.assert_array_equal(found.chosen[seen][clear].argmax(axis=1), tree.classes_[share[clear].argmax(axis=1)])
    assert not found.chosen[~seen].any()


def test_artist_only_by_hand() -> None:
    data = make_collection(songs=5, artists=2, clips=2)
    song = np.repeat(np.arange(5), 2)
    labels = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1]], dtype=bool)
    data = replace(
        data,
        song=song,
        artist=np.repeat([0, 0, 0, 1, -1], 2),
        targets=labels[song],
        labels=("a", "b", "c"),
    )
    part = np.repeat(np.array([0, 0, 0, 2, 0], dtype=np.int8), 2)
    found = Artist().predict(data, part)
    # Artist 0's songs carry a twice and b twice; over all training songs a and b tie too, so a comes first.
    assert found["most frequent"].chosen[0].tolist() == [True, False, False]
    assert found["at least half"].chosen[0].tolist() == [True, True, False]
    assert found["most frequent"].score[0].tolist() == pytest.approx([2 / 3, 2 / 3, 0])
    for rule in found.values():
        assert not rule.chosen[6:].any()  # an artist without training songs, and an unknown one


def test_unseen_artists_have_the_zero_vector(made: Collection) -> None:
    part = made.split("artist", 0)
    head = registry.find("head", "artist-embedding")(made, made.x, part, SETTINGS)
    network = head.build()
    assert (head.vector[part != 0] == 0).all()
    assert (head.vector[(part == 0) & (made.artist >= 0)] > 0).all()
    assert not network.artist(head.vector[part != 0]).any()


def test_all_neighbours_in_training_are_the_exact_mean(made: Collection) -> None:
    assert made.x is not None
    part = made.split("random", 0)
    head = Gnn(made, made.x, part, replace(SETTINGS, neighbours=None))
    nodes = torch.arange(len(made))
    head.start_epoch(nodes, Draw(None, 0.0, 0, head.names))
    for ours, exact in zip(head.training_inputs(nodes, nodes), head.inputs(nodes), strict=True):
        torch.testing.assert_close(ours, exact)
    capped = Gnn(made, made.x, part, replace(SETTINGS, neighbours_inference=10_000))
    torch.testing.assert_close(capped.inputs(nodes), head.inputs(nodes))
    two = Gnn(made, made.x, part, replace(SETTINGS, neighbours_inference=2)).inputs(nodes)[1]
    assert not torch.allclose(two, head.inputs(nodes)[1])


def test_drop_edge_changes_training_and_not_scoring(made: Collection) -> None:
    assert made.x is not None
    part = made.split("random", 0)
    head = registry.find("head", "dropedge")(made, made.x, part, SETTINGS)
    assert "drop_edge" in head.SETTINGS
    nodes = torch.arange(300)
    draws = []
    for _ in range(2):
        head.start_epoch(nodes, Draw(1000, 0.3, len(draws), head.names))
        draws.append(head.training_inputs(nodes, nodes)[1])
    assert not torch.equal(draws[0], draws[1])
    torch.testing.assert_close(head.inputs(nodes)[1], Gnn(made, made.x, part, SETTINGS).inputs(nodes)[1])


def test_early_stopping_keeps_the_best_epoch(made: Collection) -> None:
    part = made.split("random", 0)
    settings = replace(SETTINGS, epochs=60, patience=3, learning_rate=0.05)
    trained = training.train(registry.find("head", "song"), made, part, settings, seed=0, device=CPU)
    scores = [(epoch["validation"], -epoch["validation_loss"]) for epoch in trained.history]
    assert trained.best_epoch == 1 + scores.index(max(scores))
    assert len(scores) - trained.best_epoch >= 3
    assert len(scores) < 60
    assert trained.history[-1]["loss"] < trained.history[0]["loss"]
    best = evaluate(trained.prediction, made, np.where(part == 1, 2, -1))["micro_f1"]
    assert best == pytest.approx(max(scores)[0])


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5])
def test_dropout_keeps_its_rate_and_the_mean(rate: float) -> None:
    dropout, ones, nodes = Dropout(rate), torch.ones(1000, 401), torch.arange(1000)
    dropout.masks = DropoutMasks(bits(0, nodes), nodes)
    dropped = dropout(ones)
    zeros = (dropped == 0).double()
    # A share of 401,000 draws has a deviation of 0.0008; the rate itself is rounded by 1/512 at most.
    assert abs(float(zeros.mean()) - rate) < 0.006
    assert abs(float(dropped.mean()) - 1) < 0.006
    by_byte = zeros[:, :400].reshape(-1, 8).mean(dim=0)  # no byte of a word is drawn otherwise than others
    assert (by_byte - rate).abs().max() < 0.015
    assert rate == 0.0 or not torch.equal(dropout(ones), dropped)  # another layer's, or the same one's a second time
    some = torch.tensor([400, 3])  # a clip's mask is its own in any batch
    dropout.masks.calls = 0
    torch.testing.assert_close(dropout(ones[some], some), dropped[some], atol=0, rtol=0)
    assert Dropout(rate).eval()(ones) is ones


def test_standard_is_that_of_the_training_part(made: Collection) -> None:
    assert made.x is not None
    nodes = np.flatnonzero(made.split("random", 0) == 0)
    x = torch.cat([made.x * 1000 + 5, torch.full((len(made), 1), 3.3)], dim=1)
    shift, scale = shards.standard(shards.moments(x, nodes), len(nodes))
    inside = ((x - shift) * scale)[nodes]
    torch.testing.assert_close(inside[:, :-1].mean(dim=0), torch.zeros(16), atol=1e-4, rtol=0)
    torch.testing.assert_close(inside[:, :-1].std(dim=0, unbiased=False), torch.ones(16), atol=1e-4, rtol=0)
    assert not inside[:, -1].any()


class Heap(ctypes.Structure):
    """What mallinfo2(3) answers."""

    _fields_ = (
        ("heap_bytes", ctypes.c_size_t),
        *((name, ctypes.c_size_t) for name in ("free_pieces", "small_pieces", "mapped_pieces")),
        ("mapped_bytes", ctypes.c_size_t),
        *((f"other_{i}", ctypes.c_size_t) for i in range(5)),
    )


def heap() -> Heap:
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = Heap
    return mallinfo()  # type: ignore[no-any-return]


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="a C library without mallinfo2(3)")
def test_gradients_of_each_step_take_the_memory_of_the_last() -> None:
    """They lie in the heap, and the heap does not shrink when they are freed."""
    keep_freed_memory()
    before = heap()
    gradients = [torch.ones(1280, 1280) for _ in range(8)]
    during = heap()
    size = gradients[0].nbytes
    del gradients
    after = heap()
    assert during.mapped_bytes - before.mapped_bytes < size
    assert during.heap_bytes - after.heap_bytes < size


def test_training_that_cannot_be(made: Collection) -> None:
    song = registry.find("head", "song")
    part = made.split("random", 0)
    with pytest.raises(RequestError, match="validation part of this split is empty"):
        training.train(song, made, np.where(part == 1, 0, part).astype(np.int8), SETTINGS, seed=0, device=CPU)
    with pytest.raises(EncoreError, match="a lower learning rate"):
        training.train(song, made, part, replace(SETTINGS, learning_rate=1e30), seed=0, device=CPU)
    for wrong in ({"batch": 0}, {"dropout": 1.0}, {"learning_rate": 0.0}, {"decay": 1.5}, {"drop_edge": -0.1}):
        with pytest.raises(RequestError):
            Settings(**wrong)


@pytest.mark.parametrize("name", INDUCTIVE)
@pytest.mark.parametrize("neighbours_inference", [None, 3])
def test_inductive_scores_hear_no_other_test_clip(name: str, neighbours_inference: int | None) -> None:
    data = make_collection(songs=200)
    part = data.split("random", 0)
    assert data.x is not None
    loud = data.x.clone()
    nodes = np.flatnonzero(part == 2)
    loud[torch.from_numpy(nodes[1:])] += 100.0
    for inductive in (True, False):
        settings = replace(SETTINGS, inductive=inductive, neighbours_inference=neighbours_inference, epochs=2)
        quiet, other = (predict(name, held, part, settings).score for held in (data, replace(data, x=loud)))
        same = np.array_equal(quiet[nodes[0]], other[nodes[0]]) and np.array_equal(quiet[part == 1], other[part == 1])
        assert same == inductive
