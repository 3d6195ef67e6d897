"""GraphSAGE over a relation that representations tell."""

from __future__ import annotations

from dataclasses import replace
from typing import Self

from torch import Tensor

from stages.head.heads.gnn import Sage


class SimilarSage(Sage):
    """GraphSAGE whose neighbours are clips that sound alike."""

    IS_DIFFERENTIABLE = True
    COMPARES = True

    def reading(self, x: Tensor) -> Self:
        return type(self)(self.collection, x, self.split, replace(self.spec, dim=x.shape[1]), self.graph)
