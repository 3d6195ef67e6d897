"""The command as a user runs it: what it does, prints, and refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from pipeline.cli import app
from stages import registry
from store.layout import Store
from store.reader import Representations
from tests.pipeline.conftest import Encore
from tests.processes import COMMAND, Process

ROOT = Path(__file__).parents[2]

EPOCHS = ("--set", "epochs=4")
QUICK = (*EPOCHS, "--set", "hidden=16")
COLUMNS = "labels=genre"


def embed_table(encore: Encore, table: Path) -> None:
    encore("embed", "table", "--table", table, "--name", "hits", "--columns", COLUMNS)


def test_a_table_from_file_to_heads(encore: Encore, features_csv: Path) -> None:
    report = encore("embed", "table", "--table", features_csv, "--name", "hits", "--columns", COLUMNS, "--json").json
    assert (report["dataset"], report["clips"], report["encoded"], report["already_there"]) == ("hits", 400, 400, False)
    results = encore("compare", "hits", "--regimes", "random,artist", "--seeds", 2, "--json", *QUICK).json
    assert {(r["mode"], r["regime"]) for r in results} == {
        (mode, regime) for mode in registry.names("head") for regime in ("random", "artist")
    }
    for result in results:
        assert {"dataset", "backbone", "mode", "regime", "seeds", "metrics", "train_seconds", "paper"} <= set(result)
        assert set(result["metrics"]) == {"accuracy", "macro_f1"}
        assert 0 <= result["metrics"]["accuracy"]["mean"] <= 1
        assert result["seeds"] == 2
        assert result["paper"] is None
    artist = [r for r in results if r["mode"] == "artist"]
    assert {r["metrics"]["accuracy"]["mean"] for r in artist if r["regime"] == "artist"} == {0.0}
    assert min(r["metrics"]["accuracy"]["mean"] for r in artist if r["regime"] == "random") > 0.5


def test_a_store_without_a_name() -> None:
    ran = CliRunner().invoke(app, ["store", "ls", "--store", " "])
    assert (ran.exit_code, "error: --store is empty" in ran.stderr) == (2, True)


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


def test_tables_and_reports_fit_a_terminal(encore: Encore, midi_folder: Path) -> None:
    """Every mode, several labels a clip: the widest tables there are."""
    encore("embed", "folder", "--data", midi_folder, "--table", "songs.csv", "--name", "midi")
    text = encore("compare", "midi", "--seeds", 2, *QUICK).out
    assert all(f"\n{mode}" in text for mode in registry.names("head"))
    text += encore("report", "midi").out
    assert "95 % intervals" in text
    assert max(map(len, text.splitlines())) <= 80
    report = encore("report", "midi", "--modes", "song,gnn", "--json").json
    assert set(report["modes"]) == {"song", "gnn"}
    assert report["seeds"] == [0, 1]
    low, high = report["modes"]["gnn"]["interval"]
    assert low <= report["modes"]["gnn"]["score"] <= high
    gnn = report["modes"]["gnn"]
    assert gnn["against"].keys() == {"mode", "difference", "interval", "p"}
    assert gnn["against"]["mode"] == "song"
    tested = sum(sum(counts) for counts in gnn["confusion"])
    assert tested > 0
    assert [len(counts) for counts in gnn["confusion"]] == [len(report["labels"]) + 1] * len(report["labels"])
    for key in ("by_genres_of_artist", "by_songs_of_artist"):
        assert key.removeprefix("by_").replace("_", " ").replace("of artist", "the artist has") in text
        assert {bucket["clips"] > 0 and 0 <= bucket["score"] <= 1 for bucket in gnn[key].values()} == {True}
    scores = [bucket["score"] for bucket in gnn["by_genres_of_artist"].values()]
    assert gnn["deviation_over_genres"] == pytest.approx(np.std(scores))
    assert "no runs in regime artist" in encore("report", "midi", "--regime", "artist", code=2).err


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


def test_embedding_twice_encodes_once(encore: Encore, features_csv: Path) -> None:
    embed_table(encore, features_csv)
    again = encore("embed", "hits")
    assert "already there; nothing was encoded" in again.out
    # A corrected label encodes nothing; a new song is the only one to be encoded; a changed one is a new row.
    text = features_csv.read_text()
    features_csv.write_text(text.replace("song 3,genre", "song 3,more", 1))
    table = ("embed", "table", "--table", features_csv, "--name", "hits", "--columns", COLUMNS, "--json")
    report = encore(*table).json
    assert (report["corrected"], report["encoded"], report["already_there"]) == (1, 0, True)
    features_csv.write_text(text + "artist 1,song 400,genre 1,1.0,2.0,3.0\n")
    report = encore(*table).json
    assert (report["added"], report["encoded"], report["clips"]) == (1, 1, 401)
    lines = text.splitlines()
    lines[5] = re.sub(r"[-\d.]+$", "77.0", lines[5])
    features_csv.write_text("\n".join(lines) + "\n")
    report = encore(*table).json
    assert (report["added"], report["retired"], report["encoded"], report["clips"]) == (1, 2, 1, 400)
    assert encore("store", "verify", "hits").out.strip().endswith("intact")


def test_other_features_of_a_table_lie_beside(encore: Encore, features_csv: Path) -> None:
    """Another choice of columns is another representation of the same songs: no row is retired or added."""
    args = ("embed", "table", "--table", features_csv, "--name", "hits", "--json")
    first = encore(*args, "--columns", "labels=genre").json
    second = encore(*args, "--columns", "labels=genre,features=tempo").json
    assert (second["added"], second["retired"], second["corrected"], second["encoded"]) == (0, 0, 0, 400)
    assert second["representation"] != first["representation"]
    third = encore(*args, "--columns", "labels=genre").json
    assert third["already_there"]
    assert third["representation"] == first["representation"]


def test_stores_are_listed_for_a_terminal(encore: Encore, features_csv: Path, tmp_path: Path) -> None:
    """Words stand to the left, numbers to the right, every number with the same separators, in 80 columns."""
    rows = features_csv.read_text().splitlines()
    (tmp_path / "long.csv").write_text("\n".join([rows[0], *rows[1:] * 3]) + "\n")
    encore("embed", "table", "--table", features_csv, "--name", "a", "--columns", "labels=genre")
    encore("embed", "table", "--table", tmp_path / "long.csv", "--name", "a-longer-name", "--columns", "labels=genre")
    listed = encore("store", "ls").out.splitlines()
    assert listed[0].startswith("data set       clips  representation")
    assert [line.index("features-") for line in listed[2:4]] == [listed[0].index("representation")] * 2
    assert listed[0].split()[-3:] == ["MiB", "runs", "MiB"]
    assert [line[:20] for line in listed[2:4]] == ["a                400", "a-longer-name  1,200"]
    output = encore("store", "show", "a-longer-name").out
    assert "clips: 1,200 of 1,200 songs by 40 artists\n" in output
    assert ": 1,200 x 3 float32" in output
    assert max(map(len, [*listed, *(line for line in output.splitlines() if not line.startswith("files: "))])) <= 80


def test_other_settings_lie_beside(encore: Encore, midi_folder: Path) -> None:
    encore("embed", "folder", "--data", midi_folder, "--table", "songs.csv", "--name", "midi")
    (encore.store / "midi" / "gone.0123abcd.removed").mkdir()
    encore("embed", "midi", "--set", "frames=8")
    assert not list(encore.store.rglob("*.removed"))
    listed = encore("store", "ls", "--json").json
    assert [len(entry["representations"]) for entry in listed] == [2]
    ambiguous = encore("head", "midi", code=2)
    assert "2 representations that fit; name one by --backbone" in ambiguous.err
    name = listed[0]["representations"][0]["name"]
    encore("head", "midi", "--backbone", name, *QUICK)
    encore("store", "remove", "midi", "--backbone", name, "--yes")
    assert len(encore("store", "ls", "--json").json[0]["representations"]) == 1
    (encore.store / "gone.0123abcd.removed").mkdir()
    encore("store", "remove", "midi", "--yes")
    assert encore("store", "ls", "--json").json == []
    assert not list(encore.store.iterdir())


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


def test_a_store_that_is_not_there_is_named(encore: Encore, features_csv: Path) -> None:
    assert f"there is no store {encore.store} (--store or ENCORE_STORE names another)" in encore("store", "ls").out
    embed_table(encore, features_csv)
    message = encore("head", "hit", code=2).err
    assert f"unknown data set 'hit' in the store {encore.store} (--store or ENCORE_STORE names another)" in message
    assert "have: hits. Did you mean hits? If not, encode it first: encore embed hit" in message
    assert "Encode it first: encore embed gtzan" in encore("head", "gtzan", code=2).err


def test_a_backbone_that_is_not_stored_is_sought_among_those_that_are(encore: Encore, features_csv: Path) -> None:
    embed_table(encore, features_csv)
    message = encore("head", "hits", "--backbone", "fma-feature", code=2).err
    assert "Did you mean features? If not, make it: encore embed hits --backbone fma-feature" in message
    assert "Make it: encore embed hits --backbone mfcc" in encore("head", "hits", "--backbone", "mfcc", code=2).err


def test_bf16_is_refused_on_a_cpu_with_the_reason(encore: Encore, midi_folder: Path) -> None:
    songs = ("embed", "folder", "--data", midi_folder, "--table", "songs.csv", "--name", "midi")
    network = (*songs, "--backbone", "pianoroll-cnn", "--weights", "random")
    refused = encore(*network, "--precision", "bf16", "--device", "cpu", code=2).err
    assert "precision bf16 needs a GPU: on some CPUs, torch's convolutions in bf16 give wrong numbers" in refused
    assert "unknown precision '16'; have: 32, bf16" in encore(*network, "--precision", "16", code=2).err
    refused = encore(*songs, "--backbone", "pianoroll", "--precision", "bf16", code=2).err
    assert "pianoroll has no network that could run in bf16" in refused


def test_swapping_heads_opens_no_song(encore: Encore, midi_folder: Path) -> None:
    encore("embed", "folder", "--data", midi_folder, "--table", "songs.csv", "--name", "midi")
    shutil.rmtree(midi_folder)
    for mode in registry.names("head"):
        answer = encore("head", "midi", "--mode", mode, "--json", "--set", "epochs=4").json
        assert answer[0]["metrics"]["micro_f1"]["mean"] >= 0


def test_songs_that_cannot_be_encoded_are_counted(encore: Encore, audio_folder: Path) -> None:
    args = ("embed", "folder", "--data", audio_folder, "--table", "songs.csv", "--name", "own", "--weights", "random")
    report = encore(*args, "--json")
    assert report.json["failed"] == {"silent": 1, "damaged": 1, "missing": 1}
    assert "3 clips could not be encoded (1 damaged, 1 missing, 1 silent); which: encore store show own" in (
        encore(*args).out
    )
    output = encore("store", "show", "own").out
    assert "3 clips could not be encoded (1 damaged, 1 missing, 1 silent):" in output
    assert "missing.wav: missing" in output
    store = Store(encore.store)
    opened = Representations(store, store.read_catalog("own"), store.find("own", None))
    assert opened.encoded().sum() == 4
    assert np.isfinite(opened.read()[opened.encoded()]).all()
    failed = encore(*args, "--strict", code=1)
    assert re.search(r"error: (silent|text|missing)\.wav: ", failed.err)
    # The missing song turns up: it alone is encoded.
    shutil.copy(audio_folder / "0.wav", audio_folder / "missing.wav")
    report = encore(*args, "--json").json
    assert (report["encoded"], report["failed"]) == (1, {"silent": 1, "damaged": 1})


@pytest.mark.parametrize(
    ("args", "pattern"),
    [
        (
            ("embed", "mtgg"),
            r"data set 'mtgg'; have: .*demo.*Did you mean mtg\? The store looked in is /.*/stores \(.*not there",
        ),
        (("embed", "demo", "--backbone", "fcnn"), r"unknown backbone 'fcnn'; have: .*fcn.*pianoroll"),
        (("head", "demo", "--mode", "gnnn"), r"unknown mode 'gnnn'; have: .*gnn.*Did you mean gnn\?"),
        (("head", "nowhere"), r"unknown data set 'nowhere': there is no store /.*/stores \(--store or ENCORE_STORE"),
        (("embed", "mtg"), r"--data DIR \(make: DATA=DIR\).*autotagging_genre.*MTG/mtg-jamendo-dataset"),
        (("embed", "mtg", "--table", "x.csv"), r"mtg takes no --table; it takes: .*--genres"),
        (("embed", "table", "--name", "x", "--table", "no.csv"), r"no\.csv"),
        (("embed", "demo", "--part", "3/2"), r"--part takes i/n"),
        (("embed", "demo", "--part", "²/³"), r"--part takes i/n"),
        (("embed", "demo", "--part", f"1/{'9' * 5000}"), r"--part takes i/n"),
        (("embed", "demo", "--device", "tpu"), r"device 'tpu' cannot be used"),
        (("compare", "demo", "--modes", ","), r"--modes names nothing"),
        (("store", "show", "nowhere"), r"unknown data set 'nowhere': there is no store /.*/stores"),
        (("store", "verify"), r"there is no store /.*/stores \(--store or ENCORE_STORE.*fill one: encore embed demo"),
        (("store", "verify", ""), r"'' cannot name a data set"),
        (("store", "verify", "n" * 300), r"'n{300}' cannot name a data set"),
        (("store", "remove", "n" * 300), r"'n{300}' cannot name a data set"),
        (("head", "n" * 300), r"'n{300}' cannot name a data set"),
        (("report", "n" * 300), r"'n{300}' cannot name a data set"),
        (("store", "remove", "nowhere"), r"unknown data set 'nowhere': there is no store"),
    ],
)
def test_wrong_requests(encore: Encore, args: tuple[str, ...], pattern: str) -> None:
    ran = encore(*args, code=2)
    assert re.search(pattern, ran.err), ran.err
    assert ran.out == ""


def test_a_song_that_came_back_is_no_failure_and_a_damaged_catalog_is_told(encore: Encore, midi_folder: Path) -> None:
    song = midi_folder / "söng 3.mid"
    data = song.read_bytes()
    song.unlink()
    embed = ("embed", "folder", "--data", midi_folder, "--table", "songs.csv", "--name", "own")
    encore(*embed)
    (entry,) = encore("store", "show", "own", "--json").json["representations"]
    assert [failure["kind"] for failure in entry["first_failures"]] == ["missing"]
    song.write_bytes(data)
    encore(*embed)
    (entry,) = encore("store", "show", "own", "--json").json["representations"]
    assert (entry["failures"], entry["first_failures"]) == (0, [])
    (encore.store / "own" / "catalog.parquet").write_text("no catalog")
    for dataset in ([], ["own"]):
        ran = encore("store", "verify", *dataset, code=1)
        assert ran.out == "own: damaged\n"
        assert "put a copy of catalog.parquet back" in ran.err


def test_wrong_requests_on_a_stored_collection(encore: Encore, features_csv: Path, midi_folder: Path) -> None:
    embed_table(encore, features_csv)
    for args, message in (
        (("head", "hits", "--regime", "artists"), "regime 'artists'; have: album, album-5fold, artist, artist-5fold"),
        (("head", "hits", "--regime", "official"), "no official split"),
        (("head", "hits", "--backbone", "fcn"), "no representation 'fcn'; have: features-"),
        (("head", "hits", "--set", "epoch=3"), "unknown setting 'epoch'; gnn has hidden, "),
        (("head", "hits", "--set", "epochs=many"), "epochs takes a whole number, not 'many'"),
        (("head", "hits", "--set", "dropout=2"), "dropout is 2.0; it must be"),
        (("embed", "hits", "--backbone", "fcn"), "needs weights"),
        (("embed", "hits", "--backbone", "fcn", "--weights", "random"), "table of ready-made features"),
        (("embed", "hits", "--backbone", "features", "--weights", "x"), "has no weights"),
        (("embed", "hits", "--table", str(features_csv)), "is in the store already"),
    ):
        assert message in encore(*args, code=2).err
    encore("embed", "folder", "--data", midi_folder, "--table", "songs.csv", "--name", "midi")
    assert "has no audio files" in encore("embed", "midi", "--backbone", "fcn", "--weights", "random", code=2).err
    assert "holds songs" in encore("embed", "midi", "--backbone", "features", code=2).err


@pytest.mark.usefixtures("unsealed")
def test_a_damaged_store_is_an_error_not_a_traceback(encore: Encore, features_csv: Path) -> None:
    embed_table(encore, features_csv)
    representation = encore.store / "hits" / encore("store", "ls", "--json").json[0]["representations"][0]["name"]
    manifest = representation / "manifest.json"
    content = manifest.read_text()
    manifest.write_text(re.sub(r'"format": \d+', '"format": 7', content))
    assert "manifest was written in format 7" in encore("head", "hits", code=2).err
    manifest.write_text(content[:50])
    assert "remove it and encode again" in encore("head", "hits", code=1).err
    manifest.unlink()
    assert "not complete" in encore("head", "hits", code=2).err
    encore("embed", "hits")
    chunk = next((representation / "representations.zarr" / "c").rglob("0"))
    chunk = chunk if chunk.is_file() else next(p for p in chunk.rglob("*") if p.is_file())
    data = bytearray(chunk.read_bytes())
    data[5] ^= 0xFF
    chunk.write_bytes(data)
    assert "do not hold the numbers that were committed" in encore("store", "verify", code=1).err
    (encore.store / "hits" / "catalog.parquet").write_bytes(b"PAR1 nonsense")
    assert "damaged" in encore("head", "hits", code=1).err


def test_an_unwritable_store(tmp_path: Path, features_csv: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = Encore(tmp_path / "file" / "stores")(
        "embed", "table", "--table", features_csv, "--name", "hits", "--columns", COLUMNS, code=1
    )
    assert "cannot be written" in ran.err


def test_audit_keys_and_text(encore: Encore, features_csv: Path) -> None:
    embed_table(encore, features_csv)
    report = encore("audit", "hits", "--json").json
    assert {"songs", "clips", "artists", "edges", "homophily", "regimes", "baselines"} <= set(report)
    assert set(report["homophily"]) == {"exact", "jaccard", "any"}
    assert set(report["regimes"]) == {"random", "artist"}
    assert {"train", "validation", "test", "shared_artists", "shared_albums", "shared_songs"} <= set(
        report["regimes"]["random"]
    )
    assert report["regimes"]["artist"]["shared_artists"] == 0
    text = encore("audit", "hits").out
    assert "train and test share no artist" in text
    assert max(map(len, text.splitlines())) <= 80


# The command, which stops itself when it is to commit its first shard.
STOPPED = """
import os, signal
from store.writer import RepresentationWriter
signal.signal(signal.SIGINT, signal.default_int_handler)
commit = RepresentationWriter.commit
def stop(*args):
    os.kill(os.getpid(), {stop})
    commit(*args)
RepresentationWriter.commit = stop
from pipeline.cli import main
main()
"""


def test_a_killed_embed_goes_on(tmp_path: Path, features_csv: Path) -> None:
    """Ctrl-C and SIGKILL between the catalog and the first shard; what follows is as if nothing had stopped it."""
    reference, broken = tmp_path / "whole", tmp_path / "broken"
    Encore(reference)("embed", "table", "--table", features_csv, "--name", "hits", "--columns", COLUMNS)
    arguments = ["embed", "table", "--table", str(features_csv), "--name", "hits", "--columns", COLUMNS]
    for stop, code in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        process = Process(STOPPED.format(stop=int(stop)), *arguments, "--store", broken)
        _, err = process.communicate()
        assert process.returncode == code, err
        assert "Traceback" not in err
        assert (broken / "hits" / "catalog.parquet").exists()
    Encore(broken)("embed", "table", "--table", features_csv, "--name", "hits", "--columns", COLUMNS)
    assert _tree(broken) == _tree(reference)


def _tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_json_stands_alone_on_standard_output(tmp_path: Path, features_csv: Path) -> None:
    """One document on standard output, everything else on standard error, nothing with --quiet."""
    environment = {"ENCORE_STORE": str(tmp_path / "stores")}
    embed = ("embed", "table", "--table", features_csv, "--name", "hits", "--columns", COLUMNS)
    out, err = Process(COMMAND, *embed, "--json", "--quiet", environment=environment).communicate()
    assert json.loads(out)["clips"] == 400
    assert err == ""
    out, err = Process(COMMAND, "head", "hits", "--json", *QUICK, environment=environment).communicate()
    assert json.loads(out)[0]["mode"] == "gnn"
    assert "done in" in err


def test_parts_share_the_work(encore: Encore, midi_folder: Path) -> None:
    args = ("embed", "folder", "--data", midi_folder, "--table", "songs.csv", "--name", "midi", "--json")
    one = encore(*args, "--part", "1/2").json
    two = encore(*args, "--part", "2/2").json
    assert two["complete"]
    assert one["encoded"] + two["encoded"] == one["clips"]


def test_parts_run_at_the_same_time(tmp_path: Path, midi_folder: Path) -> None:
    """Two processes read the same folder, agree over its rows, and encode their own shards."""
    environment = {"ENCORE_STORE": str(tmp_path / "stores")}
    embed = ("embed", "folder", "--data", midi_folder, "--table", "songs.csv", "--name", "midi", "--json")
    options = ("--clips", 6, "--clip-s", 3, "--workers", 0, "--set", "frames=256")
    both = [Process(COMMAND, *embed, *options, "--part", part, environment=environment) for part in ("1/2", "2/2")]
    outputs = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    reports = [json.loads(out) for out, _ in outputs]
    assert sorted(report["encoded"] for report in reports) == [64, 80]
    assert {report["added"] for report in reports} == {0, 144}
    assert any(report["complete"] for report in reports)
    store = Store(tmp_path / "stores")
    opened = Representations(store, store.read_catalog("midi"), store.find("midi", None))
    assert opened.verify() == []
    assert opened.encoded().all()


def test_help_names_every_plug_in(encore: Encore) -> None:
    from typer.testing import CliRunner

    from pipeline.cli import app

    text = CliRunner().invoke(app, ["embed", "--help"], terminal_width=200).output
    for name in (*registry.names("dataset"), *registry.names("backbone")):
        assert name in text


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


def test_every_backbone_has_the_same_splits(encore: Encore, audio_folder: Path) -> None:
    """A song that one backbone cannot read moves no other song to another side."""
    rows = [f"{i}.wav,artist {i},rock" for i in range(4)] + [f"lost-{i}.wav,artist {i},rock" for i in range(40)]
    (audio_folder / "songs.csv").write_text("\n".join(["file,artist,labels", *rows]) + "\n")
    encore(*("embed", "folder", "--data", audio_folder, "--table", "songs.csv", "--name", "own", "--weights", "random"))
    from stages.head.open import from_catalog, load

    store = Store(encore.store)
    collection, part = from_catalog(store.read_catalog("own")), load(store, "own", None)
    assert (len(collection), len(part)) == (44, 4)
    for regime in ("random", "artist"):
        sides = dict(zip(collection.rows.tolist(), collection.split(regime, 3).tolist(), strict=True))
        assert [sides[row] for row in part.rows.tolist()] == part.split(regime, 3).tolist()
        folds = collection.parts("random-4fold", 1)[2]
        sides = dict(zip(collection.rows.tolist(), folds.tolist(), strict=True))
        assert [sides[row] for row in part.rows.tolist()] == part.parts("random-4fold", 1)[2].tolist()


@pytest.mark.parametrize(("stdout", "code"), [(">&-", 0), ("> /dev/full", 1), ("| head -c 0", 0)])
def test_output_that_no_one_takes(encore: Encore, features_csv: Path, stdout: str, code: int) -> None:
    """A closed or full standard output costs at most the exit code."""
    embed_table(encore, features_csv)
    command = f"'{sys.executable}' -m pipeline.cli store show hits --store '{encore.store}' {stdout}"
    process = subprocess.run(["/bin/sh", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == code
    assert "Traceback" not in process.stderr
    assert ("standard output: cannot be written or read: No space" in process.stderr) == (code == 1)


def test_a_terminal_of_few_letters(encore: Encore, features_csv: Path) -> None:
    embed_table(encore, features_csv)
    command = [sys.executable, "-m", "pipeline.cli", "compare", "hits", "--modes", "artist", "--seeds", "2"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    process = subprocess.run([*command, "--store", str(encore.store)], cwd=ROOT, env=environment, capture_output=True)
    assert process.returncode == 0
    assert b"?" in process.stdout
