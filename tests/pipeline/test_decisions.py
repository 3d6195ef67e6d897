"""How scores become decisions: thresholds, those of strangers, and ensembles of several modes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from pipeline.python import encore as api
from stages.head.open import from_catalog
from stages.head.predict import NewClips, Predictor
from stages.head.runs.find import find_run
from stages.head.scores import thresholds
from stages.head.scores.metrics import micro_f1
from store.layout import Store
from tests.pipeline.conftest import QUICK, Encore, embed_table
from tests.pipeline.test_head_options import BOTH, record_of, scores


@pytest.fixture
def several(encore: Encore, several_csv: Path) -> Encore:
    embed_table(encore, several_csv)
    return encore


def test_thresholds(several: Encore) -> None:
    ran = several("compare", "hits", "--modes", "song,artist", "--threshold", "tuned", "--seeds", 1, *QUICK)
    assert "labels are chosen above one threshold, that of the best micro F1 on validation" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80
    thresholds = {}
    for how in ("fixed", "tuned", "per-label"):
        result = several("head", "hits", "--mode", "song", "--threshold", how, *BOTH).json
        assert result[0]["threshold"] == how
        about, folder = record_of(result)
        thresholds[how] = about["threshold"]
        assert torch.load(folder / "seed-0.pt", weights_only=True)["threshold"] == thresholds[how]
        table = pq.read_table(folder / "seed-0.parquet")
        chosen = np.array(table.column("chosen").to_pylist())
        np.testing.assert_array_equal(chosen, scores(folder) > np.array(thresholds[how]))
        assert result[0]["metrics"]["roc_auc"]["mean"] == pytest.approx(about["metrics"]["roc_auc"])
    assert thresholds["fixed"] == [0.5] * 5
    assert len(set(thresholds["tuned"])) == 1
    assert thresholds["tuned"] != thresholds["fixed"]
    assert thresholds["per-label"] != thresholds["fixed"]
    rules = several("head", "hits", "--mode", "artist", "--json").json
    assert [result["threshold"] for result in rules] == [None, None]
    wrong = several("head", "hits", "--threshold", "best", code=2).err
    assert "threshold takes one of fixed, tuned, per-label, not 'best'" in wrong


def test_an_ensemble_of_modes(several: Encore) -> None:
    several("compare", "hits", "--modes", "song,gnn,artist", "--seeds", 2, *QUICK, "--threshold", "fixed")
    args = ("report", "hits", "--modes", "song,gnn,artist", "--ensemble", "song,gnn")
    report = several(*args, "--json").json
    assert report["ensemble"] == ["song", "gnn"]
    data = from_catalog(Store(several.store).read_catalog("hits"))
    truth, answers = [], []
    for seed in range(2):
        runs = Path(several.store) / "hits" / "runs" / str(report["representation"])
        mean = np.mean([scores(runs / f"{mode}-random", f"seed-{seed}") for mode in ("song", "gnn")], axis=0)
        answers.append(mean > 0.5)
        truth.append(data.labels[data.split("random", seed) == 2])
    expected = micro_f1(np.concatenate(truth), np.concatenate(answers))
    assert report["modes"]["ensemble"]["score"] == pytest.approx(expected)
    text = several(*args).out
    assert "\nensemble " in text
    assert "ensemble: mean scores of song, gnn" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "no runs of knn" in several("report", "hits", "--ensemble", "song,knn", code=2).err
    assert "takes two modes or more" in several("report", "hits", "--ensemble", "song", code=2).err
    assert "unknown mode 'sing'" in several("report", "hits", "--ensemble", "sing,gnn", code=2).err
    assert "unknown mode 'sing'" in several("report", "hits", "--modes", "sing,gnn", code=2).err
    assert "unknown regime 'rendom'" in several("report", "hits", "--regime", "rendom", code=2).err
    assert "unknown mode to test --against 'sing'" in several("report", "hits", "--against", "sing", code=2).err
    assert several("report", "hits", "--modes", "song", "--ensemble", "artist,gnn", "--json").json["modes"]["ensemble"]


def test_an_ensemble_decides_at_the_mean_of_its_thresholds(several: Encore) -> None:
    several("compare", "hits", "--modes", "song,gnn", "--seeds", 1, *QUICK)
    ensemble = several("report", "hits", "--ensemble", "song,gnn", "--json").json["modes"]["ensemble"]
    (runs,) = (Path(several.store) / "hits" / "runs").iterdir()
    folders = [runs / f"{mode}-random" for mode in ("song", "gnn")]
    score = np.mean([scores(folder) for folder in folders], axis=0, dtype=np.float32)
    cut = np.mean([json.loads((folder / "seed-0.json").read_text())["threshold"] for folder in folders], axis=0)
    chosen = int((score > cut).sum())
    assert np.array(ensemble["confusion"]).sum() >= chosen > 0


def test_strangers_are_decided_by_a_threshold_of_their_own(
    encore: Encore, several_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the run, in what is restored, for new songs, and in ensembles."""
    alone = "".join(f"alone {i},song,genre {i % 5},{i % 3},0,1,{i % 2}\n" for i in range(30))
    several_csv.write_text(several_csv.read_text() + alone)
    embed_table(encore, several_csv)
    monkeypatch.setattr(thresholds, "find", lambda *_: np.full(5, 0.6))
    monkeypatch.setattr(thresholds, "of_strangers", lambda *_: 0.3)
    said = encore("compare", "hits", "--modes", "gated,song", "--seeds", 1, *QUICK).out
    assert "\ngated: songs of artists that it does not know may have a lower threshold\n" in said
    assert max(map(len, said.splitlines())) <= 80
    (runs,) = (Path(encore.store) / "hits" / "runs").iterdir()
    limits = [json.loads((runs / f"{mode}-random" / "seed-0.json").read_text()) for mode in ("gated", "song")]
    assert [about["stranger_threshold"] for about in limits] == [0.3, None]

    store = Store(Path(encore.store))
    data = from_catalog(store.read_catalog("hits"), store)
    split = data.parts("random", 0)[0]
    known = np.isin(data.artist, data.artist[split == 0])[split == 2]
    assert 0 < known.sum() < len(known)
    limits = np.where(known[:, None], 0.6, 0.3)
    table = pq.read_table(runs / "gated-random" / "seed-0.parquet")
    score, chosen = (np.array(table.column(name).to_pylist()) for name in ("score", "chosen"))
    np.testing.assert_array_equal(chosen, score > limits)
    assert (chosen != (score > 0.6)).any()

    opened = api.open_store(encore.store)
    again = api.score(opened, api.restore(opened, "hits", "gated"))
    np.testing.assert_array_equal(again.decisions[split == 2], chosen)

    mean = np.mean([score, scores(runs / "song-random")], axis=0, dtype=np.float32)
    report = encore("report", "hits", "--modes", "song", "--ensemble", "gated,song", "--json").json
    assert report["other_settings"] == {}  # each has its own defaults
    expected = micro_f1(data.labels[split == 2], mean > (limits + 0.6) / 2)
    assert report["modes"]["ensemble"]["score"] == pytest.approx(expected)

    run, _ = find_run(store, "hits/gated")
    predictor = Predictor(store, run, torch.device("cpu"))
    artists = [None, data.artist_ids[int(data.artist[split == 0][0])]]
    new = predictor.score_new(NewClips(torch.zeros(2, 4), artists, np.arange(2), np.full(2, -1)))
    for clip, limit in ((0, 0.3), (1, 0.6)):
        np.testing.assert_array_equal(new.prediction.decision[clip], new.prediction.score[clip] > limit)
        answer = predictor.decide(new[np.array([clip])])
        np.testing.assert_array_equal(answer.decision[0], answer.score[0] > limit)

    # Songs that came since, one of them with a label that the head does not know, change none of this.
    more = "".join(f"alone {i},more {k},genre {i % 5},1,0,1,{k}\n" for i in range(30) for k in range(3))
    several_csv.write_text(several_csv.read_text() + more + "alone 99,song,genre new,1,0,1,0\n")
    embed_table(encore, several_csv)
    grown = encore("report", "hits", "--modes", "song", "--ensemble", "gated,song", "--json").json
    assert grown["modes"]["ensemble"]["score"] == pytest.approx(expected)
    (run, _), rows = find_run(store, "hits/gated"), np.array(table.column("row").to_pylist())
    predictor = Predictor(store, run, torch.device("cpu"))
    stored = predictor.score_stored(predictor.places(rows)).prediction
    np.testing.assert_array_equal(stored.decision, stored.score > limits)  # neighbours that came may change scores


@pytest.mark.usefixtures("unsealed")
@pytest.mark.parametrize("limit", ["low", [0.3], True, 7, float("nan"), 0.3])
def test_thresholds_that_are_none(several: Encore, limit: object) -> None:
    """Scores lie between 0 and 1, and whose threshold it is must be known."""
    several("head", "hits", "--mode", "song", "--seeds", 1, *QUICK)
    (file,) = Path(several.store).glob("hits/runs/*/song-random/seed-0.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "stranger_threshold": limit}))
    error = several("report", "hits", "--modes", "song", code=1).err
    assert ("which clips are strangers is not there" if limit == 0.3 else "its thresholds are no scores") in error
