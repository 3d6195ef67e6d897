"""Every backbone over the same songs, from files to the store: clips a second beside the slower of its two sides."""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from pipeline.devices import find_device
from stages import registry
from stages.embed.backbones import Backbone
from stages.embed.datasets.demo import Demo
from stages.embed.encode import ClipTable, default_workers, encode, load_in_workers, open_writer
from stages.progress import be_quiet
from store.layout import Store
from store.schema import Catalog
from tests.bench import best_seconds, entry

SONGS = 16
SONG_S = 30.0
ELSEWHERE = ("features", "hf")  # a table's columns; whatever model a folder holds


def measure() -> dict[str, Any]:
    names = [name for name in registry.names("backbone") if name not in ELSEWHERE]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as many as there are cores beside the workers'
    be_quiet(True)
    try:
        with tempfile.TemporaryDirectory() as folder:
            catalog = _songs(Path(folder))
            stores = (Store(Path(folder) / f"store-{i}") for i in itertools.count())
            return {f"clips-{name}": _clips(name, catalog, stores) for name in names}
    finally:
        be_quiet(False)
        torch.set_num_threads(threads)


def _songs(folder: Path) -> Catalog:
    """The demo's songs, each as one clip of its whole length."""
    found = Demo(data=folder / "songs", songs=SONGS).catalog()
    table = found.table.take(list(range(0, len(found), 2)))
    columns = {name: table.column(name).to_pylist() for name in ("clip_id", "song_id", "artist_id", "labels", "path")}
    columns["midi_path"] = table.column("midi_path").to_pylist()
    columns |= {"start_s": [0.0] * SONGS, "duration_s": [SONG_S] * SONGS}
    return Catalog.build(found.info, columns)


def _clips(name: str, catalog: Catalog, stores: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    kind = registry.find("backbone", name)
    backbone: Backbone = kind(kind.Config())
    device = find_device("auto")
    backbone.to(device)
    size, workers = SONGS // 4, default_workers(device)
    clips = ClipTable(catalog, backbone.input)
    batches = [list(range(first, first + size)) for first in range(0, SONGS, size)]
    clips[batches[0]]  # what is imported on the way is not counted
    started = time.process_time()
    loaded = [clips[batch].windows for batch in batches]
    load_cpu_s = time.process_time() - started

    def alone() -> None:
        with torch.inference_mode():
            for windows in loaded:
                assert windows is not None
                backbone.encode(windows.to(device)).cpu()

    def whole() -> None:
        writer = open_writer(next(stores), catalog, backbone, None)
        encode(writer, catalog, backbone, device=device, batch=size, workers=workers)

    started = time.process_time()
    alone()
    cpu_s = load_cpu_s + time.process_time() - started
    load_s, device_s, wall_s = best_seconds(
        lambda: list(load_in_workers(clips, batches, workers, pin=False)), alone, whole, repeats=1
    )
    parameters = sum(p.numel() for p in backbone.module.parameters()) if backbone.module is not None else 0
    note = (
        f"{SONGS} of {SONG_S:g} s on {_machine(device)}, {workers} workers; {parameters:,} parameters, "
        f"{backbone.shape[0]:,} wide; {SONGS / cpu_s:.1f} a second of one core's time, loading included; the workers "
        f"alone {load_s:.2f} s, the network alone {device_s:.2f} s, together {wall_s:.2f} s: busy "
        f"{100 * min(1, device_s / wall_s):.0f} % of it"
    )
    return entry(SONGS / wall_s, SONGS / max(load_s, device_s), None, "clips/s", note, less_is_better=False)


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{len(os.sched_getaffinity(0))} CPU cores"
