"""A minimum of a smooth convex function: limited-memory BFGS in the coordinates in which the data are white."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

Objective = Callable[[Tensor], tuple[Tensor, Tensor]]  # weights to the value, as float64, and its gradient
Inverse = Callable[[Tensor], Tensor]

_PAIRS = 10  # steps that the curvature is estimated from
_DECREASE = 1e-4  # share of the decrease promised by the slope that a step must bring (Armijo)
_HALVINGS = 20
_TOLERANCE = 1e-7  # share of the value that another step would gain
_MOST = 500  # steps
WIDE = 1024  # inputs up to which all eigenvectors are found
LEADING = 256  # eigenvectors that are found of wider ones
_ITERATIONS = 3


def minimise(objective: Objective, weights: Tensor, inverse: Inverse) -> Tensor:
    """The weights with the least value, from ``weights`` on.

    Liu and Nocedal, On the Limited Memory BFGS Method for Large Scale Optimization, Mathematical Programming 45, 1989.
    It stops where the next step would gain less than 1e-7 of the value, or less than rounding.

    Parameters
    ----------
    inverse : an estimate of the inverse Hessian, applied to a gradient; up to a factor, which is estimated too.
    """
    value, gradient = objective(weights)
    pairs: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=_PAIRS)
    for _ in range(_MOST):
        direction = _direction(gradient, pairs, inverse)
        slope = _dot(gradient, direction)
        if not -slope > _TOLERANCE * value.abs():
            break
        step = 1.0
        for _ in range(_HALVINGS):
            candidate = weights + step * direction
            new_value, new_gradient = objective(candidate)
            if new_value <= value + _DECREASE * step * slope:
                break
            step /= 2
        else:
            break
        change, turn = candidate - weights, new_gradient - gradient
        curvature = _dot(change, turn)
        if curvature > 0:
            pairs.append((change, turn, curvature))
        weights, value, gradient = candidate, new_value, new_gradient
    return weights


def _direction(gradient: Tensor, pairs: deque[tuple[Tensor, Tensor, Tensor]], inverse: Inverse) -> Tensor:
    """The two loops over the last steps; between them the estimate, scaled to the last step's curvature."""
    direction = -gradient
    shares = []
    for change, turn, curvature in reversed(pairs):
        share = _dot(change, direction) / curvature
        direction = direction - share * turn
        shares.append(share)
    direction = inverse(direction)
    if pairs:
        _, turn, curvature = pairs[-1]
        direction = direction * (curvature / _dot(turn, inverse(turn)))
    for (change, turn, curvature), share in zip(pairs, reversed(shares), strict=True):
        direction = direction + (share - _dot(turn, direction) / curvature) * change
    return direction


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum()


@dataclass(frozen=True)
class Whitening:
    """The inverse Hessian of a linear model with an L2 penalty, as if all clips of an output had the same curvature.

    Attributes
    ----------
    vectors, values : eigenvectors [inputs, leading] and eigenvalues [leading] of the mean product of two inputs: all of
        them, or the largest of many.
    rest : the mean of the eigenvalues that are left out; None where none is.
    curvature : [outputs] second derivative of the loss by an output, on average.
    """

    vectors: Float[Tensor, "inputs leading"]
    values: Float[Tensor, " leading"]
    rest: Tensor | None
    curvature: Float[Tensor, " outputs"]

    @classmethod
    def of(cls, products: Float[Tensor, "inputs inputs"], curvature: Float[Tensor, " outputs"]) -> Whitening:
        # In double precision, and exactly symmetric: single precision does not always converge on products of columns
        # that nearly repeat each other.
        exact = products.double()
        values, vectors = torch.linalg.eigh((exact + exact.T) / 2)
        return cls(vectors.to(products.dtype), values.clamp(min=0).to(products.dtype), None, curvature)

    @classmethod
    def leading(
        cls,
        products: Callable[[Tensor], Tensor],
        inputs: int,
        device: torch.device,
        curvature: Float[Tensor, " outputs"],
    ) -> Whitening:
        """The largest eigenvalues of wide products, and their vectors, by subspace iteration.

        Halko, Martinsson and Tropp, Finding Structure with Randomness, SIAM Review 53, 2011, algorithm 4.4. The
        estimate only has to be near, and all eigenvectors of 6,720 inputs take minutes.

        Parameters
        ----------
        products : the mean product of two inputs [inputs, inputs], times a matrix [inputs, columns].
        """
        start = torch.randn(inputs, LEADING, generator=torch.Generator().manual_seed(0)).to(device)
        basis = torch.linalg.qr(start).Q
        # Random directions of unit length: the mean of their squares is that of all eigenvalues (Hutchinson).
        image = products(basis)
        trace = (basis * image).sum() * inputs / LEADING
        for _ in range(_ITERATIONS - 1):
            image = products(torch.linalg.qr(image).Q)
        basis = torch.linalg.qr(image).Q
        small = (basis.T @ products(basis)).double()
        values, vectors = torch.linalg.eigh((small + small.T) / 2)
        rest = (trace - values.sum()).clamp(min=0) / (inputs - LEADING)
        dtype = start.dtype
        return cls(basis @ vectors.to(dtype), values.clamp(min=0).to(dtype), rest.to(dtype), curvature)

    def renewed(self, products: Float[Tensor, "inputs leading"]) -> Whitening:
        """The estimate for inputs that are not what they were, whose eigenvectors will not have turned far.

        Parameters
        ----------
        products : their mean product, times `vectors`.
        """
        values = (self.vectors * products).sum(dim=0).clamp(min=0)
        rest = (
            None
            if self.rest is None
            else self.rest * values.sum() / self.values.sum().clamp(min=torch.finfo(values.dtype).tiny)
        )
        return replace(self, values=values, rest=rest)

    def inverse(self, penalty: float) -> Inverse:
        """The estimate for `minimise`, of gradients [outputs, inputs]."""
        curvature = self.curvature.unsqueeze(1)
        scale = 1 / (curvature * self.values + penalty)
        if self.rest is None:
            return lambda gradient: (gradient @ self.vectors * scale) @ self.vectors.T
        other = 1 / (curvature * self.rest + penalty)
        return lambda gradient: other * gradient + (gradient @ self.vectors * (scale - other)) @ self.vectors.T
