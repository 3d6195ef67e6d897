"""What a user can ask of a head: neighbours, losses, several networks, and what of other runs is no longer true."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from stages.head import train as head
from stages.head.collection import Collection
from stages.head.fit import network_seed
from stages.head.open import from_catalog
from stages.head.runs import pool
from stages.head.thesis import PAPER
from store.layout import Store
from tests.pipeline.conftest import COLUMNS, EPOCHS, QUICK, Encore, embed_table

BOTH = ("--json", *QUICK)


@pytest.fixture
def several(encore: Encore, several_csv: Path) -> Encore:
    embed_table(encore, several_csv)
    return encore


def record_of(results: list[dict[str, object]], name: str = "seed-0") -> tuple[dict[str, object], Path]:
    folder = Path(str(results[0]["saved"]))
    return json.loads((folder / f"{name}.json").read_text()), folder


def scores(folder: Path, name: str = "seed-0") -> np.ndarray:
    return np.array(pq.read_table(folder / f"{name}.parquet").column("score").to_pylist())


def test_neighbours(several: Encore) -> None:
    """They are the training's; the thesis's or the default number where none is named."""
    scores_by_neighbours = {}
    for options in (("--neighbours", 1), ("--neighbours", "all"), ()):
        about, folder = record_of(several("head", "hits", *options, *BOTH).json)
        scores_by_neighbours[about["config"]["neighbours"]] = scores(folder)
    assert set(scores_by_neighbours) == {1, None, 8}
    assert not np.array_equal(scores_by_neighbours[1], scores_by_neighbours[None])
    assert "song does not read neighbours" in several("head", "hits", "--mode", "song", "--neighbours", 3, code=2).err
    assert "neighbours is 0" in several("head", "hits", "--neighbours", 0, code=2).err
    assert "neighbours takes a whole number, not 'few'" in several("head", "hits", "--neighbours", "few", code=2).err
    twice = several("head", "hits", "--neighbours", 3, "--set", "neighbours=4", code=2)
    assert "gives neighbours twice" in twice.err
    assert len(several("compare", "hits", "--modes", "song,gnn", "--neighbours", 3, "--seeds", 1, *BOTH).json) == 2


def test_one_label_a_clip_has_no_threshold(encore: Encore, features_csv: Path) -> None:
    embed_table(encore, features_csv)
    assert "there is no threshold to tune" in encore("head", "hits", "--threshold", "tuned", code=2).err
    result = encore("head", "hits", *BOTH).json[0]
    assert result["threshold"] is None
    assert "chosen" not in encore("head", "hits", *QUICK).out


def test_losses(several: Encore) -> None:
    losses = set()
    for changes in ((), ("--set", "loss=focal"), ("--set", "class_weights=balanced")):
        about, _ = record_of(several("head", "hits", "--mode", "song", *changes, *BOTH).json)
        losses.add(about["history"][0]["loss"])
    assert len(losses) == 3
    wrong = several("head", "hits", "--set", "loss=hinge", code=2).err
    assert "loss takes one of cross-entropy, focal, not 'hinge'" in wrong


def test_members(several: Encore) -> None:
    """The score of several networks is the mean of theirs; the first is the one that is trained alone."""
    args = ("head", "hits", "--mode", "song", "--seeds", 2)
    _, folder = record_of(several(*args, *BOTH).json)
    alone = torch.load(folder / "seed-1.pt", weights_only=True)["network"]
    output = several(*args, "--members", 3, *QUICK).out
    assert "mean scores of 3 networks" in output
    result = several(*args, "--members", 3, *BOTH).json
    assert result[0]["members"] == 3
    about, folder = record_of(result, "seed-1")
    assert len(about["other_members"]) == 2
    names = [f"seed-1{which}.pt" for which in ("", "-member-2", "-member-3")]
    states = [torch.load(folder / name, weights_only=True)["network"] for name in names]
    assert all(torch.equal(alone[key], states[0][key]) for key in alone)
    assert not torch.equal(states[1]["song.weight"], states[2]["song.weight"])
    data = from_catalog(Store(several.store).read_catalog("hits"))
    part = data.split("random", 1)
    x = _representations(several)
    mean = np.mean([_song_scores(torch.load(folder / name, weights_only=True), x) for name in names], axis=0)
    np.testing.assert_allclose(scores(folder, "seed-1"), mean[part == 2], atol=1e-6)
    assert len({network_seed(seed, member) for seed in range(20) for member in range(20)}) == 400


def _representations(encore: Encore) -> torch.Tensor:
    from stages.head.open import load

    x = load(Store(encore.store), "hits", None).x
    assert x is not None
    return x


def _song_scores(checkpoint: dict[str, object], x: torch.Tensor) -> np.ndarray:
    net = checkpoint["network"]
    hidden = torch.relu((x - checkpoint["shift"]) * checkpoint["scale"] @ net["song.weight"].T + net["song.bias"])
    return torch.sigmoid(hidden @ net["classify.output.weight"].T + net["classify.output.bias"]).numpy()


@pytest.mark.usefixtures("unsealed")
def test_runs_that_do_not_belong_together(several: Encore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other test clips under the same seed, or other settings in one folder, are never mixed."""
    several("compare", "hits", "--modes", "song,gnn", "--seeds", 2, *QUICK)
    (runs,) = (Path(several.store) / "hits" / "runs").iterdir()
    one = runs / "song-random" / "seed-1.json"
    content = one.read_text()
    one.write_text(content.replace('"batch": 512', '"batch": 16'))
    assert "have different settings" in several("report", "hits", code=2).err
    one.write_text("{")
    assert "is damaged; run the head again" in several("report", "hits", code=1).err
    one.unlink()
    assert "the head runs at this moment, or did not end" in several("report", "hits", code=1).err
    one.write_text(content)
    moved = runs / "song-random" / "seed-1.parquet"
    table = pq.read_table(moved)
    pq.write_table(table.slice(1), moved)
    assert "seed-1.json was changed or is of another run" in several("report", "hits", code=1).err
    monkeypatch.setattr(pool, "_check", lambda *_: None)
    assert "the runs of seed 1 were made on different test clips" in several("report", "hits", code=2).err


def test_runs_of_other_labels_or_songs(encore: Encore, several_csv: Path) -> None:
    """A report scores no run by labels, artists or songs that it was not made with; new songs take nothing from it."""
    lines = several_csv.read_text().splitlines()
    changes = {
        "labels": [lines[0], *(line.replace("genre 1", "genre 2") for line in lines[1:9]), *lines[9:]],
        "songs": lines[:60],
        "growth": [*lines, "artist 3,one more,genre 0|genre 1,0.1,0.2,0.3,0.4"],
    }
    for name, changed in changes.items():
        several_csv.write_text("\n".join(lines) + "\n")
        other = Encore(encore.store / name)
        embed_table(other, several_csv)
        other("compare", "hits", "--modes", "song,artist", "--seeds", 1, *QUICK)
        several_csv.write_text("\n".join(changed) + "\n")
        embed_table(other, several_csv)
        ran = other("report", "hits", code=0 if name == "growth" else 2)
        assert ("before the collection's labels or songs changed" in ran.err) == (name != "growth"), name


def test_a_report_names_other_settings(several: Encore) -> None:
    several("compare", "hits", "--modes", "song,gnn,dropedge,cluster-edges,artist", "--seeds", 1, *QUICK)
    assert several("report", "hits", "--json").json["other_settings"] == {}
    assert "other settings" not in several("report", "hits").out
    several("head", "hits", "--mode", "gnn", *EPOCHS, "--set", "hidden=1", "--neighbours", 2)
    ran = several("report", "hits")
    assert "made with other settings than the others: gnn (hidden=1, neighbours=2)" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80


@pytest.mark.parametrize("labels", ["polka", "jazz|polka"])
def test_a_report_on_a_collection_of_which_songs_failed(encore: Encore, midi_folder: Path, labels: str) -> None:
    """Also where none but these carry a label, or carry several: runs know neither."""
    (midi_folder / "broken.mid").write_bytes(b"no notes")
    table = (midi_folder / "songs.csv").read_text(encoding="utf-8").replace("rock|pop", "rock")
    (midi_folder / "songs.csv").write_text(f"{table}broken.mid,artist 0,{labels}\n", encoding="utf-8")
    encore("embed", "folder", "--data", midi_folder, "--table", "songs.csv", "--name", "mine", "--clips", 1)
    options = ("--modes", "song,gnn", "--regimes", "random", "--seeds", 2)
    runs = encore("compare", "mine", *options, *QUICK, "--json").json
    report = encore("report", "mine", "--ensemble", "song,gnn", "--json").json
    assert report["metric"] == "accuracy"
    assert report["labels"] == ["folk", "jazz", "polka", "rock"]
    for run in runs:
        assert report["modes"][run["mode"]]["score"] == pytest.approx(run["metrics"]["accuracy"]["mean"])
    confusion = np.array(report["modes"]["song"]["confusion"])
    assert confusion.shape == (4, 5)
    assert not confusion[2].any()
    assert not confusion[:, 2].any()
    encore("report", "mine", "--plot", encore.store / "mine.png")


def test_a_report_shows_the_thesis_beside_it(several: Encore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its deviations over the genres that artists have, where it tells them."""
    several("compare", "hits", "--modes", "song,gnn,gated", "--seeds", 1, *QUICK)
    assert "thesis" not in several("report", "hits").out
    monkeypatch.setitem(PAPER, "hits", PAPER["lakh"])
    assert "thesis" not in several("report", "hits").out  # it had another version
    monkeypatch.setitem(PAPER, "hits", replace(PAPER["lakh"], versions="own"))
    assert "thesis" not in several("report", "hits").out  # it had another backbone
    monkeypatch.setitem(PAPER, "hits", replace(PAPER["lakh"], versions="own", backbone="features"))
    modes = several("report", "hits", "--json").json["modes"]
    assert modes["gnn"]["paper"] == {"deviation_over_genres": 0.1649}
    assert modes["gated"]["paper"] is None
    several("compare", "hits", "--modes", "song,gnn", "--seeds", 1, *QUICK, "--neighbours", "train")
    inductive = several("report", "hits", "--neighbours", "train", "--json").json["modes"]
    assert inductive["song"]["paper"] == modes["song"]["paper"] == {"deviation_over_genres": 0.1478}
    assert inductive["gnn"]["paper"] is None
    text = several("report", "hits").out
    assert re.search(r"^genres the artist has .*deviation +thesis$", text, re.MULTILINE)
    assert re.search(r"^song .* 0\.1478$", text, re.MULTILINE)
    assert re.search(r"^gated .* -$", text, re.MULTILINE)
    assert max(map(len, text.splitlines())) <= 80


def test_the_thesis_stands_beside_its_own_version_alone(several: Encore, monkeypatch: pytest.MonkeyPatch) -> None:
    """In what head and compare print, and in their documents."""
    command = ("compare", "hits", "--modes", "song,gated", "--seeds", 1, *QUICK)
    monkeypatch.setitem(PAPER, "hits", PAPER["lakh"])
    assert "thesis" not in several(*command).out
    assert [run["paper"] for run in several("head", "hits", "--mode", "song", *QUICK, "--json").json] == [None]
    monkeypatch.setitem(PAPER, "hits", replace(PAPER["lakh"], versions="own"))
    assert "thesis" not in several(*command).out  # it had another backbone
    monkeypatch.setitem(PAPER, "hits", replace(PAPER["lakh"], versions="own", backbone="features"))
    output = several(*command).out
    assert re.search(r"^song .* 76\.1 ", output, re.MULTILINE)
    assert "thesis: micro F1 with features" in output
    assert [run["paper"] for run in several(*command, "--json").json] == [
        {"micro_f1": 0.761, "backbone": "features"},
        None,
    ]


def test_one_artist_has_no_interval(encore: Encore, several_csv: Path) -> None:
    lines = several_csv.read_text().splitlines()
    several_csv.write_text("\n".join([lines[0], *("one," + line.partition(",")[2] for line in lines[1:])]) + "\n")
    embed_table(encore, several_csv)
    encore("compare", "hits", "--modes", "song,gnn", "--seeds", 1, *QUICK)
    gnn = encore("report", "hits", "--json").json["modes"]["gnn"]
    assert (gnn["interval"], gnn["against"]["interval"], gnn["against"]["p"]) == (None, None, None)
    assert re.search(r"^gnn +[0-9.]+ +- +[+-][0-9.]+ +-$", encore("report", "hits").out, re.MULTILINE)


@pytest.mark.parametrize("hidden", [10**12, 10**18, 10**19])
def test_a_network_that_no_memory_holds(several: Encore, hidden: int) -> None:
    message = several("head", "hits", "--set", f"hidden={hidden}", code=1).err
    assert "error: out of memory; a smaller hidden, batch or neighbours" in message
    assert "defect" not in message


@pytest.mark.parametrize("command", ["head", "compare", "audit"])
def test_more_seeds_than_anyone_waits_for(several: Encore, command: str) -> None:
    assert "--seeds" in several(command, "hits", "--seeds", 1001, code=2).err


def test_the_overlap_is_that_of_all_splits(encore: Encore, features_csv: Path) -> None:
    embed_table(encore, features_csv)
    result = encore("compare", "hits", "--modes", "artist", "--seeds", 3, "--json").json[0]
    data = from_catalog(Store(encore.store).read_catalog("hits"))
    assert result["overlap"] == [data.overlap(data.split("random", seed)) for seed in range(3)]
    shared = [overlap["shared_artists"] for overlap in result["overlap"]]
    artists = [overlap["test"]["artists"] for overlap in result["overlap"]]
    assert len(set(shared)) > 1
    text = encore("compare", "hits", "--modes", "artist", "--seeds", 3).out
    line = f"{min(shared)}-{max(shared)} of the {min(artists)}-{max(artists)} test artists are also in train"
    assert line in text
    assert max(map(len, text.splitlines())) <= 80
    one = encore("compare", "hits", "--modes", "artist", "--seeds", 1).out
    assert f"{shared[0]} of the {artists[0]} test artists" in one


def test_options_stand_in_the_settings_too(encore: Encore, features_csv: Path) -> None:
    encore("embed", "table", "--table", features_csv, "--name", "hits", "--columns", COLUMNS)
    result = encore("head", "hits", "--mode", "song", "--set", "members=2", *BOTH).json[0]
    assert result["members"] == 2
    assert "members is 0" in encore("head", "hits", "--set", "members=0", code=2).err


def test_nearest_clips(several: Encore) -> None:
    """The output says how they were found."""
    for index in ("exact", "approximate"):
        options = ("--set", f"index={index}", *QUICK)
        how = "exactly" if index == "exact" else "approximately"
        assert f"knn: nearest clips found {how}" in several("compare", "hits", "--modes", "knn,song", *options).out
        assert several("head", "hits", "--mode", "knn", *options, "--json").json[0]["remark"].endswith(how)


def test_seeds_that_are_replaced_or_left_out_are_told(several: Encore) -> None:
    several("compare", "hits", "--modes", "song,gnn", "--seeds", 2, *QUICK)
    message = several("head", "hits", "--mode", "gnn", *QUICK).err
    assert "gnn, random: this command's runs replace all earlier ones, also seed-1" in message
    message = several("report", "hits", "--modes", "song,gnn").err
    assert "left out: seed 1, not run for gnn" in message


def test_an_empty_test_part_is_not_scored(several: Encore, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the songs of the only test artist could not be decoded."""
    parts = head._parts
    monkeypatch.setattr(head, "_parts", lambda *args: [(fold, part.clip(max=1)) for fold, part in parts(*args)])
    message = several("head", "hits", *QUICK, code=2).err
    assert "regime random, seed 0: of the test songs none is encoded" in message


@pytest.mark.parametrize("device", ["mps", "mps:0"])
def test_a_device_without_64_bit_floats_is_refused(several: Encore, device: str) -> None:
    """Wherever it is there or not."""
    message = several("head", "hits", "--device", device, *QUICK, code=2).err
    assert f"device '{device}' cannot be used: it has no 64-bit floats" in message
    assert "take auto, cpu or cuda" in message


def test_what_splits_share_is_counted_once_a_regime(several: Encore, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    overlap = Collection.overlap
    monkeypatch.setattr(Collection, "overlap", lambda data, part: counted.append(1) or overlap(data, part))
    several("compare", "hits", "--modes", "song,artist,gnn", "--regimes", "random,artist", "--seeds", 2, *QUICK)
    assert len(counted) == 4


def test_a_deviation_is_that_of_the_seeds_themselves(several: Encore) -> None:
    """Divided by their number, not by one less."""
    (run,) = several("head", "hits", "--mode", "song", "--seeds", 2, *QUICK, "--json").json
    (folder,) = several.store.glob("hits/runs/*/song-random")
    scores = [json.loads(path.read_text())["metrics"]["micro_f1"] for path in folder.glob("seed-*.json")]
    assert run["metrics"]["micro_f1"]["std"] == pytest.approx(abs(scores[0] - scores[1]) / 2)


def test_memory_without_end_is_refused(several: Encore) -> None:
    assert "Invalid value for '--memory'" in several("head", "hits", "--memory", "inf", code=2).err
