"""``encore export head``: what onnxruntime makes of the file is what the head says."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import encore as api
import numpy as np
import pytest
from numpy.typing import NDArray

from stages import registry
from stages.head import onnx as exporter
from stages.head.heads import TrainedHead
from tests.pipeline.conftest import QUICK, Encore, embed_table
from tests.pipeline.test_regression import write_table

pytestmark = pytest.mark.usefixtures("operators")
onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX files are run by onnxruntime, which is not here")
NETWORKS = sorted(
    mode
    for mode in registry.names("head")
    if issubclass(registry.find("head", mode), TrainedHead)
    and mode not in ("correct-and-smooth", "random-features", "side-edges")  # one corrects, two read no stored numbers
)

UNLIKE = list({registry.find("head", mode).INPUTS: mode for mode in NETWORKS}.values())  # one for each set of inputs


@pytest.fixture(scope="module")
def hits(tmp_path_factory: pytest.TempPathFactory) -> Encore:
    """200 songs of 25 artists and songs of no artist, each with three numbers far from zero."""
    folder = tmp_path_factory.mktemp("onnx")
    rng = np.random.default_rng(0)
    lines = ["artist,title,genre,tempo,energy,loudness"]
    for song in range(200):
        artist = "" if song % 20 == 0 else f"artist {song % 25 if song > 30 else song}"
        genre = int(song % 25 % 4 if rng.random() < 0.8 else rng.integers(4))
        tempo, energy, loudness = rng.standard_normal(3) * [30, 0.1, 5] + [120 + 20 * genre, 0.5 - 0.1 * genre, -20]
        lines.append(f"{artist},song {song},genre {genre},{tempo:.4f},{energy:.4f},{loudness:.4f}")
    (folder / "features.csv").write_text("\n".join(lines) + "\n")
    encore = Encore(folder / "stores")
    embed_table(encore, folder / "features.csv")
    modes = ",".join([*NETWORKS, "correct-and-smooth", "artist"])
    encore("compare", "hits", "--modes", modes, "--seeds", 1, *QUICK)
    return encore


@pytest.fixture(scope="module")
def exported(hits: Encore, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Any]]:
    return _exporter(hits, tmp_path_factory.mktemp("exported"))


def _exporter(encore: Encore, folder: Path) -> Callable[[str], tuple[Path, Any]]:
    """Gives the file of a mode, and what the command says of it; each is written once."""

    @cache
    def export(mode: str) -> tuple[Path, Any]:
        file = folder / f"{mode}.onnx"
        return file, encore("export", "head", f"hits/{mode}", "--onnx", file, "--json").json

    return export


def run(file: Path, **inputs: NDArray[Any]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    scores: NDArray[np.float32] = session.run(["scores"], inputs)[0]
    return scores


@pytest.mark.parametrize("mode", NETWORKS)
def test_every_network_is_exported(exported: Callable[[str], tuple[Path, Any]], mode: str) -> None:
    file, summary = exported(mode)
    assert summary["difference"] <= exporter.TOLERANCE
    assert summary["clips"] == 20
    assert list(summary["inputs"]) == [each.name for each in registry.find("head", mode).INPUTS]
    model = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"]).get_modelmeta()
    about = model.custom_metadata_map
    assert json.loads(about["labels"]) == summary["labels"] == [f"genre {i}" for i in range(4)]
    assert (about["mode"], about["dataset"], about["task"]) == (mode, "hits", "single-label")


def gathered(encore: Encore, mode: str, x: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """What the gated head takes of all clips but their own numbers, by its definition; ``x`` is what it averages."""
    store = api.open_store(encore.store)
    catalog, rows = api.catalog(store, "hits"), api.representation(store, "hits").rows
    artists = np.array(catalog.column("artist_id").to_pylist(), dtype=object)[rows]
    names = api.restore(store, "hits", mode).labels
    labels = np.array([[label in row for label in names] for row in catalog.column("labels").to_pylist()])[rows]
    training = api.split(store, "hits", "random")[rows] == "train"
    columns: dict[str, list[Any]] = {name: [] for name in ("mean", "deviation", "degree", "counts", "songs")}
    for clip, artist in enumerate(artists):
        others = np.flatnonzero((artists == artist) & (np.arange(len(artists)) != clip)) if artist else []
        known = [other for other in others if training[other]]
        columns["mean"].append(x[others].mean(axis=0) if len(others) else np.full(x.shape[1], np.nan))
        columns["deviation"].append(x[others].std(axis=0) if len(others) else np.full(x.shape[1], np.nan))
        columns["degree"].append(len(others))
        columns["counts"].append(labels[known].sum(axis=0))
        columns["songs"].append(len(known))
    return {name: np.array(values, dtype=np.float32) for name, values in columns.items()}


def expected_scores(encore: Encore, mode: str) -> NDArray[np.float32]:
    store = api.open_store(encore.store)
    predictions = api.score(store, api.restore(store, "hits", mode))
    return predictions.scores[np.argsort(predictions.rows)]


def test_a_program_without_encore_gathers_what_it_takes(
    hits: Encore, exported: Callable[[str], tuple[Path, Any]]
) -> None:
    """Means, deviations and counts as numpy gives them, of the numbers as they are stored; a song alone as well."""
    x = api.representation(api.open_store(hits.store), "hits").values.astype(np.float32)
    for mode in ("song", "gnn", "gated"):
        file, _ = exported(mode)
        expected, columns = expected_scores(hits, mode), gathered(hits, mode, x)
        takes = {"song": (), "gnn": ("mean",), "gated": tuple(columns)}[mode]
        inputs = {name: columns[name] for name in takes}
        np.testing.assert_allclose(run(file, x=x, **inputs), expected, atol=1e-4, rtol=0)
        one = {name: values[:1] for name, values in inputs.items()}
        np.testing.assert_allclose(run(file, x=x[:1], **one), expected[:1], atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Encore:
    """120 songs of 20 artists, more numbers each than there are training songs."""
    folder = tmp_path_factory.mktemp("wide")
    rng = np.random.default_rng(0)
    lines = [",".join(["artist", "title", "genre", *(f"number {i}" for i in range(140))])]
    for song in range(120):
        numbers = rng.standard_normal(140) + song % 4
        lines.append(f"artist {song % 20},song {song},genre {song % 4}," + ",".join(f"{each:.3f}" for each in numbers))
    (folder / "wide.csv").write_text("\n".join(lines) + "\n")
    encore = Encore(folder / "stores")
    embed_table(encore, folder / "wide.csv")
    encore("compare", "hits", "--modes", ",".join(UNLIKE), "--seeds", 1, *QUICK)
    encore("head", "hits", "--mode", "gated", "--members", 2, "--seeds", 1, *QUICK)
    return encore


@pytest.fixture(scope="module")
def wide_exported(wide: Encore, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Any]]:
    return _exporter(wide, tmp_path_factory.mktemp("wide files"))


@pytest.mark.parametrize("mode", UNLIKE)
def test_wide_numbers_go_in_as_they_are_stored(wide_exported: Callable[[str], tuple[Path, Any]], mode: str) -> None:
    _, summary = wide_exported(mode)
    assert summary["difference"] <= exporter.TOLERANCE
    kinds = registry.find("head", mode).INPUTS
    assert list(summary["inputs"]) == [each.name for each in kinds]
    widths = {summary["inputs"][each.name]["shape"].rpartition(", ")[2] for each in kinds if each.is_vector}
    assert widths == {"gated": {"140]", "64]"}, "sgc": {"280]"}}.get(mode, {"140]"})


def test_deviations_of_wide_numbers_are_taken_along_axes(
    wide: Encore, wide_exported: Callable[[str], tuple[Path, Any]]
) -> None:
    """The file itself says what each clip is along the head's axes, whatever its neighbours are."""
    file, summary = wide_exported("gated")
    assert summary["inputs"]["x"]["shape"] == "float32 [clips, 140]"
    assert summary["inputs"]["mean"]["shape"] == "float32 [clips, 64]"
    x = api.representation(api.open_store(wide.store), "hits").values.astype(np.float32)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    nobody = gathered(wide, "gated", np.full((len(x), 64), np.nan, dtype=np.float32))
    inputs = gathered(wide, "gated", session.run(["along"], {"x": x, **nobody})[0])
    np.testing.assert_allclose(run(file, x=x, **inputs), expected_scores(wide, "gated"), atol=1e-4, rtol=0)


def test_several_networks_are_one_file(encore: Encore, several_csv: Path, tmp_path: Path) -> None:
    """The mean over the members' scores, with several labels a song."""
    words = ("--columns", "artist=artist,labels=genre,title=title,features=a|b|c|d")
    encore("embed", "table", "--name", "hits", "--table", several_csv, *words)
    encore("head", "hits", "--mode", "gnn", "--members", 3, "--seeds", 1, *QUICK)
    ran = encore("export", "head", "hits", "--onnx", tmp_path / "head.onnx")
    assert "onnxruntime gives torch's scores" in ran.out
    assert max(map(len, ran.out.splitlines()[1:])) <= 80


def test_a_number_is_in_its_own_unit(encore: Encore, tmp_path: Path) -> None:
    write_table(tmp_path / "songs.csv")
    columns = "artist=artist,labels=genre,title=title,targets=heat"
    encore("embed", "table", "--name", "warm", "--table", tmp_path / "songs.csv", "--columns", columns)
    encore("head", "warm", "--target", "heat", "--mode", "song", "--seeds", 1, *QUICK)
    summary = encore("export", "head", "warm/song+heat", "--onnx", tmp_path / "head.onnx", "--json").json
    assert summary["labels"] == ["heat"]
    x = api.representation(api.open_store(encore.store), "warm").values.astype(np.float32)
    assert run(tmp_path / "head.onnx", x=x).mean() == pytest.approx(50, abs=10)


@pytest.mark.parametrize(
    ("mode", "message", "code"),
    [
        ("artist", "artist counts and has no network", 2),
        ("correct-and-smooth", "corrects its network's scores by the whole collection", 2),
        ("polka", "unknown trained head of hits 'polka'", 2),
    ],
)
def test_what_cannot_be_exported(hits: Encore, tmp_path: Path, mode: str, message: str, code: int) -> None:
    file = tmp_path / "head.onnx"
    assert message in hits("export", "head", f"hits/{mode}", "--onnx", file, code=code).err
    assert not file.exists()


def test_a_file_that_cannot_be_written_is_refused_first(hits: Encore, tmp_path: Path) -> None:
    for place in (tmp_path / "no" / "head.onnx", tmp_path):
        ran = hits("export", "head", "no such head", "--onnx", place, code=2)
        assert f"--onnx {place}: " in ran.err


def test_nothing_is_written_where_the_scores_differ(
    hits: Encore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "TOLERANCE", -1.0)
    file = tmp_path / "head.onnx"
    assert "would give other scores than torch" in hits("export", "head", "hits/song", "--onnx", file, code=1).err
    assert not file.exists()


def test_where_the_packages_are_missing_one_message_says_so(
    hits: Encore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "_PACKAGES", ("no_such_package",))
    message = hits("export", "head", "hits/song", "--onnx", tmp_path / "head.onnx", code=2).err
    assert "not installed (no_such_package): pip install 'encore-mir[onnx]'" in message
