"""Simplified graph convolution: a linear model on precomputed powers of the adjacency."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stages.head.collection import Collection
from stages.head.heads import NetworkInput, Spec, TrainedHead
from stages.splits.regimes import Split


class Sgc(TrainedHead):
    """One linear layer on ``[x ; S x ; S^2 x ; ...]``, ``S`` the normalised adjacency with self-loops.

    SGC keeps the last power alone, SIGN (Frasca et al. 2020) all of them beside the clip itself. In a clique of
    n clips ``S = J / n``, and ``J J = n J``: every power is S itself, the mean over the whole artist, so that
    two blocks, the clip and that mean, are all the powers there are. They are computed once, and the layer is a
    plain (logistic or softmax) regression.
    """

    NAME = "sgc"
    TITLE = "linear model on the song and its artist's mean"
    CITATION = "Wu, Zhang, Souza, Fifty, Yu and Weinberger, Simplifying Graph Convolutional Networks, ICML 2019"
    READS_ARTISTS = True
    READS_NEIGHBOURS = True
    BY_ARTIST = True
    IS_DIFFERENTIABLE = True
    INPUTS = (
        NetworkInput(
            "x_and_mean",
            "its representation and, behind it, the mean over all clips of its artist, its own among them",
            is_vector=True,
        ),
    )

    def __init__(self, collection: Collection, x: Tensor, split: Split, spec: Spec) -> None:
        super().__init__(collection, x, split, spec)
        self.pooled = self.artist_graph().pooled(x)

    @staticmethod
    def build(spec: Spec) -> nn.Module:
        return nn.Linear(2 * spec.dim, spec.outputs)

    def inputs(self, nodes: Tensor) -> tuple[Tensor, ...]:
        return (torch.cat([self.x[nodes], self.pooled[nodes]], dim=1),)
