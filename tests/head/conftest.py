"""A small made collection whose labels depend on the song and on the artist."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from stages.head.collection import Collection
from store.schema import CatalogInfo

INFO = CatalogInfo(name="made", title="Made", version="1", licence="CC0", citation="-", backbone="fcn")


def make_collection(
    *,
    artists: int = 60,
    songs: int = 500,
    clips: int = 2,
    labels: int = 5,
    multi: bool = True,
    seed: int = 0,
    dim: int = 16,
) -> Collection:
    """Artists keep to one or two labels; the representation shows a song's labels through much noise."""
    rng = np.random.default_rng(0)
    song_artist = np.minimum((artists * rng.random(songs) ** 2).astype(int), artists - 1)
    song_artist[rng.random(songs) < 0.03] = -1
    taste = rng.integers(0, labels, (artists, 2))
    first = np.where(rng.random(songs) < 0.8, taste[song_artist, 0], rng.integers(0, labels, songs))
    targets = np.zeros((songs, labels), dtype=bool)
    targets[np.arange(songs), first] = True
    if multi:
        two = rng.random(songs) < 0.3
        targets[two, taste[song_artist[two], 1]] = True
    shown = targets @ rng.standard_normal((labels, dim)) + 1.5 * rng.standard_normal((songs, dim))
    song = np.repeat(np.arange(songs), clips)
    order = np.argsort(song_artist[song], kind="stable")
    song = song[order]
    x = (shown[song] + 0.5 * rng.standard_normal((len(song), dim))).astype(np.float32)
    _, artist = np.unique(song_artist, return_inverse=True)
    artist = artist - int((song_artist < 0).any())
    return Collection(
        info=INFO,
        rows=np.arange(len(song)),
        x=torch.from_numpy(x),
        targets=targets[song],
        labels=tuple(f"label-{i}" for i in range(labels)),
        song=song,
        album=np.where(artist[song] >= 0, song // 5, -1),
        artist=artist[song].astype(np.int64),
        official=np.full(len(song), -1, dtype=np.int8),
        backbone="fcn-0123456789ab",
        left_out={},
    )


@pytest.fixture(scope="session")
def made() -> Collection:
    return make_collection()


@pytest.fixture
def arrays(made: Collection) -> dict[str, Any]:
    return {"song": made.song, "album": made.album, "artist": made.artist, "official": made.official}
