"""Every backbone over the same songs, from files to the store: clips a second beside the slower of its two sides."""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from stages import registry
from stages.embed.backbones import Backbone, Precision
from stages.embed.datasets.demo import Demo
from stages.embed.encode import encode, open_writer
from stages.embed.loading import ClipTable, default_workers, load_in_workers
from stages.embed.represent import represent
from stages.progress import be_quiet
from store.layout import Store
from store.schema import Catalog
from tests.bench import _published, best_seconds, entry

SONGS = 16
FEWEST = 10  # that the demo makes
SONG_S = 30.0
DESCRIBED = 2  # songs, of which networks that are described beside their weights take seconds each
ELSEWHERE = ("features", "hf", "effnet")  # a table's columns; whatever model a folder holds; a file that is not here


def measure() -> dict[str, Any]:
    names = [name for name in registry.names("backbone") if name not in ELSEWHERE]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as many as there are cores beside the workers'
    be_quiet(True)
    try:
        with tempfile.TemporaryDirectory() as folder:
            catalog, cpu = songs(Path(folder), SONGS), torch.device("cpu")
            stores = new_stores(Path(folder))
            described = {name: settings for name in names if (settings := _published.settings(name))}
            few = songs(Path(folder), DESCRIBED)
            lines = {name: clips(name, catalog, stores, cpu, SONGS // 4) for name in names if name not in described}
            lines |= {name: clips(name, few, stores, cpu, 1, settings=described[name]) for name in described}
            return {f"clips-{name}": line for name, line in lines.items()}
    finally:
        be_quiet(False)
        torch.set_num_threads(threads)


def new_stores(folder: Path) -> Iterator[Store]:
    return (Store(folder / f"store-{i}") for i in itertools.count())


def songs(folder: Path, count: int, times: int = 1) -> Catalog:
    """The demo's songs, each as one clip of its whole length, and all of them ``times`` times."""
    catalog = Demo(data=folder / "songs", songs=max(count, FEWEST)).catalog()
    table = catalog.table.take(list(range(0, 2 * count, 2)) * times)
    columns = {name: table.column(name).to_pylist() for name in ("artist_id", "labels", "path", "midi_path")}
    for name in ("clip_id", "song_id"):
        columns[name] = [f"{own}-{i // count}" for i, own in enumerate(table.column(name).to_pylist())]
    columns |= {"start_s": [0.0] * len(table), "duration_s": [SONG_S] * len(table)}
    return Catalog.build(catalog.info, columns)


def clips(
    name: str,
    catalog: Catalog,
    stores: Iterator[Store],
    device: torch.device,
    size: int,
    precision: Precision = "32",
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Clips a second of one backbone with random weights, ``size`` at a time, and how busy it keeps its device."""
    torch.manual_seed(0)
    kind = registry.find("backbone", name)
    backbone: Backbone = kind(kind.Config(**(settings or {})))
    backbone.precision = precision
    backbone.to(device)
    count, workers = len(catalog), default_workers(device)
    table = ClipTable(catalog, backbone.input)
    batches = [list(range(first, min(first + size, count))) for first in range(0, count, size)]
    table[batches[0]]  # what is imported on the way is not counted
    started = time.process_time()
    loaded = [table[batch].windows for batch in batches]
    load_cpu_s = time.process_time() - started

    def alone() -> None:
        for windows in loaded:
            assert windows is not None
            represent(backbone, windows.to(device)).cpu()

    def whole() -> None:
        writer = open_writer(next(stores), catalog, backbone, None)
        encode(writer, catalog, backbone, device=device, batch=size, workers=workers)

    started = time.process_time()
    alone()
    cpu_s = load_cpu_s + time.process_time() - started
    load_s, device_s, wall_s = best_seconds(
        lambda: list(load_in_workers(table, batches, workers, pin=False)), alone, whole, repeats=1
    )
    busy = Busy(device)
    backbone.encode = busy.during(backbone.encode)  # type: ignore[method-assign]
    began = time.perf_counter()
    whole()
    share = busy.seconds() / (time.perf_counter() - began)
    parameters = sum(p.numel() for p in backbone.module.parameters()) if backbone.module is not None else 0
    note = (
        f"{count} of {SONG_S:g} s on {machine(device)} in {precision}, {workers} workers; {parameters:,} parameters, "
        f"{backbone.shape[0]:,} wide; {count / cpu_s:.1f} a second of one core's time, loading included; the workers "
        f"alone {load_s:.2f} s, the network alone {device_s:.2f} s, together {wall_s:.2f} s; the device was busy "
        f"{100 * share:.0f} % of the time"
    )
    return entry(count / wall_s, count / max(load_s, device_s), None, "clips/s", note, less_is_better=False)


class Busy:
    """How long a device works on what it is given: from the first to the last of the things that a call sets it to."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._calls: list[tuple[Any, Any]] = []

    def during(self, work: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def marked(batch: Any) -> Any:
            began = self._mark()
            result = work(batch)
            self._calls.append((began, self._mark()))
            return result

        return marked

    def _mark(self) -> Any:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))  # told when the device comes to it, not now
        return event

    def seconds(self) -> float:
        if self.device.type != "cuda":
            return sum(end - began for began, end in self._calls)
        torch.cuda.synchronize(self.device)
        return sum(began.elapsed_time(end) for began, end in self._calls) / 1e3


def machine(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{len(os.sched_getaffinity(0))} CPU cores"
