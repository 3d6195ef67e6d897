"""The contracts of backbones and data sets, for each one that the registry finds."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stages import registry
from stages.embed.backbones import Backbone
from stages.embed.datasets import Dataset
from stages.embed.inputs import Clip, Kind
from stages.embed.represent import represent
from stages.embed.testing import CPU, BackboneTests, DatasetTests, first_windows, synthetic_clips
from store.schema import CatalogInfo
from tests.embed.test_clap import published as published_clap
from tests.embed.test_conformers import KINDS as CONFORMERS
from tests.embed.test_effnet import published as published_effnet
from tests.embed.test_encodec import published as published_encodec
from tests.embed.test_fma import song, write
from tests.embed.test_gtzan import gtzan  # noqa: F401 - a fixture
from tests.embed.test_hf import saved
from tests.embed.test_lakh import lakh  # noqa: F401
from tests.embed.test_lpd import lpd  # noqa: F401
from tests.embed.test_maest import published as published_maest
from tests.embed.test_mert import published
from tests.embed.test_mert2 import published as published_mert2
from tests.embed.test_mtg import lists  # noqa: F401
from tests.embed.test_music2vec import published as published_music2vec
from tests.embed.trees import midi
from tests.test_architecture import WAIT

BACKBONES = registry.names("backbone")
DATASETS = registry.names("dataset")
INFO = CatalogInfo(
    name="own", title="own", version="own", licence="-", citation="-", backbone="features", features=("a", "b", "c")
)


def settings_of(name: str, folder: Path) -> dict[str, Any]:
    """Settings under which a backbone is small, or there at all; by default it is taken as it is."""
    if name == "clap":
        published_clap(folder / "model")
        return {**registry.find("backbone", name).settings_of(folder / "model"), "window_s": 2.0, "max_windows": 2}
    if name == "encodec":
        published_encodec(folder / "model")
        return {**registry.find("backbone", name).settings_of(folder / "model"), "window_s": 0.5, "max_windows": 2}
    if name in CONFORMERS:
        kind, publish = CONFORMERS[name]
        return {**kind.settings_of(publish(folder / "model")), "window_s": 1.0, "max_windows": 2}
    if name == "mert2":
        settings = registry.find("backbone", name).settings_of(published_mert2(folder / "model"))
        return {**settings, "window_s": 1.0, "max_windows": 2}
    if name == "music2vec":
        published_music2vec(folder / "model")
        return {**registry.find("backbone", name).settings_of(folder / "model"), "window_s": 1.0, "max_windows": 2}
    if name == "hf":
        saved("wav2vec2", folder / "model")
        return {**registry.find("backbone", name).settings_of(folder / "model"), "window_s": 1.0, "max_windows": 2}
    if name == "maest":
        published_maest(folder / "model")
        return {**registry.find("backbone", name).settings_of(folder / "model"), "max_windows": 2}
    if name == "mert":
        published(folder / "model")
        return {**registry.find("backbone", name).settings_of(folder / "model"), "window_s": 1.0, "max_windows": 2}
    return {"musicbert": {"size": "tiny", "notes": 64}, "clamp3": {"size": "tiny"}, "passt": {"size": "tiny"}}.get(
        name, {}
    )


@pytest.fixture(scope="module", params=BACKBONES)
def backbone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    kind: type[Backbone] = registry.find("backbone", request.param)
    config = kind.Config(**settings_of(request.param, tmp_path_factory.mktemp("backbone")))
    torch.manual_seed(0)
    backbone = kind(kind.resolve(config, INFO))
    if backbone.NAME == "effnet":  # which is its file
        backbone.load(published_effnet(tmp_path_factory.mktemp("backbone") / "effnet.onnx"))
    return backbone


class TestBackbones(BackboneTests):
    """What two tests need of a backbone is loaded and encoded once."""

    @pytest.fixture(scope="module")
    @classmethod
    def songs(cls, tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, list[Clip]]:
        return synthetic_clips(tmp_path_factory.mktemp("songs"))

    @pytest.fixture(scope="module")
    @classmethod
    def windows(cls, backbone: Backbone, songs: dict[Kind, list[Clip]]) -> Tensor:
        return first_windows(backbone, songs[backbone.input.KIND])

    @pytest.fixture(scope="module")
    @classmethod
    def numbers(cls, backbone: Backbone, windows: Tensor) -> Tensor:
        backbone.to(CPU)
        return represent(backbone, windows)


def own_songs(folder: Path) -> dict[str, Any]:
    for i in range(4):
        (folder / f"{i}.mid").write_bytes(midi(20.0 + i))
    rows = [f"{i}.mid,artist {i % 2},jig|reel,Tunes,{('train', 'test')[i % 2]}" for i in range(4)]
    (folder / "songs.csv").write_text("\n".join(["file,artist,labels,album,split", *rows]) + "\n")
    return {"table": "songs.csv", "name": "own"}


def tagged_songs(folder: Path) -> dict[str, Any]:
    import mutagen
    import numpy as np
    import soundfile

    for i in range(3):
        soundfile.write(folder / f"{i}.flac", np.random.default_rng(i).standard_normal(4_000) / 10, 8_000)
        file = mutagen.File(folder / f"{i}.flac")
        file.update({"artist": "A; B", "genre": ["Rock/Pop", "Jazz"], "album": "Hits", "date": "1999"})
        file.save()
    return {"name": "own"}


def own_features(folder: Path) -> dict[str, Any]:
    (folder / "t.csv").write_text("artist,labels,album,x,y\nA,rock,Hits,1,2\nB,jazz|rock,Hits,3,4\n,folk,,5,6\n")
    return {"table": "t.csv", "name": "own"}


@pytest.fixture(scope="module")
def demo_songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "songs"
    registry.find("dataset", "demo")(data=folder, songs=10).catalog()
    return folder


@pytest.fixture
def demo(demo_songs: Path, tmp_path: Path) -> dict[str, Any]:
    """Songs that were made before are found again; `tests.embed.test_demo` makes them anew."""
    shutil.copytree(demo_songs, tmp_path, dirs_exist_ok=True)
    return {"songs": 10}


def fma(folder: Path) -> dict[str, Any]:
    write(folder, *(song(i, artist__id=str(i % 2)) for i in range(2, 6)))
    return {}


# How a small tree in a data set's official layout is made: a fixture or a function, which may give its options.
TREES: dict[str, str | Callable[[Path], dict[str, Any]]] = {
    "demo": "demo",
    "folder": own_songs,
    "fma": fma,
    "gtzan": "gtzan",
    "lakh": "lakh",
    "library": tagged_songs,
    "lpd": "lpd",
    "mtg": "lists",
    "table": own_features,
}


@pytest.fixture(params=DATASETS)
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> Dataset:
    assert request.param in TREES, f"say in TREES how a small {request.param} is made"
    tree = TREES[request.param]
    made = tree(tmp_path) if callable(tree) else request.getfixturevalue(tree)
    options = made if isinstance(made, dict) else {}
    collection: Dataset = registry.find("dataset", request.param)(data=tmp_path, **options)
    return collection


class TestDatasets(DatasetTests):
    def test_it_knows_where_its_files_lie(self, dataset: Dataset) -> None:
        assert Path(dataset.catalog().info.data_root or "").is_absolute()


def test_data_sets_import_nothing_heavy() -> None:
    """The command line imports all of them for its options; nothing they import may bring a heavy library along."""
    code = (
        "import sys; from stages import registry\n"
        "_, left_out = registry.load('dataset')\n"
        f"print(*left_out, *sorted(set(sys.modules) & set({WAIT!r})))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == ""
