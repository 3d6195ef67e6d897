"""``--set``: which settings reach the training, and which each head."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.pipeline.conftest import QUICK, Encore, embed_table

BOTH = ("--json", *QUICK)


@pytest.fixture
def several(encore: Encore, several_csv: Path) -> Encore:
    embed_table(encore, several_csv)
    return encore


def test_settings_reach_the_heads_that_have_them(several: Encore) -> None:
    """Those of the training and of any head alike; what nothing reads, or nothing here, is refused."""
    results = several(
        "compare", "hits", "--modes", "knn,side-edges,sgc", "--set", "nearest=3", "--set", "side=album", *BOTH
    )
    configs = {
        run["mode"]: json.loads((Path(run["saved"]) / "seed-0.json").read_text())["config"] for run in results.json
    }
    assert (configs["knn"]["nearest"], configs["side-edges"]["side"], configs["sgc"]) == (3, "album", {})
    assert "side" not in configs["knn"]
    refused = several("compare", "hits", "--modes", "song,gnn", "--set", "nearest=3", code=2).err
    assert "song, gnn do not read nearest; leave out --set nearest" in refused
    assert "sgc does not read hidden" in several("head", "hits", "--mode", "sgc", "--set", "hidden=3", code=2).err
    unknown = " ".join(several("head", "hits", "--mode", "gnn", "--set", "epoch=3", code=2).err.split())
    assert (
        "unknown setting 'epoch'; gnn has hidden, dropout, clips_an_axis, neighbours, neighbours_inference, inductive; "
        in unknown
    )
    assert "the training has learning_rate, " in unknown
    assert "Did you mean epochs?" in unknown
    assert (
        "attention_heads is 0; it must be at least 1"
        in several("head", "hits", "--mode", "gat", "--set", "attention_heads=0", code=2).err
    )
