"""Regimes: groups stay whole, shares hold, seeds decide."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stages.splits import overlap, split
from store.errors import RequestError


@pytest.mark.parametrize("regime", ["random", "album", "artist"])
def test_groups_stay_whole_and_shares_hold(arrays: dict[str, Any], regime: str) -> None:
    key = {"random": "song", "album": "album", "artist": "artist"}[regime]
    part = split(regime, **arrays, seed=3)
    assert set(np.unique(part)) == {0, 1, 2}
    for name in {"song", key}:
        ids = arrays[name]
        for group in np.unique(ids[ids >= 0]):
            assert len(np.unique(part[ids == group])) == 1
    songs = np.array([len(np.unique(arrays["song"][part == i])) for i in range(3)])
    assert np.abs(songs / songs.sum() - [0.8, 0.1, 0.1]).max() < (0.01 if regime == "random" else 0.08)
    np.testing.assert_array_equal(part, split(regime, **arrays, seed=3))
    assert not np.array_equal(part, split(regime, **arrays, seed=4))


def test_the_artist_regime_shares_no_artist(arrays: dict[str, Any]) -> None:
    ids = {name: arrays[name] for name in ("song", "album", "artist")}
    shared = overlap(split("artist", **arrays, seed=0), **ids)
    assert shared["shared_artists"] == shared["shared_songs"] == 0
    open_split = overlap(split("random", **arrays, seed=0), **ids)
    assert open_split["shared_artists"] > 20
    assert open_split["shared_songs"] == 0
    assert open_split["train"]["songs"] + open_split["validation"]["songs"] + open_split["test"]["songs"] == 500


def test_refusals(arrays: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="no official split"):
        split("official", **arrays, seed=0)
    with pytest.raises(RequestError, match=r"unknown regime 'artists'; have: .* Did you mean artist"):
        split("artists", **arrays, seed=0)
    nobody = arrays | {"artist": np.full_like(arrays["artist"], -1)}
    with pytest.raises(RequestError, match="known artist"):
        split("artist", **nobody, seed=0)
    with pytest.raises(RequestError, match="too few"):
        split("random", **{name: ids[:1] for name, ids in arrays.items()}, seed=0)


def test_the_official_split_is_taken_as_it_is(arrays: dict[str, Any]) -> None:
    official = np.resize(np.array([0, 1, 2, -1], dtype=np.int8), len(arrays["song"]))
    np.testing.assert_array_equal(split("official", **(arrays | {"official": official}), seed=0), official)
