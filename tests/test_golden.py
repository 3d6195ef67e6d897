"""Stores of earlier versions can be read, verified, reported and gone on with. See ``golden/README.md``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.pipeline.conftest import Encore

STORES = sorted(path for path in (Path(__file__).parent / "golden").iterdir() if path.name.startswith("store-"))
ABC, C = "features-b84d048d83d7", "features-09ff56a1db5f"
SETTINGS = ("--set", "epochs=3", "--set", "hidden=4", "--device", "cpu")


@pytest.fixture(params=STORES, ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a store's folder."""
    return Path(shutil.copytree(request.param, tmp_path / "golden"))


@pytest.fixture
def encore(golden: Path) -> Encore:
    return Encore(golden / "store")


def assert_reported(encore: Encore, golden: Path) -> None:
    """Every figure of the reports of the time is reported again; there may be more of them."""
    for name, options in (
        ("abc-random", ("--backbone", ABC)),
        ("abc-artist", ("--backbone", ABC, "--regime", "artist")),
        ("c-random", ("--backbone", C)),
    ):
        expected = json.loads((golden / f"report-{name}.json").read_text())
        assert_contains(encore("report", "tiny", *options, "--json").json, expected, name)


def assert_contains(report: Any, expected: Any, where: str) -> None:
    if isinstance(expected, dict):
        assert expected.keys() <= report.keys(), where
        for key, value in expected.items():
            assert_contains(report[key], value, f"{where}/{key}")
    elif isinstance(expected, list):
        assert len(report) == len(expected), where
        for i, (value, other) in enumerate(zip(report, expected, strict=True)):
            assert_contains(value, other, f"{where}/{i}")
    else:
        assert report == (pytest.approx(expected, abs=1e-9) if isinstance(expected, float) else expected), where


def folders(store: Path) -> set[Path]:
    return {path.relative_to(store) for path in store.rglob("seed-*.parquet")}


def test_it_is_read_and_verified(encore: Encore) -> None:
    lines = encore("store", "verify").out.splitlines()
    assert [line for line in lines if ABC in line or C in line] == [f"tiny/{C}: intact", f"tiny/{ABC}: intact"]
    collection = encore("store", "show", "tiny", "--json").json
    assert (collection["clips"], collection["songs"], collection["artists"], collection["retired"]) == (91, 90, 15, 1)
    assert [(r["name"], r["complete"], r["rows"]) for r in collection["representations"]] == [
        (C, True, 91),
        (ABC, True, 91),
    ]


def test_its_runs_are_reported_as_at_that_time(encore: Encore, golden: Path) -> None:
    assert_reported(encore, golden)


def test_its_songs_are_already_there(encore: Encore, golden: Path) -> None:
    """From another folder than at that time; its runs stay good."""
    embed = ("embed", "table", "--table", golden / "songs.csv", "--name", "tiny", "--json")
    for columns, representation in (((), ABC), (("--set", "columns=c"), C)):
        result = encore(*embed, *columns).json
        assert (result["already_there"], result["encoded"], result["added"], result["retired"]) == (True, 0, 0, 0)
        assert representation in json.dumps(result)
    assert_reported(encore, golden)


def test_another_mode_is_trained_on_its_splits(encore: Encore, golden: Path) -> None:
    splits = pq.read_table(golden / "store/tiny/splits.parquet")
    runs = folders(golden / "store")
    for regime in ("random", "artist"):
        encore(
            "head",
            "tiny",
            "--backbone",
            ABC,
            "--mode",
            "sgc",
            "--regime",
            regime,
            "--set",
            "epochs=3",
            "--device",
            "cpu",
        )
    assert pq.read_table(golden / "store/tiny/splits.parquet").equals(splits)
    new = folders(golden / "store") - runs
    assert len(new) == 2
    for path in new:
        beside = path.parent.with_name(path.parent.name.replace("sgc", "song")) / path.name
        rows = [pq.read_table(golden / "store" / run)["row"] for run in (path, beside)]
        assert rows[0].equals(rows[1])
    assert_reported(encore, golden)


def test_a_stored_mode_is_trained_again(encore: Encore, golden: Path) -> None:
    runs = folders(golden / "store")
    result = encore("head", "tiny", "--backbone", ABC, "--mode", "gnn", "--json", *SETTINGS).json[0]
    assert (result["mode"], result["seeds"]) == ("gnn", 1)
    assert folders(golden / "store") == runs


def test_scores_are_compared_key_by_key() -> None:
    """The comparison above finds what is missing, changed or shorter."""
    expected = {"modes": {"song": {"score": 0.5, "interval": [0.25, 0.75]}}}
    assert_contains({"modes": {"song": {"score": 0.5, "interval": [0.25, 0.75], "more": 1}, "gnn": {}}}, expected, "")
    for report in (
        {"modes": {}},
        {"modes": {"song": {"score": 0.6, "interval": [0.25, 0.75]}}},
        {"modes": {"song": {"score": 0.5, "interval": [0.25]}}},
    ):
        with pytest.raises(AssertionError):
            assert_contains(report, expected, "")
