"""What ``encore head`` and ``compare`` leave in a store, and who lists, reports and removes it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import torch

from stages import registry
from tests.pipeline.conftest import COLUMNS, EPOCHS, QUICK, Encore, embed_table


def test_a_table_from_file_to_heads(encore: Encore, features_csv: Path) -> None:
    report = encore("embed", "table", "--table", features_csv, "--name", "hits", "--columns", COLUMNS, "--json").json
    assert (report["dataset"], report["clips"], report["encoded"], report["already_there"]) == ("hits", 400, 400, False)
    results = encore("compare", "hits", "--regimes", "random,artist", "--seeds", 1, "--json", *QUICK).json
    assert {(r["mode"], r["regime"]) for r in results} == {
        (mode, regime) for mode in registry.names("head") for regime in ("random", "artist")
    }
    for result in results:
        assert {"dataset", "backbone", "mode", "regime", "seeds", "metrics", "train_seconds", "paper"} <= set(result)
        assert set(result["metrics"]) == {"accuracy", "macro_f1"}
        assert 0 <= result["metrics"]["accuracy"]["mean"] <= 1
        assert result["seeds"] == 1
        assert result["paper"] is None
    artist = [r for r in results if r["mode"] == "artist"]
    assert {r["metrics"]["accuracy"]["mean"] for r in artist if r["regime"] == "artist"} == {0.0}
    assert min(r["metrics"]["accuracy"]["mean"] for r in artist if r["regime"] == "random") > 0.5


def test_head_leaves_checkpoint_scores_and_settings(encore: Encore, features_csv: Path) -> None:
    embed_table(encore, features_csv)
    ran = encore("head", "hits", "--mode", "dropedge", "--seeds", 2, *QUICK)
    folder = Path(ran.out.split("checkpoint, scores and settings: ")[1].strip())
    assert sorted(p.name for p in folder.iterdir()) == [
        f"seed-{seed}.{kind}" for seed in range(2) for kind in ("json", "parquet", "pt")
    ]
    record = json.loads((folder / "seed-1.json").read_text())
    assert (record["mode"], record["seed"], record["settings"]["epochs"]) == ("dropedge", 1, 4)
    assert len(record["history"]) == 4
    checkpoint = torch.load(folder / "seed-0.pt", weights_only=True)
    assert checkpoint["labels"] == [f"genre {i}" for i in range(4)]


def test_a_report_as_a_picture(encore: Encore, tmp_path: Path) -> None:
    """Labels that are no plain words, one of an artist without a single neighbour, and none known at all."""
    table = tmp_path / "songs.csv"
    labels = ("音楽_", "$\\frac$", "$\\frac$")
    rows = [f"{i % 9 or ''},{labels[i % 3]},{i % 7}" for i in range(90)]
    for name, lines in (("some", rows), ("none", [line[line.index(",") :] for line in rows])):
        table.write_text("\n".join(["artist,labels,x", *lines]) + "\n")
        encore("embed", "table", "--table", table, "--name", name)
        encore("compare", name, "--modes", "song,label-propagation", "--seeds", 1, *QUICK)
        encore("report", name, "--plot", tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "one of .pdf, .png, .svg" in encore("report", "some", "--plot", tmp_path / "a.doc", code=2).err
    assert "is no folder" in encore("report", "some", "--plot", tmp_path / "not" / "a.png", code=2).err


def test_runs_are_listed_and_removed(encore: Encore, features_csv: Path) -> None:
    """A representation goes without the heads that were trained on it; these go by --runs, or with the collection."""
    embed_table(encore, features_csv)
    encore("compare", "hits", "--modes", "song,artist", "--seeds", 2, *QUICK)
    (entry,) = encore("store", "ls", "--json").json
    name = entry["representations"][0]["name"]
    trained = {run["representation"]: run["runs"] for run in entry["runs"]}
    assert trained == {name: 2, "metadata": 2}  # that artist decides by two rules makes no more runs of it
    sizes = {run["representation"]: run["bytes"] for run in entry["runs"]}
    assert sizes[name] == sum(path.stat().st_size for path in (encore.store / "hits/runs" / name).rglob("*.*"))
    listed = encore("store", "ls").out
    assert re.search(rf"{name} +\S+ +2 +\S+\n", listed)
    assert re.search(r"metadata +- +2 +\S+\n", listed)
    output = encore("store", "show", "hits").out
    assert re.search(rf"trained heads on {name}: 2 runs, .*\n  random: song 2\n", output)
    assert "\n  columns=tempo, energy, loudness\n" in output
    refused = encore("store", "remove", "hits", "--backbone", "features", code=2).err
    assert re.search(r"this removes /.*/hits/features-\S+ \(\S+ MiB\); say --yes", refused)
    gone = encore("store", "remove", "hits", "--backbone", "features", "--yes").out
    assert re.search(rf"removed /.*/hits/{name}, \S+ MiB\nkept: 2 runs trained on it", gone)
    assert f"encore store remove hits --runs --backbone {name}" in gone
    assert f"{name} (removed)" in encore("store", "ls").out
    assert encore("report", "hits", "--json").json["modes"].keys() == {"song", "artist (half)", "artist (top)"}
    gone = encore("store", "remove", "hits", "--runs", "--backbone", name, "--yes", "--json").json
    assert (gone["bytes"], [Path(folder["path"]).name for folder in gone["removed"]]) == (sizes[name], [name])
    assert "no runs of 'song'" not in encore("store", "remove", "hits", "--runs", "--yes").out
    assert encore("store", "ls", "--json").json[0]["runs"] == []
    assert "hits has no runs of any head" in encore("store", "remove", "hits", "--runs", "--yes", code=2).err


def test_runs_that_count(encore: Encore, features_csv: Path) -> None:
    """Each seed and fold once; none of a command that was stopped."""
    embed_table(encore, features_csv)
    encore("compare", "hits", "--modes", "artist", "--regimes", "random,artist-3fold", "--seeds", 1)
    (runs,) = (encore.store / "hits" / "runs").iterdir()
    shutil.copytree(runs / "artist-random", runs / "artist-album.unfinished")
    assert encore("store", "ls", "--json").json[0]["runs"][0]["runs"] == 1 + 3


def test_a_backbone_that_is_not_stored_is_sought_among_those_that_are(encore: Encore, features_csv: Path) -> None:
    embed_table(encore, features_csv)
    message = encore("head", "hits", "--backbone", "fma-feature", code=2).err
    assert "Did you mean features? If not, make it: encore embed hits --backbone fma-feature" in message
    assert "Make it: encore embed hits --backbone mfcc" in encore("head", "hits", "--backbone", "mfcc", code=2).err


def test_swapping_heads_opens_no_song(encore: Encore, midi_folder: Path) -> None:
    encore("embed", "folder", "--data", midi_folder, "--table", "songs.csv", "--name", "midi")
    shutil.rmtree(midi_folder)
    for mode in registry.names("head"):
        answer = encore("head", "midi", "--mode", mode, "--json", *EPOCHS).json
        assert answer[0]["metrics"]["micro_f1"]["mean"] >= 0


def test_folds_and_inductive_runs(encore: Encore, features_csv: Path) -> None:
    embed_table(encore, features_csv)
    result = encore("head", "hits", "--regime", "artist-3fold", "--neighbours", "train", "--json", *QUICK).json[0]
    assert (result["regime"], result["seeds"], result["transductive"], result["neighbours"]) == (
        "artist-3fold",
        1,
        False,
        "train",
    )
    assert sorted(p.name for p in Path(result["saved"]).iterdir()) == [
        f"seed-0-fold-{fold}.{kind}" for fold in range(1, 4) for kind in ("json", "parquet", "pt")
    ]
    assert result["saved"].endswith("gnn-artist-3fold-inductive")
    modes = ("--modes", "song,gnn")
    backbone = Path(result["saved"]).parent.name
    for options, proposal in (
        ((), "--regimes random"),
        (("--modes", "song,gnn", "--neighbours", "train"), "--modes song,gnn --regimes random --neighbours train"),
        (
            ("--modes", "song,cluster-edges", "--neighbours", "train"),
            "--modes song --regimes random --neighbours train",
        ),
    ):
        for option in ((), ("--backbone", backbone)):
            proposed = " ".join(["encore compare hits", *option, proposal])
            assert f"make some: {proposed}\n" in encore("report", "hits", *options, *option, code=2).err
    every = encore("report", "hits", "--neighbours", "train", code=2).err.partition("make some: encore ")[2]
    assert "gnn" in every
    assert "cluster-edges" not in every  # which compare would refuse
    for inductive, code in (("true", 2), ("false", 0)):
        gat = ("--mode", "gat", "--regime", "artist", "--set", f"inductive={inductive}")
        assert ("gat cannot be inductive" in encore("head", "hits", *gat, *QUICK, code=code).err) == (code == 2)
    refused = encore("report", "hits", "--modes", "cluster-edges", "--neighbours", "train", code=2).err
    assert "cluster-edges cannot be inductive: leave out --neighbours train" in refused
    text = encore("compare", "hits", *modes, "--neighbours", "train", "--seeds", 1, *QUICK).out
    assert "inductive: training clips alone are neighbours" in text
    assert "gnn*" not in text
    assert encore("report", "hits", "--json").json["modes"].keys() == {"song"}
    assert "gnn*" in encore("compare", "hits", *modes, "--seeds", 1, *QUICK).out
    reports = {which: encore("report", "hits", "--neighbours", which, "--json").json for which in ("all", "train")}
    for which, entry in reports.items():
        assert entry["neighbours"] == which
        assert entry["modes"].keys() == {"song", "gnn"}
        assert entry["other_settings"] == {}
    assert len({report["modes"]["song"]["score"] for report in reports.values()}) == 1
    runs = encore.store / "hits" / "runs" / backbone
    scores = [
        pq.read_table(runs / folder / "seed-0.parquet").column("score").to_pylist()
        for folder in ("gnn-random", "gnn-random-inductive")
    ]
    assert scores[0] != scores[1]
    text = encore("report", "hits", "--neighbours", "train").out
    assert "inductive: training clips alone are neighbours" in text
    assert "--neighbours takes all or train" in encore("report", "hits", "--neighbours", 8, code=2).err
