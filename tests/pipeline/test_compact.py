"""``encore store compact`` as a person gives it."""

from __future__ import annotations

from pathlib import Path

from tests.pipeline.conftest import COLUMNS, Encore, embed_table


def test_a_collection_is_written_anew(encore: Encore, features_csv: Path) -> None:
    embed_table(encore, features_csv)
    lines = features_csv.read_text().splitlines()
    features_csv.write_text("\n".join([*lines[:300], "artist 1,another song,genre 1,0.5,0.25,0.125"]) + "\n")
    embed_table(encore, features_csv)
    encore("head", "hits", "--mode", "artist")
    assert "say --yes to do it" in encore("store", "compact", "hits", code=2).err
    assert "encore store remove hits --runs" in encore("store", "compact", "hits", "--yes", code=2).err
    encore("store", "remove", "hits", "--runs", "--yes")
    result = encore("store", "compact", "hits", "--yes", "--json").json
    assert (result["rows_before"], result["rows"]) == (401, 300)
    assert result["bytes"] < result["bytes_before"]
    assert encore("store", "verify", "--json").json["wrong"] == []
    again = encore("embed", "table", "--table", features_csv, "--name", "hits", "--columns", COLUMNS, "--json").json
    assert (again["encoded"], again["already_there"], again["clips"]) == (0, True, 300)
    assert "hits: 300 rows -> 300, 0 of them elsewhere now" in encore("store", "compact", "hits", "--yes").out
