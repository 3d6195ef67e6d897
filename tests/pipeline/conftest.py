"""Small collections as a user would bring them, and the command as a user would run it."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pretty_midi
import pytest
import soundfile
from typer.testing import CliRunner

from pipeline.cli import app
from stages.head import map as maps
from store import arrays
from store.seal import Seals
from tests.chromium import Chromium, open_browser

ROOT = Path(__file__).parents[2]
EPOCHS = ("--set", "epochs=4", "--set", "steps=1")  # most tests need a trained head, and no good one
QUICK = (*EPOCHS, "--set", "hidden=16")
COLUMNS = "labels=genre"
_STORES = Path()  # of the tables that were embedded, by what decides their bytes
ONE_PART = ("--folds", "off")  # for `compare`: one test part, however small
NO_WORKER = ("--workers", 0)  # for `embed`: songs are read here; a worker costs more than a few songs


@dataclass
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Encore:
    """``encore ARGS --store STORE`` in this process; a traceback on the screen fails the test.

    ``compare`` takes one test part, as on a large collection, unless a test names --folds, and ``embed`` reads songs
    without a worker, unless a test names --workers or an engine.
    """

    store: Path

    def __call__(self, *args: object, code: int = 0) -> Ran:
        named = {*map(str, args)}
        more: tuple[object, ...] = ()
        if args[:1] == ("compare",) and "--folds" not in named:
            more = ONE_PART
        if args[:1] == ("embed",) and not {"--workers", "--engine", "--help"} & named:
            more = NO_WORKER
        result = CliRunner().invoke(app, [*map(str, args), *map(str, more), "--store", str(self.store)])
        ran = Ran(result.exit_code, result.stdout, result.stderr)
        assert "Traceback" not in ran.err + ran.out
        assert ran.code == code, f"exit code {ran.code}:\n{ran.out}\n{ran.err}"
        return ran


@pytest.fixture
def encore(tmp_path: Path) -> Encore:
    return Encore(tmp_path / "stores")


@pytest.fixture(scope="session")
def _chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with open_browser(tmp_path_factory.mktemp("chromium") / "browser") as chromium:
        yield chromium


@pytest.fixture
def browser(_chromium: Chromium) -> Chromium:
    """A new page in a real browser; the test is skipped where there is none."""
    _chromium.renew()
    return _chromium


def write_page(encore: Encore, tmp_path: Path, *options: object) -> Path:
    """The page of a report, which reaches for nothing outside of it."""
    page = tmp_path / "page.html"
    encore("report", *options, "--html", page)
    assert "http://" not in page.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page.read_text(encoding="utf-8")
    return page


@pytest.fixture
def features_csv(tmp_path: Path) -> Path:
    """400 songs of 40 artists with four genres, as a table of features."""
    rng = np.random.default_rng(0)
    lines = ["artist,title,genre,tempo,energy,loudness"]
    for song in range(400):
        artist = int(40 * rng.random() ** 2)
        genre = artist % 4 if rng.random() < 0.8 else int(rng.integers(4))
        tempo, energy, loudness = rng.standard_normal(3) + np.array([genre, -genre, genre % 2])
        lines.append(f"artist {artist},song {song},genre {genre},{tempo:.4f},{energy:.4f},{loudness:.4f}")
    path = tmp_path / "features.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def several_csv(tmp_path: Path) -> Path:
    """120 songs of 20 artists with one or two of five genres."""
    rng = np.random.default_rng(0)
    lines = ["artist,title,genre,a,b,c,d"]
    for song in range(120):
        artist = song % 20
        genres = {artist % 5, int(rng.integers(5))}
        numbers = rng.standard_normal(4) + 2 * np.array([genre in genres for genre in range(4)])
        labels = "|".join(f"genre {genre}" for genre in sorted(genres))
        lines.append(f"artist {artist},song {song},{labels}," + ",".join(f"{n:.4f}" for n in numbers))
    path = tmp_path / "several.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def midi_folder(tmp_path: Path) -> Path:
    """Twenty-four short MIDI songs of six artists, with ``songs.csv``."""
    folder = tmp_path / "midi songs"
    folder.mkdir()
    lines = ["file,artist,labels"]
    for song in range(24):
        midi = pretty_midi.PrettyMIDI()
        piano = pretty_midi.Instrument(program=0)
        for i in range(40):
            pitch = 40 + (song % 3) * 15 + (i * (1 + song % 2)) % 12
            piano.notes.append(pretty_midi.Note(velocity=60 + song, pitch=pitch, start=i * 0.5, end=i * 0.5 + 0.4))
        midi.instruments.append(piano)
        midi.write(str(folder / f"söng {song}.mid"))
        lines.append(f"söng {song}.mid,artist {song % 6},{['jazz', 'rock|pop', 'folk'][song % 3]}")
    (folder / "songs.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def audio_folder(tmp_path: Path) -> Path:
    """Six short recordings, of which one is silent, one is text and one is missing, with ``songs.csv``."""
    folder = tmp_path / "audio"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for song in range(4):
        soundfile.write(folder / f"{song}.wav", 0.1 * rng.standard_normal(3 * 8000), 8000)
    soundfile.write(folder / "silent.wav", np.zeros(3 * 8000), 8000)
    (folder / "text.wav").write_text("this is no audio")
    rows = [f"{name}.wav,artist {i % 2},rock" for i, name in enumerate([*range(4), "silent", "text", "missing"])]
    (folder / "songs.csv").write_text("\n".join(["file,artist,labels", *rows]) + "\n")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _maps() -> Iterator[None]:
    """A map of the same points is drawn once for all tests; t-SNE takes a second."""
    with pytest.MonkeyPatch.context() as patched:
        draw = maps.layout
        layout = functools.cache(lambda points, shape, *rest: draw(np.frombuffer(points, "<f4").reshape(shape), *rest))
        patched.setattr(maps, "layout", lambda x, *rest: layout(np.float32(x).tobytes(), x.shape, *rest))
        yield


@pytest.fixture(scope="session")
def operators() -> Iterator[None]:
    """PyTorch reads its tables of operators anew for each export, which is half of the time that one takes."""
    import torch._export.utils as exports

    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry
    except ImportError:  # nothing is exported without an extra
        yield
        return
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ONNXRegistry, "from_torchlib", staticmethod(functools.cache(ONNXRegistry.from_torchlib)))
        patched.setattr(exports, "_materialize_cpp_cia_ops", functools.cache(exports._materialize_cpp_cia_ops))
        yield


@pytest.fixture(scope="session", autouse=True)
def _tables(tmp_path_factory: pytest.TempPathFactory) -> None:
    global _STORES
    _STORES = tmp_path_factory.mktemp("tables")


def embed_table(encore: Encore, table: Path, *, shared: bool = True) -> None:
    """Embed a table as the collection ``hits``; where another test did so with the same one, its store is copied.

    A table that is shared is read from a copy that outlives the test; one that is not is read from where it lies.
    """
    rest = ("--name", "hits", "--columns", COLUMNS)
    if not shared or not isinstance(encore.store, Path) or encore.store.exists():
        encore("embed", "table", "--table", table, *rest)
        return
    content = table.read_bytes() + repr((Seals.entries, arrays._SHARD_ROWS)).encode()
    folder = _STORES / hashlib.sha256(content).hexdigest()
    if not folder.exists():
        folder.mkdir()
        shutil.copy(table, folder / table.name)
        Encore(folder / "stores")("embed", "table", "--table", folder / table.name, *rest)
    shutil.copytree(folder / "stores", encore.store)
