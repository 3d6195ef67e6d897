"""``encore stress``: what trained heads say of deformed test clips, which are encoded once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipeline.conftest import Encore
from tests.pipeline.test_predict import write_song

QUICK = ("--set", "epochs=2", "--set", "hidden=8")


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Encore:
    """Twenty-four MIDI songs of six artists, two clips a song, on which three heads were trained."""
    folder = tmp_path_factory.mktemp("stress")
    lines = ["file,artist,labels"]
    for number in range(24):
        write_song(folder / f"{number}.mid", number)
        lines.append(f"{number}.mid,artist {number % 6},{['jazz', 'rock', 'folk'][number % 3]}")
    (folder / "songs.csv").write_text("\n".join(lines) + "\n")
    encore = Encore(folder / "stores")
    table = ("--table", folder / "songs.csv", "--backbone", "pianoroll", "--clips", 2, "--clip-s", 5)
    encore("embed", "folder", "--name", "mine", "--data", folder, *table, "--set", "frames=4")
    encore("compare", "mine", "--modes", "song,gnn,artist", "--seeds", 2, *QUICK)
    return encore


def test_nothing_changes_where_nothing_is_deformed(songs: Encore) -> None:
    """And what was encoded once is not encoded again."""
    request = ("stress", "mine", "--mode", "song,gnn,artist", "--deform", "transpose=0,velocity=0", "--json")
    first = songs(*request)
    manifests = {path: path.stat().st_mtime_ns for path in (songs.store / "mine.stress").glob("*/manifest.json")}
    assert len(manifests) == 2
    assert "left out: artist, which hear no song" in first.err
    document = first.json
    assert (document["metric"], document["seeds"]) == ("accuracy", [0, 1])
    for entry in document["deformations"]:
        assert list(entry["modes"]) == ["song", "gnn"]
        for score in entry["modes"].values():
            assert score["against"]["difference"] == 0
            assert score["clips"] > 0
    again = songs(*request)
    assert again.json == document
    assert manifests == {path: path.stat().st_mtime_ns for path in manifests}


def test_a_table_and_a_picture(songs: Encore, tmp_path: Path) -> None:
    request = ("stress", "mine", "--mode", "song", "--deform", "drop-tracks,transpose=1")
    ran = songs(*request, "--plot", tmp_path / "stress.svg")
    assert "drop-tracks 0.25 x" in ran.out
    assert "transpose 1 semitone " in ran.out
    (clean,) = (line.split()[1] for line in ran.out.splitlines() if line.startswith("clean "))
    report = songs("report", "mine", "--modes", "song", "--json").json
    assert float(clean) == pytest.approx(100 * report["modes"]["song"]["score"], abs=0.05)
    assert max(map(len, ran.out.splitlines())) <= 80
    picture = (tmp_path / "stress.svg").read_text()
    assert "drop-tracks, x" in picture
    assert "regime random; dashed: clean" in picture


def test_wrong_requests(songs: Encore, features_csv: Path) -> None:
    assert "have: drop-tracks, tempo" in songs("stress", "mine", "--mode", "song", "--deform", "gain", code=2).err
    assert (
        "hear songs in regime artist; make some: encore compare mine --modes song --regimes artist"
        in songs("stress", "mine", "--mode", "song", "--regime", "artist", code=2).err
    )
    songs("embed", "table", "--name", "hits", "--table", features_csv, "--columns", "labels=genre")
    songs("head", "hits", "--mode", "song", *QUICK)
    assert "ready-made features" in songs("stress", "hits", "--mode", "song", code=2).err


def test_heads_that_were_trained_in_folds(songs: Encore) -> None:
    """As `compare` does in a small collection unless told otherwise."""
    encore = Encore(songs.store)
    encore("compare", "mine", "--modes", "song", "--regimes", "artist", "--seeds", 1, "--folds", 3, *QUICK)
    document = encore("stress", "mine", "--mode", "song", "--regime", "artist", "--deform", "tempo=0.9", "--json").json
    assert document["regime"] == "artist-3fold"
    assert document["deformations"][0]["modes"]["song"]["clips"] == 48
