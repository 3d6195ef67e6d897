"""Stage two on work of MTG-Jamendo's size, beside DGL, plain matrix products and `numpy.load`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.head import _dgl
from stages.head.collection import Collection
from stages.head.graph import ArtistGraph
from stages.head.heads import Draw
from stages.head.heads.gnn import Gnn
from stages.head.losses import Loss
from stages.head.settings import Settings
from stages.head.train import _Loop
from store.layout import RepresentationName, Store
from store.reader import Representations
from store.schema import Catalog, CatalogInfo
from store.writer import RepresentationWriter
from tests.bench import best_seconds, entry

_CLIPS, _DIM, _ARTISTS, _LABELS = 48_590, 1_280, 3_297, 15
_NEIGHBOURS = 8
# The command up to its first epoch. Ending any other way than by `_exit` there is a failure: 3 is no exit code of it.
_UNTIL_TRAINING = """
import os, sys
from stages.head import train
train._Loop._epoch = lambda self, nodes: os._exit(0)
from pipeline.cli import main
main()
sys.exit(3)
"""
_INFO = CatalogInfo(name="bench", title="Bench", version="1", licence="CC0", citation="-", backbone="fcn")


def measure() -> dict[str, dict[str, Any]]:
    """On the threads that torch has been left with: one, so that both sides have the same."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        data = _collection()
        found = _training(data, 16, 40) | _training(data, 512, 4) | _aggregation(data)
        del data
        found |= _growth()
    finally:
        torch.set_num_threads(threads)
    return found | _memory() | _stored() | _help()


def _collection() -> Collection:
    """As many clips, artists and (to 2 %) edges as MTG-Jamendo's 15 genres have."""
    rng = np.random.default_rng(0)
    share = rng.lognormal(0, 1.53, _ARTISTS)
    artist = np.concatenate([np.arange(_ARTISTS), rng.choice(_ARTISTS, _CLIPS - _ARTISTS, p=share / share.sum())])
    clips = np.arange(_CLIPS)
    return Collection(
        info=_INFO,
        rows=clips,
        x=torch.randn(_CLIPS, _DIM),
        targets=rng.random((_CLIPS, _LABELS)) < 0.1,
        labels=tuple(f"label {i}" for i in range(_LABELS)),
        song=clips,
        album=np.full(_CLIPS, -1),
        artist=np.sort(artist),
        official=np.zeros(_CLIPS, dtype=np.int8),
        backbone=None,
        left_out={},
    )


def _training(data: Collection, batch: int, steps: int) -> dict[str, dict[str, Any]]:
    """Clips a second of whole training steps; the same layers, dropout and optimizer on every side."""
    assert data.x is not None
    settings = replace(Settings(), hidden=None, batch=batch, neighbours=_NEIGHBOURS)
    head = Gnn(data, data.x, np.zeros(len(data), dtype=np.int8), settings)
    targets = torch.from_numpy(data.targets)
    loop = _Loop(head, head.build(), targets, True, settings, Loss(targets, True, settings), 0)
    nodes = torch.randperm(len(data))[: batch * steps]
    averaged = [(data.x[part], data.x[part.flip(0)], part) for part in torch.split(nodes, batch)]

    def step(inputs: tuple[Tensor, ...], part: Tensor) -> None:
        loss = loop.loss(loop.network(*inputs), loop.wanted[part])
        loop.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        loop.optimizer.step()

    def products_alone() -> None:
        loop.network.train()
        for own, mean, part in averaged:
            step((own, mean), part)

    works: list[Callable[[], Any]] = [lambda: loop._epoch(nodes), products_alone]
    if _dgl.is_there():
        works.append(_dgl_epoch(data, nodes, batch, step))
    ours, products, *theirs = (len(nodes) / seconds for seconds in best_seconds(*works))
    what = f"{_CLIPS:,} x {_DIM:,}, {_NEIGHBOURS} neighbours, width 2 x {_DIM:,}, batch {batch}, one thread"
    found = {
        f"train-{batch}-products": entry(
            ours,
            products,
            0.9 if batch == 512 else None,
            "clips/s",
            f"{what}; peer: the same layers on neighbours that are averaged already",
            less_is_better=False,
        )
    }
    if theirs:
        found[f"train-{batch}-dgl"] = entry(
            ours,
            theirs[0],
            3.0 if batch == 16 else None,
            "clips/s",
            f"{what}; peer: DGL's NeighborSampler and DataLoader, the same layers on its blocks",
            less_is_better=False,
        )
        found[f"load-{batch}-dgl"] = _loading(data, head, nodes, batch, what)
    return found


def _loading(data: Collection, head: Gnn, nodes: Tensor, batch: int, what: str) -> dict[str, Any]:
    """What a step reads, drawn and averaged, without the step."""
    draw = Draw(_NEIGHBOURS, 0.0, torch.Generator())

    def load() -> None:
        head.start_epoch(nodes, draw)
        for places in torch.split(torch.randperm(len(nodes)), batch):
            head.training_inputs(nodes[places], places)

    epoch = _dgl_epoch(data, nodes, batch, lambda _inputs, _part: None)
    ours, theirs = (len(nodes) / seconds for seconds in best_seconds(load, epoch))
    note = f"{what}: sampling and averaging alone, no layers; peer: DGL's NeighborSampler and DataLoader"
    return entry(ours, theirs, None, "clips/s", note, less_is_better=False)


def _dgl_epoch(
    data: Collection, nodes: Tensor, batch: int, step: Callable[[tuple[Tensor, ...], Tensor], None]
) -> Callable[[], None]:
    dgl = _dgl.load()
    graph = data.graph.clique()
    graph.create_formats_()
    sampler = dgl.dataloading.NeighborSampler([_NEIGHBOURS])
    loader = dgl.dataloading.DataLoader(graph, nodes, sampler, batch_size=batch, shuffle=True)

    def epoch() -> None:
        warnings.filterwarnings("ignore", message="Dataloader CPU affinity")
        for sources, seeds, (block,) in loader:
            assert data.x is not None
            block.srcdata["x"] = data.x[sources]
            block.update_all(dgl.function.copy_u("x", "m"), dgl.function.mean("m", "mean"))
            step((block.srcdata["x"][: len(seeds)], block.dstdata["mean"]), seeds)

    return epoch


def _aggregation(data: Collection) -> dict[str, dict[str, Any]]:
    if not _dgl.is_there():
        return {}
    assert data.x is not None
    x, function, cliques = data.x, _dgl.load().function, data.graph.clique()
    cliques.create_formats_()
    cliques.ndata["x"] = x

    def theirs() -> Tensor:
        cliques.update_all(function.copy_u("x", "m"), function.mean("m", "mean"))
        mean: Tensor = cliques.ndata["mean"]
        return mean

    torch.testing.assert_close(data.graph.mean(x), theirs(), atol=1e-4, rtol=1e-4)
    ours, peer = best_seconds(lambda: data.graph.mean(x), theirs)
    note = f"{_CLIPS:,} x {_DIM:,}, all neighbours; peer: DGL over {cliques.num_edges():,} expanded edges, built before"
    return {"aggregate-all": entry(ours, peer, 5.0, "s", note)}


def _memory() -> dict[str, dict[str, Any]]:
    """In a process of its own, whose peak nothing else has raised."""
    told = subprocess.run([sys.executable, "-m", __name__], capture_output=True, text=True, check=True).stdout
    limit = 4.0
    note = "10^6 x 256, one artist of 50,000: graph, 8 drawn a clip, all means (1 GiB); peer: the limit beyond x"
    return {"memory-million": entry(float(told), limit, 1.0, "GiB", note)}


def _million(clips: int = 10**6, largest: int = 50_000) -> ArtistGraph:
    artist = torch.arange(clips) // 12 + 1
    artist[:largest] = 0
    artist = torch.unique(artist, return_inverse=True)[1]
    return ArtistGraph(artist)


def _peak_beyond_features() -> float:
    """GiB that the graph's work takes beyond what holds the features."""
    if _dgl.is_there():
        _dgl.load()
    x = torch.randn(10**6, 256)
    before = _peak()
    graph = _million()
    mean = graph.mean(x)
    graph.sample(torch.arange(len(mean)), _NEIGHBOURS, torch.Generator())
    return _peak() - before


def _peak() -> float:
    """The most GiB that this process has held; `getrusage` would count what its parent held before it started."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 2**20


def _growth() -> dict[str, dict[str, Any]]:
    """The exponent of seconds against clips, by least squares over logarithms, and the line itself."""
    sizes, seconds = [10_000, 31_623, 100_000, 316_228, 1_000_000], []
    for size in sizes:
        x, nodes = torch.randn(size, 64), torch.arange(size)

        def work(size: int = size, x: Tensor = x, nodes: Tensor = nodes) -> None:
            graph = _million(size, size // 20)
            graph.mean(x)
            graph.sample(nodes, _NEIGHBOURS, torch.Generator())

        seconds += best_seconds(work)
    exponent = float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
    line = ", ".join(f"{size:,}: {second:.3f} s" for size, second in zip(sizes, seconds, strict=True))
    note = f"graph, means and draws of N x 64, an artist of N / 20; peer: 1, linear; {line}"
    return {"growth-exponent": entry(exponent, 1.0, None, "power of N", note)}


def _stored() -> dict[str, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        x = np.random.default_rng(0).standard_normal((_CLIPS, _DIM), dtype=np.float32)
        _write(store, x)
        whole = Path(folder) / "whole.npy"
        np.save(whole, x)
        name = store.find("bench", "fcn")
        catalog = store.read_catalog("bench")
        ours, peer = best_seconds(lambda: Representations(store, catalog, name).read(), lambda: np.load(whole))
        note = f"{_CLIPS:,} x {_DIM:,} float32, files in the page cache; peer: numpy.load of the same bytes"
        found = {"read-stored": entry(ours, peer, 0.7, "s", note)}
        (start,) = best_seconds(lambda: _python("-c", _UNTIL_TRAINING, "head", "bench", "--store", folder), repeats=2)
        note = f"`encore head`, {_CLIPS:,} x {_DIM:,}, from the command to its first training step; peer: 5 s"
        return found | {"start-head": entry(start, 5.0, 1.0, "s", note)}


def _write(store: Store, x: np.ndarray[Any, Any]) -> None:
    rng = np.random.default_rng(1)
    ids = [f"clip-{i:06d}" for i in range(len(x))]
    artist = np.sort(rng.integers(0, len(x) // 12, len(x)))
    columns = {
        "clip_id": ids,
        "song_id": ids,
        "artist_id": [f"artist {a:06d}" for a in artist.tolist()],
        "labels": [[f"label {i}"] for i in rng.integers(0, _LABELS, len(x)).tolist()],
        "path": ids,
        "source": ids,
    }
    catalog = Catalog.build(_INFO, columns)
    store.write_catalog(catalog)
    name = RepresentationName("fcn", "0" * 12)
    writer = RepresentationWriter(
        store, catalog, name, settings={"backbone": "fcn"}, shape=x.shape[1:], dtype="float32"
    )
    for shard in writer.pending:
        writer.commit(shard, x[list(shard.rows)])
    writer.finish()


def _help() -> dict[str, dict[str, Any]]:
    (seconds,) = best_seconds(lambda: _python("-m", "pipeline.cli", "--help"))
    return {"help": entry(seconds, 0.5, 1.0, "s", "`encore --help`, warm; peer: 0.5 s")}


def _python(*arguments: str) -> None:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stderr}")


if __name__ == "__main__":
    print(_peak_beyond_features())
