"""Parts of published networks, slow and as their papers have them; ``state`` holds weights by name."""

from __future__ import annotations

import math

import torch
from torch import Tensor

State = dict[str, Tensor]


class Drawn:
    """Weights of any shape, drawn one after the other."""

    def __init__(self, scale: float = 0.3) -> None:
        self.state: State = {}
        self._generator, self._scale = torch.Generator().manual_seed(0), scale

    def draw(self, *shape: int) -> Tensor:
        return self._scale * torch.randn(*shape, generator=self._generator)

    def linear(self, name: str, size: int, out: int, *, bias: bool = True) -> None:
        self.tensor(f"{name}.weight", out, size)
        if bias:
            self.tensor(f"{name}.bias", out)

    def norm(self, name: str, size: int) -> None:
        self.state[f"{name}.weight"], self.state[f"{name}.bias"] = 1 + self.draw(size), self.draw(size)

    def batch_norm(self, name: str, size: int) -> None:
        self.norm(name, size)
        self.state[f"{name}.running_mean"], self.state[f"{name}.running_var"] = (
            self.draw(size),
            1 + self.draw(size).abs(),
        )
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(1)

    def tensor(self, name: str, *shape: int) -> None:
        self.state[name] = self.draw(*shape)


def norm(state: State, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    """Layer normalisation of the last axis; without weights where ``state`` has none."""
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"] if f"{name}.weight" in state else scaled


def batch_norm(state: State, name: str, x: Tensor) -> Tensor:
    """Of the first axis, by the running statistics."""
    shape = (-1, *(1,) * (x.ndim - 1))
    mean, variance, weight, bias = (
        state[f"{name}.{part}"].reshape(shape) for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def swish(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """[time, dim] scaled dot products, a head at a time."""
    size, parts = q.shape[1] // heads, []
    for h in range(heads):
        a, b, c = (x[:, h * size : (h + 1) * size] for x in (q, k, v))
        parts.append(torch.softmax(a @ b.T / math.sqrt(size), dim=1) @ c)
    return torch.cat(parts, dim=1)


def conv1d(x: Tensor, kernel: Tensor, bias: Tensor | None, stride: int = 1, dilation: int = 1) -> Tensor:
    """[channels, time] with a kernel [out, channels, taps], without padding."""
    taps = kernel.shape[2]
    length = (x.shape[1] - dilation * (taps - 1) - 1) // stride + 1
    out = torch.zeros(len(kernel), length, dtype=x.dtype)
    for tap in range(taps):
        first = tap * dilation
        out += kernel[:, :, tap] @ x[:, first : first + (length - 1) * stride + 1 : stride]
    return out if bias is None else out + bias[:, None]
