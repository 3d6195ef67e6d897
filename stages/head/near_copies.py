"""Songs that sound nearly like another, by what a backbone hears in them: copies that no file's bytes give away.

A recording that was encoded anew, cut or tagged differently has another file and nearly the same representation. Where
it stands in another part of a split than its copy, a test song was trained on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from stages.head.collection import Collection
from stages.progress import task
from stages.splits.regimes import PARTS, Split
from store.errors import RequestError

COSINE = 0.99
MAX_PAIRS = 20_000_000  # of clips; more of them say that the bound is too low

_BLOCK_NUMBERS = 1 << 25  # of representations held at a time, 128 MiB
_BLOCK_CLIPS = 4096  # similarities of so many clips with so many others are held at a time, 64 MiB

_TEST_TRAIN = [PARTS.index("test"), PARTS.index("train")]

Pairs = NDArray[np.int64]


def near_copies(data: Collection, splits: Mapping[str, Split], cosine: float = COSINE) -> dict[str, Any]:
    """How many songs are nearly equal to another, and how many such pairs the parts of each regime part.

    Numbers are standardised over all clips, so that those of wide range do not decide alone. Two songs are a pair where
    any clip of one and any of the other have at least this cosine.

    Returns
    -------
    ``cosine, representation, songs, pairs, regimes: {R: {pairs_in_two_parts, test_songs_near_train}}``; pairs in two
    parts are a share of those pairs that the regime divides, None without any.

    Raises
    ------
    RequestError
        where the bound is no cosine, or lets through more pairs than can be held.
    """
    if not 0 < cosine <= 1:
        raise RequestError(f"--cosine must be above 0 and at most 1, not {cosine}")
    pairs = _song_pairs(data, cosine)
    _, first_clip = np.unique(data.song, return_index=True)
    song = data.song[first_clip]
    regimes: dict[str, Any] = {}
    for regime, part in splits.items():
        of_song = np.full(int(song.max(initial=-1)) + 1, -1, dtype=np.int8)
        of_song[song] = part[first_clip]
        sides = of_song[pairs]
        pairs_in_parts = sides[(sides >= 0).all(axis=1)]
        near = [pairs[(sides[:, [i, 1 - i]] == _TEST_TRAIN).all(axis=1), i] for i in range(2)]
        regimes[regime] = {
            "pairs_in_two_parts": float((pairs_in_parts[:, 0] != pairs_in_parts[:, 1]).mean())
            if len(pairs_in_parts)
            else None,
            "test_songs_near_train": len(np.unique(np.concatenate(near))),
        }
    return {
        "cosine": cosine,
        "representation": data.backbone,
        "songs": len(np.unique(pairs)),
        "pairs": len(pairs),
        "regimes": regimes,
    }


def _song_pairs(data: Collection, cosine: float) -> Pairs:
    """[pairs, 2] the numbers of two different songs, the smaller one first, each pair once."""
    size = max(1, min(_BLOCK_CLIPS, _BLOCK_NUMBERS // (3 * data.dim)))
    starts = range(0, len(data), size)
    mean, scale = _moments(data, starts, size)

    def unit(first: int) -> torch.Tensor:
        x = data.take(first, min(len(data), first + size)).x
        assert x is not None
        return F.normalize((x - mean) / scale, dim=1)

    pairs: list[Pairs] = [np.empty((0, 2), dtype=np.int64)]
    clips = 0
    with task("comparing clips", len(starts) * (len(starts) + 1) // 2, "blocks") as advance:
        for first, rows, second, columns in _blocks(starts, unit):
            near = (rows @ columns.T >= cosine - 1e-6).nonzero().numpy()
            advance(1)
            songs = np.stack([data.song[first + near[:, 0]], data.song[second + near[:, 1]]], axis=1)
            songs = np.sort(songs[songs[:, 0] != songs[:, 1]], axis=1)
            clips += len(songs)
            if clips > MAX_PAIRS:
                raise RequestError(
                    f"more than {MAX_PAIRS:,} pairs of clips have a cosine of {cosine:g} or more; raise --cosine"
                )
            pairs.append(np.unique(songs, axis=0))
    return np.unique(np.concatenate(pairs), axis=0)


def _blocks(starts: range, unit: Any) -> Iterator[tuple[int, torch.Tensor, int, torch.Tensor]]:
    """Every two blocks of clips once, each with itself too."""
    for i, first in enumerate(starts):
        rows = unit(first)
        for second in starts[i:]:
            yield first, rows, second, rows if second == first else unit(second)


def _moments(data: Collection, starts: range, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of each number over all clips; 1 for one that never changes."""
    total = torch.zeros(data.dim, dtype=torch.float64)
    squares = torch.zeros(data.dim, dtype=torch.float64)
    for first in starts:
        x = data.take(first, min(len(data), first + size)).x
        assert x is not None
        total += x.double().sum(dim=0)
        squares += x.double().square().sum(dim=0)
    mean = total / len(data)
    deviation = (squares / len(data) - mean.square()).clamp(min=0).sqrt()
    deviation[deviation <= 1e-9 * (1 + mean.abs())] = 1.0
    return mean.float(), deviation.float()
