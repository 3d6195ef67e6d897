"""The device that a command runs on, and its memory."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from store.errors import RequestError


def find_memory(device: torch.device) -> int:
    """Bytes that each process may use: what is free on a GPU, or its share of main memory (or of its container's)."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")  # of a container
    if limit.is_file() and (text := limit.read_text().strip()).isdigit():
        memory = min(memory, int(text))
    return memory // int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def find_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is a GPU if there is one. RequestError for a device that cannot be used."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type in ("cpu", "cuda"):
            torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RequestError(f"device {name!r} cannot be used: {reason}; take auto, cpu or cuda") from error
    if device.type == "mps":
        raise RequestError(
            f"device {name!r} cannot be used: it has no 64-bit floats, which Encore adds up in; take auto, cpu or cuda"
        )
    if device.type not in ("cpu", "cuda"):
        raise RequestError(f"device {name!r} cannot be used; take auto, cpu or cuda")
    if device.index is not None and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise RequestError(f"torchrun gives each process a GPU of its own, not {name}; take auto, cpu or cuda")
    return device
