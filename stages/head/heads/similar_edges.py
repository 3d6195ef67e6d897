"""GraphSAGE over the clips of the same artist that sound alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from stages.head.collection import Collection
from stages.head.graph.cliques import Graph
from stages.head.graph.neighbours import centre, directions, similar
from stages.head.heads import Facts
from stages.head.heads.gnn import Sage, SageConfig
from stages.head.settings import setting
from stages.splits.regimes import Split


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(SageConfig):
    """Beside GraphSAGE's settings:

    Attributes
    ----------
    least_cosine : the cosine above which two clips are neighbours.
    most_similar : at most so many neighbours a clip, those most alike.
    """

    least_cosine: float = setting(0.2, least=-1, most=1)
    most_similar: int = setting(64, least=1, most=100_000)


class SimilarEdges(Sage):
    """GraphSAGE over the same-artist edges whose ends have a cosine above 0.2, at most the 64 most alike a clip.

    Cosines are taken from the training part's mean, so that two clips at random have one of about zero.
    """

    NAME = "similar-edges"
    TITLE = "GraphSAGE over similar clips of the artist"
    CITATION = "S. Lee, thesis, Seoul National University: named as future work"
    IS_DIFFERENTIABLE = True
    COMPARES = True
    READS_ARTISTS = True
    Config = Config

    @classmethod
    def learn(cls, collection: Collection, x: Tensor | None, split: Split, config: Any) -> Facts:
        """``centre``: [dim] the training part's mean, from which cosines are taken."""
        return {"centre": centre(x, split)}

    def relation(self) -> Graph:
        unit = directions(self.x, self.facts["centre"])
        return similar(self.artist_graph(), unit, self.config.least_cosine, self.config.most_similar)
