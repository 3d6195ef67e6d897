"""Splits are dealt anew on request alone, and runs on older splits are never mixed with others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from stages.head import train as head
from stages.head.runs.files import save_run
from store.errors import StoreError
from tests.pipeline.conftest import Encore

pytestmark = pytest.mark.usefixtures("unsealed")  # splits are written by hand here

QUICK = ("--set", "epochs=2")
COLUMNS = ("--columns", "artist=artist,labels=genre,title=title")


@pytest.fixture
def hits(encore: Encore, features_csv: Path) -> Encore:
    """A stored collection whose splits an earlier release dealt: nothing is recorded of them."""
    encore("embed", "table", "--table", features_csv, "--name", "hits", *COLUMNS)
    path = encore.store / "hits" / "splits.parquet"
    table = pq.read_table(path)
    swapped = [table.column(name).take(list(range(len(table) - 1, -1, -1))) for name in table.column_names[1:]]
    table = type(table).from_arrays([table.column(0), *swapped], names=table.column_names)
    pq.write_table(table.replace_schema_metadata({b"encore-splits": b"1"}), path)
    return encore


def test_splits_stay_until_they_are_dealt_anew(hits: Encore) -> None:
    path = hits.store / "hits" / "splits.parquet"
    before = pq.read_table(path)
    assert hits("store", "show", "hits", "--json").json["splits"] == {"random-0": 1, "artist-0": 1}
    output = hits("store", "show", "hits").out
    assert "splits dealt by revision 1: random-0, artist-0; deal anew: encore store redeal" in " ".join(output.split())
    hits("head", "hits", "--mode", "song", *QUICK)
    audit = hits("audit", "hits")
    assert "dealt by an earlier rule (revision 1); deal anew: encore store redeal hits" in " ".join(audit.out.split())
    assert pq.read_table(path).equals(before)
    refused = hits("store", "redeal", "hits", code=2).err
    assert "2 splits of hits anew; 1 run of trained heads will refer to the older ones" in " ".join(refused.split())
    assert pq.read_table(path).equals(before)
    result = hits("store", "redeal", "hits", "--yes", "--json").json
    assert result == {"dataset": "hits", "splits": {"random-0": 2, "artist-0": 2}, "impossible": [], "runs": 1}
    assert not pq.read_table(path).equals(before)
    assert "deal anew" not in hits("store", "show", "hits").out + hits("audit", "hits").out
    assert "encore store remove hits --runs" in " ".join(hits("store", "redeal", "hits", "--yes").out.split())


def test_reports_never_mix_splits(hits: Encore) -> None:
    hits("compare", "hits", "--modes", "song,artist", *QUICK)
    assert "dealt anew" not in hits("report", "hits").err
    hits("store", "redeal", "hits", "--yes")
    older = hits("report", "hits", "--json")
    assert "all runs are on splits that were dealt anew since" in older.err
    assert {mode.partition(" ")[0] for mode in older.json["modes"]} == {"song", "artist"}
    hits("head", "hits", "--mode", "song", *QUICK)
    mixed = hits("report", "hits", "--json")
    assert "left out: artist (half), artist (top), trained on splits that were dealt anew since" in mixed.err
    assert set(mixed.json["modes"]) == {"song"}
    hits("compare", "hits", "--modes", "song,artist", *QUICK)
    assert "dealt anew" not in hits("report", "hits").err


@pytest.mark.parametrize("anew", [False, True])
def test_a_stopped_command_does_not_go_on_with_other_splits(
    hits: Encore, monkeypatch: pytest.MonkeyPatch, anew: bool
) -> None:
    def save_or_stop(*args: Any, **options: Any) -> Any:
        if options["seed"] == 1:
            raise StoreError("stopped")
        return save_run(*args, **options)

    command = ("head", "hits", "--mode", "song", *QUICK, "--seeds", 2)
    with monkeypatch.context() as patch:
        patch.setattr(head, "save_run", save_or_stop)
        assert "stopped" in hits(*command, code=1).err
    if anew:
        hits("store", "redeal", "hits", "--yes")
    assert ("seed-0 was done before" in hits(*command).err) == (not anew)


def test_a_comparison_runs_what_can_be_run(encore: Encore, features_csv: Path) -> None:
    encore("embed", "table", "--table", features_csv, "--name", "hits", *COLUMNS)
    ran = encore("compare", "hits", "--modes", "song", "--regimes", "random,album,artist", *QUICK, "--json")
    assert [result["regime"] for result in ran.json] == ["random", "artist"]
    assert "regime album is left out: no song of this collection has a known album" in ran.err
    assert "known album" in encore("compare", "hits", "--modes", "song", "--regimes", "album", code=2).err
    assert "unknown regime" in encore("compare", "hits", "--regimes", "random,artists", code=2).err


def test_what_is_unusual_of_a_part_is_said(encore: Encore, tmp_path: Path) -> None:
    """A label of one song, an artist with most of a part."""
    rows = [f"star,s{i},{'rare' if i == 0 else 'rock'},{i},1" for i in range(40)]
    rows += [f"a{i},t{i},{'rock' if i % 3 else 'pop'},{i},2" for i in range(20)]
    (tmp_path / "t.csv").write_text("\n".join(["artist,title,genre,x,y", *rows]) + "\n")
    encore("embed", "table", "--table", tmp_path / "t.csv", "--name", "hits", *COLUMNS)
    audit = encore("audit", "hits", "--json").json["regimes"]["artist"]
    assert audit["one_song_artists"]["test"] == 1.0
    assert 0 < audit["one_song_artists"]["train"] < 0.5
    assert audit["largest_artist"]["train"] > 0.8
    train = f"one artist has {100 * audit['largest_artist']['train']:.0f} % of the train songs"
    output = " ".join(encore("audit", "hits").out.split())
    for line in ("a single song carries rare", "no test clip carries rare", train):
        assert any(line in remark for remark in audit["remarks"]), line
        assert line in output
        assert line in encore("head", "hits", "--mode", "song", "--regime", "artist", *QUICK).err
    assert "songs of one-song artists: " in output
    assert "% of train, 100.0 % of validation, 100.0 % of test" in output
