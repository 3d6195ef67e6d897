"""Songs that a representation hardly tells apart, against plain cosines of all pairs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.head import near_copies as module
from stages.head.collection import Collection
from stages.head.near_copies import near_copies
from stages.head.scores.task import SINGLE_LABEL
from store.errors import RequestError
from store.schema import CatalogInfo

INFO = CatalogInfo(name="few", title="Few", version="1", licence="CC0", citation="-", backbone="fcn")


def collection(x: np.ndarray[Any, Any], song: np.ndarray[Any, Any]) -> Collection:
    none = np.full(len(x), -1, dtype=np.int64)
    return Collection(
        info=INFO,
        rows=np.arange(len(x)),
        x=torch.from_numpy(x.astype(np.float32)),
        labels=np.ones((len(x), 1), dtype=bool),
        label_names=("rock",),
        task=SINGLE_LABEL,
        song=song.astype(np.int64),
        album=none,
        artist=none,
        official=none.astype(np.int8),
        backbone="fcn-0",
        left_out={},
    )


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(2, 60), st.sampled_from([3, 8, 1000]))
def test_pairs_are_those_of_all_cosines(seed: int, clips: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((clips, 4)) * [1, 100, 1e-3, 1] + [0, 1e4, 0, 0]
    copies = rng.integers(0, clips, clips // 2)
    x[copies] = x[rng.integers(0, clips, clips // 2)]
    song = rng.integers(0, clips, clips)
    part = np.full(clips, -1, dtype=np.int8)
    for number in np.unique(song):
        part[song == number] = rng.integers(-1, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK_CLIPS", block)
        report = near_copies(collection(x, song), {"random": part}, 0.999)
    scale = x.std(axis=0)
    unit = (x - x.mean(axis=0)) / np.where(scale > 0, scale, 1)
    unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    alike = unit @ unit.T
    if (np.abs(alike - 0.999) < 1e-5).any():
        return  # too near to the bound to be decided alike in single precision
    pairs = {
        (min(song[a], song[b]), max(song[a], song[b])) for a, b in np.argwhere(alike >= 0.999) if song[a] != song[b]
    }
    of_song = dict(zip(song.tolist(), part.tolist(), strict=True))
    divided = [(of_song[a], of_song[b]) for a, b in pairs if of_song[a] >= 0 and of_song[b] >= 0]
    tested = {t for a, b in pairs for t, o in ((a, b), (b, a)) if (of_song[t], of_song[o]) == (2, 0)}
    assert (report["pairs"], report["songs"]) == (len(pairs), len({each for pair in pairs for each in pair}))
    share = np.mean([a != b for a, b in divided]) if divided else None
    assert report["regimes"]["random"] == {"pairs_in_two_parts": share, "test_songs_near_train": len(tested)}


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    data = collection(np.ones((9, 2)), np.arange(9))
    assert near_copies(data, {})["pairs"] == 0  # what never changes tells nothing
    for wrong in (0.0, 1.5, float("nan")):
        with pytest.raises(RequestError, match="--cosine must be above 0"):
            near_copies(data, {}, wrong)
    monkeypatch.setattr(module, "MAX_PAIRS", 10)
    same = replace(data, x=torch.tensor([[1.0, 0.0]] * 8 + [[0.0, 1.0]]))
    with pytest.raises(RequestError, match="more than 10 pairs"):
        near_copies(same, {})
