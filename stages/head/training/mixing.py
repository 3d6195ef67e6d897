"""Training on a mixture of layers at nearly the cost of one: its weights move once in two epochs.

Between, each clip's mixture stays as it is, and the head gathers from it as it would from a single layer. In the last
epoch before a move the loss is also asked, in every sixteenth step, for its gradient with respect to the mixtures of
all clips that the head has gathered from; at the end of the epoch one more look at the layers makes of it the gradient
of their weights. Then Adam moves the weights once, as far as the steps of two epochs would have at most.

That needs heads whose gathering has a gradient (`TrainedHead.IS_DIFFERENTIABLE`), as all in `stages.head.heads` are.
Others, of other packages, read all layers in every step, and their weights move with each. Of a head that is solved,
the weights move once in two penalties; where there is one penalty alone, it is solved for that several times.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stages.head.heads import Draw, TrainedHead
from stages.head.layers import Mixture
from stages.head.settings import Settings
from stages.head.training.adam import Adam
from stages.head.training.average import Average
from stages.head.training.binder import Binder
from stages.head.training.loop import Loop
from stages.head.training.solved import Solved
from stages.head.training.solver import Whitening

_EPOCHS = 2  # from one move of the weights to the next
_EVERY = 16  # steps, of which one asks for the gradient of the mixtures
_TURNS = 11  # of a head that is solved for a single penalty: as many as a path has
_BLOCK = 64  # clips whose layers fit into the processor's cache
_RENEWED = 512  # clips from which the curvature of a mixture is estimated, where there are more
_SOLVED_RATE = 0.2  # by which weights move at once: as far as in two epochs of steps


class Mixing(Loop):
    """The training of a network behind a mixture."""

    network: Mixture

    def __init__(self, binder: Binder, network: nn.Module, settings: Settings, seed: int, start_s: float = 0.0) -> None:
        super().__init__(binder, network, settings, seed, start_s)
        inner = self.network.network
        self.optimizer = Adam(inner.parameters(), settings.learning_rate, settings.weight_decay)
        self.average = Average(inner, binder.head_type.averaging(binder.spec.config))
        self.layers = _LayerWeights(self.network)
        self._head: TrainedHead | None = None  # that gathered last
        self._stretch = self._steps = 0  # that it is bound to; that it has gathered for
        self._asks = self._is_new = True  # for the gradient of the mixtures; before its first epoch

    def parts(self) -> dict[str, Any]:
        return {**super().parts(), "layers": self.layers}

    def gather(self, head: TrainedHead, nodes: Tensor, places: Tensor) -> tuple[Tensor, ...]:
        if head is not self._head:
            self._head, self._steps = head, 0
        with torch.set_grad_enabled(self._asks and self._steps % _EVERY == 0):
            inputs = super().gather(head, nodes, places)
        self._steps += 1
        return inputs

    def backward(self, loss: Tensor) -> None:
        # What the head prepared for the whole epoch is part of the graph of several steps.
        loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]

    def _epoch(self, epoch: int) -> float:
        self._asks = _asks(epoch)
        if not self._asks:
            steps = self.passes * -(-len(self.train) // self.settings.batch)
            self.layers.move(self.optimizer.rate * steps * _EPOCHS)
        # Of several stretches one may have been read last while validating, without gradients.
        if self._is_new or not (self._asks and self.stretches.whole):
            self.binder.mix(self.network)
            self._is_new = False
        loss = super()._epoch(epoch)
        self._take_gradient()
        self.stretches.processes.all_reduce(self.layers.gradient)
        return loss

    def _train(self, number: int, draw: Draw) -> Tensor:
        if number != self._stretch:
            self._take_gradient()
            self._stretch = number
        return super()._train(number, draw)

    def _take_gradient(self) -> None:
        """Take the gradient of the mixtures from the head that gathered last."""
        if self._head is not None and self._head.x.grad is not None:
            clips = self._head.x.grad.any(dim=1).nonzero().squeeze(1)
            self.layers.keep(self._head.x.grad[clips], clips, self.binder.layers(self._stretch))
        self._head = None


class SolvedMixing(Solved):
    """A linear layer behind a mixture: solved on the mixture as it is, whose weights then follow the solution's loss.

    Where a loss is at its least in some variables, its gradient in the others is that of the least itself.
    """

    network: Mixture

    def __init__(self, binder: Binder, network: nn.Module, settings: Settings, seed: int, start_s: float = 0.0) -> None:
        super().__init__(binder, network, settings, seed, start_s)
        self.layers = _LayerWeights(self.network)
        self._even: Whitening | None = None
        self._is_new = True

    def penalties(self, binder: Binder) -> Sequence[float]:
        path = super().penalties(binder)
        return [*path] * _TURNS if len(path) == 1 else path

    def parts(self) -> dict[str, Any]:
        return {**super().parts(), "layers": self.layers}

    def _epoch(self, epoch: int) -> float:
        self.network.eval()  # no gradient of the mixtures while it is solved
        if not _asks(epoch):
            self.layers.move(_SOLVED_RATE)
        if self._is_new or not _asks(epoch):
            self._mix(self.layers.weights.detach())
            self._is_new = False
        loss = super()._epoch(epoch)
        if not _asks(epoch):
            return loss
        for number, nodes in self.parts_of_training():
            places, x = nodes - self.stretches.stretches[number].begin, self.binder(number).x
            own = x[places].requires_grad_()
            (slope,) = torch.autograd.grad(self.loss(self.layer(own), self.truth[nodes]) * len(nodes), own)
            self.layers.keep(slope, places, self.binder.layers(number))
        self.stretches.processes.all_reduce(self.layers.gradient)
        return loss

    def _learn_whitening(self) -> Whitening:
        """Along the vectors of the even mixture, which a training that is resumed finds too, whatever its weights."""
        if self._even is None:
            weights = self.layers.weights.detach().clone()
            self._mix(torch.zeros_like(weights))
            self._even = super()._learn_whitening()
            self._mix(weights)
        every = max(1, len(self.train) // _RENEWED)
        return self._even.renewed(self._products(every, self._even.vectors))

    def _mix(self, weights: Tensor) -> None:
        """Solve on the mixture by these weights from now on."""
        with torch.no_grad():
            self.layers.weights.copy_(weights)
        self.binder.mix(self.network)
        self.forget()


def _asks(epoch: int) -> bool:
    """Whether the weights move after this epoch, from 1, so that their gradient is asked for."""
    return epoch % _EPOCHS == 1


class _LayerWeights:
    """The weights of a mixture, and what the steps of an epoch say of them.

    Attributes
    ----------
    gradient : the sum over the steps that asked for it.
    """

    def __init__(self, mixture: Mixture) -> None:
        self.mixture, self.weights = mixture, mixture.layer_weights
        self.gradient = torch.zeros_like(self.weights, requires_grad=False)
        self._adam = Adam([self.weights], 0.0)

    def keep(self, gradient: Tensor, clips: Tensor, layers: Tensor) -> None:
        """Add what follows from the gradient [some, dim] of the mixtures of some clips.

        Parameters
        ----------
        clips : [some] which clips these are.
        layers : [clips, layers * dim] of all clips.
        """
        slope = torch.zeros_like(self.gradient)  # of the loss in the layers' shares
        parts: Iterable[tuple[Tensor, Tensor]]
        if 2 * len(clips) < len(layers):
            parts = zip(torch.split(gradient, _BLOCK), map(layers.__getitem__, torch.split(clips, _BLOCK)), strict=True)
        else:  # to copy the layers of most takes longer than to read those of all
            parts = [(layers.new_zeros(len(layers), gradient.shape[1]).index_copy_(0, clips, gradient), layers)]
        for of_mixtures, some in parts:
            blocks = some.view(len(some), len(slope), -1)
            slope += torch.bmm(blocks, of_mixtures.unsqueeze(2)).sum((0, 2))
        self.gradient += torch.autograd.grad(self.mixture.shares @ slope, self.weights)[0]

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
