"""Training in two processes: the weights of one process, and the first process alone writes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from stages.embed.objectives import Training
from stages.embed.weights import read_state_dict
from store import files
from store.schema import Catalog
from tests.embed.test_train import Bands, Toy, run, songs, tones  # noqa: F401 - songs is a fixture
from tests.processes import together

SETTINGS = Training(epochs=3, batch=8, learning_rate=0.02)
SHARED = "import sys\nfrom tests.embed.test_distributed import main\nmain(sys.argv[1:])"  # what each process does


class Even(Toy):
    """Without dropout and batch normalisation: nothing that a share of the batch would change."""

    def __init__(self, config: object = None) -> None:
        super().__init__(config)
        self.module = nn.Sequential(Bands(), nn.Linear(16, 8), nn.LayerNorm(8))


def test_two_processes_make_the_weights_of_one(songs: Catalog, tmp_path: Path) -> None:  # noqa: F811
    alone, expected = run(songs, tmp_path / "alone.pt", SETTINGS, kind=Even)
    code, _, err = together(SHARED, songs.info.data_root, tmp_path / "both.pt")
    assert code == 0, err
    assert "Traceback" not in err
    weights = read_state_dict(tmp_path / "both.pt")
    assert weights.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(weights[key], value, atol=1e-5, rtol=1e-5)
    checkpoint = torch.load(tmp_path / "both.pt", weights_only=True)
    for ours, theirs in zip(checkpoint["log"], alone.log, strict=True):
        assert all(abs(ours[name] - theirs[name]) < 1e-4 for name in ours)
    assert {path.name for path in tmp_path.glob("wrote-*")} == {"wrote-0"}
    assert {path.name for path in tmp_path.glob("both*")} == {"both.pt", "both.pt.csv"}


def main(arguments: Sequence[str]) -> None:
    """One of the processes: train on the same tones, and note who writes."""
    torch.set_num_threads(1)
    folder, out = map(Path, arguments)
    replace = files._replace

    def noted(path: Path, data: bytes, durable: bool) -> None:
        out.with_name(f"wrote-{os.environ['RANK']}").touch()
        replace(path, data, durable)

    files._replace = noted
    run(tones(folder), out, SETTINGS, kind=Even)
