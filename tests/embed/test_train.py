"""Training: it learns, goes on after a kill to the same weights, and refuses what it cannot do."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

from stages.embed import checkpoint, examples
from stages.embed import train as training
from stages.embed.backbones import Backbone
from stages.embed.inputs.audio import AudioInput
from stages.embed.loading import ClipTable
from stages.embed.objectives import Labels, Objective, Training
from stages.embed.objectives.contrastive import Contrastive
from stages.embed.objectives.supervised import Supervised
from stages.embed.train import Outcome, train
from stages.embed.weights import load_into, read_about, read_state_dict
from store import columns
from store.errors import EncoreError, RequestError
from store.schema import Catalog, CatalogInfo

RATE_HZ = 8_000
CPU = torch.device("cpu")
SETTINGS = Training(epochs=4, batch=8, learning_rate=0.02, weight_decay=0.0)
ABOUT = {"backbone": "toy", "settings": {}, "data": "d"}


class Toy(Backbone):
    """Levels of 16 bands, then a layer with dropout, so that chance takes part."""

    NAME = "toy"
    WEIGHTS = "none"

    def __init__(self, config: Any = None) -> None:
        self.config = None
        self.input = AudioInput(rate_hz=RATE_HZ, window_samples=800, max_windows=4, min_s=0.05)
        self.shape = (8,)
        self.module = nn.Sequential(Bands(), nn.Linear(16, 8), nn.Dropout(0.2), nn.BatchNorm1d(8))

    def load(self, weights: Path) -> None:
        load_into(self.module, read_state_dict(weights), str(weights))

    def objectives(self) -> dict[str, Callable[[Labels], Objective]]:
        return {
            "supervised": lambda labels: Supervised(self.module, 8, labels, SETTINGS),
            "contrastive": lambda _: Contrastive(self.module, 8, SETTINGS),
        }

    def encode(self, batch: Tensor) -> Tensor:
        return self.module(batch)


class Bands(nn.Module):
    def forward(self, wave: Tensor) -> Tensor:
        return torch.fft.rfft(wave).abs()[:, :400].unflatten(1, (16, 25)).mean(2).log1p()


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Forty-eight recordings of 0.5 s: a tone of one of three heights is the label; the third last is damaged."""
    folder = tmp_path_factory.mktemp("songs")
    rng = np.random.default_rng(0)
    time = np.arange(RATE_HZ // 2) / RATE_HZ
    for song in range(48):
        tone = np.sin(2 * np.pi * (400 + 800 * (song % 3)) * time * (1 + song / 1000))
        soundfile.write(folder / f"{song:02}.wav", 0.2 * tone + 0.05 * rng.standard_normal(len(time)), RATE_HZ)
    (folder / "45.wav").write_bytes(b"no song")
    return tones(folder)


def tones(folder: Path) -> Catalog:
    """The catalog of these recordings."""
    info = CatalogInfo(
        name="tones", title="", version="1", licence="", citation="", backbone="toy", data_root=str(folder)
    )
    ids = [f"{song:02}" for song in range(48)]
    return Catalog.build(
        info,
        {
            "clip_id": ids,
            "song_id": ids,
            "artist_id": ids,
            "labels": [["abc"[song % 3]] for song in range(48)],
            "path": [f"{name}.wav" for name in ids],
        },
    )


def run(
    songs: Catalog,
    out: Path,
    settings: Training = SETTINGS,
    *,
    objective: str = "supervised",
    workers: int = 0,
    about: dict[str, Any] | None = None,
    rows: range = range(8, 48),
    kind: type[Toy] = Toy,
    device: torch.device = CPU,
) -> tuple[Outcome, dict[str, Tensor]]:
    torch.manual_seed(0)
    toy = kind()
    names, carried = columns.labels(songs)
    loss = toy.objectives()[objective](Labels(tuple(names), carried))
    training = train(
        toy,
        loss,
        ClipTable(songs, toy.input),
        train_rows=np.array(rows),
        validation_rows=np.arange(8),
        labels=carried,
        settings=settings,
        out=out,
        about=about or ABOUT,
        device=device,
        workers=workers,
    )
    return training, read_state_dict(out)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(("objective", "chance"), [("supervised", np.log(3)), ("contrastive", np.log(8))])
def test_it_learns_and_leaves_a_checkpoint(songs: Catalog, tmp_path: Path, objective: str, chance: float) -> None:
    settings = Training(epochs=25, batch=8, learning_rate=0.02)
    training, weights = run(songs, tmp_path / "toy.pt", settings, objective=objective)
    losses = [line["loss"] for line in training.log]
    assert losses[-1] < 0.6 * losses[0]
    best = training.log[training.best_epoch - 1]
    assert best["validation_loss"] == min(line["validation_loss"] for line in training.log)
    assert best["validation_loss"] < (0.3 if objective == "supervised" else 0.8) * chance
    assert training.unread == 1
    toy = Toy()
    toy.load(tmp_path / "toy.pt")
    assert same(toy.module.state_dict(), weights)
    assert read_about(tmp_path / "toy.pt") == ABOUT
    state = torch.load(tmp_path / "toy.pt", weights_only=True)
    assert {"output.weight", "projection.0.weight"} & set(state["output"])
    assert not {key for key in state["output"] if key.startswith("network")}
    log = (tmp_path / "toy.pt.csv").read_text().splitlines()
    assert log[0].startswith("epoch,loss,validation_loss")
    assert len(log) == 1 + len(training.log)
    assert not (tmp_path / "toy.pt.resume").exists()


@pytest.mark.parametrize(
    ("moment", "settings"),
    [
        ("after an epoch", SETTINGS),
        ("in an epoch", SETTINGS),
        ("between weights and state", SETTINGS),
        ("in an epoch", Training(optimizer="rmsprop", epochs=4, batch=8, learning_rate=0.005, weight_decay=0.0)),
    ],
)
def test_a_stopped_training_goes_on_to_the_same_weights(
    songs: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, settings: Training
) -> None:
    reference, expected = run(songs, tmp_path / "whole.pt", settings)
    stops = {"left": 3 if moment == "after an epoch" else 12 if moment == "in an epoch" else 4}

    def stop(real: Any) -> Any:
        def counted(*args: Any, **options: Any) -> Any:
            stops["left"] -= 1
            if stops["left"] == 0:
                raise KeyboardInterrupt
            return real(*args, **options)

        return counted

    with monkeypatch.context() as patch:
        if moment == "after an epoch":
            patch.setattr(training, "note", stop(training.note))
        elif moment == "in an epoch":
            patch.setattr(Supervised, "forward", stop(Supervised.forward))
        else:
            patch.setattr(checkpoint.CheckpointFiles, "_write", stop(checkpoint.CheckpointFiles._write))
        with pytest.raises(KeyboardInterrupt):
            run(songs, tmp_path / "part.pt", settings)
    assert (tmp_path / "part.pt.resume").exists()
    rest, weights = run(songs, tmp_path / "part.pt", settings)
    assert 1 <= rest.resumed < len(rest.log)
    assert rest.log == reference.log
    assert same(weights, expected)
    again, _ = run(songs, tmp_path / "part.pt", settings)
    assert again.resumed == len(again.log) == len(reference.log)


def test_bf16_is_refused_on_a_cpu(songs: Catalog, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"precision bf16 needs a GPU: .* wrong numbers; leave the precision out"):
        run(songs, tmp_path / "toy.pt", Training(precision="bf16"))
    assert not any(tmp_path.glob("toy.pt*"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU, and bf16 runs on no CPU")
def test_it_learns_in_bf16_and_keeps_32_bits(songs: Catalog, tmp_path: Path) -> None:
    settings = Training(epochs=10, batch=8, learning_rate=0.02, precision="bf16")
    training, weights = run(songs, tmp_path / "toy.pt", settings, device=torch.device("cuda"))
    assert training.log[-1]["loss"] < 0.6 * training.log[0]["loss"]
    assert {weight.dtype for weight in weights.values() if weight.is_floating_point()} == {torch.float32}


def test_workers_change_nothing_and_the_seed_does(songs: Catalog, tmp_path: Path) -> None:
    settings = Training(epochs=2, batch=8, learning_rate=0.02, weight_decay=0.0)
    _, alone = run(songs, tmp_path / "0.pt", settings)
    _, two = run(songs, tmp_path / "2.pt", settings, workers=2)
    assert same(alone, two)
    _, other = run(songs, tmp_path / "s.pt", replace(settings, seed=1))
    assert not same(alone, other)


def test_it_stops_early_and_at_the_last_step(songs: Catalog, tmp_path: Path) -> None:
    still = Training(epochs=50, batch=8, learning_rate=1e-12, patience=2, schedule="constant")
    training, _ = run(songs, tmp_path / "a.pt", still)
    assert len(training.log) < 10
    assert len(training.log) - training.best_epoch == 2
    training, _ = run(songs, tmp_path / "b.pt", Training(steps=7, batch=8))
    assert len(training.log) == 2  # of five updates each: the second is cut short


def test_a_disk_s_error_costs_one_clip(songs: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in encoding, it is recorded; in training another clip takes the place, in validation none does."""
    read = examples.draw

    def broken(reader: Any, clip: Any, *args: Any) -> Any:
        if clip.clip_id == bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(reader, clip, *args)

    monkeypatch.setattr(examples, "draw", broken)
    bad = songs.strings("clip_id")[9]
    clips = examples.Examples(ClipTable(songs, Toy().input), np.arange(8, 40), 1, seed=0)
    arrays, rows, failures = clips[1, [8, 9, 10]]
    assert failures[0] == (9, "unreadable", "Input/output error")
    assert len(arrays) == len(rows) == 3
    assert 9 not in rows
    assert clips[examples.VALIDATION, [8, 9, 10]][1:] == ([8, 10], failures[:1])


def test_refusals(songs: Catalog, tmp_path: Path) -> None:
    run(songs, tmp_path / "toy.pt")
    with pytest.raises(RequestError, match="belongs to another training"):
        run(songs, tmp_path / "toy.pt", about=ABOUT | {"data": "other"})
    (tmp_path / "text.pt").write_text("weights")
    with pytest.raises(RequestError, match="no checkpoint of a training"):
        run(songs, tmp_path / "text.pt")
    with pytest.raises(RequestError, match="wants a batch of 2 or more"):
        run(songs, tmp_path / "one.pt", objective="contrastive", rows=range(8, 9))
    with pytest.raises(EncoreError, match="loss became nan"):
        run(songs, tmp_path / "nan.pt", Training(batch=8, learning_rate=1e30, max_norm=1e30))
    damaged = next(row for row, path in enumerate(songs.strings("path")) if path == "45.wav")
    with pytest.raises(EncoreError, match="hardly any can"):
        run(songs, tmp_path / "damaged.pt", rows=range(damaged, damaged + 1))
    assert not (tmp_path / "damaged.pt").exists()


def test_nothing_of_others_is_overwritten(songs: Catalog, tmp_path: Path) -> None:
    log = tmp_path / "songs.csv"
    log.write_text("file,artist\n")
    with pytest.raises(RequestError, match=r"songs\.csv is there, and is not the log"):
        run(songs, tmp_path / "songs")
    run(songs, tmp_path / "toy.pt")
    (tmp_path / "toy.pt.csv").write_text("file,artist\n")
    with pytest.raises(RequestError, match=r"toy\.pt\.csv is there, and is not the log"):
        run(songs, tmp_path / "toy.pt")
    (tmp_path / "a.pt.resume").write_text("a plan")
    with pytest.raises(RequestError, match=r"a\.pt\.resume is there and is no checkpoint"):
        run(songs, tmp_path / "a.pt")
    for pipe in ("pipe", "b.pt.csv", "b.pt.resume"):
        os.mkfifo(tmp_path / pipe)
        with pytest.raises(RequestError, match="is no regular file"):
            run(songs, tmp_path / pipe.removesuffix(".csv").removesuffix(".resume"))
        (tmp_path / pipe).unlink()
    for folder in (tmp_path, Path("/"), Path("")):
        with pytest.raises(RequestError, match="is no name of a file"):
            run(songs, folder)
    assert log.read_text() == "file,artist\n"
    assert (tmp_path / "a.pt.resume").read_text() == "a plan"
