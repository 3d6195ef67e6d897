"""GraphSAGE over nearest neighbours."""

from __future__ import annotations

import torch

from stages.head.graph.cliques import Graph
from stages.head.graph.neighbours import directions, nearest, nearly_nearest
from stages.head.heads.gnn import Sage

_NEAREST = 16
_MANY = 100_000  # clips


class Knn(Sage):
    """GraphSAGE whose neighbours are the 16 nearest clips by cosine, whoever made them; no artist is read.

    They are found exactly, by matrix products in blocks (time grows with the square of the clips, memory does not),
    or most of them by an index (`Settings.index`). ``auto`` takes the index from 100,000 clips on where there is no
    GPU: there it found 97 to 98 of 100 neighbours in a half (256 numbers a clip) to a quarter (64) of the time. Of
    fewer clips with more numbers (40,000 with 1,280) it was slower than the products.
    """

    NAME = "knn"
    TITLE = "GraphSAGE over the nearest clips"
    SETTINGS = Sage.SETTINGS | {"index"}
    CITATION = "S. Lee, thesis, Seoul National University: named as future work"

    def relation(self) -> Graph:
        train = torch.from_numpy(self.part == 0).to(self.x.device).nonzero().squeeze(1)
        unit = directions(self.x, train)
        index = self.settings.index
        if index == "exact" or (index == "auto" and (len(unit) < _MANY or unit.device.type != "cpu")):
            self.remark = "nearest clips found exactly"
            return nearest(unit, _NEAREST)
        self.remark = "nearest clips found approximately"
        return nearly_nearest(unit, _NEAREST, torch.from_numpy(self.data.rows).argsort())
