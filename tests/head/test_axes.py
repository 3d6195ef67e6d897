"""Wide representations are read along principal axes of the training clips."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stages.head import layers
from stages.head.heads.gated import Gated
from stages.head.heads.linear import Linear
from stages.head.heads.song import Song
from stages.head.testing import collection_of
from tests.head.conftest import binder_of

QUICK = {"hidden": 16, "epochs": 20, "batch": 128}


@pytest.mark.parametrize(
    ("dim", "clips", "axes"),
    [
        (127, 100, None),
        (128, 100, 64),
        (6720, 900, 90),
        (6720, 10_240, 1024),
        (6720, 10_250, None),
        (1280, 6_400, 640),
        (1280, 6_410, None),
    ],
)
def test_axes_are_a_tenth_of_the_clips_and_half_of_the_numbers_at_most(dim: int, clips: int, axes: int | None) -> None:
    assert Gated.axes(Gated.Config(), dim, clips) == axes
    assert Gated.axes(Gated.Config(clips_an_axis=0), dim, clips) is None


@pytest.mark.parametrize("clips", [300, 40])
def test_wide_numbers_are_read_along_the_training_clips_principal_axes(clips: int) -> None:
    """Against the eigenvectors of their products; where clips are fewer than axes, all that they span."""
    rng = np.random.default_rng(0)
    spread = np.append(np.linspace(20, 8, 64), np.ones(136))
    x = (rng.standard_normal((clips, 200)) * spread) @ np.linalg.qr(rng.standard_normal((200, 200)))[0]
    data = collection_of(x, np.eye(2, dtype=bool)[rng.integers(0, 2, clips)], np.arange(clips) // 4)
    part = data.split("random", 0)
    binder = binder_of(Gated, data, part, **QUICK)
    axes, train = binder.spec.facts["axes"], torch.from_numpy(part == 0)
    count = min(64, int(train.sum()))
    assert axes.shape == (200, count)
    along = binder.any().x
    assert data.x is not None
    exact = data.x[train].double()
    exact = (exact - exact.mean(dim=0)) / exact.std(dim=0, unbiased=False)
    expected = torch.linalg.svdvals(exact)[:count]
    assert float(along[train].square().mean()) == pytest.approx(1, abs=0.01)
    found = torch.linalg.svdvals(along[train].double())
    torch.testing.assert_close(found / found.norm(), expected / expected.norm(), atol=0.01, rtol=0)
    network = layers.build(Gated, binder.spec).eval()
    assert binder.logits(network, torch.arange(clips)).shape == (clips, 2)


@pytest.mark.parametrize(
    ("dim", "clips", "axes", "half"),
    [(100, 100, None, 50), (101, 100, 100, 50), (6720, 4_800, 1024, 1024), (1280, 48_000, None, None)],
)
def test_other_heads_read_as_many_axes_as_there_are_clips(
    dim: int, clips: int, axes: int | None, half: int | None
) -> None:
    assert Song.axes(Song.Config(), dim, clips) == axes
    assert Song.axes(Song.Config(clips_an_axis=2), dim, clips) == half
    assert Song.axes(Song.Config(clips_an_axis=0), dim, clips) is None
    assert Linear.axes(Linear.Config(), dim, clips) is None


def test_as_many_axes_as_clips_lose_nothing() -> None:
    """Training clips have the angles and relative lengths that they had; so has what of others lies among them."""
    rng = np.random.default_rng(0)
    data = collection_of(
        rng.standard_normal((60, 200)), np.eye(2, dtype=bool)[rng.integers(0, 2, 60)], np.arange(60) // 4
    )
    part = data.split("random", 0)
    plain = binder_of(Song, data, part, **QUICK, clips_an_axis=0).any().x.double()
    along = binder_of(Song, data, part, **QUICK).any().x.double()
    train = torch.from_numpy(part == 0)
    assert along.shape == (60, int(train.sum()))
    products, expected = along[train] @ along.T, plain[train] @ plain.T
    torch.testing.assert_close(products / products.norm(), expected / expected.norm(), atol=1e-5, rtol=0)
