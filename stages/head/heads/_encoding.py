"""Numbers as their parts in bins: what lets a linear layer bend at thresholds, as a decision tree does."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

_TAIL = 0.01  # share of a normal distribution that lies below the first edge, and above the last
_SPREAD = 2.0  # deviations of standardised numbers within an artist seldom lie above


class PiecewiseLinear(nn.Module):
    """Each number as ``bins`` numbers: how much of each bin lies below it, from 0 to 1.

    Gorishniy, Rubachev and Babenko, On Embeddings for Numerical Features in Tabular Deep Learning, NeurIPS 2022,
    section 3.2. The first bin goes on below its lower edge and the last one above its upper edge, so that a sum of a
    number's parts, each times its bin's width, is the number again: a linear layer over the parts can do all that one
    over the numbers can. A single bin leaves numbers as they are.

    Parameters
    ----------
    edges : ascending, one more than there are bins; the same for all numbers.
    """

    def __init__(self, edges: Float[Tensor, " edges"]) -> None:
        super().__init__()
        self.bins = len(edges) - 1
        self.register_buffer("edges", edges, persistent=False)
        least, most = torch.zeros(self.bins), torch.ones(self.bins)
        least[0], most[-1] = -torch.inf, torch.inf
        self.register_buffer("least", least, persistent=False)
        self.register_buffer("most", most, persistent=False)

    def forward(self, x: Float[Tensor, "clips dim"]) -> Float[Tensor, "clips parts"]:
        if self.bins == 1:
            return x
        edges = self.get_buffer("edges").to(x.dtype)
        least, most = self.get_buffer("least").to(x.dtype), self.get_buffer("most").to(x.dtype)
        parts = (x.unsqueeze(2) - edges[:-1]).div_(edges.diff())
        encoded: Tensor = parts.clamp(least, most).flatten(1)
        return encoded


def normal_edges(bins: int) -> Tensor:
    """Edges of bins that hold equal shares of a standard normal distribution."""
    edges: Tensor = torch.special.ndtri(torch.linspace(_TAIL, 1 - _TAIL, bins + 1, dtype=torch.float64))
    return edges.float()


def spread_edges(bins: int) -> Tensor:
    """Edges of equal bins for the deviations of standardised numbers."""
    return torch.linspace(0, _SPREAD, bins + 1)
