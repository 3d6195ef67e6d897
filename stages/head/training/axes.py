"""Principal axes: a wide representation in as many numbers as its training clips can tell apart."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

AXES = "axes"  # the fact that holds them, [dim, count]
SAMPLED = 4096  # training clips from which they are estimated, where there are more

_ITERATIONS = 4
_LEAST = 1e-20  # total variance of what is not constant


def principal_axes(x: Float[Tensor, "clips dim"], count: int) -> Float[Tensor, "dim count"]:
    """The leading principal axes of standardised clips, in one length: along them a number's mean square is 1.

    They are turned and not whitened, since the last ones would be little but noise. By the randomised iteration of
    Halko, Martinsson and Tropp, Finding Structure with Randomness, SIAM Review 53, 2011, from torch's generator. Fewer
    where there are fewer clips.
    """
    _, values, vectors = torch.svd_lowrank(x, q=min(count, *x.shape), niter=_ITERATIONS)
    square = values.square().mean() / len(x)
    axes: Tensor = vectors / square.clamp(min=_LEAST).sqrt()
    return axes
