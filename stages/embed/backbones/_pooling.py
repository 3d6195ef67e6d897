"""What is kept of a layer's output over time."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def pooled(x: Float[Tensor, "batch time dim"], *, deviation: bool) -> Float[Tensor, "batch kept"]:
    """The mean over time; with ``deviation`` the (population's) standard deviation over time behind it."""
    mean = x.mean(dim=1)
    return torch.cat([mean, x.std(dim=1, correction=0)], dim=1) if deviation else mean
