"""``encore export``: what other programs read is what the store holds."""

from __future__ import annotations

import json
from pathlib import Path

import encore as api
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pipeline.conftest import Encore, embed_table


def test_vectors_and_the_rows_that_they_belong_to(encore: Encore, midi_folder: Path, tmp_path: Path) -> None:
    """A clip that failed is in neither."""
    (midi_folder / "söng 3.mid").write_bytes(b"")
    table = ("--table", midi_folder / "songs.csv", "--backbone", "pianoroll")
    encore("embed", "folder", "--name", "mine", "--data", midi_folder, *table)
    store = api.open_store(encore.store)
    stored = api.representation(store, "mine")
    assert len(stored.values) == 23
    for to in ("npy", "parquet"):
        files = encore("export", "representation", "mine", "--to", to, "--out", tmp_path / to, "--json").json["files"]
        clips = pq.read_table(files[-1])
        assert clips.column("row").to_pylist() == stored.rows.tolist()
        expected = api.catalog(store, "mine").take(stored.rows)
        assert clips.select(expected.column_names).to_pylist() == expected.to_pylist()
        if to == "npy":
            vectors = np.load(files[0])
        else:
            vectors = np.array(clips.column("representation").to_pylist(), dtype=stored.values.dtype)
            assert json.loads(clips.schema.metadata[b"shape"]) == list(stored.values.shape[1:])
        np.testing.assert_array_equal(vectors, stored.values)
        assert sorted(path.name for path in (tmp_path / to).iterdir()) == sorted(Path(file).name for file in files)


def test_a_folder_for_datasets(encore: Encore, features_csv: Path, tmp_path: Path) -> None:
    """As ``datasets`` itself writes one: an Arrow stream, and two documents beside it."""
    embed_table(encore, features_csv)
    files = encore("export", "representation", "hits", "--to", "hf", "--out", tmp_path, "--json").json["files"]
    (folder,) = {Path(file).parent for file in files}
    assert sorted(path.name for path in folder.iterdir()) == sorted(Path(file).name for file in files)
    state = json.loads((folder / "state.json").read_text())
    (data,) = [folder / entry["filename"] for entry in state["_data_files"]]
    with pa.memory_map(str(data)) as source, pa.ipc.open_stream(source) as reader:
        clips = reader.read_all()
    store = api.open_store(encore.store)
    stored = api.representation(store, "hits")
    vectors = np.array(clips.column("representation").to_pylist(), dtype=stored.values.dtype)
    np.testing.assert_array_equal(vectors, stored.values)
    assert clips.column("title").to_pylist() == api.catalog(store, "hits").column("title").to_pylist()


def test_datasets_itself_opens_it(encore: Encore, features_csv: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not here to open its folder")
    embed_table(encore, features_csv)
    files = encore("export", "representation", "hits", "--to", "hf", "--out", tmp_path, "--json").json["files"]
    opened = datasets.load_from_disk(str(Path(files[0]).parent))
    assert opened["representation"] == api.representation(api.open_store(encore.store), "hits").values.tolist()


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (("hits", "--to", "csv"), "unknown format 'csv'; have: hf, npy, parquet", 2),
        (("hit",), "Did you mean hits?", 2),
        (("hits", "--backbone", "mfcc"), "has no representation 'mfcc'", 2),
        (("hits", "--out", "/dev/null/there"), "cannot be written", 1),
    ],
)
def test_what_cannot_be_exported(
    encore: Encore, features_csv: Path, words: tuple[str, ...], message: str, code: int
) -> None:
    embed_table(encore, features_csv)
    assert message in encore("export", "representation", *words, code=code).err
