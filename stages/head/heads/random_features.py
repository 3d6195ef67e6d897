"""A control: the song head on random vectors."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

from stages.head.collection import Collection
from stages.head.heads import Spec
from stages.head.heads.song import Song
from stages.head.random import bits, key, normal
from stages.splits.regimes import Split

_STREAM = key("random features")
_ROWS = 4096  # drawn at a time in double precision


class RandomFeatures(Song):
    """What the song head reaches when the representation says nothing: the frequencies of the labels, no more.

    Every clip has a vector of independent standard normals, as wide as the representation, bound to its catalog
    row: the same in every run and split. A song head that is no better has learned nothing from its songs.
    """

    NAME = "random-features"
    TITLE = "song head on random vectors (control)"
    CITATION = "Encore"

    def __init__(self, collection: Collection, x: Tensor, split: Split, spec: Spec) -> None:
        streams = bits(_STREAM, torch.from_numpy(collection.rows).to(x.device)).unsqueeze(1)
        columns = torch.arange(x.shape[1], device=x.device)
        normals = torch.empty_like(x)
        for vectors, stream in zip(torch.split(normals, _ROWS), torch.split(streams, _ROWS), strict=True):
            vectors.copy_(normal(bits(stream, columns)))
        super().__init__(collection, normals, split, spec)

    @classmethod
    def axes(cls, config: Any, dim: int, clips: int) -> int | None:
        return None

    def reading(self, x: Tensor) -> Self:
        return self
