"""GraphSAGE over the artist graph, cut between clusters of the representations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stages.head.collection import Collection
from stages.head.graph.cliques import CliqueGraph, Graph
from stages.head.graph.neighbours import closest, clusters
from stages.head.heads import Facts
from stages.head.heads.gnn import Sage, SageConfig
from stages.head.settings import setting
from stages.splits.regimes import Split


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(SageConfig):
    """Beside GraphSAGE's settings:

    Attributes
    ----------
    clusters : how many clusters there are.
    """

    clusters: int = setting(8, least=1, most=10_000)


class ClusterEdges(Sage):
    """GraphSAGE over the same-artist edges whose ends lie in one of 8 k-means clusters of the whole collection.

    Clips of one artist and one cluster are a clique again, so that means stay closed and linear.
    """

    NAME = "cluster-edges"
    TITLE = "GraphSAGE over the artist graph, cut between clusters"
    CITATION = "S. Lee, thesis, Seoul National University: named as future work"
    IS_DIFFERENTIABLE = True
    COMPARES = True
    READS_ARTISTS = True
    Config = Config

    @classmethod
    def learn(cls, collection: Collection, x: Tensor | None, split: Split, config: Any) -> Facts:
        """``centroids``: [clusters, dim]."""
        assert x is not None
        order = torch.from_numpy(collection.rows).to(x.device).argsort()
        return {"centroids": clusters(x, order, config.clusters)}

    def relation(self) -> Graph:
        artist = torch.from_numpy(self.collection.artist).to(self.x.device)
        cell = artist * self.config.clusters + closest(self.x, self.facts["centroids"])
        has_artist = artist >= 0
        cell[has_artist] = torch.unique(cell[has_artist], return_inverse=True)[1]
        return CliqueGraph(cell.where(has_artist, -1))
