"""Stretches of whole artists: what is trained on them is what would be trained on all clips at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages import registry
from stages.head import layers
from stages.head.collection import Collection
from stages.head.fit import evaluate
from stages.head.heads import Draw, TrainedHead
from stages.head.training.processes import ProcessGroup
from stages.head.training.stretches import Stretches
from store.errors import RequestError
from tests.head.conftest import binder_of, make_collection, train

QUICK = {"hidden": 16, "epochs": 3, "batch": 64, "neighbours": 3}
HEADS = {name: registry.find("head", name) for name in registry.names("head")}
TRAINED = {name: head for name, head in HEADS.items() if issubclass(head, TrainedHead)}
BY_ARTIST = [name for name, head in TRAINED.items() if head.BY_ARTIST]


@dataclass
class Kept:
    """Representations behind a reader, which tells how many it was asked for at most."""

    x: torch.Tensor
    most: int = 0
    layers: int = 1

    @property
    def dim(self) -> int:
        return self.x.shape[1]

    def read(self, rows: np.ndarray) -> torch.Tensor:
        self.most = max(self.most, len(rows))
        return self.x[torch.from_numpy(rows)]


def stored(data: Collection) -> Collection:
    return replace(data, x=None, stored=Kept(data.x))  # type: ignore[arg-type]


@given(st.lists(st.integers(-1, 5), min_size=1, max_size=60), st.integers(1, 4), st.none() | st.integers(1, 20))
def test_stretches_are_whole_artists_and_hold_each_clip_once(artist: list[int], size: int, most: int | None) -> None:
    codes = np.array(sorted(artist))
    data = replace(make_collection(songs=len(codes), clips=1), artist=codes)
    clips: list[int] = []
    for rank in range(size):
        try:
            stretches = Stretches(data, ProcessGroup(rank, size), most).stretches
        except RequestError:  # a process would hold nothing: all of them say so
            assert size > 1
            assert rank == 0
            return
        for stretch in stretches:
            assert stretch.first <= stretch.begin <= stretch.end <= stretch.last
            clips += range(stretch.begin, stretch.end)
            inside = codes[stretch.begin : stretch.end]
            for one in set(inside[inside >= 0].tolist()):
                assert (inside == one).sum() == (codes == one).sum()
            if most is not None and size == 1 and stretch.end - stretch.begin > most:
                assert len(set(inside.tolist())) == 1
    assert sorted(clips) == list(range(len(codes)))


@pytest.mark.parametrize(("name", "dim"), [*((name, 16) for name in BY_ARTIST), ("gated", 200)])
def test_a_stretch_reads_what_the_whole_collection_does(name: str, dim: int) -> None:
    data = make_collection(songs=120, dim=dim)
    part = data.split("random", 0)
    binder = binder_of(name, data, part, **QUICK)
    parts = binder_of(name, data, part, Stretches(stored(data), ProcessGroup(), 60), **QUICK)
    assert binder.standardised is not None
    assert parts.standardised is not None
    for one, other in zip(parts.standardised, binder.standardised, strict=True):
        torch.testing.assert_close(one, other)
    assert len(parts.stretches.stretches) > 3
    torch.manual_seed(0)
    network = layers.build(binder.head_type, binder.spec).eval()
    torch.manual_seed(0)
    twin = layers.build(parts.head_type, parts.spec)
    for one, other in zip(network.state_dict().values(), twin.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    rows = torch.from_numpy(data.rows)
    nodes = torch.from_numpy(np.flatnonzero(part == 0))
    binder.any().start_epoch(nodes, Draw(5, rows))
    for i, stretch in enumerate(parts.stretches.stretches):
        head, clips = parts(i), torch.arange(stretch.begin, stretch.end)
        mine = nodes[(nodes >= stretch.begin) & (nodes < stretch.end)]
        head.start_epoch(mine - stretch.begin, Draw(5, rows[stretch.begin : stretch.end]))
        with torch.no_grad():
            here, there = head.inputs(clips - stretch.begin), binder.any().inputs(clips)
            torch.testing.assert_close(network(*here), network(*there), atol=1e-5, rtol=1e-5)
            ours = network(*head.training_inputs(mine - stretch.begin, torch.arange(len(mine))))
            theirs = network(*binder.any().training_inputs(mine, torch.searchsorted(nodes, mine)))
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["song", "gnn", "gated"])
def test_training_in_stretches_holds_few_clips_and_learns(name: str) -> None:
    data = make_collection(songs=200)
    part = data.split("random", 0)
    changes = {**QUICK, "epochs": 15, "batch": 32, "steps": 1}
    source = stored(data)
    trained = train(TRAINED[name], source, part, **changes, stretches=Stretches(source, most=90))
    assert source.stored is not None
    assert 0 < source.stored.most <= 90  # type: ignore[attr-defined]
    assert trained.prediction.score.shape == data.labels.shape
    at_once = train(TRAINED[name], data, part, **changes)
    reached = [evaluate(one.prediction, data, np.where(part == 0, 2, -1))["micro_f1"] for one in (trained, at_once)]
    assert reached[0] > reached[1] - 0.1


def test_one_stretch_is_the_whole_collection() -> None:
    data = make_collection(songs=120)
    part = data.split("random", 0)
    source = stored(data)
    one = train(TRAINED["gnn"], source, part, **QUICK, stretches=Stretches(source, most=10**6))
    expected = train(TRAINED["gnn"], data, part, **QUICK)
    np.testing.assert_array_equal(one.prediction.score, expected.prediction.score)
    assert one.history == expected.history


@pytest.mark.parametrize("name", sorted(set(TRAINED) - set(BY_ARTIST)))
def test_a_relation_across_artists_is_refused(name: str) -> None:
    data = make_collection(songs=120)
    with pytest.raises(RequestError, match=f"{name} must see the whole collection at once.*--memory"):
        train(TRAINED[name], data, data.split("random", 0), **QUICK, stretches=Stretches(data, most=60))
