"""The licence of a backbone's weights, wherever what they gave is used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from stages import registry
from tests.embed.test_conformers import published_musicfm
from tests.pipeline.conftest import Encore


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    folder = tmp_path / "songs"
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = ["file,artist,labels"]
    for song in range(12):
        soundfile.write(folder / f"{song}.wav", 0.1 * rng.standard_normal(8000), 8000)
        lines.append(f"{song}.wav,artist {song % 3},{['jazz', 'rock'][song % 2]}")
    (folder / "songs.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_that_of_a_model_of_the_hub_of_which_a_layer_is_read(
    encore: Encore, songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = published_musicfm(tmp_path / "models" / "4513b38")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_args, **_named: str(weights.parent))
    table = ("--data", songs, "--table", songs / "songs.csv")
    words = ("--backbone", "musicfm:msd", "--set", "window_s=0.5", "--set", "min_s=0.1", "--workers", 0)
    told = encore("embed", "folder", "--name", "mine", *table, *words).err
    assert "licence of the weights: MIT (the published weights)" in told
    text = encore("store", "show", "mine").out
    assert "licence of the weights: MIT (the published weights)" in text
    (entry,) = encore("store", "show", "mine", "--json").json["representations"]
    assert entry["weights"] == str(weights)
    soundfile.write(tmp_path / "new.wav", np.sin(np.arange(8000) / 9), 8000)
    ask = ("predict", tmp_path / "new.wav", "--head", "mine/song")
    for layer in ("1", "mean", "mix"):
        encore("head", "mine", "--mode", "song", "--layer", layer, "--set", "epochs=1", "--set", "steps=1")
        head = encore(*ask, "--json").json["head"]
        assert head["weights_licence"] == "MIT (the published weights)"
        assert head["representation"].endswith(f"@{layer}")
    assert "licence of the backbone's weights: MIT (the published weights)" in encore(*ask).out


def test_weights_of_ones_own_are_ones_own(encore: Encore, songs: Path, tmp_path: Path) -> None:
    kind = registry.find("backbone", "cnn1d")
    state = kind(kind.Config()).module.state_dict()
    torch.save({"weights": state, "about": {"backbone": "cnn1d"}}, tmp_path / "own.pt")
    table = ("--data", songs, "--table", songs / "songs.csv", "--backbone", "cnn1d", "--set", "min_s=0.1")
    told = encore("embed", "folder", "--name", "mine", *table, "--weights", tmp_path / "own.pt").err
    assert "licence of the weights: your own: encore train made them" in told
    assert "your own: encore train made them" in encore("store", "show", "mine").out
    random = encore("embed", "folder", "--name", "other", *table, "--weights", "random")
    assert "licence" not in random.err
    (entry,) = encore("store", "show", "other", "--json").json["representations"]
    assert (entry["weights"], entry["licence"]) == (None, None)
