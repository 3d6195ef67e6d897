"""What numbers were made with: versions of libraries, and the kind of machine. Nothing of it decides a fingerprint."""

from __future__ import annotations

import importlib.metadata
import platform

import torch

_PACKAGE = "encore-mir"


def version(package: str) -> str:
    """The version of an installed package, or that it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def environment(device: torch.device) -> dict[str, str]:
    """By name what computes on this device: Encore, Python, torch, numpy, the system, the processor or accelerator."""
    processor = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return {
        "Encore": version(_PACKAGE),
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "machine": f"{platform.system()} {platform.machine()}",
        "processor": processor,
    }
