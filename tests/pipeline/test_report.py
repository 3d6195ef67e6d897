"""What a report says and draws, and which runs it believes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline import plot
from tests.pipeline.conftest import Encore
from tests.pipeline.test_cli import QUICK, embed_table


def test_a_mode_to_test_against_that_was_not_run(encore: Encore, features_csv: Path) -> None:
    embed_table(encore, features_csv)
    encore("compare", "hits", "--modes", "artist,label-propagation", "--seeds", 1)
    for against in ([], ["--against", "gat"]):
        ran = encore("report", "hits", *against)
        mode = against[-1] if against else "song"
        assert f"there are no runs of {mode} in regime random among the modes reported" in ran.err
        assert "name another by --against: artist (half), artist (top), label-propagation" in ran.err
        assert "to -" not in ran.out
        assert " p\n" not in ran.out
        assert "test clips of seed 0 pooled; 95 % intervals over resampled artists" in ran.out
    for against, shown in (("label-propagation", "label-propagation"), ("artist", "artist (half)")):
        ran = encore("report", "hits", "--against", against)
        assert "no runs of" not in ran.err
        assert f"to {shown}" in ran.out
    assert "--ensemble names nothing" in encore("report", "hits", "--ensemble", "", code=2).err


def test_regimes_that_are_offered_hold_folds(encore: Encore, features_csv: Path) -> None:
    embed_table(encore, features_csv)
    said = encore("head", "hits", "--regime", "artst-5fold", code=2).err
    assert "unknown regime 'artst-5fold'; have: album, album-5fold, artist, artist-5fold, official, random," in said
    assert "Did you mean artist-5fold?" in said


def test_modes_of_a_picture_are_told_apart() -> None:
    """Every mode there is, and some more: no two of them are alike in colour, or in symbol and filling."""
    bucket = {"clips": 10, "score": 0.5, "interval": [0.4, 0.6]}
    entry = {"score": 0.5, "by_genres_of_artist": {"1": bucket}, "by_songs_of_artist": {"1": bucket}}
    found: dict[str, Any] = {
        "dataset": "demo",
        "synthetic": True,
        "representation": "mfcc-0",
        "regime": "random",
        "seeds": [0],
        "metric": "micro_f1",
        "labels": ["a", "b"],
        "label_clips": [4, 5],
        "modes": {f"mode {i}": {**entry, "confusion": [[4, 3, 0], [1, 5, 0]]} for i in range(20)},
    }
    axes, _, matrix, bar = plot._figure(found).axes
    lines = [container.lines[0] for container in axes.containers]
    assert len({tuple(line.get_color()) for line in lines}) == 20
    assert len({(line.get_marker(), str(line.get_markerfacecolor()) == "white") for line in lines}) == 20
    assert axes.get_ylabel() == "micro F1, per cent, 95 % interval"
    assert bar.get_ylabel() == "share of the true label's clips, per cent"
    assert matrix.images[0].get_array().tolist() == [[100, 75], [20, 100]]  # some clips were given both labels


@pytest.fixture
def runs(encore: Encore, features_csv: Path) -> Path:
    embed_table(encore, features_csv)
    encore("compare", "hits", "--modes", "song,gnn", "--seeds", 1, *QUICK)
    (found,) = (encore.store / "hits" / "runs").iterdir()
    return found


def test_a_folder_under_another_name(encore: Encore, runs: Path) -> None:
    shutil.rmtree(runs / "gnn-random")
    shutil.copytree(runs / "song-random", runs / "gnn-random")
    said = encore("report", "hits", code=1).err
    assert "gnn-random/seed-0.json was changed or is of another run: its mode is 'song' and should be 'gnn'" in said
    assert f"run the head again: encore head hits --backbone {runs.name} --mode gnn --regime random" in said
    shutil.rmtree(runs / "gnn-random")
    (runs / "song-random").rename(runs / "song-artist")
    assert "its regime is 'random'" in encore("report", "hits", "--regime", "artist", code=1).err


def test_a_backbone_whose_name_begins_another_s(encore: Encore, runs: Path) -> None:
    """It is named as in every other command: whole, and then with the beginning of a fingerprint."""
    other = f"features-cnn-{'0' * 12}"
    shutil.copytree(runs, runs.with_name(other))
    for name in ("features", runs.name, runs.name[:-8]):
        assert encore("report", "hits", "--backbone", name, "--json").json["representation"] == runs.name
    ran = encore("report", "hits")
    assert f"{runs.name} is taken, the default of hits; there are also: {other} (--backbone)" in ran.err
    assert "no runs of 'feat'" in encore("report", "hits", "--backbone", "feat", code=2).err
    assert "no runs of feat;" in encore("store", "remove", "hits", "--runs", "--backbone", "feat", code=2).err
    gone = encore("store", "remove", "hits", "--runs", "--backbone", other[:-8], "--yes", "--json").json
    assert [Path(folder["path"]).name for folder in gone["removed"]] == [other]


def test_runs_of_other_neighbours(encore: Encore, runs: Path) -> None:
    (runs / "gnn-random").rename(runs / "gnn-random-inductive")
    said = encore("report", "hits", "--neighbours", "train", code=1).err
    assert "its neighbours are not those of its folder" in said
    assert "--neighbours train" in said


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"seed": 0', '"seed": 1', "its seed is 1 and should be 0"),
        ('"representation": "', '"representation": "x', "its representation is 'x"),
        ('"accuracy": 0', '"accuracy": 1', "its accuracy is 1"),
        ('"metrics": {', '"metrics": 3, "other": {', "its metrics or settings are not there"),
        ('"settings": {', '"settings": 3, "other": {', "its metrics or settings are not there"),
        ("{", "[" * 100_000, "is damaged; run the head again"),
    ],
)
def test_a_run_that_was_edited(encore: Encore, runs: Path, old: str, new: str, said: str) -> None:
    file = runs / "song-random" / "seed-0.json"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    told = encore("report", "hits", code=1).err
    assert said in told
    assert str(file) in told
