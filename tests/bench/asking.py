"""Asking a trained head and a collection: what an answer costs beyond hearing the song."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import soundfile
import torch
from typer.testing import CliRunner

from pipeline.cli import app
from stages.ask.predict import OpenHead, predict_songs
from stages.ask.similar import nearest_to
from stages.embed.datasets.folder import clips_of
from stages.embed.loading import default_workers
from stages.embed.represent import encode_unstored
from stages.embed.songs import SongFile, encode_songs, rows_of
from stages.head import similar
from store.layout import RepresentationName, Store
from store.schema import Catalog, CatalogInfo
from store.writer import RepresentationWriter
from tests.bench import best_seconds, entry, median_seconds, processor_seconds

_STORED, _NEW = 40, 200
_RATE_HZ, LENGTH_S = 22_050, 15.0
_WARM_S = 0.05  # that an answer may cost beyond the song
_CLIPS, _DIM, _GROUPS = 200_000, 512, 2_000  # of the collection in which similar clips are looked for


def measure() -> dict[str, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        return _asking(Path(folder)) | _similar(Path(folder))


def _asking(folder: Path) -> dict[str, dict[str, Any]]:
    store, new = collection(folder, "mfcc"), folder / "new"
    new.mkdir()
    paths = [write_recording(new / f"{number}.wav", 1000 + number) for number in range(_NEW)]

    opened = OpenHead(Store(store), "mine", device="cpu")
    assert opened.backbone is not None
    cpu, backbone = torch.device("cpu"), opened.backbone
    (song,) = [SongFile(paths[0], "new", "artist 1")]
    encoded = encode_songs([song], opened.catalog, backbone, cpu)

    def answer() -> None:
        (rows,) = rows_of(opened.catalog, [song])
        assert opened.of_new([opened.song(song, rows)], encoded)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    (warm,) = median_seconds(answer, repeats=20)
    torch.set_num_threads(threads)
    clips, workers = clips_of("songs", paths, 0, 1.0), default_workers(cpu)
    embed, folder_s = best_seconds(
        lambda: encode_unstored(clips, backbone, device=cpu, batch=16, workers=workers),
        lambda: predict_songs(Store(store), [str(new)], "mine", device="cpu"),
    )
    once = ("head", "mine", "--mode", "gated", "--set", "epochs=1", "--seeds", "1", "--store", folder / "other")
    shutil.copytree(store, folder / "other")
    cold, head = median_seconds(
        lambda: _start("predict", paths[0], "--head", "mine", "--store", store),
        lambda: _start(*once),
        repeats=5,
        clock=processor_seconds,
    )
    what = f"{_NEW} recordings of {LENGTH_S:g} s by mfcc"
    return {
        "predict-warm": entry(
            warm, _WARM_S, 1.0, "s", "a warm answer beyond decoding and backbone, one thread's time; peer: 50 ms"
        ),
        "predict-cold": entry(
            cold,
            head,
            1.0,
            "s",
            "the command predict for a new song, processor's time; peer: head, the same mode, of one epoch",
        ),
        "predict-folder": entry(
            folder_s, embed, 1 / 1.1, "s", f"{what}, opening the head included; peer: encoding them"
        ),
    }


def collection(folder: Path, backbone: str) -> Path:
    """The store of ``mine``: recordings that are encoded, and a gated head."""
    stored, store = folder / "stored", folder / "store"
    stored.mkdir()
    lines = ["file,artist,labels"]
    for number in range(_STORED):
        write_recording(stored / f"{number}.wav", number)
        lines.append(f"{number}.wav,artist {number % 8},genre {number % 4}")
    (stored / "songs.csv").write_text("\n".join(lines) + "\n")
    weights = () if backbone == "mfcc" else ("--weights", "random")
    table = ("--table", stored / "songs.csv", "--backbone", backbone, *weights)
    encore("embed", "folder", "--name", "mine", "--data", stored, *table, "--store", store)
    encore("head", "mine", "--mode", "gated", "--set", "epochs=2", "--store", store)
    return store


def write_recording(path: Path, number: int) -> Path:
    """Noise that differs from number to number."""
    rng = np.random.default_rng(number)
    soundfile.write(path, 0.1 * rng.standard_normal(round(LENGTH_S * _RATE_HZ)), _RATE_HZ)
    return path


def _start(*words: object) -> None:
    command = [sys.executable, "-m", "pipeline", *map(str, words), "--quiet"]
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, stdout=subprocess.DEVNULL, env=environment, check=True)


def encore(*words: object) -> None:
    """Run a command of Encore."""
    result = CliRunner().invoke(app, [*map(str, words), "--quiet"])
    assert result.exit_code == 0, result.stderr


def _similar(folder: Path) -> dict[str, dict[str, Any]]:
    """Songs in groups, as artists and genres make them; one clip a song."""
    info = CatalogInfo(name="bench", title="Bench", version="1", licence="CC0", citation="-", backbone="fcn")
    ids = [f"{number:09}" for number in range(_CLIPS)]
    columns = {"clip_id": ids, "song_id": ids, "artist_id": [None] * _CLIPS, "labels": [[]] * _CLIPS, "path": ids}
    store, name = Store(folder / "large"), RepresentationName("fcn", "0" * 12)
    store.write_catalog(Catalog.build(info, columns))
    catalog = store.read_catalog("bench")
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((_GROUPS, _DIM), dtype=np.float32)
    writer = RepresentationWriter(store, catalog, name, settings={}, shape=(_DIM,), dtype="float32")
    for shard in writer.pending:
        rows = len(shard.rows)
        noise = rng.standard_normal((rows, _DIM), dtype=np.float32)
        writer.commit(shard, centres[rng.integers(_GROUPS, size=rows)] + noise)
    writer.finish()
    matrix = np.concatenate([values for _, values in similar.Space(store, "bench", None).chunks()])
    vector = rng.standard_normal(_DIM, dtype=np.float32)
    space = similar.Space(store, "bench", None)
    query = space.song(ids[1])
    vectors = space.vectors(query.rows)

    def look() -> Any:
        return nearest_to(space, query, vectors, count=10)

    started = time.process_time()
    look()
    cold = time.process_time() - started
    exact, product = median_seconds(look, lambda: matrix @ vector)
    with mock.patch.object(similar, "EXACT", 0), mock.patch.dict(os.environ, {"XDG_CACHE_HOME": str(folder)}):
        recall = look().recall
        approximate, again = median_seconds(look, lambda: matrix @ vector)
    what = f"the 10 nearest of {_CLIPS:,} x {_DIM}, processor's time"
    return {
        "similar-exact": entry(
            exact,
            product,
            1 / 1.5,
            "s",
            f"{what}, asked again ({cold:.2f} s the first time); peer: one product by numpy",
        ),
        "similar-approximate": entry(
            approximate, again, 10.0, "s", f"{what}, by an index at recall {recall:.3f}; peer: the same product"
        ),
    }
