"""What a report says and draws, and which runs it believes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline import plot
from stages.head.modes import Mode
from stages.head.report import KINDS, ModeReport, Report, Score
from stages.head.scores.task import MULTI_LABEL
from tests.pipeline.conftest import QUICK, Encore, embed_table


def test_a_mode_to_test_against_that_was_not_run(encore: Encore, features_csv: Path) -> None:
    embed_table(encore, features_csv)
    encore("compare", "hits", "--modes", "artist,label-propagation", "--seeds", 1)
    for against in ([], ["--against", "gat"]):
        ran = encore("report", "hits", *against)
        mode = against[-1] if against else "song"
        assert f"there are no runs of {mode} in regime random among the modes reported" in ran.err
        assert "name another by --against: artist (half), artist (top), label-propagation" in ran.err
        assert "to -" not in ran.out
        assert " p\n" not in ran.out
        assert "test clips of seed 0 pooled; 95 % intervals over resampled artists" in ran.out
    for against, title in (("label-propagation", "label-propagation"), ("artist", "artist (half)")):
        ran = encore("report", "hits", "--against", against)
        assert "no runs of" not in ran.err
        assert f"to {title}" in ran.out
    assert "--ensemble names nothing" in encore("report", "hits", "--ensemble", "", code=2).err


def test_regimes_that_are_offered_hold_folds(encore: Encore, features_csv: Path) -> None:
    embed_table(encore, features_csv)
    message = encore("head", "hits", "--regime", "artst-5fold", code=2).err
    assert "unknown regime 'artst-5fold'; have: album, album-5fold, artist, artist-5fold, official, random," in message
    assert "Did you mean artist-5fold?" in message


def test_songs_that_came_after_the_training(encore: Encore, features_csv: Path) -> None:
    embed_table(encore, features_csv, shared=False)
    encore("head", "hits", "--mode", "artist", "--seeds", 1)
    assert "came after" not in encore("report", "hits").err
    with features_csv.open("a") as table:
        table.write("artist 0,one more,genre 0,1,2,3\n")
    embed_table(encore, features_csv, shared=False)
    assert encore("report", "hits").err.startswith("1 song of hits came after the first of these trainings")


def test_modes_of_a_picture_are_told_apart() -> None:
    """Every mode there is, and some more: no two of them are alike in colour, or in symbol and filling."""
    score = Score(10, 0.5, (0.4, 0.6), None)
    entry = ModeReport(score, {kind: {"1": score} for kind in KINDS}, None, None, np.array([[4, 3, 0], [1, 5, 0]]))
    report = Report(
        dataset="demo",
        synthetic=True,
        representation="mfcc-0",
        regime="random",
        neighbours="all",
        seeds=[0],
        task=MULTI_LABEL,
        labels=("a", "b"),
        label_clips=[4, 5],
        ensemble=[],
        other_settings={},
        modes={Mode(f"mode {i}"): entry for i in range(20)},
    )
    axes, *_, matrix, bar = plot.figure(report).axes
    lines = [container.lines[0] for container in axes.containers]
    assert len({tuple(line.get_color()) for line in lines}) == 20
    assert len({(line.get_marker(), str(line.get_markerfacecolor()) == "white") for line in lines}) == 20
    assert axes.get_ylabel() == "micro F1, per cent, 95 % interval"
    assert bar.get_ylabel() == "share of the true label's clips, per cent"
    assert matrix.images[0].get_array().tolist() == [[100, 75], [20, 100]]  # some clips were given both labels


def test_keys_of_the_documents(encore: Encore, several_csv: Path) -> None:
    """Programs read them: new keys may come, none may go or change its meaning."""
    embed_table(encore, several_csv)
    rows = encore("compare", "hits", "--modes", "song,artist", "--seeds", 1, "--json", *QUICK).json
    assert [(row["mode"], row["rule"]) for row in rows] == [
        ("song", None),
        ("artist", "most frequent"),
        ("artist", "at least half"),
    ]
    words = "dataset synthetic backbone mode rule regime seeds members threshold transductive neighbours remark metrics"
    assert {*words.split(), "interval", "tuned", "train_seconds", "overlap", "paper", "saved"} == set(rows[0])
    assert rows[0]["metrics"].keys() == {"micro_f1", "macro_f1", "subset_accuracy", "roc_auc", "pr_auc"}
    document = encore("report", "hits", "--json").json
    words = "dataset synthetic representation regime neighbours seeds metric labels label_clips ensemble other_settings"
    assert {*words.split(), "modes"} == set(document)
    assert set(document["modes"]) == {"song", "artist (top)", "artist (half)"}
    entry = document["modes"]["artist (top)"]
    words = "score interval against deviation_over_genres paper confusion"
    assert {*words.split(), *KINDS} == set(entry)
    assert entry["against"].keys() == {"mode", "difference", "interval", "p"}
    assert all(
        {"clips", "score", "interval", "against"} == set(bucket) for kind in KINDS for bucket in entry[kind].values()
    )


def test_scores_by_the_neighbours_of_a_clip(encore: Encore, features_csv: Path) -> None:
    """Counted by hand from the predictions; inductive runs have the artist's training clips alone."""
    embed_table(encore, features_csv)
    encore("compare", "hits", "--modes", "gnn", "--seeds", 1, *QUICK)
    encore("compare", "hits", "--modes", "gnn", "--seeds", 1, "--neighbours", "train", *QUICK)
    catalog = pq.read_table(encore.store / "hits" / "catalog.parquet")
    artist = np.array(catalog.column("artist_id").to_pylist(), dtype=object)
    label = [labels[0] for labels in catalog.column("labels").to_pylist()]
    songs = pq.read_table(encore.store / "hits" / "splits.parquet")
    part = dict(zip(songs.column("song_id").to_pylist(), songs.column("random-0").to_pylist(), strict=True))
    trained = np.array([part[song] == 0 for song in catalog.column("song_id").to_pylist()])
    for folder, options, counts in (
        ("gnn-random", [], np.ones(len(artist), dtype=bool)),
        ("gnn-random-inductive", ["--neighbours", "train"], trained),
    ):
        document = encore("report", "hits", "--modes", "gnn", "--json", *options).json
        (run,) = (encore.store / "hits" / "runs").glob(f"*/{folder}/seed-0.parquet")
        names = document["labels"]
        table = pq.read_table(run)
        right: dict[str, list[bool]] = {"0": [], "1-4": [], "5+": []}
        for row, chosen in zip(table.column("row").to_pylist(), table.column("chosen").to_pylist(), strict=True):
            same = (artist == artist[row]) & counts & (artist[row] is not None)
            degree = int(same.sum()) - int(same[row])
            right["0" if degree == 0 else "1-4" if degree < 5 else "5+"].append(chosen[names.index(label[row])])
        buckets = document["modes"]["gnn"]["by_neighbours_of_clip"]
        assert {name: bucket["clips"] for name, bucket in buckets.items()} == {
            name: len(hits) for name, hits in right.items() if hits
        }
        scores = {name: float(np.mean(hits)) for name, hits in right.items() if hits}
        assert {name: bucket["score"] for name, bucket in buckets.items()} == pytest.approx(scores)
        text = encore("report", "hits", "--modes", "gnn", *options).out
        assert "neighbours the clip has" in text
        assert max(map(len, text.splitlines())) <= 80


@pytest.fixture
def runs(encore: Encore, features_csv: Path) -> Path:
    embed_table(encore, features_csv)
    encore("compare", "hits", "--modes", "song,gnn", "--seeds", 1, *QUICK)
    (folder,) = (encore.store / "hits" / "runs").iterdir()
    return folder


@pytest.mark.usefixtures("unsealed")
def test_a_folder_under_another_name(encore: Encore, runs: Path) -> None:
    shutil.rmtree(runs / "gnn-random")
    shutil.copytree(runs / "song-random", runs / "gnn-random")
    message = encore("report", "hits", code=1).err
    assert "gnn-random/seed-0.json was changed or is of another run: its mode is 'song' and should be 'gnn'" in message
    assert f"run the head again: encore head hits --backbone {runs.name} --mode gnn --regime random" in message
    shutil.rmtree(runs / "gnn-random")
    (runs / "song-random").rename(runs / "song-artist")
    assert "its regime is 'random'" in encore("report", "hits", "--regime", "artist", code=1).err


def test_a_backbone_whose_name_begins_another_s(encore: Encore, runs: Path) -> None:
    """It is named as in every other command: whole, and then with the beginning of a fingerprint."""
    other = f"features-cnn-{'0' * 12}"
    shutil.copytree(runs, runs.with_name(other))
    for name in ("features", runs.name, runs.name[:-8]):
        assert encore("report", "hits", "--backbone", name, "--json").json["representation"] == runs.name
    ran = encore("report", "hits")
    assert f"{runs.name} is taken, the default of hits; there are also: {other} (--backbone)" in ran.err
    assert "no runs of 'feat'" in encore("report", "hits", "--backbone", "feat", code=2).err
    assert "no runs of feat;" in encore("store", "remove", "hits", "--runs", "--backbone", "feat", code=2).err
    gone = encore("store", "remove", "hits", "--runs", "--backbone", other[:-8], "--yes", "--json").json
    assert [Path(folder["path"]).name for folder in gone["removed"]] == [other]


@pytest.mark.usefixtures("unsealed")
def test_runs_of_other_neighbours(encore: Encore, runs: Path) -> None:
    (runs / "gnn-random").rename(runs / "gnn-random-inductive")
    message = encore("report", "hits", "--neighbours", "train", code=1).err
    assert "its neighbours are not those of its folder" in message
    assert "--neighbours train" in message


@pytest.mark.usefixtures("unsealed")
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"seed": 0', '"seed": 1', "its seed is 1 and should be 0"),
        ('"representation": "', '"representation": "x', "its representation is 'x"),
        ('"accuracy": 0', '"accuracy": 1', "its accuracy is 1"),
        ('"metrics": {', '"metrics": 3, "other": {', "its metrics or settings are not there"),
        ('"settings": {', '"settings": 3, "other": {', "its metrics or settings are not there"),
        ("{", "[" * 100_000, "is damaged; run the head again"),
    ],
)
def test_a_run_that_was_edited(encore: Encore, runs: Path, old: str, new: str, message: str) -> None:
    file = runs / "song-random" / "seed-0.json"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    error = encore("report", "hits", code=1).err
    assert message in error
    assert str(file) in error


@pytest.mark.usefixtures("unsealed")
def test_runs_of_a_version_that_named_no_task(encore: Encore, several_csv: Path) -> None:
    embed_table(encore, several_csv)
    encore("compare", "hits", "--modes", "song,artist", "--seeds", 1, *QUICK)
    report = encore("report", "hits", "--json").json
    for file in (encore.store / "hits" / "runs").rglob("seed-0*.json"):
        run = json.loads(file.read_text())
        assert run.pop("task") == "multi-label"
        file.write_text(json.dumps(run))
    assert encore("report", "hits", "--json").json == report
