"""``--target``: heads that estimate a number, from the table to the report."""

from __future__ import annotations

import json
from pathlib import Path

import encore as api
import numpy as np
import pytest

from store.layout import Store
from tests.pipeline.conftest import Encore

QUICK = ("--set", "epochs=3", "--set", "hidden=8")


def write_table(path: Path, number: str = "{value:.2f}", rows: int = 200) -> Path:
    """Songs of twenty artists whose heat is what their energy and artist make of it; every tenth has none."""
    rng = np.random.default_rng(0)
    lines = ["artist,title,genre,energy,loudness,heat"]
    for song in range(rows):
        artist = song % 20
        energy, loudness = rng.standard_normal(2)
        heat = "" if song % 10 == 9 else number.format(value=40 + 5 * energy + artist)
        lines.append(f"artist {artist},song {song},genre {artist % 4},{energy:.4f},{loudness:.4f},{heat}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Encore:
    """A collection of which songs, linear, artist and gnn have learnt ``heat``, and song the genre too."""
    folder = tmp_path_factory.mktemp("regression")
    encore = Encore(folder / "stores")
    embed(encore, write_table(folder / "songs.csv"))
    ran = encore("compare", "warm", "--target", "heat", "--modes", "song,linear,artist,gnn", "--seeds", 2, *QUICK)
    assert "20 clips left out: without heat" in ran.err
    assert "RMSE and MAE in its own unit" in ran.out
    encore("head", "warm", "--mode", "song", *QUICK)
    return encore


def embed(encore: Encore, table: Path) -> None:
    columns = "artist=artist,labels=genre,title=title,targets=heat"
    encore("embed", "table", "--name", "warm", "--table", table, "--columns", columns)


def test_runs_of_numbers_lie_beside_those_of_labels(warm: Encore) -> None:
    (numbers,) = warm("head", "warm", "--target", "heat", "--mode", "song", "--json", *QUICK).json
    (labels,) = warm("head", "warm", "--mode", "song", "--json", *QUICK).json
    assert numbers["target"] == "heat"
    assert "target" not in labels
    assert list(numbers["metrics"]) == ["r2", "rmse", "mae", "spearman"]
    assert list(labels["metrics"]) == ["accuracy", "macro_f1"]
    assert numbers["saved"] == f"{labels['saved']}+heat"
    record = json.loads((Path(numbers["saved"]) / "seed-0.json").read_text())
    assert (record["task"], record["labels"], list(record["catalog"])) == (
        "regression",
        ["heat"],
        ["rows", "mark", "target"],
    )


def test_a_report_tests_every_metric_and_ranks_the_labels(warm: Encore) -> None:
    document = warm("report", "warm", "--target", "heat", "--modes", "song,linear,artist", "--json").json
    assert (document["target"], document["metric"]) == ("heat", "r2")
    linear = document["modes"]["linear"]
    assert list(linear["metrics"]) == ["rmse", "mae", "spearman"]
    for score in (linear, *linear["metrics"].values()):
        low, high = score["interval"]
        assert low <= score["score"] <= high
        assert score["against"]["mode"] == "song"
    assert sorted(of["rank"] for of in linear["by_label"].values()) == [1, 2, 3, 4]
    assert sum(of["clips"] for of in linear["by_label"].values()) == sum(document["label_clips"])
    assert "confusion" not in linear
    text = warm("report", "warm", "--target", "heat", "--modes", "song,linear,artist").out
    assert "MAE (rank) by label" in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_page_of_numbers(warm: Encore, tmp_path: Path) -> None:
    warm("report", "warm", "--target", "heat", "--html", tmp_path / "page.html", "--modes", "song,artist")
    page = (tmp_path / "page.html").read_text()
    assert "Error by label" in page
    assert "Spearman with intervals" in page
    warm("report", "warm", "--target", "heat", "--plot", tmp_path / "plot.png", "--modes", "song,artist")


def test_search_by_validation(warm: Encore) -> None:
    result = warm("search", "warm", "--target", "heat", "--mode", "song", "--trials", 2, "--json", *QUICK).json
    assert result["metric"] == "r2"
    assert "--target heat" in result["command"]


def test_a_head_of_numbers_from_python(warm: Encore) -> None:
    store = Store(warm.store)
    (scores,) = api.train_head(store, "warm", "song", target="heat", epochs=3, hidden=8)
    assert list(scores.metrics) == ["r2", "rmse", "mae", "spearman"]
    trained = api.restore(store, "warm", "song", target="heat")
    assert trained.labels == ("heat",)
    predictions = api.score(store, trained)
    assert predictions.scores.shape == (180, 1)
    assert 30 < float(predictions.scores.mean()) < 70


def test_a_target_that_is_not_there(warm: Encore) -> None:
    assert "have: heat. Did you mean heat?" in warm("head", "warm", "--target", "heet", code=2).err
    assert "--target asks for a number" in warm("compare", "warm", "--target", "heat", "--baselines", code=2).err
    assert (
        "no runs that learnt heat in regime artist"
        in warm("report", "warm", "--target", "heat", "--regime", "artist", code=2).err
    )


def test_corrected_numbers_make_runs_old(warm: Encore, tmp_path: Path) -> None:
    encore = Encore(tmp_path / "stores")
    embed(encore, write_table(tmp_path / "songs.csv"))
    encore("head", "warm", "--target", "heat", "--mode", "artist")
    embed(encore, write_table(tmp_path / "songs.csv", "{value:.1f}"))
    assert "run the head again" in encore("report", "warm", "--target", "heat", "--modes", "artist", code=2).err


@pytest.mark.parametrize(
    ("number", "message"),
    [
        ("7", "is 7 for every clip"),
        ("", "has no numeric target"),
        ("inf", "has no numeric target"),
        ("hot", "a target is a number"),
    ],
)
def test_columns_that_are_no_target(encore: Encore, tmp_path: Path, number: str, message: str) -> None:
    table = write_table(tmp_path / "songs.csv", number, rows=40)
    columns = "artist=artist,labels=genre,title=title,targets=heat"
    ran = encore(
        "embed", "table", "--name", "warm", "--table", table, "--columns", columns, code=2 if number == "hot" else 0
    )
    if number != "hot":
        ran = encore("head", "warm", "--target", "heat", "--mode", "song", *QUICK, code=2)
    assert message in ran.err


@pytest.mark.parametrize("columns", ["labels=heat,features=a", "labels=genre,features=a|heat"])
def test_a_target_that_is_told(encore: Encore, tmp_path: Path, columns: str) -> None:
    """As the label, or as a feature."""
    (tmp_path / "songs.csv").write_text("a,heat,genre\n1,2,rock\n2,3,folk\n")
    request = ("embed", "table", "--name", "warm", "--table", tmp_path / "songs.csv")
    refused = encore(*request, "--columns", f"{columns},targets=heat", code=2).err
    assert "heat is named as a target and as a " in refused


def test_a_target_that_no_test_song_has(encore: Encore, tmp_path: Path) -> None:
    rows = [f"{row},{9 - 5 * row if row < 2 else ''},{('rock', 'folk')[row % 2]}" for row in range(40)]
    (tmp_path / "songs.csv").write_text("\n".join(["a,heat,genre", *rows]) + "\n")
    columns = "labels=genre,features=a,targets=heat"
    encore("embed", "table", "--name", "warm", "--table", tmp_path / "songs.csv", "--columns", columns)
    refused = encore("head", "warm", "--target", "heat", "--mode", "song", *QUICK, code=2).err
    assert "of the test songs none is encoded and has a number for heat" in refused
