"""GraphSAGE over another column than the artist."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.head.collection import Collection
from stages.head.graph.cliques import CliqueGraph, Graph
from stages.head.heads import Facts
from stages.head.heads.gnn import Sage, SageConfig
from stages.head.settings import setting
from stages.progress import note
from stages.splits.regimes import Split
from store.errors import unknown


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(SageConfig):
    """Beside GraphSAGE's settings:

    Attributes
    ----------
    side : the column that joins clips: ``album``, or one of the collection's numeric targets.
    bins : how many bins the numbers of a target fall into.
    """

    side: str = "album"
    bins: int = setting(16, least=1, most=1_000_000)


class SideEdges(Sage):
    """GraphSAGE over clips that share a value of the column ``side``: the album, or a numeric target such as bpm.

    A number falls into one of 16 bins that hold about as many clips each. Clips of one value are a clique, as
    those of an artist are; where the value is unknown a clip has no neighbours.
    """

    NAME = "side-edges"
    TITLE = "GraphSAGE over another column"
    CITATION = "S. Lee, thesis, Seoul National University: named as future work"
    NEEDS_COLLECTION = "the clips that share its column may be anyone's"
    IS_DIFFERENTIABLE = True
    Config = Config

    @classmethod
    def learn(cls, collection: Collection, x: Tensor | None, split: Split, config: Any) -> Facts:
        """``edges``: [bins - 1] float64, where a target's bins begin; none for the album.

        Raises
        ------
        RequestError
            where the collection has no such column.
        """
        values = column(collection, config.side)
        if np.isnan(values).all():
            note(f"{collection.info.name} has no {config.side}: side-edges has no edges")
        if config.side == "album" or np.isnan(values).all():
            return {"edges": torch.empty(0, dtype=torch.float64)}
        return {"edges": torch.from_numpy(bin_edges(values, config.bins))}

    def relation(self) -> Graph:
        values = column(self.collection, self.config.side)
        if self.config.side != "album":
            values = binned(values, self.facts["edges"].numpy())
        return CliqueGraph(torch.from_numpy(codes(values)).to(self.x.device))


def column(collection: Collection, side: str) -> NDArray[np.float64]:
    """[clips] the values of a column, NaN where they are unknown; RequestError where there is no such column."""
    if side == "album":
        album: NDArray[np.float64] = np.where(collection.album >= 0, collection.album, np.nan)
        return album
    if side not in collection.targets:
        raise unknown("side column", side, ["album", *sorted(collection.targets)])
    return collection.target_values(side)


def bin_edges(values: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Where the second and further bins begin, so that each holds about as many of the known values."""
    return np.unique(np.nanquantile(values, np.linspace(0, 1, bins + 1)[1:-1]))


def binned(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """[clips] the bin of each value, from 0; NaN where the value is."""
    return np.where(np.isnan(values), np.nan, np.searchsorted(edges, values, side="right"))


def codes(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """[clips] equal numbers for equal values, from 0 without gaps; -1 for NaN."""
    numbers = np.full(len(values), -1, dtype=np.int64)
    is_number = ~np.isnan(values)
    numbers[is_number] = np.unique(values[is_number], return_inverse=True)[1]
    return numbers
