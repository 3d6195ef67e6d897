"""Training on a mixture of layers: the same numbers as reading all layers in every step, whatever the head."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stages import registry
from stages.head import layers
from stages.head.collection import Collection
from stages.head.graph import _dgl
from stages.head.heads import Draw, TrainedHead
from stages.head.heads.cluster_edges import ClusterEdges
from stages.head.heads.gated import Gated
from stages.head.heads.gnn import Gnn, Sage
from stages.head.heads.knn import Knn
from stages.head.heads.linear import Linear
from stages.head.heads.random_features import RandomFeatures
from stages.head.heads.sgc import Sgc
from stages.head.heads.similar_edges import SimilarEdges
from stages.head.heads.song import Song
from stages.head.layers import Mixture
from stages.head.training import checkpoint, mixing, solved, solver
from stages.head.training.adam import Adam
from stages.head.training.checkpoint import Checkpoint
from stages.head.training.loop import Loop
from stages.head.training.mixing import Mixing, SolvedMixing
from stages.head.training.stretches import Stretches
from store.files import Files
from tests.head.conftest import binder_of, make_collection, options, train

LAYERS, DIM, HEARD = 3, 8, 1
QUICK: dict[str, Any] = {"epochs": 3, "batch": 64, "hidden": 8, "members": 1, "checkpoints": 1}
HEADS: list[type[TrainedHead]] = [head for head in registry.load("head")[0].values() if issubclass(head, TrainedHead)]
MIXED_FIRST = [head for head in HEADS if head.IS_DIFFERENTIABLE and not head.penalties(head.Config())]


@pytest.fixture(scope="module")
def collection() -> Collection:
    """A synthetic collection of three layers, of which one knows the labels."""
    plain = make_collection(dim=DIM, clips=1, multi=False, targets=("tempo",))
    assert plain.x is not None
    values = torch.randn(len(plain), LAYERS, DIM, generator=torch.Generator().manual_seed(0))
    values[:, HEARD] = plain.x
    stored: Any = SimpleNamespace(layers=LAYERS, dim=LAYERS * DIM)
    return replace(plain, x=values.flatten(1), stored=stored)


def at_rest() -> Adam:
    """An optimiser that moves nothing of the network, whose gradients add up over the steps."""
    return Adam([torch.nn.Parameter(torch.zeros(1))], 0.0)


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
    names = {head.NAME for head in MIXED_FIRST}
    assert {"song", "gnn", "dropedge", "artist-embedding", "sgc", "gated"} <= names
    assert {"knn", "similar-edges", "cluster-edges", "random-features"} <= names


@pytest.mark.parametrize(
    "head", [head for head in MIXED_FIRST if head is not RandomFeatures], ids=lambda head: head.NAME
)
def test_the_gradient_of_the_weights_is_that_of_a_head_on_the_mixture(
    head: type[TrainedHead], collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against one graph from the weights to the loss, over all steps of an epoch in which no other weight moves."""
    monkeypatch.setattr(mixing, "_EVERY", 1)
    loop, plain = (mixture_of(head, collection) for _ in range(2))
    loop.optimizer = at_rest()
    loop._epoch(1)
    network, binder = plain.network.train(), plain.binder

    class Whole(Loop):
        """The same steps through a head that is bound with the weights' graph behind its representations."""

        def gather(self, head: TrainedHead, nodes: Tensor, places: Tensor) -> tuple[Tensor, ...]:
            layered = binder.layers(0).unflatten(1, (LAYERS, DIM))
            x = torch.einsum("nld,l->nd", layered, network.shares)
            bound = head.reading(x)
            bound.start_epoch(self.train, self.draw)
            return bound.training_inputs(nodes, places)

        def _train(self, number: int, draw: Draw) -> Tensor:
            self.draw = draw
            return super()._train(number, draw)

    whole = Whole(binder, network, plain.settings, seed=0)
    whole.optimizer = at_rest()
    binder.mix(network)
    whole._epoch(1)
    assert network.layer_weights.grad is not None
    torch.testing.assert_close(loop.layers.gradient, network.layer_weights.grad, atol=1e-5, rtol=1e-3)
    assert loop.layers.gradient.abs().max() > 1e-4


@pytest.mark.parametrize("head", [Knn, SimilarEdges, ClusterEdges])
def test_similar_clips_are_found_once_on_all_layers(head: type[TrainedHead], collection: Collection) -> None:
    """What is gathered of the mixture is the mixture of what is gathered of all layers, however the weights move."""
    loop = mixture_of(head, collection)
    network, binder, nodes = loop.network.eval(), loop.binder, torch.arange(len(collection))
    whole = binder(0)
    assert isinstance(whole, Sage)
    for weights in (network.layer_weights.detach().clone(), torch.tensor([0.3, 0.0, -0.3])):
        with torch.no_grad():
            network.layer_weights.copy_(weights)
        binder.mix(network)
        bound = binder(0)
        assert isinstance(bound, Sage)
        assert torch.equal(bound.graph.degree, whole.graph.degree)
        for mixed, layered in zip(bound.inputs(nodes), whole.inputs(nodes), strict=True):
            torch.testing.assert_close(mixed, network.mix(layered)[0], atol=1e-5, rtol=1e-5)
        assert binder(0) is bound, "the weights rest"


def test_random_vectors_are_drawn_once_and_say_nothing_of_layers(collection: Collection) -> None:
    loop = mixture_of(RandomFeatures, collection)
    vectors = []
    for epoch in (1, 2):
        loop._epoch(epoch)
        vectors.append(loop.binder(0).x)
        assert not loop.layers.gradient.any()
    assert vectors[0] is vectors[1]
    assert vectors[0].shape == (len(collection), DIM)


@pytest.mark.parametrize("head", [Song, Gnn, Gated])
def test_the_network_does_not_hang_on_which_steps_ask_for_the_gradient(
    head: type[TrainedHead], collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = []
    for every in (1, 1000):
        monkeypatch.setattr(mixing, "_EVERY", every)
        loop = mixture_of(head, collection)
        loop._epoch(1)
        weights.append(torch.cat([weight.flatten() for weight in loop.network.network.parameters()]))
    assert torch.equal(*weights)


def test_weights_over_layers_move_along_the_gradient_of_the_mixture(collection: Collection) -> None:
    loop = mixture_of(Song, collection)
    before = loop.network.layer_weights.detach().clone()
    loop._epoch(1)
    assert torch.equal(loop.network.layer_weights, before), "they rest within an epoch"
    gradient = loop.layers.gradient.clone()
    assert gradient.abs().min() > 0
    loop._epoch(2)
    assert not loop.layers.gradient.any(), "it was used up, and nothing asked for another"
    moved = loop.network.layer_weights.detach() - before
    assert torch.equal(moved.sign(), -gradient.sign())
    # Adam's first step is as long as its rate: here that of all steps of two epochs.
    steps = 2 * loop.passes * -(-len(loop.train) // loop.settings.batch)
    loop._epoch(3)
    assert torch.equal(loop.network.layer_weights.detach() - before, moved), "they rest for two epochs"
    assert loop.layers.gradient.abs().max() > 0
    torch.testing.assert_close(moved.abs(), torch.full_like(moved, loop.optimizer.rate * steps), rtol=0.01, atol=0)


def test_weights_of_a_solved_head_follow_the_loss_of_its_solution(collection: Collection) -> None:
    """Against the change of the least loss, penalty included, where the weights are moved a little by hand."""
    split, penalty = collection.split("random", 0), 1e-3
    changes: dict[str, Any] = {"l2": penalty}
    least, step = [], 0.002
    for place in range(-1, LAYERS):
        binder = binder_of(Linear, collection, split, **changes)
        network = layers.build(Linear, binder.spec)
        assert isinstance(network, Mixture)
        with torch.no_grad():
            network.layer_weights.copy_(torch.tensor([0.05, -0.1, 0.02]))
            if place >= 0:
                network.layer_weights[place] += step
        loop = SolvedMixing(binder, network, options(Linear, **changes)[1], seed=0)
        loss = loop._epoch(1) * loop.terms + penalty / 2 * float(loop.layer.weight.detach().square().sum())
        least.append(loss)
        if place < 0:
            gradient = loop.layers.gradient * loop.terms / len(loop.train)
    slopes = [(moved - least[0]) / step for moved in least[1:]]
    np.testing.assert_allclose(gradient.numpy(), slopes, rtol=0.1, atol=0.01 * np.abs(slopes).max())


def test_a_solved_head_is_solved_on_the_mixture_as_it_is(collection: Collection) -> None:
    """Not on that of the penalty before: it comes to what one comes to that begins with these weights."""
    binders = [binder_of(Linear, collection, collection.split("random", 0), l2=1e-3) for _ in range(2)]
    loop, fresh = (
        SolvedMixing(binder, layers.build(Linear, binder.spec), options(Linear, l2=1e-3)[1], seed=0)
        for binder in binders
    )
    loop._epoch(1)
    loss = loop._epoch(2)
    with torch.no_grad():
        fresh.network.layer_weights.copy_(loop.network.layer_weights)
    assert loss == pytest.approx(fresh._epoch(1), rel=1e-3)
    torch.testing.assert_close(loop.layer.weight, fresh.layer.weight, atol=1e-2, rtol=1e-2)


def test_every_stretch_tells_of_its_clips_once_an_epoch(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    keep = mixing._LayerWeights.keep

    def counted(self: Any, gradient: Tensor, clips: Tensor, of_layers: Tensor) -> None:
        seen.append(len(of_layers))
        keep(self, gradient, clips, of_layers)

    monkeypatch.setattr(mixing._LayerWeights, "keep", counted)
    stretches = Stretches(collection, most=100)
    split = collection.split("random", 0)
    train(Song, collection, split, stretches=stretches, **QUICK | {"epochs": 1, "steps": 1})
    held = [stretch for stretch in stretches.stretches if (split[stretch.begin : stretch.end] == 0).any()]
    assert len(held) > 1
    assert sorted(seen) == sorted(stretch.end - stretch.begin for stretch in held)


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head.NAME)
def test_every_head_mixes_layers(head: type[TrainedHead], collection: Collection) -> None:
    trained = train(head, collection, collection.split("random", 0), **QUICK)
    shares = layers.weights(trained.state)
    assert shares is not None
    assert len(shares) == LAYERS
    assert np.isfinite(trained.prediction.score).all()
    assert "layers by weight: " in trained.remark


@pytest.mark.parametrize("has_dgl", [True, False])
@pytest.mark.parametrize("head", [Gnn, Sgc, Gated], ids=lambda head: head.NAME)
def test_what_is_prepared_while_validating_is_learnt_from_afterwards(
    head: type[TrainedHead], has_dgl: bool, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch may begin with the stretch that was validated last."""
    if not has_dgl:
        monkeypatch.setattr(_dgl, "is_there", lambda: False)
    options: dict[str, Any] = {"neighbours": None} if head is Gnn else {}
    split, stretches = collection.split("random", 0), Stretches(collection, most=100)
    trained = train(head, collection, split, stretches=stretches, **QUICK | {"epochs": 6, "steps": 1} | options)
    assert np.isfinite(trained.prediction.score).all()


class Undeclared(Song):
    """A head of another package that does not say that its gathering has a gradient."""

    NAME = "undeclared"
    IS_DIFFERENTIABLE = False


@pytest.mark.parametrize("head", [Song, Linear, Undeclared])
@pytest.mark.parametrize("most", [None, 100])
def test_the_layer_that_knows_the_labels_is_found(
    head: type[TrainedHead], collection: Collection, most: int | None
) -> None:
    stretches = Stretches(collection, most=most)
    assert (len(stretches.stretches) == 1) is (most is None)
    trained = train(head, collection, collection.split("random", 0), stretches=stretches, **QUICK | {"epochs": 20})
    shares = layers.weights(trained.state)
    assert shares is not None
    assert int(np.argmax(shares)) == HEARD
    assert shares[HEARD] > 0.5


def test_a_single_penalty_finds_the_layer_too(collection: Collection) -> None:
    trained = train(Linear, collection, collection.split("random", 0), **QUICK | {"epochs": 20, "l2": 1e-3})
    shares = layers.weights(trained.state)
    assert shares is not None
    assert int(np.argmax(shares)) == HEARD
    assert shares[HEARD] > 0.5


@pytest.mark.parametrize("head", [Gnn, Linear, Knn])
def test_a_stopped_training_goes_on_to_the_same_bits(
    head: type[TrainedHead], collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(solved, "WIDE", 4)
    monkeypatch.setattr(solver, "LEADING", 3)
    monkeypatch.setattr(checkpoint, "_EVERY_S", 0.0)
    split, advance = collection.split("random", 0), Loop.advance
    place = Checkpoint(Files(tmp_path), "unfinished.pt", "a training")
    whole = train(head, collection, split, **QUICK)

    def stops(loop: Loop, progress: Any) -> None:
        if progress.epoch == 2:
            raise KeyboardInterrupt
        advance(loop, progress)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "advance", stops)
        with pytest.raises(KeyboardInterrupt):
            train(head, collection, split, checkpoint=place, **QUICK)
    resumed = train(head, collection, split, checkpoint=place, **QUICK)
    assert layers.weights(resumed.state) == layers.weights(whole.state)
    np.testing.assert_array_equal(resumed.prediction.score, whole.prediction.score)
