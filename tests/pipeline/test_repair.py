"""``encore store repair`` and ``gc``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from stages import registry
from tests.pipeline.conftest import Encore

COLUMNS = "artist=artist,title=title,labels=genre,features=tempo|energy"


@pytest.fixture
def chunk(encore: Encore, features_csv: Path) -> Path:
    """The file with the numbers of a small synthetic collection."""
    encore("embed", "table", "--name", "hits", "--table", features_csv, "--columns", COLUMNS)
    (path,) = encore.store.glob("hits/features-*/representations.zarr/c/0/0")
    return path


@pytest.mark.parametrize("damage", ["number", "padding", "cut", "lost"])
def test_damaged_shards_are_encoded_again(encore: Encore, chunk: Path, damage: str) -> None:
    before = {path: path.read_bytes() for path in encore.store.rglob("*") if path.is_file()}
    data = bytearray(before[chunk])
    if damage == "lost":
        chunk.unlink()
    else:
        place = {"number": 5, "padding": -5, "cut": 0}[damage]
        data[place] ^= 1
        chunk.write_bytes(data[:-7] if damage == "cut" else data)
    assert "encore store repair hits --backbone features-" in encore("store", "verify", code=1).err.replace("\n", " ")
    (repair,) = encore("store", "repair", "hits", "--json").json["repairs"]
    assert (repair["damaged"], repair["encoded"]) == (1, 400)
    assert {path: path.read_bytes() for path in encore.store.rglob("*") if path.is_file()} == before
    assert encore("store", "verify").out.splitlines() == [f"hits/{repair['representation']}: intact"]
    assert encore("store", "repair", "hits").out == f"{repair['representation']}: every shard is intact\n"


def test_repair_refuses_other_numbers(encore: Encore, chunk: Path, features_csv: Path) -> None:
    chunk.unlink()
    features_csv.write_text(features_csv.read_text().replace(".5", ".6"))
    assert "gives other numbers than those that were committed" in encore("store", "repair", "hits", code=1).err
    assert not chunk.exists()
    assert "have: features-" in encore("store", "repair", "hits", "--backbone", "fcn", code=2).err
    assert "unknown data set" in encore("store", "repair", "other", code=2).err


def test_repair_waits_for_what_is_away(encore: Encore, chunk: Path, features_csv: Path) -> None:
    """A table that is gone for a while is no reason to remove anything; nor is damage where songs have come."""
    before = chunk.read_bytes()
    chunk.unlink()
    features_csv.rename(away := features_csv.with_suffix(".away"))
    error = " ".join(encore("store", "repair", "hits", code=1).err.split())
    assert "400 clips of rows 0-399 cannot be encoded again (the first is" in error
    assert "put back what they were encoded from" in error
    assert not chunk.exists()
    features_csv.write_text(away.read_text() + "artist 0,one more,genre 0,1,2,3\n")
    embed = ("embed", "table", "--name", "hits", "--table", features_csv, "--columns", COLUMNS)
    assert "encore store repair hits --backbone features-" in " ".join(encore(*embed, code=1).err.split())
    encore("store", "repair", "hits")
    encore(*embed)
    assert encore("store", "verify").out.endswith(": intact\n")
    assert chunk.read_bytes()[:3200] == before[:3200]  # 400 songs of two numbers


def test_damaged_runs_are_told_apart_from_shards(encore: Encore, chunk: Path) -> None:
    encore("head", "hits", "--mode", "artist", "--seeds", 1)
    scores = min(encore.store.glob("hits/runs/*/artist-random/seed-0*.parquet"))
    scores.write_bytes(scores.read_bytes() + b" ")
    verified = encore("store", "verify", code=1)
    intact = f"hits/{chunk.parents[3].name}: intact"
    assert verified.out.splitlines() == [intact, "hits: 1 other file damaged or missing"]
    message = (
        f"{scores} does not hold what was written; put a copy back, or train that head again with the same settings"
    )
    for ran in (verified, encore("store", "repair", "hits", code=1), encore("report", "hits", code=1)):
        assert ran.err == f"error: {message}\n"
    assert encore("store", "repair", "hits", "--json", code=1).json["wrong"] == [message]
    encore("head", "hits", "--mode", "artist", "--seeds", 1)
    assert encore("store", "repair", "hits").out.endswith(": every shard is intact\n")
    scores.unlink()
    foreign = scores.with_name("seed-7.json")
    foreign.write_text("{}")
    (chunk.parents[4] / "splits.parquet").unlink()
    verified = encore("store", "verify", code=1)
    assert verified.out.splitlines() == [intact, "hits: 3 other files damaged or missing"]
    assert f"{foreign} was not written by Encore; remove it\n" in verified.err
    assert (
        f"{scores} is missing; put a copy back, or take the collection as it is: encore store repair hits"
        in verified.err
    )


def test_a_collection_is_taken_as_it_is(encore: Encore, chunk: Path) -> None:
    splits = encore.store / "hits" / "splits.parquet"
    splits.unlink()
    for command in (("audit", "hits"), ("head", "hits", "--mode", "song"), ("store", "verify")):
        error = encore(*command, code=1).err
        assert "splits.parquet is missing" in error
        assert "encore store repair hits --accept" in error
    assert encore("store", "repair", "hits", "--accept").out == f"accepted: {splits}\n"
    encore("store", "verify")
    encore("audit", "hits")
    (encore.store / "hits" / "seal.json").unlink()
    assert "seal.json is missing" in encore("audit", "hits", code=1).err
    encore("store", "repair", "hits", "--accept")
    encore("audit", "hits")


def test_gc_removes_what_nobody_uses_and_nothing_else(encore: Encore, chunk: Path, features_csv: Path) -> None:
    assert encore("store", "gc").out == "nothing is unused\n"
    for columns in (COLUMNS, COLUMNS.removesuffix("|energy")):
        encore("embed", "table", "--name", "hits", "--table", features_csv, "--columns", columns)
    older = chunk.parents[3]
    (newer,) = set(encore.store.glob("hits/features-*")) - {older}
    encore("head", "hits", "--mode", "knn", "--backbone", older.name)
    encore("head", "hits", "--mode", "artist")
    encore("store", "remove", "hits", "--backbone", older.name, "--yes")
    partial = encore.store / "hits" / ".splits.parquet.1-2.partial"
    partial.write_bytes(b"half")
    assert partial.name not in encore("store", "gc").out  # which may be at work
    os.utime(partial, (0, 0))
    plan = encore("store", "gc", "hits", "--json").json
    assert plan["removed"] is False
    assert {entry["path"] for entry in plan["unused"]} == {f"hits/runs/{older.name}", f"hits/{partial.name}"}
    assert "say --yes to remove" in encore("store", "gc").out
    assert encore("store", "gc", "--yes").out.splitlines()[-1].startswith("removed")
    assert encore("store", "gc").out == "nothing is unused\n"
    assert encore("store", "verify").out.splitlines() == [f"hits/{newer.name}: intact"]
    assert (encore.store / "hits/runs/metadata").is_dir()


def test_gc_names_representations_of_older_revisions(
    encore: Encore, chunk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.find("backbone", "features"), "REVISION", 99)
    name = chunk.parents[3].name
    assert f"{name}: made by an older version of its backbone" in encore("store", "gc", "--yes").out
    assert not chunk.parents[3].exists()
    encore("store", "verify")


def test_a_copied_store_is_a_store(encore: Encore, chunk: Path, tmp_path: Path) -> None:
    for text in ("8 files copied", "0 files copied"):
        result = CliRunner().invoke(app, ["store", "copy", str(encore.store), str(tmp_path / "other")])
        assert result.exit_code == 0, result.stderr
        assert text in result.stdout
    assert (tmp_path / "other" / chunk.relative_to(encore.store)).read_bytes() == chunk.read_bytes()
    assert CliRunner().invoke(app, ["store", "copy", str(tmp_path / "none"), str(tmp_path / "x")]).exit_code == 2
