"""A GPU: clips a second and share of busy time of the four backbones, and stage two on work of MTG-Jamendo's size."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from stages import registry
from stages.embed.backbones import PRECISIONS
from stages.head.collection import Collection
from stages.head.fit import count
from stages.head.heads import TrainedHead
from stages.head.heads.gnn import Gnn
from stages.head.settings import Settings
from stages.head.training.binder import Binder
from stages.head.training.loop import Loop, train
from stages.head.training.stretches import Stretches
from stages.progress import be_quiet
from stages.splits.regimes import Split
from tests.bench import best_seconds, entry
from tests.bench.backbones import clips, machine, new_stores, songs
from tests.bench.heads import collection

WANTS = "a GPU"
BACKBONES = ("musicbert", "pianoroll-cnn", "mixcnn", "cola")
MODES = ("song", "artist", "artist-embedding", "gnn", "dropedge")  # the thesis's
EPOCHS = 30  # on random labels, where nothing stops a training early
WITHIN_S = 60.0


def measure() -> dict[str, Any]:
    if not torch.cuda.is_available():
        return {}
    device = torch.device("cuda")
    be_quiet(True)
    try:
        return encoding(device, count=32, times=16, size=32) | heads(device, collection(), EPOCHS, side=8192)
    finally:
        be_quiet(False)


def encoding(
    device: torch.device, *, count: int, times: int, size: int, settings: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """``count`` songs ``times`` times through each backbone in each precision of the device, ``size`` clips at once."""
    with tempfile.TemporaryDirectory() as folder:
        catalog, stores = songs(Path(folder), count, times), new_stores(Path(folder))
        return {
            f"gpu-{name}-{precision}": clips(name, catalog, stores, device, size, precision, (settings or {}).get(name))
            for name in BACKBONES
            for precision in (PRECISIONS if device.type == "cuda" else PRECISIONS[:1])
        }


def heads(device: torch.device, data: Collection, epochs: int, side: int) -> dict[str, Any]:
    """Seconds of the thesis's modes together, and the rate of a wide training beside that of a matrix product."""
    settings = Settings(epochs=epochs, patience=epochs)
    part = _split(len(data))
    seconds = {}
    for mode in MODES:
        head = registry.find("head", mode)
        started = time.perf_counter()
        if issubclass(head, TrainedHead):
            train(head, data, part, head.Config(), settings, seed=0, device=device)
        else:
            count(head, data, part, head.Config())
        seconds[mode] = time.perf_counter() - started
    what = f"{len(data):,} x {data.dim:,} on {machine(device)}"
    text = ", ".join(f"{mode} {took:.1f}" for mode, took in seconds.items())
    entries = {
        "gpu-modes": entry(
            sum(seconds.values()), WITHIN_S, 1.0, "s", f"{what}, {epochs} epochs each: {text}; peer: {WITHIN_S:g} s"
        )
    }
    peer = _product_rate(device, side)
    for batch in (16, 512):
        ours = _training_rate(device, data, batch)
        note = (
            f"{what}: training gnn as wide as the representation, batch {batch}; peer: product of {side:,} x {side:,}"
        )
        entries[f"gpu-rate-{batch}"] = entry(ours, peer, None, "Tflop/s", note, less_is_better=False)
    return entries


def _product_rate(device: torch.device, side: int) -> float:
    """10^12 operations a second of a product of matrices in float32, as heads compute in."""
    a, b = torch.randn(2, side, side, device=device)

    def product() -> None:
        a @ b
        _wait(device)

    product()
    return 2 * side**3 / best_seconds(product)[0] / 1e12


def _training_rate(device: torch.device, data: Collection, batch: int) -> float:
    """The same of an epoch's matrix products: forward, and backward to weights and inputs."""
    part = _split(len(data))
    settings = Settings(batch=batch, standardise=False)
    binder = Binder.learn(Gnn, Stretches(data), part, Gnn.Config(hidden=None), settings, device)
    loop = Loop(binder, Gnn.build(binder.spec).to(device), settings, 0)
    epochs = iter(range(1, 5))
    loop._epoch(next(epochs))
    (seconds,) = best_seconds(lambda: loop._epoch(next(epochs)))
    layers = [layer for layer in loop.network.modules() if isinstance(layer, nn.Linear)]
    # The first layers' inputs need no gradients.
    per_clip = sum((6 if layer.out_features == len(data.label_names) else 4) * layer.weight.numel() for layer in layers)
    return float((part == 0).sum()) * per_clip / seconds / 1e12


def _split(clips: int) -> Split:
    """Eight clips in ten for training, one for validation, one for testing."""
    return np.random.default_rng(0).choice(3, clips, p=[0.8, 0.1, 0.1]).astype(np.int8)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
