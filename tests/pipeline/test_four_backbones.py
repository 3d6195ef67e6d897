"""The thesis's four backbones from songs to stored representations: trained on the demo, killed, in two processes."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stages.embed.choose import find_backbone, make_backbone
from stages.embed.loading import ClipTable
from stages.embed.weights import read_about, read_state_dict
from store.layout import Store
from store.reader import Representations
from tests.pipeline.conftest import Encore
from tests.processes import COMMAND, Process, together

# What keeps a few steps short on one core.
SMALL = {
    "musicbert": ("--set", "size=tiny"),
    "pianoroll-cnn": ("--set", "frames=64"),
    "mixcnn": (),
    "cola": ("--set", "max_segments=2"),
}
STEPS = ("--set", "steps=2", "--set", "batch=4", "--workers", 0)
HEAVY_STEPS = ("--set", "steps=2", "--set", "batch=2", "--workers", 0)

SHARED_OUT = ("--workers", 2, "--batch", 3)


def stored_is_alone(encore: Encore, dataset: str, backbone: str, weights: str) -> NDArray[np.float32]:
    """The stored vectors; the first and the last are those of their clips loaded and encoded alone, here."""
    store = Store(encore.store)
    catalog = store.read_catalog(dataset)
    stored = Representations(store, catalog, store.find(dataset, backbone)).read()
    assert np.isfinite(stored).all()
    assert (stored.std(axis=0) > 0).any()
    encoder, _ = make_backbone(find_backbone(backbone, weights), {}, catalog.info)
    encoder.to(torch.device("cpu"))
    clips = ClipTable(catalog, encoder.input)
    for row in (0, len(stored) - 1):
        with torch.inference_mode():
            alone = encoder.encode(torch.from_numpy(encoder.input.load(clips.clip(row)))).mean(dim=0).numpy()
        np.testing.assert_allclose(stored[row], alone, atol=1e-5 * np.abs(stored).max(), rtol=0)
    return stored


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    return "--songs", 10, "--data", tmp_path_factory.mktemp("demo") / "songs"


@pytest.mark.parametrize("backbone", SMALL)
def test_train_then_embed(encore: Encore, demo: tuple[object, ...], tmp_path: Path, backbone: str) -> None:
    out = tmp_path / "w.pt"
    steps = HEAVY_STEPS if backbone == "mixcnn" else STEPS
    ran = encore("train", backbone, "--dataset", "demo", *demo, *SMALL[backbone], *steps, "--out", out, "--json")
    report = ran.json
    assert "epoch 1: loss" in ran.err
    assert (report["backbone"], report["epochs"], report["unread"]) == (backbone, 1, 0)
    embed = ("embed", "demo", *demo, "--backbone", backbone, "--weights", out, *SHARED_OUT, "--json")
    summary = encore(*embed).json
    assert (summary["encoded"], summary["failed"]) == (summary["clips"], {})
    assert encore(*embed).json["already_there"]
    assert len(stored_is_alone(encore, "demo", backbone, str(out))) == summary["clips"] == 20


def test_fine_tuning_goes_on_from_pre_training(encore: Encore, demo: tuple[object, ...], tmp_path: Path) -> None:
    """On genres, from what guessing notes has left; a learning rate of almost nothing leaves it as it was."""
    first, second = tmp_path / "first.pt", tmp_path / "second.pt"
    train = ("train", "musicbert", "--dataset", "demo", *demo, *STEPS)
    encore(*train, *SMALL["musicbert"], "--out", first)
    tune = (*train, "--objective", "supervised", "--weights", first, "--set", "learning_rate=1e-12", "--out", second)
    assert encore(*tune, "--json").json["objective"] == "supervised"
    before, after = read_state_dict(first), read_state_dict(second)
    assert before.keys() == after.keys()
    for key, weight in before.items():
        torch.testing.assert_close(after[key], weight, atol=1e-9, rtol=0)
    about = read_about(second)
    assert about["settings"] == {"size": "tiny"}  # the checkpoint's own
    assert about["start"] is not None
    assert len(about["labels"]) > 1


# The command, which kills itself in the third epoch.
KILLED = """
import os, signal
from stages.embed import train
epoch_of = train._Run._epoch
def train_and_die(run, epoch, *args):
    if epoch == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return epoch_of(run, epoch, *args)
train._Run._epoch = train_and_die
from pipeline.cli import main
main()
"""


def test_a_killed_training_goes_on_to_the_same_weights(
    encore: Encore, demo: tuple[object, ...], tmp_path: Path
) -> None:
    def command(out: Path) -> list[str]:
        options = ("--epochs", 4, "--set", "patience=4", "--set", "batch=8", "--workers", 0, "--out", out)
        small = SMALL["pianoroll-cnn"]
        return list(map(str, ("train", "pianoroll-cnn", "--dataset", "demo", *demo, *small, *options)))

    reference, part = tmp_path / "whole.pt", tmp_path / "part.pt"
    expected = encore(*command(reference), "--json").json
    killed = Process(KILLED, *command(part), "--store", encore.store)
    _, err = killed.communicate()
    assert killed.returncode == -signal.SIGKILL, err
    assert part.with_name("part.pt.resume").exists()
    report = encore(*command(part), "--json").json
    assert (report["resumed"], report["epochs"]) == (2, 4)
    same = ("epochs", "best_epoch", "loss", "validation_loss")
    assert [report[key] for key in same] == [expected[key] for key in same]
    one, other = read_state_dict(reference), read_state_dict(part)
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert reference.with_name("whole.pt.csv").read_bytes() == part.with_name("part.pt.csv").read_bytes()


def test_two_processes_leave_one_checkpoint_and_one_report(encore: Encore, tmp_path: Path) -> None:
    """The two find no demo collection, and make it at once."""
    command = ("train", "pianoroll-cnn", "--dataset", "demo", "--songs", 10, "--data", tmp_path / "demo")
    out = tmp_path / "weights" / "w.pt"
    more = (*SMALL["pianoroll-cnn"], *STEPS, "--out", out, "--store", encore.store, "--json")
    code, text, err = together(COMMAND, *command, *more)
    assert code == 0, err
    report = json.loads(text)
    assert (report["backbone"], report["epochs"], report["clips"]) == ("pianoroll-cnn", 1, 16)
    assert {path.name for path in out.parent.iterdir()} == {"w.pt", "w.pt.csv"}
    assert read_about(out)["dataset"] == "demo"
    assert len(list((tmp_path / "demo" / "midi").iterdir())) == 10
