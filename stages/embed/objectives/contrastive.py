"""CoLA: learn which two segments of a batch are of the same recording.

A. Saeed, D. Grangier, N. Zeghidour: Contrastive Learning of General-Purpose Audio Representations. ICASSP 2021
(arXiv 2010.10915), section 2 with the bilinear similarity.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stages.embed.objectives import Objective, Training

PROJECTION = 512

# W is initialised to the identity times this. With 1/sqrt(512), at which dot products of random vectors have deviation
# 1, an untrained network hardly tells clips apart: it learned more slowly, and heads gained less from the result.
_SHARPNESS = 0.2


class Contrastive(Objective):
    """``-log softmax_j(g(f(x_i))^T W g(f(x'_j)))`` at j = i, over this process's clips of the batch.

    f is the network; g is a linear layer to 512 values, layer normalisation and tanh; W is learned and need not be
    symmetric.
    """

    NAME = "contrastive"
    WINDOWS = 2
    BATCH_LEAST = 2

    def __init__(self, network: nn.Module, dim: int, training: Training) -> None:
        super().__init__(training)
        self.network = network
        self.projection = nn.Sequential(nn.Linear(dim, PROJECTION), nn.LayerNorm(PROJECTION), nn.Tanh())
        self.similarity = nn.Parameter(_SHARPNESS * torch.eye(PROJECTION))

    def forward(self, windows: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG002 - learns without labels
        vectors = self.projection(self.network(windows.flatten(0, 1)))
        anchors, positives = vectors.unflatten(0, windows.shape[:2]).unbind(dim=1)
        return info_nce(anchors, positives, self.similarity)


def info_nce(
    anchors: Float[Tensor, "clips dim"], positives: Float[Tensor, "clips dim"], similarity: Float[Tensor, "dim dim"]
) -> Float[Tensor, ""]:
    """The mean cross entropy of picking each anchor's own positive among those of all clips."""
    logits = anchors @ similarity @ positives.T
    return F.cross_entropy(logits, torch.arange(len(anchors), device=anchors.device))
