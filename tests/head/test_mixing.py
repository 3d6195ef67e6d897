"""Training on a mixture of layers: the same numbers as reading all layers in every step, whatever the head."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from stages import registry
from stages.head import layers
from stages.head.collection import Collection
from stages.head.heads import Draw, TrainedHead
from stages.head.heads.gnn import Gnn
from stages.head.heads.song import Song
from stages.head.layers import Mixture
from stages.head.training import checkpoint, mixing
from stages.head.training.checkpoint import Checkpoint
from stages.head.training.loop import Loop
from stages.head.training.mixing import Mixing
from stages.head.training.stretches import Stretches
from store.files import Files
from tests.head.conftest import binder_of, make_collection, options, train

LAYERS, DIM, HEARD = 3, 8, 1
QUICK: dict[str, Any] = {"epochs": 3, "batch": 64, "hidden": 8, "members": 1, "checkpoints": 1}
HEADS: list[type[TrainedHead]] = [
    head
    for head in registry.load("head")[0].values()
    if issubclass(head, TrainedHead) and not head.penalties(head.Config())
]
LINEAR = [head for head in HEADS if head.IS_LINEAR]


@pytest.fixture(scope="module")
def collection() -> Collection:
    """A synthetic collection of three layers, of which one knows the labels."""
    plain = make_collection(dim=DIM, clips=1, multi=False, targets=("tempo",))
    assert plain.x is not None
    values = torch.randn(len(plain), LAYERS, DIM, generator=torch.Generator().manual_seed(0))
    values[:, HEARD] = plain.x
    stored: Any = SimpleNamespace(layers=LAYERS, dim=LAYERS * DIM)
    return replace(plain, x=values.flatten(1), stored=stored)


def mixture_of(head: type[TrainedHead], collection: Collection) -> Mixing:
    """A training that was not begun, with some weights over layers."""
    binder = binder_of(head, collection, collection.split("random", 0), **QUICK)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = layers.build(head, binder.spec)
    assert isinstance(network, Mixture)
    with torch.no_grad():
        network.layer_weights.copy_(torch.tensor([0.05, -0.1, 0.02]))
    return Mixing(binder, network, options(head, **QUICK)[1], seed=0)


def test_which_heads_may_mix_before_they_gather() -> None:
    names = {head.NAME for head in LINEAR}
    assert {"song", "gnn", "dropedge", "artist-embedding", "sgc"} <= names
    assert not names & {"gated", "knn", "similar-edges", "cluster-edges", "random-features"}


@pytest.mark.parametrize("head", LINEAR, ids=lambda head: head.NAME)
def test_gathering_the_mixture_is_mixing_what_was_gathered(head: type[TrainedHead], collection: Collection) -> None:
    loop = mixture_of(head, collection)
    loop.binder.mix(loop.network)
    mixed, unmixed = loop.heads(0)
    some, nodes = torch.arange(0, len(loop.train), 3)[:40], loop.train
    for one in (mixed, unmixed):
        one.start_epoch(nodes, Draw(7, loop.rows))
    for gather in (lambda one: one.training_inputs(nodes[some], some), lambda one: one.inputs(nodes[some])):
        for ours, theirs in zip(gather(mixed), gather(unmixed), strict=True):
            if ours.shape != theirs.shape:
                theirs = layers.mix(theirs, loop.network.shares, DIM)
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("head", [Song, Gnn])
def test_the_gradients_do_not_hang_on_which_steps_read_all_layers(
    head: type[TrainedHead], collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = []
    for every in (1, 1000):
        monkeypatch.setattr(mixing, "_EVERY", every)
        loop = mixture_of(head, collection)
        loop._epoch(1)
        weights.append(torch.cat([weight.flatten() for weight in loop.network.network.parameters()]))
    torch.testing.assert_close(*weights, atol=1e-4, rtol=0)


def test_weights_over_layers_move_along_the_gradient_of_the_mixture(collection: Collection) -> None:
    loop = mixture_of(Song, collection)
    before = loop.network.layer_weights.detach().clone()
    loop._epoch(1)
    assert torch.equal(loop.network.layer_weights, before), "they rest within an epoch"
    gradient = loop.layers.gradient.clone()
    assert gradient.abs().min() > 0
    loop._epoch(2)
    moved = loop.network.layer_weights.detach() - before
    assert torch.equal(moved.sign(), -gradient.sign())
    # Adam's first step is as long as its rate: here that of all steps of an epoch.
    steps = loop.passes * -(-len(loop.train) // loop.settings.batch)
    torch.testing.assert_close(moved.abs(), torch.full_like(moved, loop.optimizer.rate * steps), rtol=0.01, atol=0)


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head.NAME)
def test_every_head_mixes_layers(head: type[TrainedHead], collection: Collection) -> None:
    trained = train(head, collection, collection.split("random", 0), **QUICK)
    shares = layers.weights(trained.state)
    assert shares is not None
    assert len(shares) == LAYERS
    assert np.isfinite(trained.prediction.score).all()
    assert "layers by weight: " in trained.remark


@pytest.mark.parametrize("most", [None, 100])
def test_the_layer_that_knows_the_labels_is_found(collection: Collection, most: int | None) -> None:
    stretches = Stretches(collection, most=most)
    assert (len(stretches.stretches) == 1) is (most is None)
    trained = train(Song, collection, collection.split("random", 0), stretches=stretches, **QUICK | {"epochs": 20})
    shares = layers.weights(trained.state)
    assert shares is not None
    assert int(np.argmax(shares)) == HEARD
    assert shares[HEARD] > 0.5


def test_a_stopped_training_goes_on_to_the_same_bits(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "_EVERY_S", 0.0)
    split, advance = collection.split("random", 0), Loop.advance
    place = Checkpoint(Files(tmp_path), "unfinished.pt", "a training")
    whole = train(Gnn, collection, split, **QUICK)

    def stops(loop: Loop, progress: Any) -> None:
        if progress.epoch == 2:
            raise KeyboardInterrupt
        advance(loop, progress)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "advance", stops)
        with pytest.raises(KeyboardInterrupt):
            train(Gnn, collection, split, checkpoint=place, **QUICK)
    resumed = train(Gnn, collection, split, checkpoint=place, **QUICK)
    assert layers.weights(resumed.state) == layers.weights(whole.state)
    np.testing.assert_array_equal(resumed.prediction.score, whole.prediction.score)
