"""Collections and stores that are not as they should be: a message for each, over every mode, and never a traceback."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from stages import registry
from stages.head import train as heads
from stages.head.open import from_catalog
from stages.head.stored import Stored
from store.fingerprint import hash_values
from store.layout import Store
from store.schema import Catalog
from tests.pipeline.conftest import COLUMNS, Encore, embed_table

QUICK = ("--seeds", 1, "--set", "epochs=2", "--set", "steps=1")
HEADS = {name: registry.find("head", name) for name in registry.names("head")}
READ_ARTISTS = [name for name, head in HEADS.items() if head.READS_ARTISTS]


def table_of(path: Path, songs: int = 80, **columns: Callable[[int], object]) -> Path:
    """Songs of 10 artists with 2 genres and three numbers, or what ``columns`` say of song i."""
    rng = np.random.default_rng(0)
    numbers = rng.standard_normal((songs, 3)).round(4)
    has: dict[str, Callable[[int], object]] = {
        "artist": lambda i: f"artist {i % 10}",
        "title": lambda i: f"song {i}",
        "genre": lambda i: f"genre {(i % 10 + i // 10) % 2}",
        "album": lambda i: f"album {i % 20}",
        **{name: lambda i, which=which: numbers[i, which] for which, name in enumerate("abc")},
        **columns,
    }
    lines = [",".join(has), *(",".join(str(of(i)) for of in has.values()) for i in range(songs))]
    path.write_text("\n".join(lines) + "\n")
    return path


def compare(encore: Encore, *args: object, code: int = 0) -> dict[str, list[float | None]]:
    """All modes; the metrics of each by name (rules of one mode one behind the other)."""
    ran = encore("compare", "hits", "--json", *QUICK, *args, code=code)
    scores: dict[str, list[float | None]] = {}
    for result in ran.json:
        scores.setdefault(result["mode"], []).extend(value["mean"] for value in result["metrics"].values())
    return scores


def chunk_of(encore: Encore) -> Path:
    return next(path for path in (encore.store / "hits").rglob("representations.zarr/c/**/*") if path.is_file())


@pytest.mark.usefixtures("unsealed")
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite(encore: Encore, tmp_path: Path, number: float) -> None:
    """In a table such a song is counted as one that cannot be encoded; in a store it is damage, committed or not."""
    table = table_of(tmp_path / "t.csv", a=lambda i: number if i == 7 else i % 7)
    embed_table(encore, table)
    if math.isnan(number):  # the song is left out, whatever its number was
        assert compare(encore).keys() == HEADS.keys()
    assert "1 clip left out: failed (why: encore store show hits)" in encore("head", "hits", *QUICK).err
    chunk = chunk_of(encore)
    values = np.frombuffer(chunk.read_bytes(), dtype="<f4").copy()
    values[3 * 20] = number
    chunk.write_bytes(values.tobytes())
    assert "do not hold the numbers that were committed" in encore("head", "hits", *QUICK, code=1).err
    (manifest,) = encore.store.rglob("manifest.json")
    content = json.loads(manifest.read_text())
    content["shards"][0]["values"] = hash_values(values[: 3 * 80])
    manifest.write_text(json.dumps(content))
    for mode, head in HEADS.items():
        if head.READS_SONGS:
            message = encore("head", "hits", "--mode", mode, *QUICK, code=1).err
            assert "holds numbers that are not finite, first in catalog row 20" in message
            assert "encore store verify hits" in message
        else:
            encore("head", "hits", "--mode", mode, *QUICK)


@pytest.mark.parametrize("silent", [5, 80])
def test_representations_that_are_all_zero(encore: Encore, tmp_path: Path, silent: int) -> None:
    numbers = {name: lambda i: 0.0 if i < silent else 1 + i % 7 for name in "abc"}
    embed_table(encore, table_of(tmp_path / "t.csv", **numbers))
    for mode, metrics in compare(encore).items():
        assert all(value is not None and 0 <= value <= 1 for value in metrics), mode
    assert f"all zero: {silent} of 80 representations" in encore("head", "hits", *QUICK).err


def test_a_label_that_a_part_lacks(encore: Encore, tmp_path: Path) -> None:
    def genres(i: int) -> str:
        return f"genre {i % 2}" + ("|rare" if i == 3 else "") + ("|other" if i % 10 == 0 else "")

    embed_table(encore, table_of(tmp_path / "t.csv", genre=genres))
    for weights in ("none", "balanced"):
        for mode, metrics in compare(encore, "--set", f"class_weights={weights}").items():
            assert all(value is None or 0 <= value <= 1 for value in metrics), mode
    message = encore("compare", "hits", "--modes", "artist", "--seeds", 2).err
    assert "no test clip carries" in message
    assert "rare" in message
    assert re.search("macro scores leave (it|them) out there", message)


def test_a_single_label(encore: Encore, tmp_path: Path) -> None:
    embed_table(encore, table_of(tmp_path / "t.csv", genre=lambda i: "jazz"))
    for mode in HEADS:
        message = encore("head", "hits", "--mode", mode, *QUICK, code=2).err
        assert "every clip of hits has the same label, 'jazz': there is nothing to learn" in message
    assert "1 label," in encore("audit", "hits").out


def test_no_artist_is_known(encore: Encore, tmp_path: Path) -> None:
    embed_table(encore, table_of(tmp_path / "t.csv", artist=lambda i: ""))
    for mode in READ_ARTISTS:
        message = encore("head", "hits", "--mode", mode, *QUICK, code=2).err
        assert f"no song of hits has a known artist, which {mode} needs" in message
    ran = encore("compare", "hits", "--json", *QUICK)
    assert {result["mode"] for result in ran.json} == HEADS.keys() - READ_ARTISTS
    assert "no song of hits has a known artist: " in ran.err
    assert "are left out" in ran.err
    assert (
        "no song of this collection has a known artist"
        in encore("head", "hits", "--mode", "song", "--regime", "artist", *QUICK, code=2).err
    )


def test_no_song_has_a_neighbour(encore: Encore, tmp_path: Path) -> None:
    """Artists of one song each, no albums: every mode has isolated clips alone."""
    embed_table(encore, table_of(tmp_path / "t.csv", artist=lambda i: f"artist {i}", album=lambda i: ""))
    for mode, metrics in compare(encore, "--regimes", "random,artist").items():
        assert all(value is not None and 0 <= value <= 1 for value in metrics), mode


@pytest.mark.parametrize("neighbours", [100_000_000, "all"])
def test_more_neighbours_than_exist(encore: Encore, tmp_path: Path, neighbours: object) -> None:
    embed_table(encore, table_of(tmp_path / "t.csv"))
    inference = ("--set", f"neighbours_inference={neighbours}")
    scores = compare(encore, "--neighbours", neighbours, *inference)
    for mode, metrics in scores.items():
        assert all(value is not None and 0 <= value <= 1 for value in metrics), mode
    if neighbours != "all":
        message = encore("head", "hits", "--neighbours", neighbours, *QUICK).err
        assert "no clip of hits has more than 7 others by its artist; where there are fewer, all are taken" in message


def grow(encore: Encore) -> None:
    """Nine more songs are in the catalog, and not yet encoded."""
    table = table_of(encore.store.parent / "more.csv", songs=89)
    other = Encore(encore.store.parent / "other")
    other("embed", "table", "--table", table, "--name", "hits", "--columns", COLUMNS)
    shutil.copy(other.store / "hits" / "catalog.parquet", encore.store / "hits" / "catalog.parquet")


def replace_songs(encore: Encore) -> None:
    """Catalog and representation are those of other songs."""
    table = table_of(encore.store.parent / "more.csv", title=lambda i: f"other {i}", a=lambda i: i + 0.5)
    other = Encore(encore.store.parent / "other")
    other("embed", "table", "--table", table, "--name", "hits", "--columns", COLUMNS)
    lose_all(encore)
    shutil.copytree(other.store / "hits", encore.store / "hits")


def lose_representation(encore: Encore) -> None:
    for folder in (encore.store / "hits").glob("features-*"):
        shutil.rmtree(folder)


def lose_manifest(encore: Encore) -> None:
    for file in (encore.store / "hits").rglob("manifest.json"):
        file.unlink()


def lose_numbers(encore: Encore) -> None:
    chunk_of(encore).unlink()


def damage_numbers(encore: Encore) -> None:
    torn = bytearray(chunk_of(encore).read_bytes())
    torn[100] ^= 1
    chunk_of(encore).write_bytes(torn)


def lose_all(encore: Encore) -> None:
    shutil.rmtree(encore.store / "hits")


CHANGES = {
    grow: (0, ""),
    replace_songs: (1, "belongs to other clips than the catalog's rows"),
    lose_representation: (1, r"manifest\.json is missing"),
    lose_manifest: (1, r"manifest\.json is missing"),
    lose_numbers: (1, "rows 0-79 cannot be read"),
    damage_numbers: (1, "rows 0-79 do not hold the numbers that were committed"),
    lose_all: (2, "has no representations yet|unknown data set"),
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_store_that_changes_while_it_is_read(
    encore: Encore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Encore], None]
) -> None:
    """What changes between the catalog's reading and the representation's is noticed, or does no harm."""
    embed_table(encore, table_of(tmp_path / "t.csv"))
    code, pattern = CHANGES[change]
    read, calls = Store.read_catalog, []

    def then_change(self: Store, dataset: str) -> Catalog:
        catalog = read(self, dataset)
        if not calls:
            calls.append(True)
            change(encore)
        return catalog

    monkeypatch.setattr(Store, "read_catalog", then_change)
    ran = encore("head", "hits", *QUICK, code=code)
    assert calls
    assert re.search(pattern, ran.err), ran.err


@pytest.mark.parametrize("change", [lose_numbers, damage_numbers, lose_all], ids=lambda change: change.__name__)
def test_a_store_that_changes_during_a_training(
    encore: Encore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Encore], None]
) -> None:
    """A collection that does not fit in memory is read anew in each epoch, and checked each time."""
    embed_table(encore, table_of(tmp_path / "t.csv"))
    monkeypatch.setattr(heads, "_COPIES", 20_000)
    read, reads = Stored.read, []

    def then_change(self: Stored, rows: np.ndarray) -> torch.Tensor:
        values = read(self, rows)
        reads.append(len(rows))
        if len(reads) == 10:
            change(encore)
        return values

    monkeypatch.setattr(Stored, "read", then_change)
    message = encore("head", "hits", *QUICK, "--memory", "0.005", code=1).err
    assert len(reads) == 10
    assert re.search("rows 0-79 (cannot be read|do not hold the numbers that were committed)", message), message


NAMES = ("catalog.parquet", "splits.parquet", "manifest.json", "failures.parquet", "zarr.json", "c/0/0", "seed-0.json")


@pytest.mark.parametrize(
    ("name", "kind"),
    [*((name, "pipe") for name in NAMES), *itertools.product(("catalog.parquet", "c/0/0"), ("folder", "device"))],
)
def test_what_is_no_file_is_not_read(encore: Encore, tmp_path: Path, name: str, kind: str) -> None:
    """Every command ends: a pipe would be waited for, a device read for ever."""
    embed_table(encore, table_of(tmp_path / "t.csv"))
    encore("head", "hits", "--mode", "song", *QUICK)
    (path,) = (path for path in (encore.store / "hits").rglob(Path(name).name) if str(path).endswith(name))
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    commands = {
        ("store", "verify", "hits"): {"seed-0.json"},
        ("head", "hits", "--mode", "song", *QUICK): {"failures.parquet", "seed-0.json"},
        ("embed", "hits"): {"failures.parquet", "splits.parquet", "zarr.json", "c/0/0", "seed-0.json"},
        ("report", "hits"): {"splits.parquet", "manifest.json", "failures.parquet", "zarr.json", "c/0/0"},
    }
    for args, reads_not in commands.items():
        if name not in reads_not:
            message = encore(*args, code=1).err
            assert re.search("it is a folder, a pipe or a device|Is a directory", message), (args, message)


def test_representations_far_from_those_of_the_training_part(encore: Encore, tmp_path: Path) -> None:
    """They overflow into scores that are no numbers, of which a label must not be made."""
    parts = ["train"] * 60 + ["validation"] * 10 + ["test"] * 10
    far = table_of(tmp_path / "t.csv", split=lambda i: parts[i], b=lambda i: 3e38 if i >= 70 else i % 7 / 1000)
    embed_table(encore, far)
    message = encore("head", "hits", "--mode", "song", "--regime", "official", *QUICK, code=1).err
    assert "error: song gave 10 of 80 clips scores that are not in [0, 1]" in message, message


def test_small_numbers_are_numbers_too(encore: Encore, tmp_path: Path) -> None:
    """Numbers of 1e-9, and of 1e-30, tell as much as the same ones before they were scaled."""
    accuracies = []
    for scale in ("", "e-9", "e-30"):
        columns = {
            name: lambda i, which=which, scale=scale: f"{(i * 37 + which * 11) % 23}{scale}"
            for which, name in enumerate("abc")
        }
        columns["genre"] = lambda i: f"genre {int(i * 37 % 23 > 11)}"  # which the numbers tell
        embed_table(encore, table_of(tmp_path / "t.csv", **columns))
        ran = encore("head", "hits", "--mode", "song", "--set", "epochs=20", "--json")
        accuracies.append(ran.json[0]["metrics"]["accuracy"]["mean"])
    assert accuracies == [1.0] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--set", "index=exact"), "gnn does not read index; leave out --set index"),
        (("--set", "drop_edge=0.5"), "gnn does not read drop_edge"),
        (("--set", "gamma=1"), "gamma is the focal loss's; add --set loss=focal"),
        (("--set", "members=1001"), "members is 1001; it must be at least 1 and at most 1,000"),
        (("--set", "batch=99999999999999999999"), "it must be at least 1 and at most 1,000,000,000"),
        (("--set", "learning_rate=1", "--set", "learning-rate=2"), "--set gives learning_rate twice"),
    ],
)
def test_settings_without_effect_or_bounds(
    encore: Encore, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    embed_table(encore, table_of(tmp_path / "t.csv"))
    assert message in encore("head", "hits", "--mode", "gnn", *options, code=2).err


def test_dropout_of_nearly_all(encore: Encore, tmp_path: Path) -> None:
    embed_table(encore, table_of(tmp_path / "t.csv"))
    encore("head", "hits", "--mode", "gnn", *QUICK, "--set", "dropout=0.999")


def test_missing_labels_are_counted_label_by_label(encore: Encore, tmp_path: Path) -> None:
    """Each with the splits that lack it, not with those that lack any."""
    genres = {0: "rare", 1: "seldom", 2: "seldom"}
    embed_table(encore, table_of(tmp_path / "t.csv", genre=lambda i: genres.get(i, f"genre {i % 2}")))
    message = encore("compare", "hits", "--modes", "song", *QUICK, "--seeds", 4).err
    (line,) = (line for line in message.splitlines() if "no test clip carries" in line)
    counts = dict(re.findall(r"(rare|seldom) in (\d)", line))
    assert "of 4 splits" in line
    data = from_catalog(Store(encore.store).read_catalog("hits"), Store(encore.store))
    for label in ("rare", "seldom"):
        column = data.labels[:, data.label_names.index(label)]
        lacking = sum(not column[data.split("random", seed) == 2].any() for seed in range(4))
        assert int(counts.get(label, 0)) == lacking
