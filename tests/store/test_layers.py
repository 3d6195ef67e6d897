"""Representations of several layers: [layers, dim] a clip, of which one can be read alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from store.errors import FormatError
from store.layout import Store, match
from store.reader import Representations
from tests.store.build import NAME, Array, catalog, names, write


def layered(rows: int, layers: int = 3, dim: int = 5, dtype: str = "float32") -> Array:
    return (np.random.default_rng(0).standard_normal((rows, layers, dim)) * 50).astype(dtype)


def opened(root: str | Path, values: Array) -> Representations:
    store = Store(root)
    write(store, catalog(names(len(values))), values)
    return Representations(store, store.read_catalog("few"), NAME)


@settings(max_examples=15)
@given(
    rows=st.integers(1, 5000),
    layers=st.integers(1, 4),
    dim=st.integers(1, 3),
    dtype=st.sampled_from(["float32", "float16", "uint8"]),
    first=st.integers(0, 5000),
    length=st.integers(0, 5000),
)
def test_what_was_written_is_read_layer_by_layer(
    tmp_path_factory: pytest.TempPathFactory, rows: int, layers: int, dim: int, dtype: str, first: int, length: int
) -> None:
    values = layered(rows, layers, dim, dtype)
    stored = opened(tmp_path_factory.mktemp("store"), values)
    np.testing.assert_array_equal(stored.read(), values)
    for layer in range(layers):
        np.testing.assert_array_equal(stored.read(layer=layer), values[:, layer])
        np.testing.assert_array_equal(stored.read(first, first + length, layer), values[first : first + length, layer])
    assert stored.verify() == []


def test_other_programs_read_rows_of_layers(tmp_path: Path) -> None:
    values = layered(100)
    opened(tmp_path, values)
    array = zarr.open_array(tmp_path / "few" / str(NAME) / "representations.zarr", mode="r")
    np.testing.assert_array_equal(np.asarray(array), values)


def test_behind_a_url_too() -> None:
    values = layered(50)
    stored = opened("memory://layers", values)
    np.testing.assert_array_equal(stored.read(layer=1), values[:, 1])


def test_a_layer_is_read_without_the_others_and_checked(tmp_path: Path) -> None:
    values = layered(3000, layers=4, dim=8)
    stored = opened(tmp_path, values)
    chunk = tmp_path / "few" / str(NAME) / "representations.zarr" / "c" / "0" / "0" / "0"
    content = bytearray(chunk.read_bytes())
    content[len(content) // 4 * 2] ^= 1  # the first number of layer 2
    chunk.write_bytes(content)
    for layer in (0, 1, 3):
        np.testing.assert_array_equal(stored.read(layer=layer), values[:, layer])
    with pytest.raises(FormatError, match="do not hold the numbers that were committed"):
        stored.read(layer=2)
    with pytest.raises(FormatError, match="do not hold the numbers that were committed"):
        stored.read()
    assert len(stored.verify()) == 1


def test_a_collection_of_layers_grows(tmp_path: Path) -> None:
    values = layered(200)
    store = Store(tmp_path)
    write(store, catalog(names(100)), values[:100], failures={3: "why"})
    write(store, catalog(names(200)), values)
    stored = Representations(store, store.read_catalog("few"), NAME)
    expected = values[:, 2].copy()
    numbers = stored.read(layer=2)
    np.testing.assert_array_equal(numbers[4:], expected[4:])
    np.testing.assert_array_equal(numbers, stored.read()[:, 2])


def test_a_layer_is_part_of_a_name() -> None:
    stored = ["mert-0123456789ab@1", "mert-0123456789ab@mix", "fcn-0123456789ab"]
    assert match(stored, "mert") == stored[:2]
    assert match(stored, "mert@mix") == stored[1:2]
    assert match(stored, "mert-01@1") == stored[:1]
    assert match(stored, "@mix") == stored[1:2]
    assert match(stored, "fcn@1") == []
    assert match(stored, None) == stored
