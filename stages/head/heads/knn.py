"""GraphSAGE over nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from stages.head.collection import Collection
from stages.head.graph.cliques import Graph
from stages.head.graph.neighbours import centre, directions, nearest, nearly_nearest
from stages.head.heads import Facts
from stages.head.heads.gnn import Sage, SageConfig
from stages.head.settings import setting
from stages.splits.regimes import Split


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(SageConfig):
    """Beside GraphSAGE's settings:

    Attributes
    ----------
    nearest : how many clips are a clip's neighbours.
    index : how they are found: ``exact``, ``approximate``, or ``auto``.
    many : from so many clips on ``auto`` takes the approximate index, where there is no GPU.
    """

    nearest: int = setting(16, least=1, most=10_000)
    index: Literal["auto", "exact", "approximate"] = "auto"
    many: int = setting(100_000, least=1)

    def is_exact(self, clips: int, device: torch.device) -> bool:
        return self.index == "exact" or (self.index == "auto" and (clips < self.many or device.type != "cpu"))


class Knn(Sage):
    """GraphSAGE whose neighbours are the 16 nearest clips by cosine, whoever made them; no artist is read.

    They are found exactly, by matrix products in blocks (time grows with the square of the number of clips, memory does
    not), or approximately by an index (`Config.index`). ``auto`` uses the index for 100,000 clips or more if there is
    no GPU: it found 97 to 98 of 100 neighbours in half (256 numbers a clip) to a quarter (64) of the time. For fewer
    clips with more numbers (40,000 with 1,280) it was slower than the exact search.
    """

    NAME = "knn"
    TITLE = "GraphSAGE over the nearest clips"
    CITATION = "S. Lee, thesis, Seoul National University: named as future work"
    IS_DIFFERENTIABLE = True
    COMPARES = True
    NEEDS_COLLECTION = "the nearest clips may be anyone's"
    Config = Config

    @classmethod
    def learn(cls, collection: Collection, x: Tensor | None, split: Split, config: Any) -> Facts:
        """``centre``: [dim] the training part's mean, from which cosines are taken."""
        return {"centre": centre(x, split)}

    @classmethod
    def remark(cls, collection: Collection, config: Any, device: torch.device) -> str:
        how = "exactly" if config.is_exact(len(collection), device) else "approximately"
        return f"nearest clips found {how}"

    def relation(self) -> Graph:
        unit = directions(self.x, self.facts["centre"])
        if self.config.is_exact(len(unit), unit.device):
            return nearest(unit, self.config.nearest)
        return nearly_nearest(unit, self.config.nearest, torch.from_numpy(self.collection.rows).argsort())
