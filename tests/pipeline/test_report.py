"""What a report says and draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline import plot
from tests.pipeline.conftest import Encore
from tests.pipeline.test_cli import QUICK, embed_table


def test_a_mode_to_test_against_that_was_not_run(encore: Encore, features_csv: Path) -> None:
    embed_table(encore, features_csv)
    encore("compare", "hits", "--modes", "artist,label-propagation", "--seeds", 1, *QUICK)
    for against in ([], ["--against", "gat"]):
        ran = encore("report", "hits", *against)
        mode = against[-1] if against else "song"
        assert f"there are no runs of {mode} in regime random among the modes reported" in ran.err
        assert "name another by --against: artist (half), artist (top), label-propagation" in ran.err
        assert "to -" not in ran.out
        assert " p\n" not in ran.out
        assert "test clips of seed 0 pooled; 95 % intervals over resampled artists" in ran.out
    ran = encore("report", "hits", "--against", "label-propagation")
    assert "no runs of" not in ran.err
    assert "to label-propagation" in ran.out
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
        "modes": {f"mode {i}": {**entry, "confusion": [[1, 0, 0], [0, 1, 0]]} for i in range(20)},
    }
    axes, _, _, bar = plot._figure(found).axes
    lines = [container.lines[0] for container in axes.containers]
    assert len({tuple(line.get_color()) for line in lines}) == 20
    assert len({(line.get_marker(), str(line.get_markerfacecolor()) == "white") for line in lines}) == 20
    assert axes.get_ylabel() == "micro F1, per cent, 95 % interval"
    assert bar.get_ylabel() == "share of the true label's clips, per cent"
