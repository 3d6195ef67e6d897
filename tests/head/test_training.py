"""What the trainer hands to a head and to the optimizer, epoch by epoch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from stages.head.collection import Collection
from stages.head.heads import Draw
from stages.head.heads.dropedge import DropEdge
from stages.head.heads.gnn import Gnn
from stages.head.heads.song import Song
from stages.head.training import checkpoint
from stages.head.training.adam import Adam
from stages.head.training.checkpoint import Checkpoint
from store.files import Files
from tests.head.conftest import make_collection, train

QUICK = {"hidden": 16, "epochs": 3, "batch": 64, "steps": 1}


@pytest.fixture(scope="module")
def small() -> Collection:
    return make_collection(songs=120)


@pytest.mark.parametrize("neighbours", [8, None])
def test_drop_edge_is_all_that_sets_dropedge_apart_from_gnn(small: Collection, neighbours: int | None) -> None:
    part = small.split("random", 0)
    changes = {**QUICK, "neighbours": neighbours}
    assert DropEdge.Config().drop_edge > 0
    gnn, dropping, keeping = (
        train(head, small, part, **changes, **more).history
        for head, more in ((Gnn, {}), (DropEdge, {}), (DropEdge, {"drop_edge": 0.0}))
    )
    assert keeping == gnn
    assert all(one["loss"] != other["loss"] for one, other in zip(dropping, gnn, strict=True))


def test_the_learning_rate_decays_from_epoch_to_epoch(small: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    part = small.split("random", 0)
    step, rates = Adam.step, []

    def watched(optimizer: Adam) -> None:
        rates.append(optimizer.rate)
        step(optimizer)

    monkeypatch.setattr(Adam, "step", watched)
    train(Song, small, part, **{**QUICK, "learning_rate": 0.01, "decay": 0.5})
    steps = -(-int((part == 0).sum()) // QUICK["batch"])
    assert steps > 1
    assert rates == pytest.approx(np.repeat([0.01, 0.005, 0.0025], steps))


def test_an_epoch_of_a_small_collection_is_several_passes(small: Collection) -> None:
    """Each in an order of its own; the first pass is what a single one would be."""
    part = small.split("random", 0)
    passes = -(-8 // -(-int((part == 0).sum()) // QUICK["batch"]))
    assert passes > 1
    (_, once), (_, several) = watch(small, 0), watch(small, 0, steps=8)
    assert len(several) == passes * len(once)
    assert several[0] == once[0]
    assert len({tuple(order) for order in several}) == len(several)


def watch(data: Collection, seed: int, **changes: int) -> tuple[list[int], list[list[int]]]:
    """Epoch by epoch the key of the draws and the clips in the order of training."""
    keys: list[int] = []
    orders: list[list[int]] = []

    class Watched(Song):
        def start_epoch(self, nodes: Tensor, draw: Draw) -> None:
            keys.append(draw.key)
            orders.append([])

        def training_inputs(self, nodes: Tensor, places: Tensor) -> tuple[Tensor, ...]:
            orders[-1].extend(nodes.tolist())
            return super().training_inputs(nodes, places)

    train(Watched, data, data.split("random", 0), seed, **{**QUICK, **changes})
    return keys, orders


def test_each_epoch_of_each_seed_has_draws_and_an_order_of_its_own(small: Collection) -> None:
    once, other = watch(small, 0), watch(small, 1)
    assert watch(small, 0) == once
    keys, orders = (one + another for one, another in zip(once, other, strict=True))
    assert len(set(keys)) == len({tuple(order) for order in orders}) == 2 * QUICK["epochs"]
    clips = np.flatnonzero(small.split("random", 0) == 0).tolist()
    assert all(sorted(order) == clips for order in orders)


def test_the_seconds_before_a_stop_count(small: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_EVERY_S", 0.0)
    place = Checkpoint(Files(tmp_path), "unfinished.pt", "a training")
    part = small.split("random", 0)
    reference = train(Song, small, part, **QUICK, checkpoint=place)
    state = place.load()
    assert state is not None
    assert 0 < state["progress"]["seconds"] <= reference.seconds
    state["progress"]["seconds"] += 1000.0
    place.save(state)
    again = train(Song, small, part, **QUICK, checkpoint=place)
    assert again.history == reference.history
    assert again.seconds > 1000.0
