"""Regimes: groups stay whole, shares hold, seeds decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.head.collection import Collection
from stages.splits.regimes import dealt, folds, overlap, split
from stages.splits.stratify import count_traits, deal
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
    with pytest.raises(RequestError, match=r"no official split .* another regime: random, artist$"):
        split("official", **(arrays | {"album": np.full_like(arrays["album"], -1)}), seed=0)
    with pytest.raises(RequestError, match=r"no official split .* too few songs for any other"):
        split("official", **{name: ids[:1] for name, ids in arrays.items()}, seed=0)
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
def test_folds_test_each_song_once(dataset: Collection, regime: str) -> None:
    parts = dataset.parts(f"{regime}-5fold", 1)
    tested = np.stack([part == 2 for part in parts])
    assert (tested.sum(axis=0) == 1).all()
    for i, part in enumerate(parts):
        assert set(np.unique(part)) == {0, 1, 2}
        np.testing.assert_array_equal(part == 1, tested[(i + 1) % 5])
        shared = dataset.overlap(part)
        assert shared["shared_songs"] == 0
        if regime != "random":
            assert shared[f"shared_{regime}s"] == 0
    np.testing.assert_array_equal(parts[0], dataset.parts(f"{regime}-5fold", 1)[0])
    assert len(dataset.parts(regime, 1)) == 1


def test_labels_are_shared_out_alike(dataset: Collection, arrays: dict[str, Any]) -> None:
    """Every label, rare ones too, has its 8:1:1 to a song or two where songs are dealt, and near it by artist."""
    labels = dataset.labels.copy()
    labels[:, 4] = False
    labels[np.isin(dataset.song, np.arange(0, 500, 25)), :] = [False, False, False, False, True]  # 20 songs
    _, first = np.unique(dataset.song, return_index=True)
    for seed in range(5):
        part = split("random", **arrays, labels=labels, seed=seed)[first]
        rare = labels[first][:, 4]
        assert all(1 <= (part[rare] == i).sum() <= 3 for i in (1, 2))
    spread = {}
    for name, known in (("stratified", labels), ("blind", np.ones_like(labels))):
        parts = [split("random", **arrays, labels=known, seed=seed)[first] for seed in range(20)]
        test = np.stack([labels[first][part == 2].mean(axis=0) for part in parts])
        spread[name] = np.abs(test - labels[first].mean(axis=0)).mean()
    assert spread["stratified"] < 0.5 * spread["blind"]


@dataclass(frozen=True)
class Songs:
    """A made-up collection: the group (artist) of each song, and its labels."""

    group: np.ndarray
    label: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        return np.bincount(self.group)

    def deal(self, shares: Sequence[float], seed: int) -> np.ndarray:
        """[songs] their part."""
        traits = count_traits(self.group, self.label, self.sizes[self.group])
        return deal(self.sizes, traits, shares, np.random.default_rng(seed))[self.group]


@st.composite
def collections(draw: st.DrawFn) -> Songs:
    """Few or many artists, all single, one giant, or anything; labels tied to artists or not, several, rare ones."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    groups, labels = draw(st.integers(3, 400)), draw(st.integers(1, 12))
    sizes = {
        "single": lambda: np.ones(groups),
        "alike": lambda: np.full(groups, draw(st.integers(2, 9))),
        "heavy tail": lambda: np.minimum(rng.pareto(1.0, groups) + 1, 200),
        "one giant": lambda: np.append(rng.integers(1, 4, groups - 1), draw(st.integers(50, 500))),
        "any": lambda: rng.integers(1, draw(st.integers(2, 40)), groups),
    }[draw(st.sampled_from(["single", "alike", "heavy tail", "one giant", "any"]))]()
    group = np.repeat(np.arange(groups), sizes.astype(np.int64))
    frequency = 1 / np.arange(1, labels + 1) ** draw(st.sampled_from([0.0, 1.0, 2.0]))
    draws = rng.choice(labels, (len(group), 3), p=frequency / frequency.sum())
    taste = rng.choice(labels, groups, p=frequency / frequency.sum())[group]
    label = np.zeros((len(group), labels), dtype=bool)
    label[np.arange(len(group)), np.where(rng.random(len(group)) < draw(st.floats(0, 1)), taste, draws[:, 0])] = True
    if draw(st.booleans()):
        label[np.arange(len(group)), draws[:, 1]] = True
    return Songs(group, label)


SHARES = st.sampled_from([(0.8, 0.1, 0.1), (0.2,) * 5, (1 / 3,) * 3])


@settings(max_examples=80)
@given(collections(), SHARES, st.integers(0, 99))
def test_parts_have_the_distribution_of_group_sizes(songs: Songs, shares: Sequence[float], seed: int) -> None:
    """A part exceeds its share of the songs in groups of 2^m songs or more by less than one such group, or by what it
    had too many in larger groups and cannot have got rid of since; so it does for all songs, with m = 0.
    """
    part = songs.deal(shares, seed)
    sizes = songs.sizes
    most = np.zeros(len(shares))
    for least in 2 ** np.arange(int(np.log2(sizes.max())), -1, -1):
        of_size = sizes[(sizes >= least) & (sizes < 2 * least)]
        most = np.maximum(of_size.max(initial=0), most - of_size.sum() * np.array(shares))
        counts = np.bincount(part[sizes[songs.group] >= least], minlength=len(shares))
        over = counts - counts.sum() * np.array(shares)
        if len(sizes) >= 3 * len(shares):  # of fewer groups one may have been moved so that no part is empty
            assert (over <= most + 1e-6).all()
            assert (-over <= most.sum() - most + 1e-6).all()
    if len(sizes) >= len(shares):
        assert set(part.tolist()) == set(range(len(shares)))
    np.testing.assert_array_equal(part, songs.deal(shares, seed))


@settings(max_examples=80)
@given(collections(), SHARES, st.integers(0, 99))
def test_parts_have_the_distribution_of_labels(songs: Songs, shares: Sequence[float], seed: int) -> None:
    """A part's share of each label is right to a few times the largest group, which alone can fill a part."""
    part = songs.deal(shares, seed)
    for label in songs.label.T:
        counts = np.bincount(part[label], minlength=len(shares))
        assert np.abs(counts - label.sum() * np.array(shares)).max() <= 3 * songs.sizes.max() + 2, counts


@pytest.mark.parametrize("regime", ["artist", "artist-5fold"])
def test_large_artists_and_one_song_artists_are_in_every_part(regime: str) -> None:
    """As in collections of real songs: sizes have a heavy tail, and an artist's songs mostly one label."""
    rng = np.random.default_rng(0)
    sizes = np.minimum(rng.pareto(1.0, 800) + 1, 60).astype(np.int64)
    artist = np.repeat(np.arange(800), sizes)
    songs = np.arange(len(artist))
    label = np.where(rng.random(len(artist)) < 0.8, rng.integers(0, 8, 800)[artist], rng.integers(0, 8, len(artist)))
    ids = {"song": songs, "album": np.full_like(songs, -1), "artist": artist}
    for seed in range(5):
        part = dealt(regime, seed, **ids, labels=np.eye(8, dtype=bool)[label])
        for number in range(part.max() + 1):
            mine = part == number
            for least in (2, 4, 8, 16):
                share = (sizes[artist[mine]] >= least).mean() - (sizes[artist] >= least).mean()
                assert abs(share) < 0.5 * 60 / mine.sum(), (number, least)
            distance = np.abs(np.bincount(label[mine], minlength=8) / mine.sum() - np.bincount(label) / len(label))
            assert 0.5 * distance.sum() < 0.06, number
        assert not np.array_equal(part, dealt(regime, seed + 5, **ids, labels=np.eye(8, dtype=bool)[label]))


@settings(max_examples=25)
@given(collections(), st.integers(0, 99))
def test_what_was_dealt_stays(songs: Songs, seed: int) -> None:
    """And when the groups of one part come anew, it is that part that most of them go to."""
    first = songs.deal((0.8, 0.1, 0.1), seed)
    _, where = np.unique(songs.group, return_index=True)
    traits = count_traits(songs.group, songs.label, songs.sizes[songs.group])
    for number in range(3):
        before = first[where].copy()
        before[before == number] = -1
        part = deal(songs.sizes, traits, (0.8, 0.1, 0.1), np.random.default_rng(seed), before)
        np.testing.assert_array_equal(part[before >= 0], before[before >= 0])
        again = songs.sizes[(part == number) & (before < 0)].sum()
        assert again >= songs.sizes[before < 0].sum() - 2 * songs.sizes.max()


def test_regimes_that_are_none(dataset: Collection, arrays: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="an official split is one split"):
        dataset.parts("official-5fold", 0)
    with pytest.raises(RequestError, match=r"random-2fold: folds are 3 to 100"):
        dataset.parts("random-2fold", 0)
    with pytest.raises(RequestError, match="Did you mean artist"):
        dataset.parts("artists-5fold", 0)
    with pytest.raises(RequestError, match="too few groups"):
        folds("artist-5fold", 0, of=arrays | {"artist": dataset.artist % 2})


def test_versions_of_a_recording_stay_together(dataset: Collection, arrays: dict[str, Any]) -> None:
    """Even where they are said to be by different artists or on different albums."""
    recording = np.where(dataset.song < 20, dataset.song // 2, dataset.song)
    for regime in ("random", "album", "artist"):
        part = split(regime, **arrays, recording=recording, seed=0)
        for number in np.unique(recording):
            assert len(np.unique(part[recording == number])) == 1
