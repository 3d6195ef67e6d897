"""Trained heads back from the files of a run: other objects, another process, the stored scores."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stages import registry
from stages.head.open import load
from stages.head.predict import NewClips, Predictor
from stages.head.restore import restore
from stages.head.runs.find import find_run
from store.errors import FormatError, RequestError
from store.layout import Store
from store.runs import RunFolder, read_runs, run_name
from tests.pipeline.conftest import QUICK, Encore, embed_table
from tests.processes import Process

# Another process: collection and heads from the store, the scores of the test clips against the stored ones.
RESTORED = """
import json, sys
import numpy as np
from stages.head.open import load
from stages.head.predict import NewClips, Predictor
from stages.head.restore import restore
from stages.head.runs.find import find_run
from store.layout import Store
from store.runs import RunFolder, read_runs, run_name

store, errors = Store(sys.argv[1]), {}
collection = load(store, "hits", None)
for mode in sys.argv[2].split(","):
    for representation in (collection.backbone, None):
        folder = RunFolder("hits", representation, mode, "artist")
        for run in read_runs(store, folder):
            split = collection.split("artist", run.record.seed)
            found = restore(store, folder, run_name(run.record.seed, None, run.record.rule)).score(collection, split)
            place = {row: clip for clip, row in enumerate(collection.rows.tolist())}
            clips = [place[row] for row in run.rows]
            assert (found.decision[clips] == run.decision).all(), mode
            errors[mode] = float(np.abs(found.score[clips] - run.score).max())
print(json.dumps(errors))
"""


def test_every_head_of_the_folder_comes_back_in_another_process(encore: Encore, several_csv: Path) -> None:
    embed_table(encore, several_csv)
    modes = registry.names("head")
    options = ("--threshold", "per-label", "--members", 2)
    encore("compare", "hits", "--modes", ",".join(modes), "--regimes", "artist", "--seeds", 1, *QUICK, *options)
    process = Process(RESTORED, encore.store, ",".join(modes))
    out, err = process.communicate()
    assert process.returncode == 0, err
    errors = json.loads(out)
    assert set(errors) == set(modes)
    assert all(error <= 1e-6 for error in errors.values()), errors


@pytest.fixture
def trained(encore: Encore, several_csv: Path) -> tuple[Store, RunFolder]:
    embed_table(encore, several_csv)
    encore("head", "hits", "--mode", "gnn", *QUICK)
    (path,) = encore.store.glob("hits/runs/*/gnn-random")
    return Store(encore.store), RunFolder("hits", path.parts[-2], "gnn", "random")


def test_a_song_of_the_store_gets_its_stored_answer_among_new_ones(trained: tuple[Store, RunFolder]) -> None:
    """A small collection of an artist's stored clips: the same scores, without the rest of the collection."""
    store, folder = trained
    (run,) = read_runs(store, folder)
    data = load(store, "hits", None)
    split = data.split("random", 0)
    head = restore(store, folder, "seed-0")
    assert head.labels == data.label_names
    for artist in range(5):
        clips = np.flatnonzero(data.artist == artist)
        prediction = head.score(data.select(clips), split[clips])
        for clip, score in zip(clips.tolist(), prediction.score, strict=True):
            if split[clip] == 2:
                stored = run.score[run.rows.index(int(data.rows[clip]))]
                np.testing.assert_allclose(score, stored, atol=1e-5, rtol=0)


@pytest.mark.usefixtures("unsealed")
def test_other_representations_and_damaged_or_older_files_are_told(trained: tuple[Store, RunFolder]) -> None:
    store, folder = trained
    collection = load(store, "hits", None)
    split = collection.split("random", 0)
    head = restore(store, folder, "seed-0")
    other = replace(collection, backbone="mfcc-0123456789ab")
    with pytest.raises(
        RequestError, match=rf"reads representations {folder.representation}, 4 numbers each, and these"
    ):
        head.score(other, split)
    with pytest.raises(RequestError, match=r"holds no trained head seed-1; train one: encore head hits"):
        restore(store, folder, "seed-1")
    file = folder.head("seed-0")
    path = Path(store.files.show(file))
    state = torch.load(path, weights_only=True)
    torch.save({key: value for key, value in state.items() if key != "format"}, path)
    with pytest.raises(FormatError, match=r"written by an older version.*train the head again: encore head hits"):
        restore(store, folder, "seed-0")
    torch.save({**state, "format": 99}, path)
    with pytest.raises(FormatError, match="written by a newer version"):
        restore(store, folder, "seed-0")
    torch.save({**state, "config": {"heads": 3}}, path)
    with pytest.raises(FormatError, match="has other settings than the head gnn of this version"):
        restore(store, folder, "seed-0").score(collection, split)
    path.write_bytes(b"no head")
    with pytest.raises(FormatError, match="is damaged; train the head again"):
        restore(store, folder, "seed-0")


def test_names_of_runs() -> None:
    assert run_name(0, None, None) == "seed-0"
    assert run_name(3, 2, "most frequent") == "seed-3-fold-2-most-frequent"


def test_an_artist_of_thousands_of_songs(encore: Encore, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["artist,title,genre,a,b"]
    for number in range(3_100):
        artist = "many" if number < 3_000 else f"few {number % 20}"
        a, b = rng.standard_normal(2) + number % 2
        lines.append(f"{artist},song {number},genre {number % 2},{a:.4f},{b:.4f}")
    path = tmp_path / "table.csv"
    path.write_text("\n".join(lines) + "\n")
    words = ("--columns", "artist=artist,labels=genre,title=title,features=a|b")
    encore("embed", "table", "--name", "hits", "--table", path, *words)
    encore("head", "hits", "--mode", "gnn", *QUICK)
    store = Store(encore.store)
    run, _ = find_run(store, "hits/gnn")
    predictor = Predictor(store, run, torch.device("cpu"))
    (stored,) = read_runs(store, run.folder)
    rows = np.array(stored.rows)
    scores = predictor.score_stored(predictor.places(rows))
    np.testing.assert_allclose(scores.prediction.score, stored.score, atol=1e-5, rtol=0)
    new = NewClips(torch.zeros(3, 2), ["many", "few 1", None], np.arange(3), np.full(3, -1))
    answer = predictor.score_new(new)
    assert answer.neighbours is not None
    assert answer.neighbours.tolist() == [3_000, 5, 0]
