"""The clips of a stored collection as a PyTorch data set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from store.rows import Rows

Example = tuple[Float[Tensor, "..."], Float[Tensor, " labels"]]


class ClipDataset(Dataset[Example]):
    """(representation [*shape] float32, labels [labels] of 0 and 1) of each clip, read when it is asked for.

    Attributes
    ----------
    rows : [clips] the catalog row of each clip.
    labels : what the columns of the labels are.
    """

    def __init__(
        self, reader: Rows, rows: NDArray[np.int64], targets: NDArray[np.bool_], labels: tuple[str, ...]
    ) -> None:
        self.reader, self.rows, self.labels = reader, rows, labels
        self._targets = targets

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        (example,) = self.__getitems__([index])
        return example

    def __getitems__(self, indices: Sequence[int]) -> list[Example]:
        """A batch at once, which is how PyTorch's ``DataLoader`` asks."""
        clips = np.asarray(indices, dtype=np.int64)
        vectors = torch.from_numpy(self.reader.take(self.rows[clips]).astype(np.float32, copy=False))
        targets = torch.from_numpy(self._targets[clips].astype(np.float32))
        return list(zip(vectors, targets, strict=True))
