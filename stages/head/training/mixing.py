"""Training on a mixture of layers at nearly the cost of one: its weights move once an epoch.

Between, each clip's mixture stays as it is. It is made once an epoch, and nearly all steps read it as they would read a
single layer. Every sixteenth step reads all layers instead. It trains the network by the same numbers, and tells the
gradient of the layers' weights besides; these gradients are kept for the end of the epoch. Then Adam moves the weights
once, as far as the epoch's steps would have at most.

That needs heads that gather nothing but what is linear in representations (`TrainedHead.IS_LINEAR`). Others read all
layers in every step, and their weights move with each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stages.head.heads import TrainedHead
from stages.head.layers import Mixture
from stages.head.settings import Settings
from stages.head.training.adam import Adam
from stages.head.training.binder import Binder
from stages.head.training.loop import Loop

_EVERY = 16  # steps, of which one reads all layers


class Mixing(Loop):
    """The training of a network behind a mixture."""

    network: Mixture

    def __init__(self, binder: Binder, network: nn.Module, settings: Settings, seed: int, start_s: float = 0.0) -> None:
        super().__init__(binder, network, settings, seed, start_s)
        self.optimizer = Adam(self.network.network.parameters(), settings.learning_rate, settings.weight_decay)
        self.layers = _LayerWeights(self.network.layer_weights)

    def parts(self) -> dict[str, Any]:
        return {**super().parts(), "layers": self.layers}

    def heads(self, number: int) -> Sequence[TrainedHead]:
        unmixed = self.binder.unmixed(number)
        return [self.binder(number), unmixed]

    def choose(self, heads: Sequence[TrainedHead]) -> TrainedHead:
        self.network.is_mixed = self.steps % _EVERY > 0
        return heads[0] if self.network.is_mixed else heads[1]

    def _epoch(self, epoch: int) -> float:
        if epoch > 1:
            steps = self.passes * -(-len(self.train) // self.settings.batch)
            self.layers.move(self.optimizer.rate * steps)
        self.binder.mix(self.network)
        loss = super()._epoch(epoch)
        self.stretches.processes.all_reduce(self.layers.gradient)
        self.network.is_mixed = True
        return loss

    def add_gradients(self, inputs: tuple[Tensor, ...], nodes: Tensor, truth: Tensor, clips: int) -> Tensor:
        total = super().add_gradients(inputs, nodes, truth, clips)
        self.layers.keep_gradient()
        return total


class _LayerWeights:
    """The weights of a mixture, and what the steps of an epoch say of them.

    Attributes
    ----------
    gradient : the sum over the steps that read all layers.
    """

    def __init__(self, weights: nn.Parameter) -> None:
        self.weights, self.gradient = weights, torch.zeros_like(weights, requires_grad=False)
        self._adam = Adam([weights], 0.0)

    def keep_gradient(self) -> None:
        """Take the gradient of a step, if there is one, away from the network."""
        if self.weights.grad is not None:
            self.gradient += self.weights.grad
            self.weights.grad = None

    def move(self, rate: float) -> None:
        """One step of Adam along the gradient that was kept."""
        self.weights.grad = self.gradient.clone()
        self._adam.rate = rate
        self._adam.step()
        self.weights.grad = None
        self.gradient.zero_()

    def state_dict(self) -> dict[str, Any]:
        return {"gradient": self.gradient, "adam": self._adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.gradient.copy_(state["gradient"])
        self._adam.load_state_dict(state["adam"])
