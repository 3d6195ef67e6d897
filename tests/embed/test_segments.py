"""Training on stretches of clips: how a clip is cut, and that a song's stretches stay in its part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from stages.embed.catalogs import open_catalog
from stages.embed.datasets.folder import in_segments
from store.layout import Store
from tests.pipeline.conftest import Encore

RATE_HZ = 8_000


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve songs of 30 s, one of 2 s, and a stretch of 6 s from second 10 on of one more."""
    folder = tmp_path_factory.mktemp("songs")
    rng = np.random.default_rng(0)
    lines = ["file,artist,labels,start_s,duration_s"]
    for number in range(14):
        seconds = 2 if number == 12 else 30
        soundfile.write(folder / f"{number:02}.wav", 0.1 * rng.standard_normal(seconds * RATE_HZ), RATE_HZ)
        lines.append(f"{number:02}.wav,artist {number % 4},{['a', 'b'][number % 2]},{'10,6' if number == 13 else ','}")
    (folder / "songs.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_a_clip_of_30_s_has_19_stretches_of_3_s(songs: Path, tmp_path: Path) -> None:
    options = {"data": songs, "table": str(songs / "songs.csv"), "name": "mine"}
    catalog = open_catalog("folder", options, Store(tmp_path / "stores"))
    rows = np.arange(len(catalog))
    clips, owner = in_segments(catalog, rows, 3.0, 1.5)
    counts = dict(zip(catalog.strings("path"), np.bincount(owner).tolist(), strict=True))
    assert counts == {**{f"{number:02}.wav": 19 for number in range(12)}, "12.wav": 1, "13.wav": 3}
    assert len(set(clips.strings("clip_id"))) == len(clips)
    of_last = [path == "13.wav" for path in clips.strings("path")]
    starts = np.array(clips.column("start_s").to_pylist(), dtype=float)[of_last]
    assert starts.tolist() == [10.0, 11.5, 13.0]
    for column in ("song_id", "artist_id", "labels"):
        assert clips.column(column).to_pylist() == [catalog.column(column)[row].as_py() for row in owner.tolist()]


def test_train_on_stretches(songs: Path, tmp_path: Path) -> None:
    encore = Encore(tmp_path / "stores")
    songs_of = ("--dataset", "folder", "--name", "mine", "--data", songs, "--table", songs / "songs.csv")
    train = ("train", "cnn1d", *songs_of, "--regime", "random", "--workers", 0, "--set", "steps=2", "--set", "batch=4")
    ran = encore(*train, "--segments", 3, "--hop", 1.5, "--out", tmp_path / "cnn1d.pt")
    assert "stretches of 3 s" in ran.err
    again = encore(*train, "--segments", 3, "--hop", 3, "--out", tmp_path / "cnn1d.pt", code=2).err
    assert "belongs to another training" in again
    assert "--hop is the distance of --segments" in encore(*train, "--hop", 3, code=2).err
    assert "no clip is long enough for two" in encore(*train, "--segments", 100, "--out", tmp_path / "long.pt").err
