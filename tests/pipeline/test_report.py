"""``encore report`` believes a folder of runs only what its runs say of themselves."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.pipeline.conftest import Encore
from tests.pipeline.test_cli import QUICK, embed_table


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
    assert "run the head again: encore head hits --mode gnn --regime random" in said
    shutil.rmtree(runs / "gnn-random")
    (runs / "song-random").rename(runs / "song-artist")
    assert "its regime is 'random'" in encore("report", "hits", "--regime", "artist", code=1).err


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
