"""``encore train`` and ``encore embed`` with what it leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray

from stages.embed.catalogs import open_catalog
from stages.embed.datasets.table import FeatureTable as Table
from stages.embed.train_backbone import divide
from stages.head.open import load
from stages.splits.kept import KeptSplits
from stages.splits.regimes import Split
from store.layout import Store
from store.schema import Catalog
from tests.pipeline.conftest import Encore, embed_table

TINY = ("--set", "max_segments=2", "--set", "size=tiny", "--workers", 0)


def test_train_then_embed(encore: Encore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.embed.datasets._demo_files.LENGTH_S", 15.0)  # one clip a song
    out = tmp_path / "weights" / "cola.pt"
    demo = ("--songs", 30, "--data", tmp_path / "demo")
    train = ("train", "cola", "--dataset", "demo", *demo, *TINY, "--out", out, "--set", "batch=8", "--regime", "random")
    ran = encore(*train, "--set", "steps=3", "--json")
    report = ran.json
    assert "left out" not in ran.err
    assert (report["backbone"], report["objective"], report["epochs"]) == ("cola", "contrastive", 1)
    assert report["parameters"] == 656_832
    about = torch.load(out, weights_only=True)["about"]
    assert about["settings"] == {"max_segments": "2", "size": "tiny"}
    catalog = encore("audit", "demo", *demo, "--json").json
    assert len(about["train_songs"]) == catalog["regimes"]["random"]["train"]["songs"]
    assert "already trained; nothing was done" in encore(*train, "--set", "steps=3").out
    refused = encore(*train, "--set", "steps=4", code=2).err
    assert "belongs to another training" in refused
    # The checkpoint brings the settings that it was trained with.
    encore("embed", "demo", *demo, "--backbone", "cola", "--weights", out, "--workers", 0)
    (stored,) = encore("store", "show", "demo", "--json").json["representations"]
    assert stored["settings"]["config"] == {"max_segments": 2, "min_s": 0.96, "size": "tiny"}
    # Heads say where a split tests songs that the backbone was trained on.
    quick = ("--mode", "song", "--set", "epochs=1", "--backbone", "cola", "--json")
    first = encore("head", "demo", *quick)
    assert first.json[0]["overlap"][0]["trained_on"] == 0
    assert "was trained on" not in first.err
    second = encore("head", "demo", "--seeds", 2, *quick)
    assert "of the test songs of random, seed 1: scores there are too good" in second.err
    other = encore("head", "demo", "--regime", "artist", *quick).json[0]["overlap"][0]
    assert 0 < other["trained_on"] <= other["test"]["songs"]
    wrong = encore("embed", "demo", *demo, "--backbone", "fcn", "--weights", out, code=2).err
    assert "holds weights of cola, not of fcn" in wrong


@pytest.mark.parametrize("regime", ["random", "album", "artist", "official"])
def test_a_backbone_never_learns_from_test_songs_of_a_head(
    encore: Encore, features_csv: Path, tmp_path: Path, regime: str
) -> None:
    """It is divided as heads are, also where the collection was trained on first, and grew before it was embedded."""
    rows = [line.split(",") for line in features_csv.read_text().splitlines()]
    parts = ["train", "train", "valid", "test"]
    lines = [
        ",".join([*row, *(["album", "split"] if i == 0 else [f"{row[0]} {i % 3}", parts[i % 4]])])
        for i, row in enumerate(rows)
    ]
    table = tmp_path / "songs.csv"
    own = {**dict.fromkeys(Table.__dataclass_fields__), "table": str(table), "name": "own", "columns": "labels=genre"}
    store = Store(encore.store)

    def sides(catalog: Catalog, part: Split) -> dict[str, int]:
        live = ~catalog.retired() & (part >= 0)
        songs = np.array(catalog.strings("song_id"))[live].tolist()
        return dict(zip(songs, part[live].tolist(), strict=True))

    table.write_text("\n".join(lines[:301]))
    before = open_catalog("table", own, store)
    learnt = sides(before, divide(KeptSplits(before, store), regime, labelled_only=True))
    table.write_text("\n".join(lines))
    encore("embed", "table", "--table", table, "--name", "own", "--columns", "labels=genre")
    data = load(store, "own", None)
    part = np.full(len(store.read_catalog("own")), -1, dtype=np.int8)
    part[data.rows] = data.split(regime, 0)
    tested = sides(store.read_catalog("own"), part)
    assert len(tested) == 400
    assert {song: tested[song] for song in learnt} == learnt
    grown = open_catalog("table", own, store)
    assert sides(grown, divide(KeptSplits(grown, store), regime, labelled_only=True)) == tested


def test_unlabelled_songs_are_for_training_alone(encore: Encore, midi_folder: Path, tmp_path: Path) -> None:
    lines = (midi_folder / "songs.csv").read_text(encoding="utf-8").splitlines()
    bare = [line.rsplit(",", 1)[0].rsplit(",", 1)[0] + f",new {i}," for i, line in enumerate(lines[13:])]
    (midi_folder / "half.csv").write_text("\n".join([*lines[:13], *bare]) + "\n", encoding="utf-8")
    half = ("folder", "--data", midi_folder, "--table", "half.csv", "--name", "half", "--clips", 1, "--unlabelled")
    out = tmp_path / "tiny.pt"
    tiny = ("--set", "size=tiny", "--set", "notes=32", "--set", "batch=4", "--set", "steps=1", "--workers", 0)
    encore("train", "musicbert", "--dataset", *half, *tiny, "--objective", "masked", "--out", out)
    trained = set(torch.load(out, weights_only=True)["about"]["train_songs"])
    assert {f"söng {song}.mid" for song in range(12, 24)} < trained
    encore("embed", *half, "--backbone", "pianoroll", "--workers", 0)
    data = load(Store(encore.store), "half", None)
    songs = np.array(Store(encore.store).read_catalog("half").strings("song_id"))[data.rows]
    assert {str(song) for song in songs} == {f"söng {song}.mid" for song in range(12)}
    assert not trained & {str(song) for song in songs[data.split("random", 0) == 2]}
    assert encore("audit", "half", "--json").json["left_out"] == {"without labels": 12}


def test_what_cannot_be_trained_says_so(encore: Encore, midi_folder: Path) -> None:
    folder = ("--dataset", "folder", "--data", midi_folder, "--table", midi_folder / "songs.csv", "--name", "mine")
    assert "pianoroll cannot be trained" in encore("train", "pianoroll", *folder, code=2).err
    err = encore("train", "cola", *folder, "--objective", "masked", code=2).err
    assert "unknown objective of cola 'masked'; have: contrastive, supervised" in err
    assert "has no audio files" in encore("train", "cola", *folder, code=2).err
    err = encore("train", "musicbert", *folder, "--regime", "random-5fold", code=2).err
    assert "is trained on one split, and random-5fold is several; take random" in err


def test_a_split_is_advised_only_where_it_has_no_song_trained_on(encore: Encore, features_csv: Path) -> None:
    """Training may have begun from weights that were trained in another regime, whose songs stay known."""
    embed_table(encore, features_csv)
    store = Store(encore.store)
    (name,) = store.representations("hits")
    data = load(store, "hits", None)
    songs = np.array(store.read_catalog("hits").strings("song_id"))[data.rows]
    quick = ("--mode", "song", "--set", "epochs=1")

    def knows(songs: NDArray[np.str_]) -> None:
        table = pa.table({"song_id": pa.array(songs.tolist(), type=pa.string())}, metadata={"regime": "artist"})
        store.write_table(f"hits/{name}/trained_on.parquet", table)

    train = songs[data.split("artist", 0) == 0]
    knows(train)
    assert "with seed 0, has none (--regime artist --seeds 1)" in encore("head", "hits", *quick).err
    knows(np.concatenate([train, songs[data.split("random", 0) == 0]]))
    for regime in ("random", "artist"):
        message = encore("head", "hits", "--seeds", 2, "--regime", regime, *quick).err
        assert f"of the test songs of {regime}, seed 1: scores there are too good\n" in message
        assert "has none" not in message
