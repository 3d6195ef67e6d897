"""GraphSAGE over the clips of the same artist that sound alike."""

from __future__ import annotations

import torch

from stages.head.graph.cliques import Graph
from stages.head.graph.neighbours import directions, similar
from stages.head.heads.gnn import Sage

_LEAST_COSINE = 0.2
_MOST = 64


class SimilarEdges(Sage):
    """GraphSAGE over the same-artist edges whose ends have a cosine above 0.2, at most the 64 most alike a clip.

    Cosines are taken from the training part's mean, so that two clips at random have one of about zero.
    """

    NAME = "similar-edges"
    TITLE = "GraphSAGE over similar clips of the artist"
    CITATION = "S. Lee, thesis, Seoul National University: named as future work"
    READS_ARTISTS = True

    def relation(self) -> Graph:
        train = torch.from_numpy(self.part == 0).to(self.x.device).nonzero().squeeze(1)
        return similar(self.data.graph.to(self.x.device), directions(self.x, train), _LEAST_COSINE, _MOST)
