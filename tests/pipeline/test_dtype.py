"""``--dtype float16``: a representation of its own, half as large, that every command takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from store.layout import Store
from store.reader import Representations
from tests.pipeline.conftest import COLUMNS, Encore, embed_table


def embed(table: Path, *rest: str) -> tuple[object, ...]:
    return ("embed", "table", "--table", table, "--name", "hits", "--columns", COLUMNS, *rest)


def test_halves(encore: Encore, features_csv: Path) -> None:
    embed_table(encore, features_csv)
    document = encore(*embed(features_csv, "--dtype", "float32", "--json")).json
    assert document["already_there"]  # it is the backbone's own
    (whole,) = encore.store.glob("hits/features-*")
    explained = encore(*embed(features_csv, "--dtype", "float16", "--explain")).out
    assert "dtype: float32 -> float16" in explained
    halves = encore(*embed(features_csv, "--dtype", "float16", "--json")).json["representation"]
    assert halves != whole.name
    assert encore(*embed(features_csv, "--dtype", "float16", "--json")).json["already_there"]

    store = Store(encore.store)
    catalog = store.read_catalog("hits")
    ours, theirs = (Representations(store, catalog, store.find("hits", name)).read() for name in (halves, whole.name))
    assert (ours.dtype, theirs.dtype) == (np.float16, np.float32)
    np.testing.assert_array_equal(ours, theirs.astype(np.float16))

    for mode in ("song", "gnn", "linear"):
        (row,) = encore("head", "hits", "--backbone", halves, "--mode", mode, "--set", "epochs=2", "--json").json
        assert row["backbone"] == halves
    assert "nothing is unused" in encore("store", "gc").out
    chunk = next((encore.store / "hits" / halves).glob("representations.zarr/c/0/0"))
    chunk.unlink()
    encore("store", "verify", code=1)
    assert "--dtype" in encore("store", "repair", "hits", "--backbone", halves, code=2).err
    encore("store", "repair", "hits", "--backbone", halves, "--dtype", "float16")
    assert f"hits/{halves}: intact" in encore("store", "verify").out


def test_what_has_no_halves(encore: Encore, features_csv: Path, midi_folder: Path) -> None:
    assert (
        "unknown dtype 'float8'; have: float16, float32"
        in encore(*embed(features_csv, "--dtype", "float8"), code=2).err
    )
    songs = ("embed", "folder", "--data", midi_folder, "--table", "songs.csv", "--name", "own", "--dtype", "float16")
    assert "gives whole numbers (uint8)" in encore(*songs, code=2).err
