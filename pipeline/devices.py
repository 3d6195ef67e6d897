"""Which device a command runs on."""

from __future__ import annotations

import torch

from store.errors import RequestError


def find_device(name: str) -> torch.device:
    """``auto`` takes a GPU where there is one; RequestError for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RequestError(f"device {name!r} cannot be used: {reason}; take auto, cpu or cuda") from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise RequestError(f"device {name!r} cannot be used; take auto, cpu or cuda")
    return device
