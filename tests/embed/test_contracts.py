"""What every backbone and every data set promises, held for each that the registry finds."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pretty_midi
import pytest
import soundfile
import torch

from stages import registry
from stages.embed.backbones import Backbone
from stages.embed.datasets import Dataset
from stages.embed.encode import represent, representation_name
from stages.embed.inputs import Clip
from stages.embed.objectives import Labels
from store.errors import EncoreError, RequestError
from store.layout import Store, check_name
from store.schema import Catalog, CatalogInfo
from tests.embed.test_fma import song, write
from tests.embed.test_gtzan import gtzan  # noqa: F401 - a fixture
from tests.embed.test_hf import saved
from tests.embed.test_lakh import lakh  # noqa: F401
from tests.embed.test_lpd import lpd  # noqa: F401
from tests.embed.test_mtg import lists  # noqa: F401
from tests.embed.trees import midi
from tests.test_architecture import HEAVY

BACKBONES = registry.names("backbone")
DATASETS = registry.names("dataset")
INFO = CatalogInfo(
    name="own", title="own", version="own", licence="-", citation="-", backbone="features", features=("a", "b", "c")
)


def settings_of(name: str, folder: Path) -> dict[str, Any]:
    """Settings under which a backbone is small, or there at all; by default it is taken as it is."""
    if name == "hf":
        saved("wav2vec2", folder / "model")
        return {**registry.find("backbone", name).settings_of(folder / "model"), "window_s": 1.0, "max_windows": 2}
    return {"musicbert": {"size": "tiny", "notes": 64}}.get(name, {})


def made(kind: type[Backbone], config: Any) -> Backbone:
    torch.manual_seed(0)
    return kind(kind.resolve(config, INFO))


@pytest.fixture(scope="module", params=BACKBONES)
def backbone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    kind = registry.find("backbone", request.param)
    built = made(kind, kind.Config(**settings_of(request.param, tmp_path_factory.mktemp("backbone"))))
    built.to(torch.device("cpu"))
    return built


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Clip]]:
    """Three clips of each kind, none like another."""
    folder = tmp_path_factory.mktemp("songs")
    rng = np.random.default_rng(0)
    rows = ["a,b,c"]
    for i in range(3):
        time = np.arange(4 * 16_000) / 16_000
        tone = np.sin(2 * np.pi * 220 * (i + 1) * time) * (1 + np.sin(12 * (i + 1) * time))
        soundfile.write(folder / f"{i}.wav", 0.2 * tone + 0.02 * rng.standard_normal(len(time)), 16_000)
        music = pretty_midi.PrettyMIDI()
        for program in (0, 33):
            part = pretty_midi.Instrument(program=program)
            starts = np.sort(rng.uniform(0, 30, 120))
            pitches = rng.integers(36 + 12 * i, 72 + 12 * i, 120)
            notes = zip(pitches.tolist(), starts.tolist(), strict=True)
            part.notes = [pretty_midi.Note(velocity=80, pitch=pitch, start=at, end=at + 0.4) for pitch, at in notes]
            music.instruments.append(part)
        music.write(str(folder / f"{i}.mid"))
        rows.append(",".join(map(str, rng.standard_normal(3).round(4))))
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    return {
        "audio": [Clip(clip_id=f"{i}", path=folder / f"{i}.wav") for i in range(3)],
        "midi": [Clip(clip_id=f"{i}", path=folder / f"{i}.mid") for i in range(3)],
        "features": [Clip(clip_id=f"{i}", path=folder / "table.csv", source_row=i) for i in range(3)],
    }


def test_a_backbone_says_what_it_is(backbone: Backbone) -> None:
    kind = type(backbone)
    assert backbone.NAME in BACKBONES
    for text in (kind.TITLE, kind.LICENSE, kind.CITATION):
        assert text.strip()
    assert kind.WEIGHTS is None or kind.WEIGHTS.strip()
    weights = sum(1 for _ in backbone.module.parameters()) if backbone.module is not None else 0
    assert (kind.WEIGHTS is None) == (weights == 0)
    assert dataclasses.is_dataclass(kind.Config)
    assert kind.Config.__dataclass_params__.frozen  # type: ignore[attr-defined]
    for revision in (kind.REVISION, backbone.input.REVISION):
        assert isinstance(revision, int)
        assert revision >= 1
    assert all(isinstance(n, int) and n > 0 for n in backbone.shape)


def test_its_numbers_are_as_declared_and_a_clips_own(backbone: Backbone, clips: dict[str, list[Clip]]) -> None:
    """Shape and dtype as declared, finite, the same again, and the same for a window alone as in any batch."""
    loaded = [backbone.input.load(clip) for clip in clips[backbone.input.KIND]]
    assert all(len(windows) >= 1 for windows in loaded)
    windows = torch.from_numpy(np.concatenate([windows[:1] for windows in loaded]))
    if backbone.module is not None:
        assert not any(module.training for module in backbone.module.modules())
        assert not any(parameter.requires_grad for parameter in backbone.module.parameters())
    with torch.inference_mode():
        together = backbone.encode(windows)
        assert together.shape == (3, *backbone.shape)
        assert torch.isfinite(together).all()
        assert torch.equal(backbone.encode(windows), together)
        scale = float(together.abs().max())
        assert scale > 0
        assert all(not torch.equal(together[i], together[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
        for rows in ([0], [1], [2], [2, 0], [1, 1, 2, 0]):
            torch.testing.assert_close(backbone.encode(windows[rows]), together[rows], atol=1e-5 * scale, rtol=0)
    values = together.double().numpy()
    assert np.abs(values.astype(backbone.dtype).astype(float) - values).max() <= 1e-3 * scale


def test_in_bf16_a_network_says_nearly_the_same_under_another_fingerprint(
    backbone: Backbone, clips: dict[str, list[Clip]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the two or three digits that bf16 has, through a network whose weights are drawn at random."""
    if type(backbone).WEIGHTS is None:
        pytest.skip(f"{backbone.NAME} has no network")
    loaded = [backbone.input.load(clip)[:2] for clip in clips[backbone.input.KIND]]
    windows = torch.from_numpy(np.concatenate(loaded))
    exact, name = represent(backbone, windows), representation_name(backbone, "weights")
    monkeypatch.setattr(backbone, "precision", "bf16")
    near = represent(backbone, windows).float()
    assert representation_name(backbone, "weights") != name
    assert not torch.equal(near, exact)
    assert float((near - exact).norm() / exact.norm()) < 2.5e-2


def test_it_can_be_trained_in_bf16(backbone: Backbone, clips: dict[str, list[Clip]]) -> None:
    """Each objective's loss is about that of 32 bits, and every gradient a number."""
    kind, loaded = type(backbone), [backbone.input.load(clip) for clip in clips[backbone.input.KIND][:2]]
    labels, carried = Labels(("a", "b"), np.eye(2, dtype=bool)), torch.eye(2)
    for name in backbone.objectives():
        objective = made(kind, backbone.config).objectives()[name](labels).eval()
        pair = torch.from_numpy(np.stack([np.resize(w, (objective.WINDOWS, *w.shape[1:])) for w in loaded]))
        losses = []
        for half in (False, True):
            torch.manual_seed(0)
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                losses.append(objective(pair, carried))
        exact, near = (float(loss.detach()) for loss in losses)
        assert abs(near - exact) < 0.05 * max(1.0, exact)
        losses[1].backward()
        assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in objective.parameters())


def candidates(hint: Any, value: Any) -> list[Any]:
    """Other values that a setting of this type may take."""
    if typing.get_origin(hint) is typing.Literal:
        return [choice for choice in typing.get_args(hint) if choice != value]
    if dataclasses.is_dataclass(value):
        return [changed for _, changed in variants(value)]
    if isinstance(value, str) and value.startswith("{"):
        told = json.loads(value)
        return [json.dumps({**told, key: not told[key]}) for key in told if isinstance(told[key], bool)]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 1, value - 1, value * 2, value / 2 if isinstance(value, float) else value // 2]
    return [("a",), ("b", "c")] if isinstance(value, tuple) else []


def variants(config: Any) -> Iterator[tuple[str, Any]]:
    """``config`` with one field changed, for each field and each other value that it takes."""
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        for other in candidates(hints[field.name], getattr(config, field.name)):
            try:
                yield field.name, dataclasses.replace(config, **{field.name: other})
            except RequestError:
                continue


def test_every_setting_is_part_of_the_fingerprint(backbone: Backbone) -> None:
    kind, config = type(backbone), backbone.config
    marks = {representation_name(backbone, None), representation_name(backbone, "weights")}
    assert representation_name(made(kind, config), None) in marks
    changed: dict[str, int] = {}
    for name, other in variants(config):
        if changed.get(name, 0) == 1:
            continue
        try:
            marks.add(representation_name(made(kind, other), None))
        except EncoreError:  # settings that do not go together
            continue
        changed[name] = 1
    assert set(changed) == {field.name for field in dataclasses.fields(config)}
    assert len(marks) == 2 + len(changed)


def own_songs(folder: Path) -> dict[str, Any]:
    for i in range(4):
        (folder / f"{i}.mid").write_bytes(midi(20.0 + i))
    rows = [f"{i}.mid,artist {i % 2},jig|reel,Tunes,{('train', 'test')[i % 2]}" for i in range(4)]
    (folder / "songs.csv").write_text("\n".join(["file,artist,labels,album,split", *rows]) + "\n")
    return {"table": "songs.csv", "name": "own"}


def own_features(folder: Path) -> dict[str, Any]:
    (folder / "t.csv").write_text("artist,labels,album,x,y\nA,rock,Hits,1,2\nB,jazz|rock,Hits,3,4\n,folk,,5,6\n")
    return {"table": "t.csv", "name": "own"}


def fma(folder: Path) -> dict[str, Any]:
    write(folder, *(song(i, artist__id=str(i % 2)) for i in range(2, 6)))
    return {}


# How a small tree in a data set's official layout is made: a fixture, or a function that gives its options.
TREES: dict[str, str | Callable[[Path], dict[str, Any]]] = {
    "demo": lambda folder: {"songs": 10},
    "folder": own_songs,
    "fma": fma,
    "gtzan": "gtzan",
    "lakh": "lakh",
    "lpd": "lpd",
    "mtg": "lists",
    "table": own_features,
}


@pytest.fixture(params=DATASETS)
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> Dataset:
    assert request.param in TREES, f"say in TREES how a small {request.param} is made"
    tree = TREES[request.param]
    options = tree(tmp_path) if callable(tree) else {}
    if isinstance(tree, str):
        request.getfixturevalue(tree)
    made: Dataset = registry.find("dataset", request.param)(data=tmp_path, **options)
    return made


def test_a_data_set_says_what_it_is(dataset: Dataset) -> None:
    kind = type(dataset)
    assert check_name(kind.NAME) in DATASETS
    for text in (kind.TITLE, kind.LICENSE, kind.CITATION, kind.FILES):
        assert text.strip()
    assert kind.BACKBONE in BACKBONES
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    for option in dataclasses.fields(kind):
        assert option.metadata["help"].strip()


def test_its_catalog_obeys_the_schema(dataset: Dataset, tmp_path: Path) -> None:
    catalog = dataset.catalog()
    info = catalog.info
    for text in (info.name, info.title, info.version, info.licence, info.citation):
        assert text.strip()
    assert info.backbone in BACKBONES
    assert info.synthetic == dataset.SYNTHETIC
    catalog.check()
    assert len(catalog) > 0
    assert not catalog.retired().any()
    assert Path(info.data_root or "").is_absolute()
    for row in catalog.table.to_pylist():
        texts = [value for value in row.values() if isinstance(value, str)] + (row["other_artist_ids"] or [])
        assert all(text == text.strip() and text for text in texts), row
        assert row["labels"]
        assert all(label.strip() for label in row["labels"])
        assert len(set(row["labels"])) == len(row["labels"])
        for path in filter(None, (row["path"], row["midi_path"])):
            assert not PurePosixPath(path).is_absolute()
            assert not {"..", ""} & set(path.split("/"))
        assert (row["start_s"] or 0) >= 0
        assert row["duration_s"] is None or row["duration_s"] > 0
        assert (row["source"] is None) == (row["source_row"] is None)  # files are marked when they are embedded
    _check_songs(catalog)


def _check_songs(catalog: Catalog) -> None:
    """What holds for a song is said alike by all of its clips."""
    songs: dict[str, tuple[Any, ...]] = {}
    whole = ("artist_id", "recording_id", "album_id", "labels", "path", "split_official")
    for row in catalog.table.to_pylist():
        said = tuple(row[name] for name in whole)
        assert songs.setdefault(row["song_id"], said) == said


def test_its_catalog_is_the_same_again_and_survives_the_store(dataset: Dataset, tmp_path: Path) -> None:
    catalog, again = dataset.catalog(), dataset.catalog()
    assert again.info == catalog.info
    assert again.table.equals(catalog.table)
    store = Store(tmp_path / "store")
    store.write_catalog(catalog)
    read = store.read_catalog(catalog.info.name)
    assert read.info == catalog.info
    assert read.table.equals(catalog.table)


def test_data_sets_import_nothing_heavy() -> None:
    """The command line imports all of them for its options; nothing they import may bring a heavy library along."""
    code = (
        "import sys; from stages import registry\n"
        "_, left_out = registry.load('dataset')\n"
        f"print(*left_out, *sorted(set(sys.modules) & set({HEAVY!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
