"""How much faster two workers that load clips are than one, for a backbone whose work is theirs."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from stages.embed.backbones.fma_features import FmaFeatures, FmaFeaturesConfig
from stages.embed.encode import ClipTable, encode, open_writer
from store.layout import Store
from store.schema import Catalog, CatalogInfo
from tests.bench import entry, one_quiet_thread

_SONGS, _SONG_S, _RATE_HZ = 96, 5.0, 22_050
_TURNS = 5


def measure() -> dict[str, Any]:
    with one_quiet_thread(), tempfile.TemporaryDirectory() as folder:
        return _measure(Path(folder))


def _measure(folder: Path) -> dict[str, Any]:
    catalog = _songs(folder)
    backbone = FmaFeatures(FmaFeaturesConfig(window_s=_SONG_S))
    clips = ClipTable(catalog, backbone.input)
    clips[[0]]  # workers are forked and have then imported what they need
    seconds: dict[str, list[float]] = {"one": [], "two": [], "alone": [], "beside": []}
    used: dict[str, list[float]] = {"here": [], "one": [], "two": []}  # of a processor
    for turn in range(_TURNS):
        for workers, name in ((1, "one"), (2, "two")):
            writer = open_writer(Store(folder / f"store-{turn}-{workers}"), catalog, backbone, None)
            before, began = os.times(), time.perf_counter()
            encode(writer, catalog, backbone, device=torch.device("cpu"), batch=2, workers=workers)
            seconds[name].append(time.perf_counter() - began)
            after = os.times()
            used["here"].append(after.user + after.system - before.user - before.system)
            used[name].append(
                after.children_user + after.children_system - before.children_user - before.children_system
            )
        for processes, name in ((1, "alone"), (2, "beside")):
            began = time.perf_counter()
            _side_by_side(clips, processes)
            seconds[name].append(time.perf_counter() - began)
    one, two, alone, beside = (statistics.median(times) for times in seconds.values())
    here, of_one, of_two = (statistics.median(times) for times in used.values())
    ratios = sorted(first / second for first, second in zip(seconds["one"], seconds["two"], strict=True))
    note = (
        f"fma-features over {_SONGS} songs of {_SONG_S:g} s, median of {_TURNS} turns ({ratios[0]:.2f} to "
        f"{ratios[-1]:.2f}); two processes side by side load the same at {2 * alone / beside:.2f} times the rate of "
        f"one, which is what this machine has; of a processor, one worker takes {of_one:.2f} s, two {of_two:.2f} s, "
        f"and the process that encodes {here:.2f} s, so that two cores of their own would give "
        f"{2 * of_one / (of_two + here):.2f} at most"
    )
    return {"workers": entry(_SONGS / two, _SONGS / one, 1.8, "clips/s", note, less_is_better=False)}


def _side_by_side(clips: ClipTable, processes: int) -> None:
    context = multiprocessing.get_context("fork")
    group = [context.Process(target=_load, args=(clips,)) for _ in range(processes)]
    for process in group:
        process.start()
    for process in group:
        process.join()


def _load(clips: ClipTable) -> None:
    torch.set_num_threads(1)
    for row in range(len(clips)):
        clips[[row]]


def _songs(folder: Path) -> Catalog:
    rng = np.random.default_rng(0)
    ids = [f"{song:02}" for song in range(_SONGS)]
    for name in ids:
        soundfile.write(folder / f"{name}.wav", 0.1 * rng.standard_normal(round(_SONG_S * _RATE_HZ)), _RATE_HZ)
    info = CatalogInfo(
        name="bench", title="", version="1", licence="", citation="", backbone="fma-features", data_root=str(folder)
    )
    columns = {"clip_id": ids, "song_id": ids, "artist_id": ids, "labels": [["a"]] * _SONGS}
    return Catalog.build(info, columns | {"path": [f"{name}.wav" for name in ids]})
