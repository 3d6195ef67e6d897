"""Checkpoints that belong elsewhere: the message names the first key that differs and the backbone that it fits."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from stages import registry
from stages.embed.backbones import Backbone
from stages.embed.choose import find_backbone, load_weights, make_backbone
from stages.embed.testing import undrawn_weights
from store.errors import RequestError
from store.schema import CatalogInfo

# Each one's first key is missing in its predecessor, or has another shape there.
TRAINED = (
    "cola",
    "fcn",
    "mfcc-cnn",
    "fcn4",
    "mixcnn",
    "musicbert",
    "musicnn",
    "pianoroll-cnn",
    "cnn1d",
    "samplecnn",
    "passt",
)
INFO = CatalogInfo(name="x", title="", version="1", licence="", citation="", backbone="fcn", data_root=".")


def build(name: str, **settings: Any) -> Backbone:
    kind = registry.find("backbone", name)
    backbone: Backbone = kind(kind.Config(**settings))
    return backbone


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    """The networks that can be small are so unasked: whose a checkpoint is, is told by trying one after another."""
    with pytest.MonkeyPatch.context() as patched:
        for name in ("cola", "musicbert", "passt"):
            kind = registry.find("backbone", name)
            patched.setattr(kind, "Config", partial(kind.Config, size="tiny"))
        yield


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The bare weights of each backbone, as anyone may save them."""
    folder = tmp_path_factory.mktemp("weights")
    paths = {name: folder / f"{name}.pt" for name in TRAINED}
    for name, path in paths.items():
        torch.save(build(name).module.state_dict(), path)
    return paths


def test_every_backbone_with_checkpoint_files_stands_here() -> None:
    others = {name for name in registry.names("backbone") if registry.find("backbone", name).WEIGHTS is None}
    # Published weights: folders, or files that no training here writes.
    published = {"clamp3", "clap", "effnet", "encodec", "hf", "maest", "mert", "mert2", "muq", "music2vec", "musicfm"}
    assert set(registry.names("backbone")) - others - published == set(TRAINED)


@pytest.mark.parametrize(("owner", "other"), [*itertools.pairwise([*TRAINED, TRAINED[0]])])
def test_another_backbones_checkpoint(
    checkpoints: dict[str, Path], owner: str, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "names", lambda _kind: sorted(TRAINED))  # networks of published weights are large
    backbone = build(other)
    assert backbone.module is not None
    before = {key: value.clone() for key, value in backbone.module.state_dict().items()}
    first = next(iter(before))
    message = rf"{owner}\.pt: '{first}' (is missing|has shape).*\. {owner} reads it: --backbone {owner}$"
    with pytest.raises(RequestError, match=message):
        load_weights(backbone, checkpoints[owner])
    assert all(torch.equal(before[key], value) for key, value in backbone.module.state_dict().items())


@pytest.mark.parametrize("name", TRAINED)
def test_wrong_shapes_and_foreign_names(tmp_path: Path, name: str) -> None:
    path, backbone = tmp_path / "w.pt", build(name)
    assert backbone.module is not None
    state = backbone.module.state_dict()
    weights = [key for key, value in state.items() if value.dim() > 1]
    middle = weights[len(weights) // 2]
    torch.save({**state, middle: state[middle].flatten()[:-1]}, path)
    with pytest.raises(RequestError, match=rf"w\.pt: '{middle}' has shape \(\d+,\) and should have \(\d+, [\d, ]+\)"):
        backbone.load(path)
    torch.save({key: value for key, value in state.items() if key != middle}, path)
    with pytest.raises(RequestError, match=rf"w\.pt: '{middle}' is missing"):
        backbone.load(path)


def test_a_checkpoint_of_nobody_is_told_by_its_first_key(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(3, 4).state_dict(), tmp_path / "w.pt")
    nobody = r"w\.pt: 'spec\.\S+' is missing; give a checkpoint of [^.]*layout$"
    with undrawn_weights(), pytest.raises(RequestError, match=nobody):
        load_weights(build("fcn"), tmp_path / "w.pt")


def test_a_checkpoint_that_says_whose_it_is(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    state = torch.load(checkpoints["fcn"], weights_only=True)
    torch.save({"weights": state, "output": {}, "about": {"backbone": "fcn", "settings": {}}}, tmp_path / "w.pt")
    with pytest.raises(RequestError, match="holds weights of fcn, not of musicnn"):
        make_backbone(find_backbone("musicnn", str(tmp_path / "w.pt")), {}, INFO)
