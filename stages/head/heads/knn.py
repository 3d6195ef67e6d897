"""GraphSAGE over nearest neighbours."""

from __future__ import annotations

import torch

from stages.head.graph import Graph
from stages.head.heads.gnn import Gnn
from stages.head.neighbours import directions, nearest

_NEAREST = 16


class Knn(Gnn):
    """GraphSAGE whose neighbours are the 16 nearest clips by cosine, whoever made them; no artist is read.

    Found exactly, by matrix products in blocks: time grows with the square of the clips, memory does not.
    """

    NAME = "knn"
    READS_ARTISTS = False
    INDUCTIVE = False
    BY_ARTIST = False
    TITLE = "GraphSAGE over the nearest clips"
    CITATION = "S. Lee, thesis, Seoul National University: named as future work"

    def relation(self) -> Graph:
        train = torch.from_numpy(self.part == 0).to(self.x.device).nonzero().squeeze(1)
        return nearest(directions(self.x, train), _NEAREST)
