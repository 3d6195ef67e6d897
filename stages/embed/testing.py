"""The contracts of backbones and data sets as tests: subclass one beside the fixture that it needs.

    from stages.embed.testing import BackboneTests

    @pytest.fixture(scope="module")
    def backbone():
        return Loudness(Loudness.Config())

    class TestLoudness(BackboneTests):
        pass

This module needs pytest; nothing else of Encore imports it. For pytest's details of failed assertions, put
``pytest.register_assert_rewrite("stages.embed.testing")`` into ``conftest.py``.
"""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stages import registry
from stages.embed.backbones import Backbone
from stages.embed.choose import rebuild_config
from stages.embed.datasets import Dataset
from stages.embed.encode import representation_name
from stages.embed.inputs import Clip, Kind
from stages.embed.objectives import Labels
from stages.embed.represent import represent
from store.errors import ClipError, EncoreError, RequestError
from store.layout import Store, check_name
from store.schema import Catalog

CPU = torch.device("cpu")
_SONGS = 3
_SECONDS = 4
_RATE_HZ = 16_000
_BF16 = 2.5e-2  # how far two or three digits in each layer take a network with random weights from 32 bits


class BackboneTests:
    """What every backbone promises.

    The fixture ``backbone`` returns it, with settings under which a CPU runs it in seconds; weights do not matter.
    """

    @pytest.fixture(scope="class")
    @classmethod
    def clips(cls, tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, list[Clip]]:
        """Three synthetic clips of each kind, all different."""
        return synthetic_clips(tmp_path_factory.mktemp("clips"))

    @pytest.fixture
    def windows(self, backbone: Backbone, clips: dict[Kind, list[Clip]]) -> Tensor:
        """The first window of each clip: [3, ...]."""
        return first_windows(backbone, clips[backbone.input.KIND])

    @pytest.fixture
    def numbers(self, backbone: Backbone, windows: Tensor) -> Tensor:
        """What the backbone makes of them together: [3, *shape]."""
        backbone.to(CPU)
        return represent(backbone, windows)

    def test_it_describes_itself(self, backbone: Backbone) -> None:
        kind = type(backbone)
        assert check_name(kind.NAME)
        for text in (kind.TITLE, kind.LICENSE, kind.CITATION):
            assert text.strip()
        assert kind.WEIGHTS is None or kind.WEIGHTS.strip()
        has_weights = backbone.module is not None and any(True for _ in backbone.module.parameters())
        assert kind.WEIGHTS is not None or not has_weights
        for revision in (kind.REVISION, backbone.input.REVISION):
            assert isinstance(revision, int)
            assert revision >= 1
        assert all(isinstance(size, int) and size > 0 for size in backbone.shape)
        assert np.dtype(backbone.dtype).kind in "fiu"

    def test_its_settings_are_frozen_and_checked(self, backbone: Backbone) -> None:
        """Sizes and lengths below 0 are refused, as are numbers that are not finite and choices that do not exist."""
        kind, config = type(backbone), backbone.config
        with pytest.raises(TypeError):
            kind.Config(no_such_setting=1)
        assert dataclasses.is_dataclass(kind.Config)
        assert kind.Config.__dataclass_params__.frozen  # type: ignore[attr-defined]
        for name, values in _nonsense(config):
            for value in values:
                with pytest.raises(RequestError):
                    kind(dataclasses.replace(config, **{name: value}))

    def test_its_settings_come_back_from_a_manifest(self, backbone: Backbone) -> None:
        settings = json.loads(json.dumps({"backbone": backbone.NAME, "config": dataclasses.asdict(backbone.config)}))
        assert rebuild_config(type(backbone).Config, settings) == backbone.config

    def test_every_setting_is_part_of_the_fingerprint(self, backbone: Backbone) -> None:
        kind, config = type(backbone), backbone.config
        names = {representation_name(backbone, None), representation_name(backbone, "weights")}
        assert representation_name(kind(config), None) in names
        changed: set[str] = set()
        for field, other in _variants(config):
            if field in changed:
                continue
            try:
                with undrawn_weights():
                    names.add(representation_name(kind(other), None))
            except EncoreError:  # settings that exclude each other
                continue
            changed.add(field)
        assert changed == {field.name for field in dataclasses.fields(config)}
        assert len(names) == 2 + len(changed)

    def test_its_numbers_have_the_shape_and_type_that_it_declares(self, backbone: Backbone, numbers: Tensor) -> None:
        if backbone.module is not None:
            assert not any(module.training for module in backbone.module.modules())
            assert not any(parameter.requires_grad for parameter in backbone.module.parameters())
        assert numbers.shape == (_SONGS, *backbone.shape)
        assert torch.isfinite(numbers).all()
        scale = float(numbers.abs().max())
        assert scale > 0
        assert all(not torch.equal(numbers[i], numbers[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
        values = numbers.double().numpy()
        assert np.abs(values.astype(backbone.dtype).astype(float) - values).max() <= 1e-3 * scale

    def test_a_windows_numbers_are_the_same_again_and_in_any_batch(
        self, backbone: Backbone, windows: Tensor, numbers: Tensor
    ) -> None:
        backbone.to(CPU)
        assert torch.equal(represent(backbone, windows), numbers)
        tolerance = 1e-5 * float(numbers.abs().max())
        for rows in ([1], [2, 1, 1, 0]):
            torch.testing.assert_close(represent(backbone, windows[rows]), numbers[rows], atol=tolerance, rtol=0)

    def test_an_empty_batch_has_no_representations(self, backbone: Backbone, windows: Tensor) -> None:
        backbone.to(CPU)
        assert represent(backbone, windows[:0]).shape == (0, *backbone.shape)

    def test_files_that_hold_no_song_are_refused(
        self, backbone: Backbone, clips: dict[Kind, list[Clip]], tmp_path: Path
    ) -> None:
        """With a `ClipError`, so that a run goes on without them."""
        clip = clips[backbone.input.KIND][0]
        paths = [tmp_path / f"{name}{clip.path.suffix}" for name in ("absent", "empty", "noise")]
        paths[1].touch()
        paths[2].write_bytes(np.random.default_rng(0).bytes(10_000))
        wrong = [dataclasses.replace(clip, path=path) for path in paths]
        if backbone.input.KIND == "features":  # a table is checked as a whole, before its rows are read
            wrong = [wrong[0], *(dataclasses.replace(clip, source_row=row) for row in (None, -1, _SONGS))]
        for other in wrong:
            with pytest.raises(ClipError):
                backbone.input.load(other)

    def test_bf16_is_refused_on_a_cpu(self, backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(backbone, "precision", "bf16")
        with pytest.raises(RequestError, match="needs a GPU"):
            backbone.to(CPU)

    def test_in_bf16_a_network_gives_nearly_the_same_under_another_fingerprint(
        self, backbone: Backbone, windows: Tensor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        device = _gpu(backbone)
        backbone.to(device)
        exact, name = represent(backbone, windows.to(device)).float(), representation_name(backbone, "weights")
        monkeypatch.setattr(backbone, "precision", "bf16")
        near = represent(backbone, windows.to(device)).float()
        backbone.to(device)
        assert representation_name(backbone, "weights") != name
        assert not torch.equal(near, exact)
        assert float((near - exact).norm() / exact.norm()) < _BF16

    def test_it_can_be_trained(self, backbone: Backbone, clips: dict[Kind, list[Clip]]) -> None:
        """By each of its objectives: the loss is a number, and so is every gradient."""
        for objective, pairs in _examples(backbone, clips):
            loss = objective(pairs, torch.eye(2))
            loss.backward()
            assert torch.isfinite(loss)
            gradients = [parameter.grad for parameter in objective.parameters() if parameter.grad is not None]
            assert gradients
            assert all(torch.isfinite(gradient).all() for gradient in gradients)

    def test_it_can_be_trained_in_bf16(self, backbone: Backbone, clips: dict[Kind, list[Clip]]) -> None:
        device = _gpu(backbone)
        for objective, pairs in _examples(backbone, clips):
            objective.to(device).eval()
            losses = []
            for bf16 in (False, True):
                torch.manual_seed(0)
                with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    losses.append(objective(pairs.to(device), torch.eye(2, device=device)))
            exact, near = (float(loss.detach()) for loss in losses)
            assert abs(near - exact) < 0.05 * max(1.0, exact)
            losses[1].backward()
            assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in objective.parameters())


class DatasetTests:
    """What every data set promises.

    The fixture ``dataset`` returns it, for a small folder in its official layout.
    """

    def test_it_describes_itself(self, dataset: Dataset) -> None:
        kind = type(dataset)
        assert check_name(kind.NAME)
        for text in (kind.TITLE, kind.LICENSE, kind.CITATION, kind.FILES):
            assert text.strip()
        assert kind.BACKBONE in registry.names("backbone")
        assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
        for option in dataclasses.fields(kind):
            assert option.metadata["help"].strip()

    def test_its_catalog_obeys_the_schema(self, dataset: Dataset) -> None:
        catalog = dataset.catalog()
        info = catalog.info
        for text in (info.name, info.title, info.version, info.licence, info.citation):
            assert text.strip()
        assert info.backbone in registry.names("backbone")
        assert info.synthetic == dataset.SYNTHETIC
        catalog.check()
        assert len(catalog) > 0
        assert not catalog.retired().any()
        for row in catalog.table.to_pylist():
            _check_row(row)
        _check_songs(catalog)

    def test_its_catalog_is_the_same_again_and_survives_the_store(self, dataset: Dataset, tmp_path: Path) -> None:
        catalog, again = dataset.catalog(), dataset.catalog()
        assert again.info == catalog.info
        assert again.table.equals(catalog.table)
        store = Store(tmp_path / "store")
        store.write_catalog(catalog)
        copy = store.read_catalog(catalog.info.name)
        assert copy.info == catalog.info
        assert copy.table.equals(catalog.table)


@contextmanager
def undrawn_weights() -> Iterator[None]:
    """Inside, networks are built with whatever lies in memory, since to draw weights takes most of the time."""
    with pytest.MonkeyPatch.context() as patched:
        # What normal_, uniform_ and their kin call, which other libraries may have imported by name.
        drawn = ("_no_grad_normal_", "_no_grad_trunc_normal_", "_no_grad_uniform_")
        for name in (*drawn, "kaiming_normal_", "kaiming_uniform_"):
            patched.setattr(torch.nn.init, name, lambda tensor, *_args, **_settings: tensor)
        yield


def first_windows(backbone: Backbone, clips: Sequence[Clip]) -> Tensor:
    """The first window of each clip: [clips, ...]."""
    arrays = [backbone.input.load(clip) for clip in clips]
    assert all(len(array) >= 1 for array in arrays)
    return torch.from_numpy(np.concatenate([array[:1] for array in arrays]))


def synthetic_clips(folder: Path) -> dict[Kind, list[Clip]]:
    """Three clips of each kind, written into ``folder``: tones in noise, random notes, a table of random numbers."""
    import soundfile
    from pretty_midi import Instrument, Note, PrettyMIDI

    rng = np.random.default_rng(0)
    lines = ["a,b,c"]
    for i in range(_SONGS):
        time_s = np.arange(_SECONDS * _RATE_HZ) / _RATE_HZ
        tone = np.sin(2 * np.pi * 220 * (i + 1) * time_s) * (1 + np.sin(12 * (i + 1) * time_s))
        soundfile.write(folder / f"{i}.wav", 0.2 * tone + 0.02 * rng.standard_normal(len(time_s)), _RATE_HZ)
        music = PrettyMIDI()
        for program in (0, 33):
            part = Instrument(program=program)
            starts_s = np.sort(rng.uniform(0, 30, 120)).tolist()
            pitches = rng.integers(36 + 12 * i, 72 + 12 * i, 120).tolist()
            notes = zip(pitches, starts_s, strict=True)
            part.notes = [Note(velocity=80, pitch=pitch, start=start, end=start + 0.4) for pitch, start in notes]
            music.instruments.append(part)
        music.write(str(folder / f"{i}.mid"))
        lines.append(",".join(map(str, rng.standard_normal(3).round(4))))
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return {
        "audio": [Clip(clip_id=f"{i}", path=folder / f"{i}.wav") for i in range(_SONGS)],
        "midi": [Clip(clip_id=f"{i}", path=folder / f"{i}.mid") for i in range(_SONGS)],
        "features": [Clip(clip_id=f"{i}", path=folder / "table.csv", source_row=i) for i in range(_SONGS)],
    }


def _gpu(backbone: Backbone) -> torch.device:
    if type(backbone).WEIGHTS is None:
        pytest.skip(f"{backbone.NAME} has no network")
    if not torch.cuda.is_available():
        pytest.skip("no GPU, and bf16 runs on no CPU")
    return torch.device("cuda")


def _examples(backbone: Backbone, clips: dict[Kind, list[Clip]]) -> Iterator[tuple[Any, Tensor]]:
    """Each objective over a network of its own, and two examples for it: [2, windows, ...]."""
    arrays = [backbone.input.load(clip) for clip in clips[backbone.input.KIND][:2]]
    labels = Labels(("a", "b"), np.eye(2, dtype=bool))
    for name in backbone.objectives():
        torch.manual_seed(0)
        objective = type(backbone)(backbone.config).objectives()[name](labels)
        pairs = np.stack([np.resize(array, (objective.WINDOWS, *array.shape[1:])) for array in arrays])
        yield objective, torch.from_numpy(pairs)


def _nonsense(config: Any) -> Iterator[tuple[str, list[Any]]]:
    """For each setting that is a number or a choice, values that no backbone can use."""
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if typing.get_origin(hints[field.name]) is typing.Literal:
            yield field.name, ["no such choice"]
        elif isinstance(value, float):
            yield field.name, [-1.0, math.nan, math.inf]
        elif isinstance(value, int) and not isinstance(value, bool):
            yield field.name, [-1]


def _variants(config: Any) -> Iterator[tuple[str, Any]]:
    """``config`` with one field changed, for each field and each other value that it accepts."""
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        for value in _other_values(hints[field.name], getattr(config, field.name)):
            try:
                yield field.name, dataclasses.replace(config, **{field.name: value})
            except RequestError:
                continue


def _other_values(hint: Any, value: Any) -> list[Any]:
    """Other values that a setting of this type may accept."""
    if typing.get_origin(hint) is typing.Literal:
        return [choice for choice in typing.get_args(hint) if choice != value]
    if dataclasses.is_dataclass(value):
        return [other for _, other in _variants(value)]
    if isinstance(value, str) and value.startswith("{"):
        return [json.dumps(fields) for fields in _changed(json.loads(value))]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 1, value - 1, value * 2, value / 2 if isinstance(value, float) else value // 2]
    return [("a",), ("b", "c")] if isinstance(value, tuple) else []


def _changed(fields: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """``fields`` of JSON with one flag or fraction changed, for each in any depth."""
    for key, value in fields.items():
        if isinstance(value, bool):
            yield {**fields, key: not value}
        elif isinstance(value, float) and value:
            yield {**fields, key: value / 2}
        elif isinstance(value, dict):
            yield from ({**fields, key: inner} for inner in _changed(value))


def _check_row(row: dict[str, Any]) -> None:
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
    assert row["source_row"] is None or row["source"] is not None  # files may be marked when they are embedded


def _check_songs(catalog: Catalog) -> None:
    """Assert that all clips of a song agree in what belongs to the song."""
    songs: dict[str, tuple[Any, ...]] = {}
    columns = ("artist_id", "recording_id", "album_id", "labels", "path", "split_official")
    for row in catalog.table.to_pylist():
        song = tuple(row[name] for name in columns)
        assert songs.setdefault(row["song_id"], song) == song
