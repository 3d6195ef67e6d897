"""A running mean of a network's weights: an ensemble of its last steps, at the cost of one network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

_WARM_UP = 10  # steps; the first weights are drawn, and are to be forgotten soon


class Average:
    """The exponential mean of a network's weights over its steps.

    Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, SIAM Journal on Control and
    Optimization 30, 1992. In step t the mean keeps ``min(keep, (1 + t) / (10 + t))`` of itself.

    Parameters
    ----------
    keep : in [0, 1); 0 for the weights as they are.
    """

    def __init__(self, network: nn.Module, keep: float) -> None:
        self.weights, self.keep = list(network.parameters()), keep
        self._mean = [weight.detach().clone() for weight in self.weights] if keep else []
        self._steps = 0

    @torch.no_grad()
    def step(self) -> None:
        """Take in the weights as they are now."""
        if self.keep:
            self._steps += 1
            keep = min(self.keep, (1 + self._steps) / (_WARM_UP + self._steps))
            torch._foreach_lerp_(self._mean, [weight.detach() for weight in self.weights], 1 - keep)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Inside, the network has the mean for its weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for weight, mean in zip(self.weights, self._mean, strict=bool(self.keep)):
            copy = weight.detach().clone()
            weight.copy_(mean)
            mean.copy_(copy)

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self._mean, "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._steps = state["steps"]
        for mean, value in zip(self._mean, state["mean"], strict=True):
            mean.copy_(value)
