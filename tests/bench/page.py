"""The page of a large collection: runs that nobody trained (synthetic), their map, and a browser that opens it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typer.testing import CliRunner

from pipeline.cli import app
from stages import registry
from stages.head.map import map_of
from stages.head.open import load
from stages.head.runs.files import catalog_mark, split_mark
from stages.splits.regimes import PARTS
from store.layout import RepresentationName, Store
from store.runs import RunFolder, RunRecord, read_record, run_name, write_run
from store.schema import Catalog, CatalogInfo
from store.writer import RepresentationWriter
from tests.bench import entry, peak_gib, processor_seconds
from tests.chromium import open_browser

_SONGS, _ARTISTS, _LABELS, _DIM = 50_000, 6_000, 15, 1_280
_MODES, _REGIMES, _SEEDS, _EPOCHS = 16, ("random", "artist"), 5, 40
_MAP_S, _PAGE_S, _PEAK_GIB, _PAGE_MIB, _READY_S, _FRAME_S = 180.0, 60.0, 3.0, 3.0, 2.0, 0.2
_NAME = RepresentationName("fcn", "0" * 12)
_GATED = "gated"  # the mode of which the page shows what its network does; one epoch of it is trained
_DRAWN = "await new Promise(next => requestAnimationFrame(() => setTimeout(next)))"
_ZOOM = """
const map = window.encore[0].map, frames = [];
for (let i = 0; i < 40; i++) {
    const begun = performance.now();
    map.magnify(i < 20 ? 1.25 : 0.8, 300, 200);
    await new Promise(next => requestAnimationFrame(() => setTimeout(next)));
    frames.push(performance.now() - begun);
}
return Math.max(...frames) / 1000;
"""


def measure() -> dict[str, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        store, page = Path(folder, "store"), Path(folder, "page.html")
        runs = _make(Store(str(store)))
        started = time.perf_counter()
        map_of(Store(str(store)), load(Store(str(store)), "bench", str(_NAME), in_memory=False))
        map_s = time.perf_counter() - started
        # In a process of its own, whose peak nothing else has raised.
        command = [sys.executable, "-m", __name__, str(store), str(page)]
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        page_s, processor_s, peak = map(float, answer)
        size = page.stat().st_size / 2**20
        what = f"{_SONGS:,} songs, {runs:,} runs of {_MODES} modes (synthetic)"
        of_page = (
            f"the page of {what}, beyond the map, on one thread ({page_s:.0f} s by the clock); peer: {_PAGE_S:g} s"
        )
        entries = {
            "page-map": entry(map_s, _MAP_S, 1.0, "s", f"the map of {_SONGS:,} x {_DIM:,}, once; peer: {_MAP_S:g} s"),
            "page": entry(processor_s, _PAGE_S, 1.0, "s", of_page),
            "page-memory": entry(peak, _PEAK_GIB, 1.0, "GiB", f"its peak; peer: {_PEAK_GIB:g} GiB"),
            "page-size": entry(size, _PAGE_MIB, 1.0, "MiB", f"the file; peer: {_PAGE_MIB:g} MiB"),
        }
        if shutil.which("chromium") is None:
            return entries
        with open_browser(Path(folder, "browser")) as browser:
            started = time.perf_counter()
            browser.show(page, _DRAWN)
            ready, frame = time.perf_counter() - started, browser.ask(_ZOOM)
        return entries | {
            "page-ready": entry(ready, _READY_S, 1.0, "s", f"from opening it in Chromium; peer: {_READY_S:g} s"),
            "page-zoom": entry(frame, _FRAME_S, 1.0, "s", f"the slowest of 40 zooms of its map; peer: {_FRAME_S:g} s"),
        }


def _make(store: Store) -> int:
    """A collection with a representation and runs; returns how many runs."""
    rng = np.random.default_rng(0)
    artist = (rng.random(_SONGS) ** 2 * _ARTISTS).astype(np.int64)
    own = rng.integers(_LABELS, size=(_ARTISTS, 2))
    sets = [
        sorted({int(own[a, 0]), int(own[a, song % 2]), int(rng.integers(_LABELS))}) for song, a in enumerate(artist)
    ]
    ids = [f"{song:06}" for song in range(_SONGS)]
    columns = {
        "clip_id": ids,
        "song_id": ids,
        "artist_id": [f"a{number}" for number in artist],
        "artist_name": [f"The Artist Number {number}" for number in artist],
        "title": [f"A Song of Some Name, No. {song}" for song in range(_SONGS)],
        "labels": [[f"genre {label}" for label in labels] for labels in sets],
        "path": [f"{song % 100:02}/{song}.mp3" for song in range(_SONGS)],
    }
    info = CatalogInfo(
        name="bench", title="Bench", version="1", licence="CC0", citation="-", backbone="fcn", synthetic=True
    )
    store.write_catalog(Catalog.build(info, columns))
    catalog = store.read_catalog("bench")
    writer = RepresentationWriter(store, catalog, _NAME, settings={"backbone": "fcn"}, shape=(_DIM,), dtype="float32")
    centres = rng.standard_normal((_LABELS, _DIM), dtype=np.float32)
    first = np.array([int(labels[0].rpartition(" ")[2]) for labels in catalog.column("labels").to_pylist()])
    for shard in writer.pending:
        rows = np.asarray(list(shard.rows))
        writer.commit(shard, centres[first[rows]] + 2 * rng.standard_normal((len(rows), _DIM), dtype=np.float32))
    writer.finish()
    return sum(_train(store, regime, rng) for regime in _REGIMES)


def _train(store: Store, regime: str, rng: np.random.Generator) -> int:
    """Train one epoch of one head, and give every mode and seed a copy of its record and scores of its own."""
    words = ["head", "bench", "--mode", _GATED, "--regime", regime, "--seeds", 1, "--set", "epochs=1", "--quiet"]
    result = CliRunner().invoke(app, [*map(str, words), "--store", store.files.url])
    assert result.exit_code == 0, result.stderr
    data = load(store, "bench", str(_NAME), in_memory=False)
    gated = RunFolder("bench", str(_NAME), _GATED, regime)
    template, head = read_record(store, gated, run_name(0, None, None)), store.read(gated.head(run_name(0, None, None)))
    first = [_GATED, "song"]  # others are tested against song
    modes = [*first, *(mode for mode in registry.names("head") if mode not in first)][:_MODES]
    splits = [data.parts(regime, seed)[0] for seed in range(_SEEDS)]
    assert data.splits is not None
    for number, mode in enumerate(modes):
        for seed, split in enumerate(splits):
            test = np.flatnonzero(split == 2)
            score = _scores(data.labels[test], 0.5 + 0.02 * number, rng)
            metrics = data.task.evaluate(data.labels[test], score >= 0.5, score)
            record: RunRecord = replace(
                template,
                mode=mode,
                seed=seed,
                metrics={name: float(value) for name, value in metrics.items()},
                catalog=catalog_mark(data.splits, None),
                split=split_mark(data.splits, regime, seed),
                clips={name: int((split == part).sum()) for part, name in enumerate(PARTS)},
                history=[
                    {"loss": 1 / epoch, "validation_loss": 1.1 / epoch, "validation": 1 - 1 / (epoch + 1)}
                    for epoch in range(1, _EPOCHS + 1)
                ],
            )
            heads = [head] if mode == _GATED and seed == 0 else []
            write_run(
                store, RunFolder("bench", str(_NAME), mode, regime), record, data.rows[test], score, score >= 0.5, heads
            )
    return len(modes) * _SEEDS


def _scores(truth: NDArray[np.bool_], noise: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Scores that tell the truth, but for some noise."""
    raw = truth + noise * rng.standard_normal(truth.shape, dtype=np.float32) - 0.5
    return (1 / (1 + np.exp(-3 * raw))).astype(np.float32)


if __name__ == "__main__":
    begun = time.perf_counter()
    words = ["report", "bench", "--html", sys.argv[2], "--quiet", "--store", sys.argv[1]]
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 0, ran.output
    print(time.perf_counter() - begun, processor_seconds(), peak_gib())
