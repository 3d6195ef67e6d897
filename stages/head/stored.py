"""The representations of a stored collection, read where they are needed."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from store.errors import FormatError
from store.reader import Representations

_GAP = 256  # rows that are not wanted are read with their neighbours rather than skipped where they are so few


class Stored:
    """The representations of a stored collection, read where they are wanted."""

    def __init__(self, representations: Representations) -> None:
        self.representations = representations
        self.dim = math.prod(representations.shape)

    def read(self, rows: NDArray[np.int64]) -> Tensor:
        """[rows, dim] float32 of some catalog rows, which lie in few runs; FormatError for one that is not finite."""
        order = np.argsort(rows, kind="stable")
        runs = np.split(order, np.flatnonzero(np.diff(rows[order]) > _GAP) + 1)
        whole = len(runs) == 1 and len(rows) > 0 and bool((np.diff(rows) == 1).all())
        x = self._read(int(rows[0]), int(rows[-1]) + 1) if whole else torch.empty(len(rows), self.dim)
        for run in () if whole or not len(rows) else runs:
            first = int(rows[run[0]])
            block = self._read(first, int(rows[run[-1]]) + 1)
            x[torch.from_numpy(run)] = block[torch.from_numpy(rows[run] - first)]
        # What is not finite makes their sum so; a fiftieth of the time that looking at each number takes.
        if not x.sum().isfinite() and not (finite := torch.isfinite(x).all(dim=1)).all():
            row, held = int(rows[int((~finite).nonzero()[0])]), self.representations
            raise FormatError(
                f"{held.dataset}/{held.name} holds numbers that are not finite, first in catalog row {row}; "
                f"check it: encore store verify {held.dataset}"
            )
        return x

    def _read(self, first: int, last: int) -> Tensor:
        raw = self.representations.read(first, last).reshape(last - first, -1)
        return torch.from_numpy(raw.astype(np.float32, copy=False))
