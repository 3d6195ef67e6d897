"""Which settings a head is trained with when none are given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from stages import registry
from stages.head.collection import Collection
from stages.head.fit import evaluate
from stages.head.heads.song import Song
from stages.head.modes import Mode
from stages.head.options import resolve
from stages.head.results import Result
from stages.head.scores.task import MULTI_LABEL
from stages.head.settings import Settings, keys
from stages.head.thesis import PAPER, THESIS_SETTINGS, settings_for
from stages.head.training.loop import train
from store.schema import CatalogInfo

ARTIST_ONLY = {"micro_f1": 0.4399, "backbone": None}  # it hears no song


def test_the_thesis_settings_belong_to_its_pairs_alone() -> None:
    assert {dataset for dataset, _ in THESIS_SETTINGS} == set(PAPER)
    assert {(dataset, paper.backbone) for dataset, paper in PAPER.items()} == set(THESIS_SETTINGS)
    assert {backbone for _, backbone in THESIS_SETTINGS} <= set(registry.names("backbone"))
    for pair in (("demo", "musicbert"), ("lakh", "cola"), ("mtg", "fcn")):
        assert settings_for(*pair) == {}


def test_a_preset_reaches_the_training_and_every_head_that_has_its_keys() -> None:
    heads = [registry.find("head", mode) for mode in ("song", "gnn", "gcnii", "sgc")]
    settings, configs = resolve(heads, {"batch": "32"}, settings_for("lakh", "musicbert"))
    song, gnn, gcnii, sgc = configs.values()
    assert (settings.learning_rate, settings.patience, settings.standardise) == (0.00003, 8, False)
    assert settings.batch == 32  # the user's own comes last
    assert (song.hidden, gnn.hidden, gnn.neighbours, gnn.neighbours_inference) == (None, None, 5, 100)
    assert (gcnii.neighbours, sgc) == (5, sgc.__class__())


def test_every_preset_is_of_keys_that_something_reads() -> None:
    heads = [registry.find("head", mode) for mode in registry.names("head")]
    known = set(keys(Settings)).union(*(keys(head.Config) for head in heads))
    assert all(set(preset) <= known for preset in THESIS_SETTINGS.values())


def test_representations_that_hardly_vary_are_learned_from() -> None:
    """As an untrained network's: 0.4 everywhere, give or take 0.002."""
    rng = np.random.default_rng(0)
    clips = np.arange(300)
    targets = rng.random((300, 4)) < 0.3
    x = 0.4 + 0.002 * (targets @ rng.standard_normal((4, 64)) + rng.standard_normal((300, 64)))
    data = Collection(
        info=CatalogInfo(name="mine", title="", version="", licence="", citation="", backbone="cola"),
        rows=clips,
        x=torch.from_numpy(x).float(),
        labels=targets,
        label_names=("a", "b", "c", "d"),
        task=MULTI_LABEL,
        song=clips,
        album=clips,
        artist=clips,
        official=np.full(300, -1, dtype=np.int8),
        backbone="cola-0",
        left_out={},
    )
    part = np.where(clips % 10 == 9, 2, np.where(clips % 10 == 8, 1, 0)).astype(np.int8)
    settings, configs = resolve([Song], {}, settings_for("mine", "cola"))
    result = train(Song, data, part, configs[Song], settings, seed=0, device=torch.device("cpu"))
    assert evaluate(result.prediction, data, part)["micro_f1"] > 0.8


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"micro_f1": 0.5099, "backbone": "cola"}),
        ({"regime": "random"}, {"micro_f1": 0.5099, "backbone": "cola"}),
        ({"mode": "song", "neighbours": None}, {"micro_f1": 0.3975, "backbone": "cola"}),
        ({"mode": "artist", "rule": "most frequent", "neighbours": None, "backbone": None}, ARTIST_ONLY),
        ({"mode": "artist", "rule": "at least half", "neighbours": None, "backbone": None}, None),
        ({"mode": "gated"}, None),
        ({"backbone": "fcn-0123456789ab"}, None),
        ({"backbone": "cola-more-0123456789ab"}, None),
        ({"regime": "artist-5fold"}, None),
        ({"neighbours": "train"}, None),
    ],
)
def test_the_thesis_stands_beside_runs_as_its_own(changes: dict[str, Any], expected: dict[str, Any] | None) -> None:
    """On the same backbone, in a single split, with neighbours from the whole collection."""
    fields: dict[str, Any] = {
        "backbone": "cola-0123456789ab",
        "mode": "gnn",
        "rule": None,
        "regime": "official",
        "neighbours": "all",
        **changes,
    }
    fields["mode"] = Mode(fields["mode"], fields.pop("rule"))
    rest = {
        "task": MULTI_LABEL,
        "dataset": "mtg",
        "synthetic": False,
        "seeds": 1,
        "members": 1,
        "threshold": None,
        "remark": "",
    }
    assert Result(**fields, **rest, overlap=[], thesis=PAPER["mtg"]).paper() == expected
