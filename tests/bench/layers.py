"""What the layers of a representation cost stage two: reading one of them, and training on their mixture.

The peer of both is a store that holds that one layer alone.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stages.head.train import train_heads
from store.layout import RepresentationName, Store
from store.reader import Representations
from store.schema import Catalog, CatalogInfo
from store.writer import RepresentationWriter
from tests.bench import entry, median_seconds, one_quiet_thread, processor_seconds

_CLIPS, _LAYERS, _DIM, _LABELS = 4_096, 13, 768, 8
_LAYER = 6
_EPOCHS = (2, 12)  # what is done once is left out: the difference is that of the epochs alone
_ONE, _ALL = RepresentationName("one", "0" * 12), RepresentationName("all", "1" * 12)


def measure() -> dict[str, Any]:
    with one_quiet_thread(), tempfile.TemporaryDirectory() as folder:
        return _measured(Store(Path(folder)))


def _measured(store: Store) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    catalog = _catalog(rng)
    store.write_catalog(catalog)
    values = rng.standard_normal((_CLIPS, _LAYERS, _DIM), dtype=np.float32)
    for name, numbers in ((_ONE, values[:, _LAYER]), (_ALL, values)):
        writer = RepresentationWriter(
            store, catalog, name, settings={"backbone": name.backbone}, shape=numbers.shape[1:], dtype="float32"
        )
        for shard in writer.pending:
            writer.commit(shard, numbers[shard.first : shard.last])
        writer.finish()
    alone, among = Representations(store, catalog, _ONE), Representations(store, catalog, _ALL)
    assert np.array_equal(alone.read(), among.read(layer=_LAYER))
    layer_s, single_s = median_seconds(lambda: among.read(layer=_LAYER), alone.read, repeats=31)
    size = f"{_CLIPS:,} clips of {_LAYERS} x {_DIM}"
    lines = {"layer-read": entry(layer_s, single_s, 1 / 1.2, "s", f"one layer of {size}, checked against its hash")}
    for mode in ("song", "gnn"):
        mix_s, one_s = (_training_s(store, f"{_ALL}@{layer}", mode) for layer in ("mix", _LAYER))
        note = f"{_EPOCHS[1] - _EPOCHS[0]} epochs of {mode} on the mixture of {size}, and on one layer"
        lines[f"layer-mix-{mode}"] = entry(mix_s, one_s, 1 / 1.5, "s", note)
    return lines


def _catalog(rng: np.random.Generator) -> Catalog:
    ids = [f"{row:06}" for row in range(_CLIPS)]
    columns = {
        "clip_id": ids,
        "song_id": ids,
        "artist_id": [f"{row // 8:06}" for row in range(_CLIPS)],
        "labels": [[f"label {label}"] for label in rng.integers(0, _LABELS, _CLIPS)],
        "path": ids,
        "source": ids,
    }
    info = CatalogInfo(name="bench", title="", version="1", licence="", citation="", backbone="one")
    return Catalog.build(info, columns)


def _training_s(store: Store, backbone: str, mode: str) -> float:
    """The processor's time of the epochs."""
    times = []
    for epochs in (1, *_EPOCHS):  # the first of all runs pays for what later ones find done
        started = processor_seconds()
        train_heads(
            store,
            "bench",
            backbone=backbone,
            modes=[mode],
            regimes=["random"],
            seeds=1,
            changes={"epochs": str(epochs), "patience": str(epochs)},
            device=torch.device("cpu"),
        )
        times.append(processor_seconds() - started)
    return times[2] - times[1]
