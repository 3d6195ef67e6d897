"""``encore embed --explain`` says what embed would do, and why, and writes nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from stages import registry
from store import arrays
from store.files import Files
from tests.pipeline.conftest import Encore

COLUMNS = "artist=artist,title=title,labels=genre,features=tempo|energy"


def command(table: Path, *rest: str) -> tuple[object, ...]:
    return ("embed", "table", "--name", "hits", "--table", table, "--columns", COLUMNS, *rest)


def test_what_is_new_changed_and_different(encore: Encore, features_csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    explain = command(features_csv, "--explain")
    first = encore(*explain, "--json").json
    assert (first["added"], first["clips"], first["why"]) == (400, 400, {"never encoded with these settings": 400})
    assert first["tried"] == 16
    assert 0 < first["seconds"] < 60
    assert "  roughly 1 s by this machine alone (16 clips were tried)\n" in encore(*explain).out
    assert not encore.store.exists()
    encore(*command(features_csv))
    before = {path: path.read_bytes() for path in encore.store.rglob("*") if path.is_file()}
    assert encore(*explain).out.splitlines()[-1].endswith(": nothing to encode")
    assert encore(*explain, "--json").json["seconds"] is None
    assert "unknown engine 'dusk'" in encore(*explain, "--engine", "dusk", code=2).err
    assert "--engine dask" in encore(*explain, "--scheduler", "tcp://here:8786", code=2).err
    assert "--part takes i/n" in encore(*explain, "--part", "5/2", code=2).err

    lines = features_csv.read_text().splitlines()
    cells = lines[7].split(",")
    lines[7] = ",".join([*cells[:3], "9.5", *cells[4:]])
    features_csv.write_text("\n".join([*lines, "new artist,new song,genre 1,1,2,3"]) + "\n")
    grown = encore(*explain, "--json").json
    assert (grown["added"], grown["retired"], grown["clips"], grown["shards"]) == (2, 1, 2, 1)
    assert grown["why"] == {"files that changed": 1, "new": 1}
    (there,) = grown["stored"]
    assert (there["name"], there["clips"], there["differs"]) == (grown["representation"], 400, [])

    other = encore(*explain, "--set", "columns=tempo", "--json").json
    assert other["why"] == {"never encoded with these settings": 401}
    assert other["stored"][0]["differs"] == [
        f"{part}.columns: ['tempo', 'energy'] -> ['tempo']" for part in ("config", "inputs")
    ]
    monkeypatch.setattr(registry.find("backbone", "features"), "REVISION", 99)
    assert "\n  revision: 1 -> 99\n" in encore(*explain).out
    assert {path: path.read_bytes() for path in encore.store.rglob("*") if path.is_file()} == before


def test_clips_that_failed_do_not_count_as_encoded(encore: Encore, features_csv: Path) -> None:
    lines = features_csv.read_text().splitlines()
    lines[7] = ",".join([*lines[7].split(",")[:3], "", *lines[7].split(",")[4:]])
    features_csv.write_text("\n".join(lines) + "\n")
    encore(*command(features_csv))
    (there,) = encore(*command(features_csv), "--explain", "--json").json["stored"]
    assert there["clips"] == 399


def test_embed_stops_before_the_disk_is_full(
    encore: Encore, features_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Files, "room", lambda _self: 64 << 20)
    assert "MiB left, and 0 MiB are to be written" in encore(*command(features_csv), code=1).err
    monkeypatch.setattr(Files, "room", lambda _self: (64 << 20) + 100)
    assert "MiB left, and 0 MiB are to be written" in encore(*command(features_csv), code=1).err
    assert not list(encore.store.rglob("representations.zarr")), "what is to be written counts before it starts"
    monkeypatch.undo()
    assert (Files(encore.store).room() or 0) <= shutil.disk_usage(encore.store).total
    encore(*command(features_csv))


def test_a_part_is_explained_as_it_is_encoded(
    encore: Encore, features_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "_SHARD_ROWS", (64, 64))
    whole = encore(*command(features_csv, "--explain", "--json")).json
    share = encore(*command(features_csv, "--explain", "--part", "2/3", "--json")).json
    assert (whole["shards"], whole["clips"]) == (7, 400)
    assert (share["shards"], share["clips"], share["why"]) == (2, 128, {"never encoded with these settings": 128})
    assert share["bytes"] * 7 == whole["bytes"] * 2
    assert encore(*command(features_csv, "--part", "2/3", "--json")).json["encoded"] == share["clips"]
