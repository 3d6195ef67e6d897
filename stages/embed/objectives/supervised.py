"""Predict labels: a linear layer over the network, trained together with it."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from stages.embed.objectives import Labels, Objective, Training
from store.errors import RequestError


class Supervised(Objective):
    """Cross entropy over the labels, or binary cross entropy of each label if any clip carries several.

    Parameters
    ----------
    network : from windows [batch, ...] to vectors [batch, dim].
    penalty : what training adds to the loss, a scalar of the network's weights, where a network was published with
        one. Validation leaves it out.
    """

    NAME = "supervised"
    LABELLED = True

    def __init__(
        self,
        network: nn.Module,
        dim: int,
        labels: Labels,
        training: Training,
        penalty: Callable[[], Tensor] | None = None,
    ) -> None:
        super().__init__(training)
        if len(labels.names) < 2:
            raise RequestError(f"supervised training wants two labels or more, and the clips carry {len(labels.names)}")
        self.network = network
        self.output = nn.Linear(dim, len(labels.names))
        self.several = labels.several
        self.penalty = penalty

    def forward(self, windows: Tensor, labels: Tensor) -> Tensor:
        loss = self._loss(windows, labels)
        return loss + self.penalty() if self.training and self.penalty is not None else loss

    def _loss(self, windows: Tensor, labels: Tensor) -> Tensor:
        logits = self.output(self.network(windows.flatten(0, 1)))
        if self.several:
            return F.binary_cross_entropy_with_logits(logits, labels)
        return F.cross_entropy(logits, labels.argmax(dim=1))
