"""Intervals and folds of the tables, and which mode is said to be the best."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from stages.head.baselines import Baseline
from stages.head.modes import BASELINES
from stages.head.scores.bootstrap import RESAMPLES
from tests.pipeline.conftest import QUICK, Encore, embed_table


def write_known_artists(path: Path, songs: int = 240) -> Path:
    """Songs whose genre is their artist's and nothing else's: numbers say nothing (synthetic)."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["artist", "title", "genre", "tempo", "energy"])
        for song in range(songs):
            artist = song % 40
            writer.writerow([f"artist {artist}", f"song {song}", f"genre {artist % 4}", song * 7 % 11, song * 5 % 13])
    return path


def test_small_collections_are_compared_in_folds(encore: Encore, features_csv: Path) -> None:
    embed_table(encore, features_csv)
    modes = ("compare", "hits", "--modes", "artist")
    ran = encore(*modes, "--regimes", "random,artist,artist-3fold", "--seeds", 6, "--folds", "auto")
    assert "regime random: one test part would hold 40 songs, too few to tell modes apart; random-5fold" in ran.err
    assert "tests every song 2 times instead, in 10 trainings of each mode (--folds off" in ran.err
    assert "regime random-5fold, 2 seeds" in ran.out  # 6 splits asked for, and each fold is one
    assert "regime artist-5fold, 2 seeds" in ran.out
    assert "regime artist-3fold, 6 seeds" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80
    assert "regime random-5fold" in encore("report", "hits").out  # there are no others
    one_part = encore(*modes, "--seeds", 1, "--folds", "off", "--json")
    assert {row["regime"] for row in one_part.json} == {"random"}
    assert "regime random\n" in encore("report", "hits").out
    three = encore(*modes, "--seeds", 1, "--folds", 3, "--json").json
    assert {(row["regime"], row["seeds"]) for row in three} == {("random-3fold", 1)}
    for wrong in ("2", "-3", "many", "1000"):
        assert "--folds takes auto, off, or a number from 3" in encore(*modes, "--folds", wrong, code=2).err


def test_intervals_are_those_of_the_report(encore: Encore, features_csv: Path) -> None:
    embed_table(encore, features_csv)
    rows = encore("compare", "hits", "--modes", "song,artist,gnn", "--seeds", 2, "--json", *QUICK).json
    report = encore("report", "hits", "--json").json["modes"]
    of = {"most frequent": "artist (top)", "at least half": "artist (half)"}
    assert RESAMPLES == 2000
    for row in rows:
        low, high = row["interval"]
        assert low <= row["metrics"]["accuracy"]["mean"] <= high
        assert [low, high] == pytest.approx(report[of.get(row["rule"], row["mode"])]["interval"])


def test_intervals_stand_where_a_command_goes_on(
    encore: Encore, features_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs that were done before the command was stopped are read again."""
    embed_table(encore, features_csv)
    command = ("compare", "hits", "--modes", "song,gnn", "--seeds", 2, "--json", *QUICK)
    unbroken = encore(*command).json
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    from stages.head.runs.resume import Journal

    finish, calls = Journal.whole, []

    def stop(self: Journal, folder: object) -> None:
        calls.append(folder)
        if len(calls) == 2:
            raise KeyboardInterrupt
        finish(self, folder)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "whole", stop)
        encore(*command, code=130)
    resumed = encore(*command)
    assert "was done before; it is kept" in resumed.err
    assert [row["interval"] for row in resumed.json] == [row["interval"] for row in unbroken]


def test_the_best_beyond_noise_is_bold(encore: Encore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embed_table(encore, write_known_artists(tmp_path / "known.csv"))
    modes = ("compare", "hits", "--modes", "song,label-propagation", "--seeds", 2, *QUICK)
    plain = encore(*modes).out
    assert "95 %: interval over resampled artists; best beyond noise: label-propagation" in plain
    assert "\x1b" not in plain
    assert "best beyond noise: label-propagation" in encore("report", "hits").out
    assert "| label-propagation | **100.0** |" in encore("report", "hits", "--format", "md").out
    for form in ("json", "csv"):
        assert "**" not in encore("report", "hits", "--format", form).out
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[1m100.0" in encore(*modes).out
    assert "\x1b[1m" in encore("report", "hits").out
    assert "\x1b" not in encore(*modes, "--json").out
    alike = encore("compare", "hits", "--modes", "artist", "--seeds", 1).out
    assert "no mode is best beyond noise" in alike  # both rules decide alike


def test_baselines_take_part_and_are_fitted_once(
    encore: Encore, features_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_table(encore, features_csv)
    command = ("compare", "hits", "--modes", "artist", "--baselines", "--seeds", 1)
    first = encore(*command)
    rows = [line for line in first.out.splitlines() if line.startswith(("logistic-", "boosting-", "svm-"))]
    assert len([row for row in rows if "chosen on validation" not in row]) == len(BASELINES)
    assert "best beyond noise" in first.out  # said only where every row has an interval
    assert max(map(len, first.out.splitlines())) <= 80
    monkeypatch.setattr(Baseline, "fit", None)
    again = encore(*command)
    assert "9 baselines of an earlier command: the fits are kept" in again.err
    assert again.out == first.out
    report = encore("report", "hits", "--baselines", "--modes", "artist", "--against", "logistic-song", "--json").json
    assert set(BASELINES) <= set(report["modes"])
    assert report["modes"]["svm-labels"]["against"]["mode"] == "logistic-song"
    assert set(encore("report", "hits", "--json").json["modes"]) == {"artist (top)", "artist (half)"}
    assert "logistic-song 1" in encore("store", "show", "hits").out
