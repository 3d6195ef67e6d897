"""The processes that train one head together, started by ``torchrun``; one alone is a world too."""

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
    """Process ``rank`` of ``size``. What all of them compute alike needs none of this."""

    rank: int = 0
    size: int = 1

    def sum(self, values: Tensor) -> Tensor:
        """``values`` added up over the processes, in place; the same bits in each of them."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def sum_gradients(self, network: nn.Module) -> None:
        """Add up the gradients over the processes, in one message."""
        if self.size == 1:
            return
        parameters = [p for p in network.parameters() if p.requires_grad]
        flat = torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in parameters])
        parts = torch.split(self.sum(flat), [p.numel() for p in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)

    def tell(self, said: T) -> T:
        """What the first process says, in all of them."""
        heard = [said]
        if self.size > 1:
            dist.broadcast_object_list(heard)
        return heard[0]


ALONE = ProcessGroup()


@contextmanager
def joined(device: torch.device) -> Iterator[ProcessGroup]:
    """The world that ``torchrun`` started this process in, left again at the end."""
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
