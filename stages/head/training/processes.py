"""The processes that train one head together, started by ``torchrun``; a single one is a group too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")


@dataclass(frozen=True)
class ProcessGroup:
    """Process ``rank`` of ``size``, which does nothing where the process is alone."""

    rank: int = 0
    size: int = 1

    def all_reduce(self, values: Tensor) -> Tensor:
        """``values`` added up over the processes, in place; the same bits in each of them."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def all_reduce_gradients(self, network: nn.Module) -> None:
        """Add up the gradients over the processes, in one message."""
        if self.size == 1:
            return
        parameters = [p for p in network.parameters() if p.requires_grad]
        flat = torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in parameters])
        parts = torch.split(self.all_reduce(flat), [p.numel() for p in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)

    def broadcast(self, value: T) -> T:
        """The first process's value, in all of them."""
        values = [value]
        if self.size > 1:
            dist.broadcast_object_list(values)
        return values[0]


ALONE = ProcessGroup()


@contextmanager
def joined(device: torch.device) -> Iterator[ProcessGroup]:
    """The group that ``torchrun`` started this process in, left again at the end."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield ProcessGroup(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
