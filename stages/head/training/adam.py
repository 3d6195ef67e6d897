"""Adam, without what PyTorch's class of that name imports: a compiler, in two seconds, before the first step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

_BETAS, _EPSILON = (0.9, 0.999), 1e-8


class Adam:
    """Adam (Kingma and Ba, ICLR 2015) by PyTorch's fused kernel, with decoupled weight decay.

    The decay is that of Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019: it never enters the
    moments. Only matrices decay.

    Attributes
    ----------
    rate : the learning rate; it may change from step to step.
    weight_decay : what a step takes of each weight is this, times the rate.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], rate: float, weight_decay: float = 0.0) -> None:
        self.parameters, self.rate, self.weight_decay = list(parameters), rate, weight_decay
        self._first = [torch.zeros_like(weight, requires_grad=False) for weight in self.parameters]
        self._second = [torch.zeros_like(weight, requires_grad=False) for weight in self.parameters]
        self._steps = [torch.zeros((), device=weight.device) for weight in self.parameters]

    def zero_grad(self) -> None:
        for weight in self.parameters:
            weight.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move the weights that have gradients."""
        numbers = [i for i, weight in enumerate(self.parameters) if weight.grad is not None]
        weights, first, second, steps = (
            [values[i] for i in numbers] for values in (self.parameters, self._first, self._second, self._steps)
        )
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        matrices = [weight for weight in weights if weight.dim() > 1]
        if self.weight_decay and matrices:
            torch._foreach_mul_(matrices, 1 - self.rate * self.weight_decay)
        adam(
            *(weights, gradients, first, second, [], steps),
            fused=True,
            amsgrad=False,
            beta1=_BETAS[0],
            beta2=_BETAS[1],
            lr=self.rate,
            weight_decay=0.0,
            eps=_EPSILON,
            maximize=False,
        )

    def state_dict(self) -> dict[str, list[Tensor]]:
        return {"first": self._first, "second": self._second, "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, values in self.state_dict().items():
            for mine, value in zip(values, state[name], strict=True):
                mine.copy_(value)
