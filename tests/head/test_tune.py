"""Settings chosen for a split: what is tried, on which clips, and at what cost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from stages.head import fit as fitting
from stages.head import tune
from stages.head.collection import Collection
from stages.head.fit import FitResult, fit
from stages.head.heads.linear import Linear
from stages.head.heads.song import Song
from stages.head.training.loop import Loop
from stages.head.training.stretches import Stretches
from stages.splits.regimes import Split
from tests.head.conftest import options

CPU = torch.device("cpu")
SHORT = {"epochs": 6, "steps": 2, "batch": 64, "hidden": 16}


def tuned(collection: Collection, split: Split, fixed: Any = (), **changes: Any) -> FitResult:
    config, settings = options(Song, **{**SHORT, "tune": "quick", **changes})
    return fit(Song, collection, split, config, settings, 0, CPU, fixed=fixed)[0]


def test_what_is_tried() -> None:
    config, settings = options(Song, tune="quick")
    quick = tune.candidates(Song, config, settings, ())
    assert quick[0].config == config
    assert quick[0].settings == settings
    assert [each.values for each in quick] == [{"weight_decay": decay} for decay in (0.0, 0.3, 3.0)]
    assert len(tune.candidates(Song, config, settings, {"weight_decay"})) == 1
    full = replace(settings, tune="full")
    every = tune.candidates(Song, config, full, ())
    assert len(every) == 25
    assert {(each.settings.weight_decay, each.config.hidden) for each in every} == {
        (decay, width) for decay in (0.0, 0.1, 0.3, 1.0, 3.0) for width in (32, 64, 128, 256, 512)
    }
    assert {each.config.hidden for each in tune.candidates(Song, config, full, {"hidden"})} == {128}
    assert len(tune.candidates(Song, config, replace(settings, tune="off"), ())) == 1
    assert len(tune.candidates(Linear, *options(Linear, tune="full"), ())) == 1  # it has a path of its own


@pytest.mark.parametrize("regime", ["random", "artist"])
def test_a_small_validation_part_gives_way_to_folds_of_the_training_part(dataset: Collection, regime: str) -> None:
    """Each training clip is validated on once, no other clip is touched, and artists stay apart where they were."""
    split = dataset.split(regime, 0)
    parts = tune.inner_splits(dataset, split, 0)
    assert len(parts) == 3
    times = np.sum([part == 1 for part in parts], axis=0)
    np.testing.assert_array_equal(times, split == 0)
    for part in parts:
        assert (part[split != 0] == -1).all()
        train, validation = (set(dataset.artist[(part == i) & (dataset.artist >= 0)].tolist()) for i in (0, 1))
        assert (regime == "artist") == train.isdisjoint(validation)


def test_a_large_validation_part_decides_itself(dataset: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    split = dataset.split("random", 0)
    monkeypatch.setattr(tune, "_ENOUGH_SONGS", 5)
    (part,) = tune.inner_splits(dataset, split, 0)
    assert part is split


def test_test_labels_decide_nothing(dataset: Collection) -> None:
    split = dataset.split("artist", 0)
    flipped = replace(dataset, labels=np.where((split == 2)[:, None], ~dataset.labels, dataset.labels))
    one, other = tuned(dataset, split), tuned(flipped, split)
    assert one.tuned == other.tuned
    assert set(one.tuned) == {"weight_decay"}
    np.testing.assert_array_equal(one.prediction.score, other.prediction.score)


@pytest.mark.parametrize("enough", [5, 300])  # on the validation part, and in folds
def test_quick_costs_at_most_three_trainings(dataset: Collection, monkeypatch: pytest.MonkeyPatch, enough: int) -> None:
    """Counted in clips that were trained on, where a training takes long enough for a search to have epochs."""
    clips: list[int] = []
    epoch_of = Loop._epoch

    def counted(loop: Loop, epoch: int) -> float:
        clips.append(len(loop.train) * loop.passes)
        return epoch_of(loop, epoch)

    monkeypatch.setattr(Loop, "_epoch", counted)
    monkeypatch.setattr(tune, "_ENOUGH_SONGS", enough)
    split = dataset.split("random", 0)
    once = {"epochs": 40, "patience": 40}
    tuned(dataset, split, **once, tune="off")
    plain = sum(clips)
    clips.clear()
    tuned(dataset, split, **once)
    assert plain < sum(clips) <= 3 * plain


def test_settings_as_they_are_give_the_plain_training(dataset: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the first candidate wins, its training on the way is the one that is kept."""
    monkeypatch.setattr(fitting, "choose", lambda _head, _stretches, _split, tried, **_rest: tried[0])
    split = dataset.split("random", 0)
    result, plain = tuned(dataset, split), tuned(dataset, split, tune="off")
    np.testing.assert_array_equal(result.prediction.score, plain.prediction.score)
    assert result.tuned == {"weight_decay": 0.0}
    assert plain.tuned == {}


def test_the_candidate_that_learns_wins(dataset: Collection) -> None:
    """Also against one whose loss does not stay finite."""
    split = dataset.split("random", 0)
    config, settings = options(Song, **SHORT, tune="quick")
    rates = (1e-9, 1e30, 0.01)
    tried = [tune.Candidate(config, replace(settings, learning_rate=rate), {"rate": rate}) for rate in rates]
    choice = tune.choose(Song, Stretches(dataset), split, tried, epochs=40, seed=0, device=CPU)
    assert choice.values == {"rate": 0.01}
