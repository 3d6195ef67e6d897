"""Clips as training examples, loaded in worker processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.embed.inputs import draw
from stages.embed.loading import ClipTable, Failure, failure
from stages.embed.objectives import Rows
from store.errors import ClipError

VALIDATION = 0  # the epoch by which validation examples are seeded, so that they are always the same
_ATTEMPTS = 20


class Examples:
    """The clips of a catalog as training examples; worker processes index it by (epoch, rows).

    A training clip that cannot be read is replaced by a random one of ``rows``, so that batches keep their size; after
    `_ATTEMPTS` attempts it is left out. In validation an unreadable clip is left out at once.

    Parameters
    ----------
    rows : catalog rows to draw replacements from.
    windows : how many windows of a clip make one example.
    """

    def __init__(self, clips: ClipTable, rows: Rows, windows: int, seed: int) -> None:
        self.clips, self.rows, self.windows, self.seed = clips, rows, windows, seed

    def __getitem__(self, batch: tuple[int, Sequence[int]]) -> tuple[Tensor, list[int], list[Failure]]:
        """Examples [clips, windows, ...], their catalog rows, and the clips that could not be read."""
        epoch, clips = batch
        arrays: list[np.ndarray[Any, Any]] = []
        rows: list[int] = []
        failures: list[Failure] = []
        for row in clips:
            rng = np.random.default_rng((self.seed, epoch, row))
            for _ in range(1 if epoch == VALIDATION else _ATTEMPTS):
                try:
                    arrays.append(draw(self.clips.reader, self.clips.clip(row), self.windows, rng))
                except (ClipError, OSError) as error:
                    failures.append(failure(row, error))
                    row = int(rng.choice(self.rows))
                else:
                    rows.append(row)
                    break
        return (torch.from_numpy(np.stack(arrays)) if arrays else torch.empty(0)), rows, failures
