"""Stage two from 10,000 to a million clips: memory, and how cost grows."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stages.head.collection import Collection
from stages.head.graph import _dgl
from stages.head.graph.cliques import CliqueGraph
from stages.head.heads import Draw, TrainedHead
from stages.head.heads.gated import Gated
from stages.head.heads.gnn import Gnn
from stages.head.scores.task import SINGLE_LABEL
from stages.head.settings import Settings
from stages.head.training.binder import Binder
from stages.head.training.loop import Loop
from stages.head.training.stretches import Stretches
from stages.memory import keep_freed_memory
from store.schema import CatalogInfo
from tests.bench import entry, median_seconds, peak_gib

_SIZES = (10_000, 31_623, 100_000, 316_228, 1_000_000)
_LABELS = 15
_WIDTH = 64  # of features and of each half of the hidden layer, where growth is measured
_WIDE, _NARROW, _ROOM_GIB = 1_280, 256, 12.0
_LIMIT_GIB = 4.0
_INFO = CatalogInfo(name="bench", title="Bench", version="1", licence="CC0", citation="-", backbone="fcn")
_PICTURE = Path("bench-growth.png")


def measure() -> dict[str, dict[str, Any]]:
    return _memory() | _growth()


def _collection(clips: int, dim: int) -> Collection:
    """Artists of 12 clips, but for one of a twentieth of all."""
    artist = np.arange(clips) // 12
    artist[: clips // 20] = 0
    rows = np.arange(clips)
    return Collection(
        info=_INFO,
        rows=rows,
        x=torch.full((clips, dim), 0.5),
        labels=np.arange(_LABELS) == (rows % _LABELS)[:, None],
        label_names=tuple(f"label {i}" for i in range(_LABELS)),
        task=SINGLE_LABEL,
        song=rows,
        album=np.full(clips, -1),
        artist=np.unique(artist, return_inverse=True)[1],
        artist_ids=tuple(f"artist {i}" for i in range(len(np.unique(artist)))),
        official=np.zeros(clips, dtype=np.int8),
        backbone=None,
        left_out={},
    )


def _memory() -> dict[str, dict[str, Any]]:
    """In a process of its own for each head, whose peak nothing else has raised."""
    lines = Path("/proc/meminfo").read_text().splitlines() if sys.platform == "linux" else []
    free = next((int(line.split()[1]) / 2**20 for line in lines if line.startswith("MemAvailable")), 0.0)
    if not lines:
        return {}
    dim = _WIDE if free > _ROOM_GIB else _NARROW
    entries = {}
    for head in (Gnn, Gated):
        command = [sys.executable, "-m", __name__, head.NAME, str(dim)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        note = (
            f"{_SIZES[-1]:,} x {dim:,}, one artist of {_SIZES[-1] // 20:,}, beyond the features: the graph, an epoch's "
            f"draws, what every clip's scoring reads of its neighbours; peer: {_LIMIT_GIB:g} GiB"
        )
        entries[f"memory-{head.NAME}"] = entry(float(output), _LIMIT_GIB, 1.0, "GiB", note)
    return entries


def _peak_beyond_features(head_type: type[TrainedHead], dim: int) -> float:
    """GiB that a head's work takes beyond what holds the features."""
    if _dgl.is_there():
        _dgl.load()
    data = _collection(_SIZES[-1], dim)
    assert data.x is not None
    before = peak_gib()
    everything, settings = np.zeros(len(data), dtype=np.int8), Settings(standardise=False)
    cpu = torch.device("cpu")
    head = Binder.learn(head_type, Stretches(data), everything, head_type.Config(), settings, cpu).any()
    nodes = torch.arange(len(data))
    head.start_epoch(nodes, Draw(0, head.rows))
    for some in torch.split(nodes, 4096):
        head.training_inputs(some, some)
        head.inputs(some)
    return peak_gib() - before


def _growth() -> dict[str, dict[str, Any]]:
    """The exponent of seconds against clips, by least squares over logarithms, and the lines themselves."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    keep_freed_memory(largest=1 << 25)
    seconds: dict[str, list[float]] = {"graph": [], "mean": [], "epoch": []}
    try:
        for size in _SIZES:
            works = _works(_collection(size, _WIDTH))
            for name, duration in zip(works, median_seconds(*works.values(), repeats=3), strict=True):
                seconds[name].append(duration)
    finally:
        torch.set_num_threads(threads)
    what = {
        "graph": "building the artist graph",
        "mean": f"every clip's mean over all neighbours, width {_WIDTH}",
        "epoch": f"an epoch of gnn, width 2 x {_WIDTH}, 8 neighbours, batch {Settings().batch}",
    }
    _draw(seconds, what)
    entries = {}
    for name, line in seconds.items():
        points = ", ".join(f"{size:,}: {duration:.4f} s" for size, duration in zip(_SIZES, line, strict=True))
        note = f"{what[name]}, an artist of N / 20, one thread's time; peer: 1, linear; {points}"
        entries[f"growth-{name}"] = entry(_exponent(line), 1.0, None, "power of N", note)
    return entries


def _works(data: Collection) -> dict[str, Callable[[], Any]]:
    assert data.x is not None
    x, artist = data.x, torch.from_numpy(data.artist)
    settings, everything = Settings(standardise=False), np.zeros(len(data), dtype=np.int8)
    config = Gnn.Config(hidden=_WIDTH)
    binder = Binder.learn(Gnn, Stretches(data), everything, config, settings, torch.device("cpu"))
    loop = Loop(binder, Gnn.build(binder.spec), settings, 0)
    graph = data.graph
    graph.sums(x[:, :1].contiguous())  # the first message in a graph sorts its edges
    return {
        "graph": lambda: CliqueGraph(artist).sums(x[:, :1].contiguous()),
        "mean": lambda: graph.mean(x),
        "epoch": lambda: loop._epoch(1),
    }


def _exponent(seconds: list[float]) -> float:
    return float(np.polyfit(np.log(_SIZES), np.log(seconds), 1)[0])


def _draw(seconds: dict[str, list[float]], what: dict[str, str]) -> None:
    """Lines over both logarithms."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, line in seconds.items():
        axes.loglog(_SIZES, line, marker="o", label=f"{what[name]}: N^{_exponent(line):.2f}")
    axes.set_xlabel("clips N")
    axes.set_ylabel("seconds on one thread")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(frameon=False, fontsize="small")
    figure.savefig(_PICTURE, dpi=150)
    print(f"drawn: {_PICTURE}", file=sys.stderr)


if __name__ == "__main__":
    print(_peak_beyond_features({head.NAME: head for head in (Gnn, Gated)}[sys.argv[1]], int(sys.argv[2])))
