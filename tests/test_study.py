"""The study of what training gives: the same network before and after, on songs that it was not trained on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.embed.weights import read_state_dict
from store.layout import Store
from tests import study


def test_it_compares_a_network_with_what_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = dataclasses.replace(
        study.PLANS["musicbert"], songs=30, seeds=1, training={"steps": "2", "batch": "4", "warmup": "0"}
    )
    monkeypatch.setattr(study, "_TARGET_SONGS", 20)
    monkeypatch.setattr("stages.embed.datasets._demo_files.LENGTH_S", 15.0)
    monkeypatch.setattr(study, "_HEAD", dataclasses.replace(study._HEAD, epochs=2, steps=1))
    result = study.study("musicbert", plan, tmp_path)
    start, end = (tmp_path / f"musicbert-0-{state}.pt" for state in ("start", "end"))
    before, after = read_state_dict(start), read_state_dict(end)
    moved = max(float((after[key] - before[key]).abs().max()) for key in before)
    assert 0 < moved < 0.01  # two updates from there
    chance = study.controls(Store(str(tmp_path / "store")), seeds=1)
    text = study.describe({"musicbert": result}, chance)
    assert max(map(len, text.splitlines())) <= 80
    assert [line.split()[0] for line in text.splitlines()[2:]] == ["random", "one", "musicbert"]
    assert torch.isfinite(torch.tensor(result["losses"])).all()


def test_a_tuned_threshold_is_that_of_the_validation_part() -> None:
    truth = np.array([[1, 0], [0, 1], [1, 0], [0, 1]], dtype=bool)
    score = np.where(truth, 0.3, 0.1).astype(np.float32)  # the right order, and nothing above one half
    part = np.array([1, 1, 2, 2], dtype=np.int8)
    assert study.tuned_f1(truth, score, part) == 1.0
    assert study.tuned_f1(truth, np.where(part[:, None] == 1, score, 1 - score), part) < 1.0
