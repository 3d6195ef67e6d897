"""A head that is one linear layer, solved instead of trained step by step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from stages.head.layers import Mixture
from stages.head.settings import Settings
from stages.head.training.binder import Binder, places
from stages.head.training.loop import Loop
from stages.head.training.solver import LEADING, WIDE, Whitening, minimise

_SAMPLED = 12  # clips an input from which the curvature is estimated, where there are more
_RISES = 3  # penalties in a row that may bring no better validation loss
_LEAST_CURVATURE = 1e-4
_AT_A_TIME = 4096  # clips that a linear layer is solved on


class Solved(Loop):
    """A linear layer, solved for one penalty after another; each is an epoch, and counts by its validation loss.

    The path ends where the validation loss has risen for a few penalties: weaker ones would take longest.
    """

    def __init__(
        self,
        binder: Binder,
        network: nn.Module,
        settings: Settings,
        seed: int,
        start_s: float = 0.0,
    ) -> None:
        path = self.penalties(binder)
        epochs, patience = min(settings.epochs, len(path)), min(settings.patience, _RISES)
        settings = replace(settings, epochs=epochs, patience=patience, checkpoints=1)
        super().__init__(binder, network, settings, seed, start_s)
        layer = network.network if isinstance(network, Mixture) else network
        assert isinstance(layer, nn.Linear)
        self.layer, self.path = layer, path
        self.terms = self.truth[0].numel()  # of the loss of a clip
        self._kept: list[tuple[Tensor, Tensor]]
        self._whitening: Whitening | None
        self.forget()

    def penalties(self, binder: Binder) -> Sequence[float]:
        """For each of which, in this order, the layer is solved."""
        return binder.head_type.penalties(binder.spec.config)

    def _rank(self, score: tuple[float, float]) -> tuple[float, float]:
        return score[::-1]

    def forget(self) -> None:
        """What the layer reads is not what it was: forget what was gathered of it."""
        self._kept, self._whitening = [], None

    def _epoch(self, epoch: int) -> float:
        self._whitening = self._whitening or self._learn_whitening()
        penalty = self.path[epoch - 1]
        weights = torch.cat([self.layer.weight, self.layer.bias.unsqueeze(1)], dim=1).detach()
        solution = minimise(lambda some: self._objective(some, penalty), weights, self._whitening.inverse(penalty))
        return float(self._objective(solution, 0.0)[0]) / self.terms

    def _objective(self, weights: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
        """The mean loss of a clip plus the penalty, and its gradient, at weights [outputs, dim + 1]."""
        with torch.no_grad():
            self.layer.weight.copy_(weights[:, :-1])
            self.layer.bias.copy_(weights[:, -1])
        self.optimizer.zero_grad()
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for x, truth in self._clips():
            loss = self.loss(self.layer(x), truth) * (self.terms * len(x) / len(self.train))
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        self.stretches.processes.all_reduce_gradients(self.network)
        value = self.stretches.processes.all_reduce(total) + penalty / 2 * weights[:, :-1].square().sum()
        zeros = torch.zeros_like(weights)
        slopes = (zeros[:, :-1] if self.layer.weight.grad is None else self.layer.weight.grad) + penalty * weights[
            :, :-1
        ]
        intercepts = zeros[:, -1] if self.layer.bias.grad is None else self.layer.bias.grad
        return value, torch.cat([slopes, intercepts.unsqueeze(1)], dim=1)

    def _learn_whitening(self) -> Whitening:
        inputs = self.layer.in_features + 1
        curvature = self.task.curvature(self.answers[self.train]).clamp(min=_LEAST_CURVATURE)
        # An estimate only has to be near: every k-th clip tells enough where there are many.
        every = max(1, len(self.train) // (_SAMPLED * (LEADING if inputs > WIDE else inputs)))
        if inputs > WIDE:
            return Whitening.leading(partial(self._products, every), inputs, self.device, curvature)
        return Whitening.of(self._products(every), curvature)

    def _products(self, every: int, basis: Tensor | None = None) -> Tensor:
        """The mean product of two inputs over every k-th clip [inputs, inputs]; times ``basis`` [inputs, columns]."""
        inputs = self.layer.in_features + 1
        products = torch.zeros(inputs, inputs if basis is None else basis.shape[1], device=self.device)
        clips = torch.zeros((), dtype=torch.float64, device=self.device)
        for x, _ in self._clips():
            x = torch.cat([x[::every], x.new_ones(len(x[::every]), 1)], dim=1)
            products += x.T @ (x if basis is None else x @ basis)
            clips += len(x)
        processes = self.stretches.processes
        return processes.all_reduce(products) / processes.all_reduce(clips).to(products.dtype)

    def _clips(self) -> Iterator[tuple[Tensor, Tensor]]:
        """What the layer reads for this process's training clips, and their truth, some clips at a time."""
        if self.stretches.whole:
            self._kept = self._kept or list(self._gathered())
            return iter(self._kept)
        return self._gathered()

    def _gathered(self) -> Iterator[tuple[Tensor, Tensor]]:
        for number, nodes in self.parts_of_training():
            (x,) = self.binder(number).inputs(nodes - self.stretches.stretches[number].begin)
            yield x, self.truth[nodes]

    def parts_of_training(self) -> Iterator[tuple[int, Tensor]]:
        """This process's training clips, some of one stretch at a time, and the stretch's number."""
        for number, stretch in enumerate(self.stretches.stretches):
            begin, end = places(self.train, stretch.begin, stretch.end)
            if begin < end:
                yield from ((number, nodes) for nodes in torch.split(self.train[begin:end], _AT_A_TIME))
