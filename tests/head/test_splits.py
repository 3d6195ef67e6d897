"""Regimes: groups stay whole, shares hold, seeds decide."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.head.collection import Collection
from stages.splits.regimes import overlap, split
from stages.splits.stratify import deal
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
    """Clips of one song stand on several sides where it says so; `encore head` and `audit` tell of it."""
    official = np.resize(np.array([0, 1, 2, -1], dtype=np.int8), len(arrays["song"]))
    np.testing.assert_array_equal(split("official", **(arrays | {"official": official}), seed=0), official)


@pytest.mark.parametrize("regime", ["random", "album", "artist"])
def test_folds_test_each_song_once(made: Collection, regime: str) -> None:
    parts = made.parts(f"{regime}-5fold", 1)
    tested = np.stack([part == 2 for part in parts])
    assert (tested.sum(axis=0) == 1).all()
    for i, part in enumerate(parts):
        assert set(np.unique(part)) == {0, 1, 2}
        np.testing.assert_array_equal(part == 1, tested[(i + 1) % 5])
        shared = made.overlap(part)
        assert shared["shared_songs"] == 0
        if regime != "random":
            assert shared[f"shared_{regime}s"] == 0
    np.testing.assert_array_equal(parts[0], made.parts(f"{regime}-5fold", 1)[0])
    assert len(made.parts(regime, 1)) == 1


def test_labels_are_shared_out_alike(made: Collection) -> None:
    """Every label, rare ones too, has its 8:1:1 to a song or two where songs are dealt, and near it by artist."""
    targets = made.targets.copy()
    targets[:, 4] = False
    targets[np.isin(made.song, np.arange(0, 500, 25)), :] = [False, False, False, False, True]  # 20 songs
    data = replace(made, targets=targets)
    _, first = np.unique(data.song, return_index=True)
    for seed in range(5):
        part = data.split("random", seed)[first]
        rare = targets[first][:, 4]
        assert all(1 <= (part[rare] == i).sum() <= 3 for i in (1, 2))
    spread = {}
    for name, held in (("stratified", data), ("blind", replace(data, targets=np.ones_like(targets)))):
        test = np.stack([targets[first][held.split("random", seed)[first] == 2].mean(axis=0) for seed in range(20)])
        spread[name] = np.abs(test - targets[first].mean(axis=0)).mean()
    assert spread["stratified"] < 0.5 * spread["blind"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=30, max_size=200), st.integers(1, 6), st.integers(0, 99))
def test_parts_have_their_share(sizes: list[int], strata: int, seed: int) -> None:
    songs = np.array(sizes, dtype=np.int64)
    rng = np.random.default_rng(seed)
    part = deal(songs, rng.integers(0, strata, len(songs)), (0.8, 0.1, 0.1), rng)
    got = np.bincount(part, weights=songs, minlength=3)
    assert np.abs(got - songs.sum() * np.array([0.8, 0.1, 0.1])).max() <= songs.max() + 1
    if songs.max() == 1:
        assert np.abs(got - songs.sum() * np.array([0.8, 0.1, 0.1])).max() <= 1


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=3, max_size=12), st.integers(0, 99))
def test_no_part_is_empty_where_groups_are_enough(sizes: list[int], seed: int) -> None:
    songs = np.array(sizes, dtype=np.int64)
    part = deal(songs, np.arange(len(songs)), (0.8, 0.1, 0.1), np.random.default_rng(seed))
    assert set(part.tolist()) == {0, 1, 2}


def test_regimes_that_are_none(made: Collection) -> None:
    with pytest.raises(RequestError, match="an official split is one split"):
        made.parts("official-5fold", 0)
    with pytest.raises(RequestError, match=r"random-2fold: folds are 3 to 100"):
        made.parts("random-2fold", 0)
    with pytest.raises(RequestError, match="Did you mean artist"):
        made.parts("artists-5fold", 0)
    with pytest.raises(RequestError, match="too few groups"):
        replace(made, artist=made.artist % 2).parts("artist-5fold", 0)


def test_versions_of_a_recording_stay_together(made: Collection) -> None:
    """Even where they are said to be by different artists or on different albums."""
    recording = np.where(made.song < 20, made.song // 2, made.song)
    for regime in ("random", "album", "artist"):
        part = replace(made, recording=recording).split(regime, 0)
        for number in np.unique(recording):
            assert len(np.unique(part[recording == number])) == 1
