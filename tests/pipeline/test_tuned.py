"""What a user sees of settings that were chosen for each split."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stages.head import fit as fitting
from tests.pipeline.conftest import EPOCHS, Encore, embed_table


def test_what_was_chosen_is_shown_and_kept(encore: Encore, features_csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeds that chose differently are one table and one report all the same, and each comes back as it was."""
    embed_table(encore, features_csv)
    monkeypatch.setattr(
        fitting, "choose", lambda _head, _stretches, _split, tried, *, seed, **_rest: tried[16 * seed + 4]
    )
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    command = ("head", "hits", "--mode", "song", "--seeds", 2, "--tune", "full", *EPOCHS)
    (row,) = encore(*command, "--json").json
    assert row["tuned"] == [{"weight_decay": 0.0, "hidden": 512}, {"weight_decay": 3.0, "hidden": 128}]
    text = " ".join(encore(*command).out.split())
    assert "song: chosen on validation: weight_decay 0.0 (1x), 3.0 (1x); hidden 512 (1x), 128 (1x)" in text
    assert "song" in encore("report", "hits").out
    records = [json.loads(path.read_text()) for path in sorted(encore.store.glob("hits/runs/*/song-random/*.json"))]
    assert [record["tuned"] for record in records] == row["tuned"]
    assert [record["config"]["hidden"] for record in records] == [512, 128]
    assert [record["settings"]["weight_decay"] for record in records] == [0.0, 3.0]


def test_settings_that_were_named_are_left_alone(encore: Encore, features_csv: Path) -> None:
    embed_table(encore, features_csv)
    both = ("--set", "weight_decay=0.1", "--set", "hidden=16")
    (row,) = encore("head", "hits", "--mode", "song", "--tune", "quick", *both, *EPOCHS, "--json").json
    assert row["tuned"] is None
    message = encore("head", "hits", "--mode", "song", "--tune", "much", code=2).err
    assert "tune" in message
    assert "quick" in message
