"""That the measurements which want a machine of their own run at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stages.embed.backbones import PRECISIONS
from tests.bench import __main__ as bench
from tests.bench import gpu, library, networks
from tests.bench.heads import collection

CPU = torch.device("cpu")


@pytest.mark.slow
def test_the_gpus_encoding_runs_on_any_device() -> None:
    small = {"musicbert": {"size": "tiny", "notes": 64}, "cola": {"size": "tiny", "max_segments": 2}}
    entries = gpu.encoding(CPU, count=2, times=1, size=2, settings=small)
    assert set(entries) == {f"gpu-{name}-{PRECISIONS[0]}" for name in gpu.BACKBONES}
    assert all(line["ours"] > 0 and "busy" in line["note"] for line in entries.values())


def test_the_gpus_heads_run_on_any_device() -> None:
    entries = gpu.heads(CPU, collection(clips=300, dim=8, artists=20), epochs=2, side=64)
    assert set(entries) == {"gpu-modes", "gpu-rate-16", "gpu-rate-512"}
    assert all(mode in entries["gpu-modes"]["note"] for mode in gpu.MODES)


def test_a_network_beside_encode_and_a_library_scanned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "REPEATS", 1)
    line = networks.network("pianoroll-cnn", tmp_path, least_s=0.001)
    assert line["ours"] > 0
    assert line["peer"] > 0
    assert {"mert", "muq", "clap", "fcn"} < set(networks.names())
    assert not {"mfcc", "pianoroll", "effnet"} & set(networks.names())
    pytest.importorskip("mutagen")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(library, "DIFFERENT", 2)
    assert set(library.looks(tmp_path, 40)) == {"library-first", "library-again"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_what_cannot_be_measured_is_left_out_and_named(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(str(tmp_path))
    assert bench.main(["gpu"]) == 0
    assert "gpu is left out: it wants a GPU" in capsys.readouterr().err
