"""Heads on representations of several layers: one layer, their mean, a mixture that is learnt."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import encore as notebook
import numpy as np
import pytest
import torch

from stages.head import layers
from stages.head.heads.gnn import Gnn
from stages.head.modes import Mode
from stages.head.open import load
from stages.head.restore import restore
from stages.head.testing import QUICK as TRAINING
from stages.head.training.binder import Binder
from stages.head.training.stretches import Stretches
from store.errors import RequestError
from store.layout import RepresentationName, Store
from store.runs import RunFolder
from store.writer import RepresentationWriter
from tests.head.conftest import options
from tests.pipeline.conftest import QUICK, Encore, embed_table
from tests.processes import COMMAND, together

NAME = RepresentationName("mert", "0123456789ab")
LONGER = ("--set", "epochs=40", "--set", "learning_rate=0.02", "--set", "hidden=16", "--set", "batch=64")
HEARD = 2  # the layer that tells the genre


@pytest.fixture
def songs(encore: Encore, features_csv: Path) -> Encore:
    """A synthetic representation of four layers of twelve numbers, one of which knows the label."""
    embed_table(encore, features_csv)
    store = Store(encore.store)
    catalog = store.read_catalog("hits")
    rng = np.random.default_rng(0)
    values = rng.standard_normal((len(catalog), 4, 12)).astype(np.float32)
    labels = [sorted(names)[0] for names in catalog.column("labels").to_pylist()]
    values[np.arange(len(labels)), HEARD, [int(name[-1]) for name in labels]] += 3
    writer = RepresentationWriter(store, catalog, NAME, settings={}, shape=(4, 12), dtype="float32")
    for shard in writer.pending:
        writer.commit(shard, values[list(shard.rows)])
    writer.finish()
    return encore


def accuracy(result: dict[str, Any]) -> float:
    return float(result["metrics"]["accuracy"]["mean"])


def test_each_layer_has_runs_of_its_own(songs: Encore) -> None:
    head = ("head", "hits", "--backbone", "mert", "--mode", "song", "--json")
    scores = {}
    for layer in ("1", str(HEARD), "mean", "mix"):
        (result,) = songs(*head, "--layer", layer, *LONGER).json
        assert result["backbone"] == f"{NAME}@{layer}"
        assert f"{NAME}@{layer}" in result["saved"]
        scores[layer] = accuracy(result)
    assert scores[str(HEARD)] > scores["1"] + 0.2
    assert scores["mix"] > scores["1"] + 0.2
    picture = songs.store / "mixture.svg"
    ran = songs("report", "hits", "--backbone", "mert", "--layer", "mix", "--modes", "song", "--plot", picture)
    assert f"{NAME}@mix" in ran.out
    assert "share of the mixture" in picture.read_text()
    (mode,) = songs("report", "hits", "--backbone", "mert@mix", "--modes", "song", "--json").json["modes"].values()
    assert len(mode["mixture"]) == 4
    assert sum(mode["mixture"]) == pytest.approx(1)
    ran = songs("report", "hits", "--backbone", "mert", "--modes", "song", code=2)
    assert f"{NAME}@1, {NAME}@{HEARD}, {NAME}@mean, {NAME}@mix" in ran.err
    assert "(and --layer)" in ran.err


@pytest.mark.parametrize("mode", ["gnn", "gated", "similar-edges"])
def test_the_mixture_is_reported_and_restored(songs: Encore, mode: str) -> None:
    some = (word.replace("epochs=40", "epochs=15") for word in LONGER)
    (result,) = songs("head", "hits", "--backbone", "mert@mix", "--mode", mode, "--json", *some).json
    record = json.loads((Path(result["saved"]) / "seed-0.json").read_text())
    assert len(record["mixture"]) == 4
    assert sum(record["mixture"]) == pytest.approx(1)
    assert int(np.argmax(record["mixture"])) == HEARD
    assert result["remark"].startswith(f"layers by weight: {HEARD} (")
    store = Store(songs.store)
    trained = notebook.restore(store, "hits", mode, backbone="mert@mix")
    again = notebook.score(store, trained)
    import pyarrow.parquet as pq

    table = pq.read_table(Path(result["saved"]) / "seed-0.parquet")
    rows = {int(row): i for i, row in enumerate(again.rows)}
    places = [rows[row] for row in table.column("row").to_pylist()]
    np.testing.assert_allclose(again.scores[places], np.array(table.column("score").to_pylist()), atol=1e-6)


@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("mode", ["gnn", "gated"])
def test_a_mixture_is_asked_and_exported(songs: Encore, mode: str, tmp_path: Path) -> None:
    head = ("--backbone", "mert@mix", "--mode", mode)
    songs("head", "hits", *head, *QUICK)
    store = Store(songs.store)
    clips, folder = load(store, "hits", "mert@mix"), RunFolder("hits", f"{NAME}@mix", Mode(mode), "random")
    trust = restore(store, folder, "seed-0").trust(clips, clips.split("random", 0))
    assert (trust is None) is (mode != "gated")
    assert trust is None or (len(trust) == len(clips) and (trust >= 0).all())
    pytest.importorskip("onnxruntime", reason="ONNX files are run by onnxruntime, which is not here")
    file = tmp_path / "head.onnx"
    ran = songs("export", "head", f"hits/{mode}@mix", "--onnx", file)
    assert "onnxruntime gives torch's scores" in ran.out
    assert file.exists()
    assert ("along `along`" in " ".join(ran.out.split())) is (mode == "gated")


def test_two_mixtures_of_deviations_fit_in_no_file(songs: Encore, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX files are run by onnxruntime, which is not here")
    songs("head", "hits", "--backbone", "mert@mix", "--mode", "gated", "--members", 2, *QUICK)
    file = tmp_path / "head.onnx"
    ran = songs("export", "head", "hits/gated@mix", "--onnx", file, code=2)
    assert "each of the 2 networks of gated mixes the layers in its own way" in " ".join(ran.err.split())
    assert not file.exists()


def test_two_processes_mix_as_one_does(songs: Encore, tmp_path: Path) -> None:
    """Weights over layers included, whose gradient comes from the clips of both."""
    two = Encore(tmp_path / "two")
    shutil.copytree(songs.store, two.store)
    command = ("compare", "hits", "--backbone", "mert@mix", "--modes", "song,gnn,linear", "--seeds", 1, "--json")
    command = (*command, "--folds", "off", *QUICK)
    songs(*command)
    code, _, err = together(COMMAND, *command, "--store", two.store)
    assert code == 0, err
    for mode in ("song", "gnn", "linear"):
        records = [
            json.loads((each.store / "hits" / "runs" / f"{NAME}@mix" / f"{mode}-random" / "seed-0.json").read_text())
            for each in (songs, two)
        ]
        ours, theirs = (np.array(record["mixture"]) for record in records)
        assert np.ptp(ours) > 0.01, mode
        np.testing.assert_allclose(ours, theirs, atol=1e-4, err_msg=mode)


def test_heads_on_a_layer_are_in_use(songs: Encore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.embed.choose.is_current", lambda _manifest: True)
    songs("head", "hits", "--backbone", "mert@mix", "--mode", "song", *QUICK)
    assert songs("store", "gc").out == "nothing is unused\n"
    assert "removed" not in songs("store", "ls").out
    songs("store", "remove", "hits", "--backbone", "mert", "--yes")
    assert f"{NAME}@mix (removed)" in songs("store", "ls").out
    assert f"runs/{NAME}@mix: trained on a representation that is gone" in songs("store", "gc").out


@pytest.mark.parametrize("layer", ["4", "00000000999", "-1", " 1", "\u0661", "\u00b2", ""])
def test_layers_that_there_are_not(songs: Encore, layer: str) -> None:
    head = ("head", "hits", "--backbone", "mert", "--mode", "song", *QUICK)
    assert "has no layer" in songs(*head, "--layer", layer, code=2).err


def test_layers_are_looked_up_before_any_head_is_trained(songs: Encore) -> None:
    sweep = ("compare", "hits", "--backbone", "mert", "--seeds", 1, "--modes", "song", *QUICK)
    assert "has no layer 'x'" in songs(*sweep, "--layers", "1,x", code=2).err
    assert not (songs.store / "hits" / "runs").exists()
    results = songs(*sweep, "--layers", "1,01", "--json").json
    assert [result["backbone"] for result in results] == [f"{NAME}@1"]


def test_a_table_of_layers(songs: Encore) -> None:
    sweep = ("compare", "hits", "--backbone", "mert", "--seeds", 1, *QUICK)
    ran = songs(*sweep, "--layers", "all", "--modes", "song,knn,artist")
    lines = [line.split() for line in ran.out.splitlines()]
    rows = {line[0]: line[1:] for line in lines if line and line[0] in ("0", "1", "2", "3", "mean", "mix")}
    assert list(rows) == ["0", "1", "2", "3", "mean", "mix"]
    assert all(len(row) == 2 for row in rows.values())
    assert "song: layers by weight: " in ran.out
    assert max(map(float, rows["0"] + rows["1"] + rows["3"])) < float(rows[str(HEARD)][0])
    results = songs(*sweep, "--layers", "1,mean", "--modes", "song", "--json").json
    assert [result["backbone"] for result in results] == [f"{NAME}@1", f"{NAME}@mean"]


def test_without_a_choice_the_last_layer_is_taken(songs: Encore) -> None:
    ran = songs("head", "hits", "--backbone", "mert", "--mode", "song", "--json", *QUICK)
    assert f"{NAME} has 4 layers, of which the last is taken; others: --layer 0 ... 3, mean or mix" in ran.err
    assert ran.json[0]["backbone"] == f"{NAME}@3"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("head", "--backbone", "mert", "--layer", "4"), r"has no layer '4'; have: 0 ... 3, mean, mix"),
        (("head", "--backbone", "mert", "--layer", "-1"), r"has no layer '-1'; have: 0 ... 3, mean, mix"),
        (("head", "--backbone", "features", "--layer", "1"), "has no layers: it is one vector a clip"),
        (("head", "--backbone", "mert@2", "--layer", "1"), "names a layer already, and --layer says 1"),
        (("compare", "--backbone", "features", "--layers", "all"), "has no layers: it is one vector a clip"),
        (("compare", "--backbone", "mert", "--layers", "all", "--layer", "1"), "--layers names layers, and so does"),
        (("compare", "--backbone", "mert", "--layers", "all", "--modes", "artist"), "read no song, so no layer of any"),
    ],
)
def test_layers_that_are_not_there(songs: Encore, args: tuple[str, ...], message: str) -> None:
    command, *rest = args
    ran = songs(command, "hits", *rest, *QUICK, code=2)
    assert message in ran.err


def test_means_are_those_of_all_layers_and_read_shard_by_shard(songs: Encore) -> None:
    store = Store(songs.store)
    every = load(store, "hits", "mert@mix")
    mean = load(store, "hits", "mert@mean")
    assert every.x is not None
    assert mean.x is not None
    assert (every.dim, every.layers, mean.dim, mean.layers) == (48, 4, 12, 1)
    torch.testing.assert_close(mean.x, every.x.unflatten(1, (4, 12)).mean(1))
    one = load(store, "hits", f"mert@{HEARD}")
    assert one.x is not None
    torch.testing.assert_close(one.x, every.x.unflatten(1, (4, 12))[:, HEARD])


def test_a_mixture_of_neighbours_means_is_the_mean_of_mixtures(songs: Encore) -> None:
    """A head that reads all layers through fixed weights gives what it gives of the mixed representations."""
    from dataclasses import replace

    every = load(Store(songs.store), "hits", "mert@mix")
    assert every.x is not None
    split = every.split("random", 0)
    config, settings = options(Gnn, **TRAINING, standardise=False)
    device = torch.device("cpu")
    binder = Binder.learn(Gnn, Stretches(every), split, config, settings, device)
    network = layers.build(Gnn, binder.spec)
    assert isinstance(network, layers.Mixture)
    with torch.no_grad():
        network.layer_weights.copy_(torch.tensor([0.03, -0.1, 0.2, 0.0]))
    weights = network.shares.detach()
    mixed = replace(every, x=torch.einsum("nld,l->nd", every.x.unflatten(1, (4, 12)), weights), stored=None)
    binder.mix(network)
    plain = Binder.learn(Gnn, Stretches(mixed), split, config, settings, device)
    assert plain.spec.dim == network.dim
    torch.testing.assert_close(binder.scores(network), plain.scores(network.network), atol=1e-5, rtol=0)


@pytest.mark.parametrize("layer", ["1", "mean", "mix"])
def test_songs_in_no_store_are_read_alike(songs: Encore, layer: str) -> None:
    stored = load(Store(songs.store), "hits", f"mert@{layer}")
    every = load(Store(songs.store), "hits", "mert@mix")
    assert stored.x is not None
    assert every.x is not None
    values = every.x.unflatten(1, (4, 12)).numpy()
    np.testing.assert_allclose(layers.read(values, layer), stored.x.numpy(), atol=1e-6)
    halves = values.astype(np.float16)
    exact = layers.read(halves.astype(np.float32), layer)
    np.testing.assert_allclose(layers.read(halves, layer), exact, atol=1e-6)


def test_a_name_with_two_layers_is_refused() -> None:
    assert layers.with_layer(None, "mix") == "@mix"
    assert layers.with_layer("mert@mix", "mix") == "mert@mix"
    with pytest.raises(RequestError, match="names a layer already"):
        layers.with_layer("mert@1", "2")


def test_a_head_is_named_by_the_layer_that_it_reads(songs: Encore) -> None:
    from stages.head.runs.find import find_run

    head = ("head", "hits", "--backbone", "mert", "--mode", "song", *QUICK)
    for layer in ("1", "mix"):
        songs(*head, "--layer", layer)
    store = Store(songs.store)
    for layer in ("1", "mix"):
        for name in (f"hits/song@{layer}", f"hits@{layer}"):
            assert find_run(store, name)[0].folder.representation == f"{NAME}@{layer}"
    for name in ("hits/song@2", "hits@2"):
        with pytest.raises(RequestError, match="song@1, song@mix"):
            find_run(store, name)
    ran = songs("predict", "anything.mp3", "--head", "hits/song", "--layer", "2", code=2)
    assert "song@1, song@mix" in ran.err
