"""GraphSAGE over the artist graph, cut between clusters of the representations."""

from __future__ import annotations

import torch

from stages.head.graph.cliques import CliqueGraph, Graph
from stages.head.graph.neighbours import clusters
from stages.head.heads.gnn import Sage

_CLUSTERS = 8


class ClusterEdges(Sage):
    """GraphSAGE over the same-artist edges whose ends lie in one of 8 k-means clusters of the whole collection.

    Clips of one artist and one cluster are a clique again, so that means stay closed and linear.
    """

    NAME = "cluster-edges"
    TITLE = "GraphSAGE over the artist graph, cut between clusters"
    CITATION = "S. Lee, thesis, Seoul National University: named as future work"
    READS_ARTISTS = True

    def relation(self) -> Graph:
        artist = torch.from_numpy(self.data.artist).to(self.x.device)
        order = torch.from_numpy(self.data.rows).to(self.x.device).argsort()
        cell = artist * _CLUSTERS + clusters(self.x, order, _CLUSTERS)
        known = artist >= 0
        cell[known] = torch.unique(cell[known], return_inverse=True)[1]
        return CliqueGraph(cell.where(known, -1))
