"""How many threads a training takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits
from torch import nn

_ONE_THREAD_FLOPS = 1e9  # below so much work a step, other threads gain little, and lose much where cores are shared


def takes_one_thread(network: nn.Module, batch: int) -> bool:
    """Whether a training step of ``batch`` clips is so small that a second thread would only wait for the first.

    Counted are the floating-point operations of all weight matrices over the batch, forward and backward.
    """
    return 6 * batch * multiply_adds(network) < _ONE_THREAD_FLOPS


def multiply_adds(network: nn.Module) -> int:
    """How many a clip costs: one for each weight of a matrix that is multiplied, and none for tables of vectors."""
    tables = (nn.Embedding, nn.EmbeddingBag)
    layers = [layer for layer in network.modules() if not isinstance(layer, tables)]
    return sum(weight.numel() for layer in layers for weight in layer.parameters(recurse=False) if weight.dim() > 1)


@contextmanager
def threads(network: nn.Module, batch: int) -> Iterator[None]:
    """As many threads as steps of this size make use of."""
    with at_most(1 if takes_one_thread(network, batch) else torch.get_num_threads()):
        yield


@contextmanager
def at_most(count: int) -> Iterator[None]:
    """So many threads of torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread of torch and of the libraries of linear algebra: for many small steps, between which others wait."""
    with at_most(1), threadpool_limits(1):
        yield
