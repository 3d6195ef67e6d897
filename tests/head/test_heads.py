"""Every head in the folder: the contract, and what is special to each."""

from __future__ import annotations

import ctypes
import typing
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from stages import registry
from stages.head.collection import Collection
from stages.head.fit import count, evaluate, fit
from stages.head.heads import Draw, Head
from stages.head.heads._layers import Dropout, DropoutMasks
from stages.head.heads.artist import Artist
from stages.head.heads.gnn import Gnn
from stages.head.options import resolve
from stages.head.random import bits
from stages.head.scores.prediction import Prediction
from stages.head.settings import Settings, keys
from stages.head.testing import HeadTests, through_a_store
from stages.head.training import stretches
from stages.head.training.threads import multiply_adds, takes_one_thread
from stages.memory import keep_freed_memory
from stages.splits.regimes import Split
from store.errors import EncoreError, RequestError
from tests.head.conftest import CPU, bound, make_collection, options, train

QUICK = {"hidden": 32, "epochs": 8, "batch": 64, "learning_rate": 3e-3}
HEADS = registry.names("head")
INDUCTIVE = [name for name in HEADS if "inductive" in keys(registry.find("head", name).Config)]


def predict(name: str, data: Collection, part: Split, **changes: Any) -> Prediction:
    """By the first of a head's rules."""
    head: type[Head] = registry.find("head", name)
    config, settings = options(head, **{**QUICK, **changes})
    return fit(head, data, part, config, settings, 0, CPU)[0].prediction


TARGETS: tuple[str, ...] = ()  # the numeric targets that some head reads unasked


@cache
def made(**options: Any) -> tuple[Collection, Split]:
    """A collection, and its first random split."""
    data = make_collection(**options)
    return data, data.split("random", 0)


class TestEveryHead(HeadTests):
    TARGETS = TARGETS

    @pytest.fixture(params=HEADS)
    def head(self, request: pytest.FixtureRequest) -> type[Head]:
        head: type[Head] = registry.find("head", request.param)
        return head


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("multi", [True, False])
def test_it_is_better_than_guessing(name: str, multi: bool) -> None:
    """But for the control."""
    data, part = made(multi=multi, targets=TARGETS)
    prediction = predict(name, data, part)
    if not multi:
        assert (prediction.decision.sum(axis=1) <= 1).all()
    main = data.task.main.name
    nothing = data.task.baseline(data.labels[part == 0], len(data))
    gain = evaluate(prediction, data, part)[main] - evaluate(nothing, data, part)[main]
    assert gain < 0.1 if name == "random-features" else gain > 0.1


def test_a_key_has_one_type_in_all_heads() -> None:
    types: dict[str, Any] = {}
    for name in HEADS:
        for key, hint in typing.get_type_hints(registry.find("head", name).Config).items():
            assert types.setdefault(key, hint) == hint, key


def test_artist_only_is_a_decision_tree() -> None:
    """With one label a song, a decision tree over the artist's id says what our table says."""
    data = make_collection(multi=False, clips=1)
    part = data.split("random", 0)
    prediction = count(Artist, data, part, Artist.Config())[0]["most frequent"]
    clips = np.isin(data.artist, data.artist[(part == 0) & (data.artist >= 0)]) & (data.artist >= 0)
    onehot = np.eye(int(data.artist.max()) + 1)
    known = data.artist >= 0
    truth = data.labels.argmax(axis=1)
    train = (part == 0) & known
    tree = DecisionTreeClassifier(random_state=0).fit(onehot[data.artist[train]], truth[train])
    share = tree.predict_proba(onehot[data.artist[clips]])
    np.testing.assert_allclose(prediction.score[clips][:, tree.classes_], share, atol=1e-6)
    clear = np.sort(share, axis=1)[:, -1] > np.sort(share, axis=1)[:, -2] + 1e-9
    np.testing.assert_array_equal(
        prediction.decision[clips][clear].argmax(axis=1), tree.classes_[share[clear].argmax(axis=1)]
    )
    assert not prediction.decision[~clips].any()


def test_artist_only_by_hand() -> None:
    data = make_collection(songs=5, artists=2, clips=2)
    song = np.repeat(np.arange(5), 2)
    labels = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1]], dtype=bool)
    data = replace(
        data,
        song=song,
        artist=np.repeat([0, 0, 0, 1, -1], 2),
        labels=labels[song],
        label_names=("a", "b", "c"),
        artist_ids=("one", "two"),
    )
    part = np.repeat(np.array([0, 0, 0, 2, 0], dtype=np.int8), 2)
    predictions = count(Artist, data, part, Artist.Config())[0]
    # Artist 0's songs carry a twice and b twice; over all training songs a and b tie too, so a comes first.
    assert predictions["most frequent"].decision[0].tolist() == [True, False, False]
    assert predictions["at least half"].decision[0].tolist() == [True, True, False]
    assert predictions["most frequent"].score[0].tolist() == pytest.approx([2 / 3, 2 / 3, 0])
    for rule in predictions.values():
        assert not rule.decision[6:].any()  # an artist without training songs, and an unknown one


def test_unseen_artists_have_the_zero_vector(dataset: Collection) -> None:
    part = dataset.split("artist", 0)
    head = bound("artist-embedding", dataset, part, **QUICK)
    network = head.build(head.spec)
    assert (head.vector[part != 0] == 0).all()
    assert (head.vector[(part == 0) & (dataset.artist >= 0)] > 0).all()
    assert not network.artist(head.vector[part != 0]).any()


def test_all_neighbours_in_training_are_the_exact_mean(dataset: Collection) -> None:
    part = dataset.split("random", 0)
    head = bound(Gnn, dataset, part, neighbours=None)
    nodes = torch.arange(len(dataset))
    head.start_epoch(nodes, Draw(0, head.rows))
    for ours, exact in zip(head.training_inputs(nodes, nodes), head.inputs(nodes), strict=True):
        torch.testing.assert_close(ours, exact)
    capped = bound(Gnn, dataset, part, neighbours_inference=10_000)
    torch.testing.assert_close(capped.inputs(nodes), head.inputs(nodes))
    two = bound(Gnn, dataset, part, neighbours_inference=2).inputs(nodes)[1]
    assert not torch.allclose(two, head.inputs(nodes)[1])


def test_drop_edge_changes_training_and_not_scoring(dataset: Collection) -> None:
    part = dataset.split("random", 0)
    head = bound("dropedge", dataset, part, neighbours=1000, drop_edge=0.3)
    nodes = torch.arange(300)
    draws = []
    for epoch in range(2):
        head.start_epoch(nodes, Draw(epoch, head.rows))
        draws.append(head.training_inputs(nodes, nodes)[1])
    assert not torch.equal(draws[0], draws[1])
    torch.testing.assert_close(head.inputs(nodes)[1], bound(Gnn, dataset, part).inputs(nodes)[1])


def test_early_stopping_keeps_the_best_epoch(dataset: Collection) -> None:
    part = dataset.split("random", 0)
    changes = {**QUICK, "epochs": 60, "patience": 3, "learning_rate": 0.05, "threshold": "fixed"}
    trained = train(registry.find("head", "song"), dataset, part, **changes)
    scores = [(epoch["validation"], -epoch["validation_loss"]) for epoch in trained.history]
    assert trained.best_epoch == 1 + scores.index(max(scores))
    assert len(scores) - trained.best_epoch >= 3
    assert len(scores) < 60
    assert trained.history[-1]["loss"] < trained.history[0]["loss"]
    best = evaluate(trained.prediction, dataset, np.where(part == 1, 2, -1))["micro_f1"]
    assert best == pytest.approx(max(scores)[0])


def test_checkpoints_of_one_training_are_its_best_epochs(dataset: Collection, tmp_path: Path) -> None:
    """They cost no other epoch, and come back from the files of a run as the networks of an ensemble do."""
    part = dataset.split("random", 0)
    changes = {**QUICK, "epochs": 12, "learning_rate": 0.05, "threshold": "fixed"}
    alone = train(registry.find("head", "song"), dataset, part, **changes)
    trained = train(registry.find("head", "song"), dataset, part, **changes, checkpoints=3)
    assert trained.history == alone.history
    assert torch.equal(trained.state["song.weight"], alone.state["song.weight"])
    ranks = [(epoch["validation"], -epoch["validation_loss"]) for epoch in trained.history]
    order = sorted(range(len(ranks)), key=lambda epoch: ranks[epoch], reverse=True)  # of equals the first
    assert [each.best_epoch - 1 for each in (trained, *trained.others)] == order[:3]
    head = registry.find("head", "song")
    settings, configs = resolve([head], {"epochs": "4", "hidden": "8", "checkpoints": "3"})
    (fitted,) = fit(head, dataset, part, configs[head], settings, 0, CPU)
    assert len(fitted.networks) == 3
    scores = np.mean([network.prediction.score for network in fitted.networks], axis=0)
    np.testing.assert_allclose(fitted.prediction.score, scores, atol=1e-6)
    restored = through_a_store(tmp_path, head, dataset, part, fitted)
    np.testing.assert_allclose(restored.score(dataset, part).score, fitted.prediction.score, atol=1e-6)


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


def test_standard_is_that_of_the_training_part(dataset: Collection) -> None:
    assert dataset.x is not None
    nodes = np.flatnonzero(dataset.split("random", 0) == 0)
    x = torch.cat([dataset.x * 1000 + 5, torch.full((len(dataset), 1), 3.3)], dim=1)
    shift, scale = stretches.standard(stretches.moments(x, nodes), len(nodes))
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
    keep_freed_memory(largest=1 << 25)
    before = heap()
    gradients = [torch.ones(1280, 1280) for _ in range(8)]
    during = heap()
    size = gradients[0].nbytes
    del gradients
    after = heap()
    assert during.mapped_bytes - before.mapped_bytes < size
    assert during.heap_bytes - after.heap_bytes < size


def test_training_that_cannot_be(dataset: Collection) -> None:
    song = registry.find("head", "song")
    part = dataset.split("random", 0)
    with pytest.raises(RequestError, match="validation part of this split is empty"):
        train(song, dataset, np.where(part == 1, 0, part).astype(np.int8), **QUICK)
    with pytest.raises(EncoreError, match="a lower learning rate"):
        train(song, dataset, part, **{**QUICK, "learning_rate": 1e30})
    wrong: tuple[dict[str, Any], ...] = (
        {"batch": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("inf")},
        {"decay": 1.5},
        {"gamma": float("nan")},
    )
    for setting in wrong:
        (name,) = setting
        with pytest.raises(RequestError, match=f"{name} is"):
            Settings(**setting)


@pytest.mark.parametrize("name", INDUCTIVE)
@pytest.mark.parametrize("neighbours_inference", [None, 3])
def test_inductive_scores_hear_no_other_test_clip(name: str, neighbours_inference: int | None) -> None:
    data, part = made(songs=200)
    assert data.x is not None
    loud = data.x.clone()
    nodes = np.flatnonzero(part == 2)
    loud[torch.from_numpy(nodes[1:])] += 100.0
    for inductive in (True, False):
        changes = {"inductive": inductive, "neighbours_inference": neighbours_inference, "epochs": 2}
        quiet, other = (predict(name, one, part, **changes).score for one in (data, replace(data, x=loud)))
        same = np.array_equal(quiet[nodes[0]], other[nodes[0]]) and np.array_equal(quiet[part == 1], other[part == 1])
        assert same == inductive


def test_arithmetic_counts_matrices_and_no_tables() -> None:
    network = nn.Sequential(nn.Embedding(1000, 7), nn.Linear(7, 11), nn.ReLU(), nn.Linear(11, 3))
    assert multiply_adds(network) == 7 * 11 + 11 * 3
    assert takes_one_thread(network, 512)
    assert not takes_one_thread(nn.Linear(3584, 3584), 512)
