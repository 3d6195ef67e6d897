"""Rows of ready-made features, from a table to a representation."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from stages.embed.backbones.features import Features
from stages.embed.datasets.table import FeatureTable
from stages.embed.inputs import Clip
from stages.embed.inputs import features as module
from stages.embed.inputs.features import FeatureRows, FeaturesInput
from stages.embed.loading import ClipTable
from store.errors import ClipError, RequestError
from store.schema import CatalogInfo

TEXT = "a,b,note\n1,2.5,x\n-3e-2,,y\n4,inf,z\n1e39,1,w\n 7 ,+8,\n"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "features.csv"
    path.write_text(TEXT)
    return path


def clip(path: Path, row: int | None) -> Clip:
    return Clip(clip_id=f"row-{row}", path=path, source_row=row)


def test_a_row_is_one_window_of_single_precision(table: Path) -> None:
    loaded = FeaturesInput(columns=("b", "a")).load(clip(table, 0))
    assert loaded.dtype == np.float32
    assert loaded.tolist() == [[2.5, 1.0]]
    assert FeaturesInput(columns=("a", "b")).load(clip(table, 4)).tolist() == [[7.0, 8.0]]


@pytest.mark.parametrize(
    ("row", "kind", "words"),
    [(1, "not-finite", "in b"), (2, "not-finite", "in b"), (3, "not-finite", "in a"), (5, "missing", "no row 5")],
)
def test_a_row_that_cannot_be_used_is_a_failure_of_its_own(table: Path, row: int, kind: str, words: str) -> None:
    with pytest.raises(ClipError, match=words) as caught:
        FeaturesInput(columns=("a", "b")).load(clip(table, row))
    assert caught.value.kind == kind


def test_many_at_once_are_the_same_as_one_by_one(table: Path, tmp_path: Path) -> None:
    reader = FeaturesInput(columns=("a", "b"))
    gone = clip(tmp_path / "gone.csv", 0)
    clips = [clip(table, 4), clip(table, 9), gone, clip(table, 1), clip(table, 0), clip(table, None)]
    rows, failures = reader.load_many(clips)
    assert rows.tolist() == [[7.0, 8.0], [1.0, 2.5]]
    assert [(i, error.kind) for i, error in failures] == [
        (1, "missing"),
        (2, "missing"),
        (3, "not-finite"),
        (5, "missing"),
    ]
    assert np.array_equal(np.concatenate([reader.load(clips[i]) for i in (0, 4)]), rows)
    for i, error in failures:
        with pytest.raises(ClipError) as caught:
            reader.load(clips[i])
        assert str(caught.value) == str(error)


def test_a_table_that_changed_is_read_again(table: Path) -> None:
    reader = FeaturesInput(columns=("a",))
    assert reader.load(clip(table, 0)).tolist() == [[1.0]]
    table.write_text(TEXT.replace("1,2.5", "9,2.5"))
    os.utime(table, ns=(1, 1))
    assert reader.load(clip(table, 0)).tolist() == [[9.0]]


def test_unknown_columns_and_text_are_refused(table: Path) -> None:
    with pytest.raises(RequestError, match=r"unknown column .* 'c'"):
        FeatureRows(table, ["c"])
    with pytest.raises(RequestError, match="line 2: note is 'x'"):
        FeatureRows(table, ["note"])


def test_large_hdf5_blocks_are_read_row_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "features.h5"
    numbers = np.random.default_rng(0).normal(size=(40, 5))
    with h5py.File(path, "w") as file:
        file["vector"] = numbers
        file["tempo"] = np.arange(40, dtype=">i4")
    columns = ["vector[4]", "tempo", "vector[0]"]
    expected = np.stack([numbers[:, 4], np.arange(40), numbers[:, 0]], axis=1).astype(np.float32)
    features = FeatureRows(path, columns)
    monkeypatch.setattr(module, "MOST_BYTES", 0)
    read = FeatureRows(path, columns)
    assert read._whole is None
    for rows in (slice(0, 40), slice(7, 9), [3], [39, 0, 3, 3]):
        assert np.array_equal(features.take(rows), expected[rows])
        assert np.array_equal(read.take(rows), expected[rows])
    with pytest.raises(RequestError, match="unknown column"):
        FeatureRows(path, ["vector[5]"])


def info(features: tuple[str, ...]) -> CatalogInfo:
    return CatalogInfo(
        name="hits", title="hits", version="1", licence="", citation="", backbone="features", features=features
    )


def test_the_backbone_takes_the_columns_of_its_collection() -> None:
    assert Features.resolve(FeaturesInput(), info(("a", "b"))).columns == ("a", "b")
    assert Features.resolve(FeaturesInput(columns=("b",)), info(("a", "b"))).columns == ("b",)
    with pytest.raises(RequestError, match="Did you mean tempo"):
        Features.resolve(FeaturesInput(columns=("temp",)), info(("tempo",)))
    with pytest.raises(RequestError, match="holds songs"):
        Features.resolve(FeaturesInput(), info(()))


def test_the_representation_is_the_row(table: Path) -> None:
    backbone = Features(FeaturesInput(columns=("a", "b")))
    assert backbone.shape == (2,)
    batch = torch.tensor([[1.0, 2.5]])
    assert torch.equal(backbone.encode(batch), batch)


def test_a_table_reaches_the_encoder_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "songs.csv"
    path.write_text("artist,labels,x,y\nB,rock,1,2\nA,pop,3,\nA,pop,5,6\n")
    catalog = FeatureTable(table=str(path), name="three").catalog()
    backbone = Features(Features.resolve(FeaturesInput(), catalog.info))
    batch = ClipTable(catalog, backbone.input)[range(3)]
    assert batch.windows is not None
    expected = {"row-000000": [1.0, 2.0], "row-000002": [5.0, 6.0]}
    ids = catalog.strings("clip_id")
    assert {ids[row]: window for row, window in zip(batch.rows, batch.windows.tolist(), strict=True)} == expected
    assert [(ids[row], kind) for row, kind, _ in batch.failures] == [("row-000001", "not-finite")]
