"""A control: the song head on random vectors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stages.head.collection import Collection
from stages.head.heads.song import Song
from stages.head.settings import Settings
from stages.splits import Split

_SEED = 0


class RandomFeatures(Song):
    """What the song head reaches when the representation says nothing: the frequencies of the labels, no more.

    Every clip has a vector of independent standard normals, as wide as the representation, bound to its catalog
    row: the same in every run and split. A song head that is no better has learned nothing from its songs.
    """

    NAME = "random-features"
    TITLE = "song head on random vectors (control)"
    CITATION = "Encore"
    IS_CONTROL = True

    def __init__(self, data: Collection, x: Tensor, part: Split, settings: Settings) -> None:
        drawn = np.random.default_rng(_SEED).standard_normal((int(data.rows.max()) + 1, x.shape[1]), dtype=np.float32)
        super().__init__(data, torch.from_numpy(drawn[data.rows]).to(x.device), part, settings)
