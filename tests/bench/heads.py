"""Stage two on work of MTG-Jamendo's size, beside DGL, plain matrix products and `numpy.load`."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.head.collection import Collection
from stages.head.graph import _dgl
from stages.head.heads import Draw, TrainedHead
from stages.head.heads.gnn import Gnn
from stages.head.heads.linear import Linear
from stages.head.open import load
from stages.head.scores.task import MULTI_LABEL
from stages.head.settings import Settings
from stages.head.training.binder import Binder
from stages.head.training.loop import Loop, train
from stages.head.training.stretches import Stretches
from stages.memory import keep_freed_memory
from store.layout import RepresentationName, Store
from store.reader import Representations
from store.schema import Catalog, CatalogInfo
from store.writer import RepresentationWriter
from tests.bench import best_seconds, entry, median_seconds

Step = Callable[[tuple[Tensor, ...], Tensor], None]

_CLIPS, _DIM, _ARTISTS, _LABELS = 48_590, 1_280, 3_297, 15
_NEIGHBOURS = 8
# The command up to its first epoch. Ending any other way than by `_exit` there is a failure: 3 is no exit code of it.
_UNTIL_TRAINING = """
import os, sys
from stages.head.training import loop as train
train.Loop._epoch = lambda self, epoch: os._exit(0)
from pipeline.cli import main
main()
sys.exit(3)
"""
_INFO = CatalogInfo(name="bench", title="Bench", version="1", licence="CC0", citation="-", backbone="fcn")


def measure() -> dict[str, dict[str, Any]]:
    """On one thread, so that both sides have the same, but for reading, which takes what there is."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    keep_freed_memory(largest=1 << 25)  # for both sides
    try:
        data = collection()
        entries = _training(data, 16, 40) | _training(data, 512, 4) | _aggregation(data) | _linear(data)
    finally:
        torch.set_num_threads(threads)
    del data
    return entries | _stored() | _help()


def collection(clips: int = _CLIPS, dim: int = _DIM, artists: int = _ARTISTS) -> Collection:
    """As many clips, artists and (to 2 %) edges as MTG-Jamendo's 15 genres have, with random numbers and labels."""
    rng = np.random.default_rng(0)
    share = rng.lognormal(0, 1.53, artists)
    artist = np.concatenate([np.arange(artists), rng.choice(artists, clips - artists, p=share / share.sum())])
    numbers = np.arange(clips)
    return Collection(
        info=_INFO,
        rows=numbers,
        x=torch.randn(clips, dim),
        labels=rng.random((clips, _LABELS)) < 0.1,
        label_names=tuple(f"label {i}" for i in range(_LABELS)),
        task=MULTI_LABEL,
        song=numbers,
        album=np.full(clips, -1),
        artist=np.sort(artist),
        artist_ids=tuple(f"artist {i}" for i in range(artists)),
        official=np.zeros(clips, dtype=np.int8),
        backbone=None,
        left_out={},
    )


def _linear(data: Collection, l2: float = 1e-3) -> dict[str, dict[str, Any]]:
    """Logistic regressions of all labels at one penalty, as the head and as scikit-learn solve them.

    The peer is the faster of its two solvers that fit, a label at a time; which that is, the first label tells.
    Representations are correlated: the k-th principal direction has 1 / k of the first one's variance.
    """
    from sklearn.linear_model import LogisticRegression

    assert data.x is not None
    clips, dim = data.x.shape
    part = np.zeros(clips, dtype=np.int8)
    part[:10] = 1  # the head wants some to validate on
    config, settings = Linear.Config(l2=l2), Settings(standardise=False)
    spread = data.x * torch.arange(1, dim + 1) ** -0.5
    data = replace(
        data, x=spread @ torch.linalg.qr(torch.randn(dim, dim))[0] * (dim / spread.square().sum(dim=1).mean()) ** 0.5
    )
    assert data.x is not None
    x, truth = data.x[10:].numpy(), data.labels[10:]
    weights: dict[str, np.ndarray] = {}

    def ours() -> None:
        state = train(Linear, data, part, config, settings, seed=0, device=torch.device("cpu")).state
        weights["ours"] = torch.cat([state["weight"], state["bias"].unsqueeze(1)], dim=1).double().numpy()

    def fitted(solver: str, labels: int) -> None:
        model = LogisticRegression(C=1 / (l2 * len(x)), max_iter=1000, solver=solver)
        rows = [np.append(fit.coef_[0], fit.intercept_) for fit in (model.fit(x, one) for one in truth.T[:labels])]
        weights["theirs"] = np.stack(rows)

    solvers = ("lbfgs", "newton-cholesky")
    first = median_seconds(*(partial(fitted, solver, 1) for solver in solvers), repeats=1)
    solver = solvers[int(np.argmin(first))]
    seconds = median_seconds(ours, lambda: fitted(solver, truth.shape[1]), repeats=1)
    losses = {}
    for name, matrix in weights.items():
        outputs = x @ matrix[:, :-1].T + matrix[:, -1]
        loss = (np.logaddexp(0, outputs) - truth * outputs).sum(axis=1).mean()
        losses[name] = loss + l2 / 2 * np.square(matrix[:, :-1]).sum()
    note = (
        f"{clips:,} x {dim:,}, {truth.shape[1]} labels, one thread's time; penalised loss {losses['ours']:.6f}, "
        f"scikit-learn's {losses['theirs']:.6f} ({solver})"
    )
    return {"logistic regression": entry(*seconds, 3, "s", note)}


def _training(data: Collection, batch: int, steps: int) -> dict[str, dict[str, Any]]:
    """Clips a second of whole training steps; the same layers, dropout and optimizer on every side."""
    assert data.x is not None
    settings = Settings(batch=batch, standardise=False, steps=1)  # an epoch is one pass
    config = Gnn.Config(hidden=None, neighbours=_NEIGHBOURS)
    nodes = torch.randperm(len(data))[: batch * steps]
    part = np.full(len(data), -1, dtype=np.int8)
    part[nodes] = 0
    binder = Binder.learn(Gnn, Stretches(data), part, config, settings, torch.device("cpu"))
    loop = Loop(binder, Gnn.build(binder.spec), settings, 0)
    averaged = [(data.x[part], data.x[part.flip(0)], part) for part in torch.split(nodes, batch)]

    def step(inputs: tuple[Tensor, ...], part: Tensor) -> None:
        loop.optimizer.zero_grad()
        loop.add_gradients(inputs, part, loop.truth[part], len(part))
        loop.optimizer.step()

    def products_alone() -> None:
        loop.network.train()
        for own, mean, part in averaged:
            step((own, mean), part)

    what = f"{_CLIPS:,} x {_DIM:,}, {_NEIGHBOURS} neighbours, width 2 x {_DIM:,}, batch {batch}, one thread's time"
    works: dict[str, Callable[[], Any]] = {"ours": lambda: loop._epoch(1), "products": products_alone}
    if _dgl.is_there():
        works["dgl"] = _dgl_epoch(data, nodes, batch, step)
        works["script"] = _dgl_epoch(data, nodes, batch, _plain_step(data))
    rate = {name: len(nodes) / seconds for name, seconds in zip(works, median_seconds(*works.values()), strict=True)}
    peers = {
        "products": "the same layers on neighbours that are averaged already",
        "dgl": "DGL's NeighborSampler and DataLoader, the same step on its blocks; "
        f"a ratio of {rate['products'] / rate.get('dgl', np.inf):.2f} is what loading at no cost would reach",
        "script": "the same with PyTorch's own dropout and Adam as they come",
    }
    targets = {("products", 512): 0.9, ("dgl", 16): 3.0, ("script", 16): 3.0}
    entries = {
        f"train-{batch}-{name}": entry(
            rate["ours"],
            rate[name],
            targets.get((name, batch)),
            "clips/s",
            f"{what}; peer: {peer}",
            less_is_better=False,
        )
        for name, peer in peers.items()
        if name in rate
    }
    if "dgl" in rate:
        entries[f"load-{batch}-dgl"] = _loading(data, binder.any(), nodes, batch, what)
    return entries


def _plain_step(data: Collection) -> Step:
    """The step as PyTorch's users write it."""
    song, neighbours, output = nn.Linear(_DIM, _DIM), nn.Linear(_DIM, _DIM), nn.Linear(2 * _DIM, _LABELS)
    optimizer = torch.optim.Adam(nn.ModuleList([song, neighbours, output]).parameters(), lr=4e-4)
    truth = torch.from_numpy(data.labels).float()

    def step(inputs: tuple[Tensor, ...], part: Tensor) -> None:
        hidden = torch.relu(torch.cat([song(inputs[0]), neighbours(inputs[1])], dim=1))
        loss = F.binary_cross_entropy_with_logits(output(F.dropout(hidden)), truth[part])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _loading(data: Collection, head: TrainedHead, nodes: Tensor, batch: int, what: str) -> dict[str, Any]:
    """What a step reads, drawn and averaged, without the step."""
    draw = Draw(0, head.rows)

    def load() -> None:
        head.start_epoch(nodes, draw)
        for places in torch.split(torch.randperm(len(nodes)), batch):
            head.training_inputs(nodes[places], places)

    epoch = _dgl_epoch(data, nodes, batch, lambda _inputs, _part: None)
    ours, theirs = (len(nodes) / seconds for seconds in median_seconds(load, epoch))
    note = f"{what}: sampling and averaging alone, no layers; peer: DGL's NeighborSampler and DataLoader"
    return entry(ours, theirs, 3.0 if batch == 16 else None, "clips/s", note, less_is_better=False)


def _dgl_epoch(data: Collection, nodes: Tensor, batch: int, step: Step) -> Callable[[], None]:
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
    ours, peer = median_seconds(lambda: data.graph.mean(x), theirs)
    edges = f"{cliques.num_edges():,} expanded edges, built before"
    note = f"{_CLIPS:,} x {_DIM:,}, all neighbours, one thread's time; peer: DGL over {edges}"
    return {"aggregate-all": entry(ours, peer, 5.0, "s", note)}


def _stored() -> dict[str, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        x = np.random.default_rng(0).standard_normal((_CLIPS, _DIM), dtype=np.float32)
        _write(store, x)
        file = Path(folder) / "whole.npy"
        np.save(file, x)
        name = store.find("bench", "fcn")
        opened = Representations(store, store.read_catalog("bench"), name)
        what = f"{_CLIPS:,} x {_DIM:,} float32, files in the page cache, each checked against its hash"
        (ours, peer, loading) = median_seconds(
            opened.read,
            lambda: np.load(file),
            lambda: load(store, "bench", "fcn"),
            repeats=9,
            clock=time.perf_counter,
        )
        alone, theirs = median_seconds(opened.read, lambda: np.load(file))
        entries = {
            "read-stored": entry(
                ours,
                peer,
                0.7,
                "s",
                f"{what}; peer: numpy.load of the same bytes; processor's time {alone:.3f} s and {theirs:.3f} s",
            ),
            "load-collection": entry(
                loading,
                peer,
                None,
                "s",
                f"{what}: catalog, its hashes against the manifest's, labels, a look for numbers that are not finite, "
                "and the bytes; peer: numpy.load of the bytes alone",
            ),
        }
        start, processor = _command("-c", _UNTIL_TRAINING, "head", "bench", "--store", folder)
        note = (
            f"`encore head`, {_CLIPS:,} x {_DIM:,}, from the command to its first training step, {processor:.1f} s of "
            "them a processor's; peer: 5 s"
        )
        return entries | {"start-head": entry(start, 5.0, 1.0, "s", note)}


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
    seconds, processor = _command("-m", "pipeline.cli", "--help")
    note = f"`encore --help`, warm, {processor:.2f} s of them a processor's; peer: 0.5 s"
    return {"help": entry(seconds, 0.5, 1.0, "s", note)}


def _command(*arguments: str) -> tuple[float, float]:
    """Seconds that a command of Python takes at best, and how many of them a processor works, some runs' mean."""
    before = os.times()
    (seconds,) = best_seconds(lambda: _python(*arguments), repeats=3)
    after = os.times()
    worked = (after.children_user + after.children_system) - (before.children_user + before.children_system)
    return seconds, worked / 3


def _python(*arguments: str) -> None:
    process = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {process.stderr}")
