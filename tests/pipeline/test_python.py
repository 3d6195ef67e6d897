"""What a notebook may import, and that every example on its page runs."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path

import encore as api
import numpy as np
import pytest
import torch

from stages.progress import be_quiet
from tests.pipeline.conftest import ROOT, Encore, embed_table

NAMES = {
    *("Collection", "HeadScores", "Predictions", "Representation", "TrainedHead"),
    *("EncoreError", "FormatError", "RequestError", "StoreError"),
    *("open_store", "collections", "catalog", "representation", "clip_dataset", "split", "train_head"),
    *("restore", "score", "predict", "PredictedSongs", "SongPrediction", "Segment"),
    *("similar", "Similar", "SimilarTo"),
}


def test_names_are_promises() -> None:
    assert set(api.__all__) == NAMES
    assert all(hasattr(api, name) for name in NAMES)


def test_every_function_has_an_example_that_runs(
    encore: Encore, features_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_table(encore, features_csv)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "song.mp3").write_bytes(b"which the mode artist does not hear")
    finder = doctest.DocTestFinder(exclude_empty=False)
    examples = {test.name: test for test in finder.find(api)}
    lacking = [name for name in api.__all__ if callable(getattr(api, name)) and name.islower()]
    assert [name for name in lacking if name != "open_store" and not examples[f"encore.{name}"].examples] == []
    runner = doctest.DocTestRunner(verbose=False)
    shared: dict[str, object] = {}
    be_quiet(True)
    order = sorted(lacking, key=lambda name: examples[f"encore.{name}"].lineno or 0)  # as they stand on the page
    for name in ("encore", *(f"encore.{name}" for name in order)):
        examples[name].globs = shared
        runner.run(examples[name], clear_globs=False)
    be_quiet(False)
    assert runner.summarize(verbose=False).failed == 0


def test_nothing_heavy_is_imported_with_it() -> None:
    code = "import sys; sys.path.insert(0, 'pipeline/python'); import encore; print(*sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"numpy", "pyarrow", "torch", "zarr", "typer", "fsspec"} & set(process.stdout.split())


def test_what_is_not_there_is_told_in_words(encore: Encore, features_csv: Path, tmp_path: Path) -> None:
    with pytest.raises(api.RequestError, match="there is no store"):
        api.open_store(tmp_path / "none")
    embed_table(encore, features_csv)
    store = api.open_store(encore.store)
    with pytest.raises(api.RequestError, match=r"unknown data set 'hit'.*Did you mean hits"):
        api.catalog(store, "hit")
    with pytest.raises(api.RequestError, match="unknown mode"):
        api.train_head(store, "hits", "gmn")
    with pytest.raises(api.RequestError, match="unknown setting"):
        api.train_head(store, "hits", "song", epoch=3)
    with pytest.raises(api.RequestError, match="folds 1 to 5"):
        api.split(store, "hits", "artist-5fold", fold=6)
    with pytest.raises(api.RequestError, match="rows 0 to 399"):
        api.clip_dataset(store, "hits", rows=[400])


@pytest.mark.parametrize("mode", ["gnn", "artist"])
def test_a_restored_head_gives_its_test_scores_again(encore: Encore, several_csv: Path, mode: str) -> None:
    embed_table(encore, several_csv)
    store = api.open_store(encore.store)
    scores = api.train_head(store, "hits", mode, regime="random-3fold", epochs=3)[-1]
    test_scores = []
    for fold in (1, 2, 3):
        trained = api.restore(store, "hits", mode, regime="random-3fold", fold=fold, rule=scores.rule)
        answer = api.score(store, trained)
        test = api.split(store, "hits", "random-3fold", fold=fold)[answer.rows] == "test"
        labels = api.catalog(store, "hits").column("labels").take(answer.rows[test]).to_pylist()
        truth = np.array([[label in carried for label in answer.labels] for carried in labels])
        test_scores.append((truth == answer.decisions[test]).all(axis=1).mean())
    assert scores.metrics["subset_accuracy"] == pytest.approx(np.mean(test_scores), abs=1e-9)


def test_heads_that_are_not_there(encore: Encore, features_csv: Path) -> None:
    embed_table(encore, features_csv)
    store = api.open_store(encore.store)
    with pytest.raises(api.RequestError, match=r"train one: encore head hits .*--mode gnn --regime album"):
        api.restore(store, "hits", "gnn", regime="album")


def test_a_data_set_reads_the_same_numbers_in_any_order(encore: Encore, features_csv: Path) -> None:
    embed_table(encore, features_csv)
    store = api.open_store(encore.store)
    representation = api.representation(store, "hits")
    rows = np.random.default_rng(0).permutation(400)
    clips = api.clip_dataset(store, "hits", rows=rows)
    loader = torch.utils.data.DataLoader(clips, batch_size=64, num_workers=2)
    vectors, labels = (torch.cat(parts) for parts in zip(*loader, strict=True))
    assert torch.equal(vectors, torch.from_numpy(representation.values)[rows])
    carried = [[clips.labels[i] for i in row.nonzero().flatten()] for row in labels]
    assert carried == api.catalog(store, "hits").column("labels").take(rows).to_pylist()
