"""What the layers of a representation cost stage two: reading one of them, and training on their mixture.

The peer of both is a store that holds that one layer alone; what a mixture learns is compared with the best layer.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stages import registry
from stages.head.open import load
from stages.head.options import resolve
from stages.head.train import train_heads
from stages.head.training.loop import train
from store.layout import RepresentationName, Store
from store.reader import Representations
from store.schema import Catalog, CatalogInfo
from store.writer import RepresentationWriter
from tests.bench import entry, median_seconds, one_quiet_thread

_CLIPS, _LAYERS, _DIM, _LABELS = 4_096, 13, 768, 8
_LAYER = 6
_FEW, _NARROW, _SEEDS = 1_000, 48, 3
_EPOCHS = 12
_MODES = ("song", "random-features", "gnn", "gated", "knn", "similar-edges", "cluster-edges", "linear")
_TOLD = 0.08  # deviations of a number by which the label moves it, so that a solved head goes along its path
_TURNS = 3
_ONE, _ALL = RepresentationName("one", "0" * 12), RepresentationName("all", "1" * 12)


def measure() -> dict[str, Any]:
    with one_quiet_thread(), tempfile.TemporaryDirectory() as folder:
        return _measured(Store(Path(folder))) | _learnt()


def _measured(store: Store) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    catalog = _catalog(rng.integers(0, _LABELS, _CLIPS))
    store.write_catalog(catalog)
    values = rng.standard_normal((_CLIPS, _LAYERS, _DIM), dtype=np.float32)
    values += _TOLD * rng.standard_normal((_LABELS, _LAYERS, _DIM), dtype=np.float32)[_numbers(catalog)]
    for name, numbers in ((_ONE, values[:, _LAYER]), (_ALL, values)):
        _write(store, catalog, name, numbers)
    alone, among = Representations(store, catalog, _ONE), Representations(store, catalog, _ALL)
    assert np.array_equal(alone.read(), among.read(layer=_LAYER))
    layer_s, single_s = median_seconds(lambda: among.read(layer=_LAYER), alone.read, repeats=31)
    size = f"{_CLIPS:,} clips of {_LAYERS} x {_DIM}"
    lines = {"layer-read": entry(layer_s, single_s, 1 / 1.2, "s", f"one layer of {size}, checked against its hash")}
    for mode in _MODES:
        each = [[_training_s(store, f"{_ALL}@{layer}", mode) for layer in ("mix", _LAYER)] for _ in range(_TURNS)]
        mix_s, one_s = np.median(each, axis=0).tolist()
        note = f"an epoch of {mode} on the mixture of {size}, and on one layer"
        lines[f"layer-mix-{mode}"] = entry(mix_s, one_s, 1 / 1.5, "s", note)
    return lines


def _write(store: Store, catalog: Catalog, name: RepresentationName, values: np.ndarray[Any, Any]) -> None:
    writer = RepresentationWriter(
        store, catalog, name, settings={"backbone": name.backbone}, shape=values.shape[1:], dtype="float32"
    )
    for shard in writer.pending:
        writer.commit(shard, values[shard.first : shard.last])
    writer.finish()


def _learnt() -> dict[str, Any]:
    """What heads make of the mixture of generated layers (synthetic), of which one, five or all know the labels."""
    distance = np.abs(np.arange(_LAYERS) - _LAYER)
    knowledge = {
        "one layer knows": 0.45 * (distance == 0),
        "five layers know": 0.3 * np.exp(-((distance / 2) ** 2)),
        "all layers know": np.full(_LAYERS, 0.15),
    }
    lines = {}
    for number, (who, moves) in enumerate(knowledge.items()):
        with tempfile.TemporaryDirectory() as folder:
            store = Store(Path(folder))
            _write_songs(store, moves)
            for mode in ("song", "gnn", "gated"):
                alone, mean, mixture = (_accuracy(store, mode, layer) for layer in (str(_LAYER), "mean", "mix"))
                note = (
                    f"{who} the labels of {_FEW:,} clips of {_LAYERS} x {_NARROW} (synthetic): {mode} on their mixture,"
                    f" {_SEEDS} seeds, artist; peer: the best of layer {_LAYER} ({alone:.1f}) and mean ({mean:.1f})"
                )
                lines[f"layer-mix-{mode}-{number}"] = entry(
                    mixture, max(alone, mean), 0.95, "%", note, less_is_better=False
                )
    return lines


def _write_songs(store: Store, moves: np.ndarray[Any, Any]) -> None:
    """Clips whose label moves each layer along a direction of its own, by ``moves`` [layers] deviations a number."""
    rng = np.random.default_rng(0)
    artists = np.arange(_FEW) // 8
    tastes = rng.integers(0, _LABELS, artists.max() + 1)
    labels = np.where(rng.random(_FEW) < 0.6, tastes[artists], rng.integers(0, _LABELS, _FEW))
    catalog = _catalog(labels)
    store.write_catalog(catalog)
    of_row = _numbers(catalog)
    values = np.empty((_FEW, _LAYERS, _NARROW), dtype=np.float32)
    noise, directions = rng.standard_normal((_FEW, _NARROW)), rng.standard_normal((_LABELS, _NARROW))
    for layer, move in enumerate(moves):
        values[:, layer] = noise + move * directions[of_row]
        noise = 0.8 * noise + 0.6 * rng.standard_normal(noise.shape)  # layers that follow each other are alike
    _write(store, catalog, _ALL, values)


def _accuracy(store: Store, mode: str, layer: str) -> float:
    (result,) = train_heads(
        store,
        "bench",
        backbone=f"{_ALL}@{layer}",
        modes=[mode],
        regimes=["artist"],
        seeds=_SEEDS,
        changes={},
        device=torch.device("cpu"),
    )
    accuracy: float = result.as_json()["metrics"]["accuracy"]["mean"]
    return 100 * accuracy


def _numbers(catalog: Catalog) -> np.ndarray[Any, Any]:
    """[clips] the number of each clip's label."""
    return np.array([int(name[0].split()[-1]) for name in catalog.column("labels").to_pylist()])


def _catalog(labels: np.ndarray[Any, Any]) -> Catalog:
    ids = [f"{row:06}" for row in range(len(labels))]
    columns = {
        "clip_id": ids,
        "song_id": ids,
        "artist_id": [f"{row // 8:06}" for row in range(len(labels))],
        "labels": [[f"label {label}"] for label in labels],
        "path": ids,
        "source": ids,
    }
    info = CatalogInfo(name="bench", title="", version="1", licence="", citation="", backbone="one")
    return Catalog.build(info, columns)


def _training_s(store: Store, backbone: str, mode: str) -> float:
    """The processor's time of an epoch: the median over pairs, in one of which weights over layers move, or, of a head
    that is solved, the mean over its path."""
    collection, head = load(store, "bench", backbone), registry.find("head", mode)
    settings, configs = resolve([head], {"epochs": str(_EPOCHS), "patience": str(_EPOCHS)})
    done: list[float] = []
    train(
        head,
        collection,
        collection.split("random", 0),
        configs[head],
        settings,
        seed=0,
        device=torch.device("cpu"),
        on_epoch=lambda _epoch: done.append(time.process_time()),
    )
    if mode == "linear":
        return float(np.diff(done).mean())
    return float(np.median(np.diff(done[::2])) / 2)
