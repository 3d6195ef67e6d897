"""GraphSAGE over another column than the artist."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from stages.head.collection import Collection
from stages.head.graph.cliques import CliqueGraph, Graph
from stages.head.heads.gnn import Sage
from stages.progress import note
from store.errors import unknown

_BINS = 16


class SideEdges(Sage):
    """GraphSAGE over clips that share a value of the column ``side``: the album, or a numeric target such as bpm.

    A number falls into one of 16 bins that hold about as many clips each. Clips of one value are a clique, as
    those of an artist are; where the value is unknown a clip has no neighbours.
    """

    NAME = "side-edges"
    TITLE = "GraphSAGE over another column"
    SETTINGS = Sage.SETTINGS | {"side"}
    CITATION = "S. Lee, thesis, Seoul National University: named as future work"

    def relation(self) -> Graph:
        code = torch.from_numpy(side_codes(self.data, self.settings.side)).to(self.x.device)
        if not bool((code >= 0).any()):
            note(f"{self.data.info.name} has no {self.settings.side}: side-edges has no edges")
        return CliqueGraph(code)


def side_codes(data: Collection, side: str) -> NDArray[np.int64]:
    """[clips] which clips share the value of a column: numbers from 0, -1 where it is unknown.

    Raises
    ------
    RequestError
        where the collection has no such column.
    """
    if side == "album":
        values: NDArray[np.float64] = np.where(data.album >= 0, data.album, np.nan)
    elif side in data.sides:
        values = data.sides[side]
        edges = np.unique(np.nanquantile(values, np.linspace(0, 1, _BINS + 1)[1:-1]))
        values = np.where(np.isnan(values), np.nan, np.searchsorted(edges, values, side="right"))
    else:
        raise unknown("side column", side, ["album", *sorted(data.sides)])
    codes = np.full(len(values), -1, dtype=np.int64)
    known = ~np.isnan(values)
    codes[known] = np.unique(values[known], return_inverse=True)[1]
    return codes
