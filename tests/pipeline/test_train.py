"""``encore train`` and ``encore embed`` with what it leaves."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.pipeline.conftest import Encore

TINY = ("--set", "max_segments=2", "--workers", 0)


def test_train_then_embed(encore: Encore, tmp_path: Path) -> None:
    out = tmp_path / "weights" / "cola.pt"
    demo = ("--songs", 30, "--data", tmp_path / "demo")
    train = ("train", "cola", "--dataset", "demo", *demo, *TINY, "--out", out, "--set", "batch=8", "--regime", "random")
    report = encore(*train, "--set", "steps=3", "--json").json
    assert (report["backbone"], report["objective"], report["epochs"]) == ("cola", "contrastive", 1)
    assert report["parameters"] == 4_006_972
    held = torch.load(out, weights_only=True)["about"]
    assert held["settings"] == {"max_segments": "2"}
    catalog = encore("audit", "demo", *demo, "--json").json
    assert len(held["train_songs"]) == catalog["regimes"]["random"]["train"]["songs"]
    assert "already trained; nothing was done" in encore(*train, "--set", "steps=3").out
    refused = encore(*train, "--set", "steps=4", code=2).err
    assert "belongs to another training" in refused
    # The checkpoint brings the settings that it was trained with.
    encore("embed", "demo", *demo, "--backbone", "cola", "--weights", out, "--workers", 0)
    (stored,) = encore("store", "show", "demo", "--json").json["representations"]
    assert stored["settings"]["config"] == {"max_segments": 2, "min_s": 0.96, "size": "b0"}
    wrong = encore("embed", "demo", *demo, "--backbone", "fcn", "--weights", out, code=2).err
    assert "holds weights of cola, not of fcn" in wrong


def test_what_cannot_be_trained_says_so(encore: Encore, midi_folder: Path) -> None:
    folder = ("--dataset", "folder", "--data", midi_folder, "--table", midi_folder / "songs.csv", "--name", "mine")
    assert "pianoroll cannot be trained" in encore("train", "pianoroll", *folder, code=2).err
    err = encore("train", "cola", *folder, "--objective", "masked", code=2).err
    assert "unknown objective of cola 'masked'; have: contrastive, supervised" in err
    assert "has no audio files" in encore("train", "cola", *folder, code=2).err
