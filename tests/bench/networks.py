"""What encoding costs a core beside the plain network, once other processes decode: each backbone with a network.

Both sides are this process's time, its clock on a machine that does nothing else. Ours is what `encode` does, from the
windows that a worker sends to the committed store; the worker has them ready, so that it takes nothing from the core.
The peer's is the network with its spectrogram, called on windows that lie ready: window by window or all at once,
whichever is quicker; where transformers has the network, as that library gives all layers. What is done once, whatever
the number of clips, is left out: the time of a few clips is taken from that of many.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages import registry
from stages.embed.backbones import Backbone
from stages.embed.encode import ClipTable, LoadedBatch, Work, collect, open_writer
from stages.embed.inputs import Input
from stages.progress import be_quiet
from store.layout import Store
from store.schema import Catalog
from tests.bench import _published, entry
from tests.bench.backbones import songs

ELSEWHERE = ("effnet",)  # onnxruntime runs it, from a file that is not here
LAYERS = 2  # of networks that are described beside their weights
LEAST_S = 2.0  # of the network's time
REPEATS = 3
TARGET = 0.95
_CPU = torch.device("cpu")

Plain = Callable[[], None]


def measure() -> dict[str, Any]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the other core is the worker's
    be_quiet(True)
    try:
        with tempfile.TemporaryDirectory() as folder:
            return {f"network-{name}": network(name, Path(folder)) for name in names()}
    finally:
        be_quiet(False)
        torch.set_num_threads(threads)


def names() -> list[str]:
    """The backbones that have a network."""
    kinds: dict[str, type[Backbone]] = {name: registry.find("backbone", name) for name in registry.names("backbone")}
    return [name for name, kind in kinds.items() if name not in ELSEWHERE and kind.WEIGHTS is not None]


def network(name: str, folder: Path, layers: int | None = LAYERS, least_s: float = LEAST_S) -> dict[str, Any]:
    """Clips a second of a core's time: `encode`, and the plain network."""
    torch.manual_seed(0)
    settings = _published.settings(name, layers)
    kind = registry.find("backbone", name)
    backbone: Backbone = kind(kind.Config(**settings))
    backbone.to(_CPU)
    count = 1 if settings else 4
    few = songs(folder, count)
    table = ClipTable(few, backbone.input)
    loaded = {table.path(row): table[[row]] for row in range(count)}
    windows = torch.cat([batch.windows for batch in loaded.values() if batch.windows is not None])
    plain, way, plain_s = plain_network(backbone, windows)
    times = max(2, math.ceil(least_s / plain_s))
    clips = count * times
    stores = (Store(folder / f"{name}-{i}") for i in range(2 * REPEATS))

    def encoded(times: int) -> None:
        catalog = songs(folder, count, times)
        writer = open_writer(next(stores), catalog, backbone, None)
        work = Work(writer, catalog, backbone, device=_CPU, batch=16)
        work.clips = Ready(catalog, backbone.input, loaded)
        collect(writer, lambda shards, advance: work.run(shards, workers=1, advance=advance))

    few_s = many_s = plain_s = math.inf
    for _ in range(REPEATS):  # in turns: what took longer than the shortest, something else took
        few_s = min(few_s, seconds(lambda: encoded(1)))
        many_s = min(many_s, seconds(lambda: encoded(1 + times)))
        plain_s = min(plain_s, seconds(lambda: [plain() for _ in range(times)]))
    ours_s = many_s - few_s
    assert backbone.module is not None
    parameters = sum(p.numel() for p in backbone.module.parameters())
    note = (
        f"{clips} clips of 30 s, {_published.size(name, layers)}, {parameters:,} parameters, random weights; "
        f"ours {ours_s:.2f} s of a core, the network {way} {plain_s:.2f} s"
    )
    return entry(clips / ours_s, clips / plain_s, TARGET, "clips/s", note, less_is_better=False)


class Ready(ClipTable):
    """Clips whose windows are loaded already, by the path of their songs."""

    def __init__(self, catalog: Catalog, reader: Input, loaded: Mapping[str, LoadedBatch]) -> None:
        super().__init__(catalog, reader)
        self._loaded = loaded

    def __getitem__(self, rows: Sequence[int]) -> LoadedBatch:
        clips = [self._loaded[self.path(row)] for row in rows]
        windows = torch.cat([clip.windows for clip in clips if clip.windows is not None])
        return LoadedBatch(list(rows), [count for clip in clips for count in clip.counts], windows, [])


def plain_network(backbone: Backbone, windows: Tensor) -> tuple[Plain, str, float]:
    """The network on ready windows in the quicker way, which that is, and the seconds it takes."""
    forward: Callable[[Tensor], Any] = backbone.forward
    if backbone.NAME in ("mert", "music2vec"):
        module: Any = backbone.module

        def forward(windows: Tensor) -> Any:
            return module(windows, output_hidden_states=True)

    def run(size: int) -> None:
        with torch.inference_mode():
            for part in torch.split(windows, size):
                forward(part)

    run(1)  # what is made once is not counted
    ways = {"window by window": 1, "on all windows at once": len(windows)}
    times = {way: seconds(lambda size=size: run(size)) for way, size in ways.items()}
    quicker = min(times, key=lambda way: times[way])
    return lambda: run(ways[quicker]), quicker, times[quicker]


def seconds(work: Callable[[], Any]) -> float:
    """Of this process's time."""
    started = time.process_time()
    work()
    return time.process_time() - started
