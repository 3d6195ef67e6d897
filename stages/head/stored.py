"""The representations of a stored collection, read where they are needed."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from store.arrays import has_layers
from store.errors import FormatError
from store.reader import Representations

_GAP = 256  # rows that are not wanted are read with their neighbours rather than skipped where they are so few


class Stored:
    """Reads the representations of a stored collection, row by row or layer by layer.

    Parameters
    ----------
    layer : which layer of those of a clip, or ``mean`` of all; None for all numbers.

    Attributes
    ----------
    dim : numbers of a clip.
    layers : of how many layers these are, one behind the other.
    """

    def __init__(self, representations: Representations, layer: int | Literal["mean"] | None = None) -> None:
        self.representations, self.layer = representations, layer
        shape = representations.shape
        self.layers = shape[0] if layer is None and has_layers(shape) else 1
        self.dim = math.prod(shape if layer is None else shape[1:])

    def read(self, rows: NDArray[np.int64]) -> Tensor:
        """[rows, dim] float32 of some catalog rows, which lie in few runs; FormatError for one that is not finite."""
        order = np.argsort(rows, kind="stable")
        runs = np.split(order, np.flatnonzero(np.diff(rows[order]) > _GAP) + 1)
        is_one_run = len(runs) == 1 and len(rows) > 0 and bool((np.diff(rows) == 1).all())
        x = self._read(int(rows[0]), int(rows[-1]) + 1) if is_one_run else torch.empty(len(rows), self.dim)
        for run in () if is_one_run or not len(rows) else runs:
            first = int(rows[run[0]])
            block = self._read(first, int(rows[run[-1]]) + 1)
            x[torch.from_numpy(run)] = block[torch.from_numpy(rows[run] - first)]
        # What is not finite makes their sum so; a fiftieth of the time that looking at each number takes.
        if not x.sum().isfinite() and not (finite := torch.isfinite(x).all(dim=1)).all():
            row, source = int(rows[int((~finite).nonzero()[0])]), self.representations
            raise FormatError(
                f"{source.dataset}/{source.name} holds numbers that are not finite, first in catalog row {row}; "
                f"check it: encore store verify {source.dataset}"
            )
        return x

    def _read(self, first: int, last: int) -> Tensor:
        if self.layer == "mean":
            return self._means(first, last)
        raw = self.representations.read(first, last, self.layer).reshape(last - first, -1)
        return torch.from_numpy(raw.astype(np.float32, copy=False))

    def _means(self, first: int, last: int) -> Tensor:
        """[rows, dim] means over layers; of one shard after the other, as all layers may not fit in memory."""
        step = self.representations.manifest.shard_rows
        cuts = [first, *range((first // step + 1) * step, last, step), last]
        means = torch.empty(last - first, self.dim)
        for begin, end in pairwise(cuts):
            layers = self.representations.read(begin, end).astype(np.float32, copy=False)
            torch.mean(torch.from_numpy(layers), dim=1, out=means[begin - first : end - first])
        return means
