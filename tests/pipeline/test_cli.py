"""The command as a user runs it: what it does, prints, and refuses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from stages import registry
from tests.pipeline.conftest import COLUMNS, QUICK, ROOT, Encore, embed_table
from tests.processes import COMMAND, Process


def test_a_store_without_a_name() -> None:
    ran = CliRunner().invoke(app, ["store", "ls", "--store", " "])
    assert (ran.exit_code, "error: --store is empty" in ran.stderr) == (2, True)


def test_tables_and_reports_fit_a_terminal(encore: Encore, midi_folder: Path) -> None:
    """Every mode, several labels a clip: the widest tables there are."""
    encore("embed", "folder", "--data", midi_folder, "--table", "songs.csv", "--name", "midi")
    text = encore("compare", "midi", "--seeds", 2, *QUICK).out
    assert all(f"\n{mode}" in text for mode in registry.names("head"))
    text += encore("report", "midi").out
    assert "95 % intervals" in text
    assert max(map(len, text.splitlines())) <= 80
    report = encore("report", "midi", "--modes", "song,gnn", "--json").json
    assert set(report["modes"]) == {"song", "gnn"}
    assert report["seeds"] == [0, 1]
    low, high = report["modes"]["gnn"]["interval"]
    assert low <= report["modes"]["gnn"]["score"] <= high
    gnn = report["modes"]["gnn"]
    assert gnn["against"].keys() == {"mode", "difference", "interval", "p"}
    assert gnn["against"]["mode"] == "song"
    tested = sum(sum(counts) for counts in gnn["confusion"])
    assert tested > 0
    assert [len(counts) for counts in gnn["confusion"]] == [len(report["labels"]) + 1] * len(report["labels"])
    for key in ("by_genres_of_artist", "by_songs_of_artist"):
        assert key.removeprefix("by_").replace("_", " ").replace("of artist", "the artist has") in text
        assert {bucket["clips"] > 0 and 0 <= bucket["score"] <= 1 for bucket in gnn[key].values()} == {True}
    scores = [bucket["score"] for bucket in gnn["by_genres_of_artist"].values()]
    assert gnn["deviation_over_genres"] == pytest.approx(np.std(scores))
    assert "no runs in regime artist" in encore("report", "midi", "--regime", "artist", code=2).err


def test_stores_are_listed_for_a_terminal(encore: Encore, features_csv: Path, tmp_path: Path) -> None:
    """Words stand to the left, numbers to the right, every number with the same separators, in 80 columns."""
    rows = features_csv.read_text().splitlines()
    (tmp_path / "long.csv").write_text("\n".join([rows[0], *rows[1:] * 3]) + "\n")
    encore("embed", "table", "--table", features_csv, "--name", "a", "--columns", "labels=genre")
    encore("embed", "table", "--table", tmp_path / "long.csv", "--name", "a-longer-name", "--columns", "labels=genre")
    listed = encore("store", "ls").out.splitlines()
    assert listed[0].startswith("data set       clips  representation")
    assert [line.index("features-") for line in listed[2:4]] == [listed[0].index("representation")] * 2
    assert listed[0].split()[-3:] == ["MiB", "runs", "MiB"]
    assert [line[:20] for line in listed[2:4]] == ["a                400", "a-longer-name  1,200"]
    output = encore("store", "show", "a-longer-name").out
    assert "clips: 1,200 of 1,200 songs by 40 artists\n" in output
    assert ": 1,200 x 3 float32" in output
    assert max(map(len, [*listed, *(line for line in output.splitlines() if not line.startswith("files: "))])) <= 80


def test_a_store_that_is_not_there_is_named(encore: Encore, features_csv: Path) -> None:
    assert f"there is no store {encore.store} (--store or ENCORE_STORE names another)" in encore("store", "ls").out
    embed_table(encore, features_csv)
    message = encore("head", "hit", code=2).err
    assert f"unknown data set 'hit' in the store {encore.store} (--store or ENCORE_STORE names another)" in message
    assert "have: hits. Did you mean hits? If not, encode it first: encore embed hit" in message
    assert "Encode it first: encore embed gtzan" in encore("head", "gtzan", code=2).err


@pytest.mark.parametrize(
    ("args", "pattern"),
    [
        (
            ("embed", "mtgg"),
            r"data set 'mtgg'; have: .*demo.*Did you mean mtg\? The store looked in is /.*/stores \(.*not there",
        ),
        (("embed", "demo", "--backbone", "fcnn"), r"unknown backbone 'fcnn'; have: .*fcn.*pianoroll"),
        (("head", "demo", "--mode", "gnnn"), r"unknown mode 'gnnn'; have: .*gnn.*Did you mean gnn\?"),
        (("head", "nowhere"), r"unknown data set 'nowhere': there is no store /.*/stores \(--store or ENCORE_STORE"),
        (("embed", "mtg"), r"--data DIR \(make: DATA=DIR\).*autotagging_genre.*MTG/mtg-jamendo-dataset"),
        (("embed", "mtg", "--table", "x.csv"), r"mtg takes no --table; it takes: .*--genres"),
        (("embed", "table", "--name", "x", "--table", "no.csv"), r"no\.csv"),
        (("embed", "demo", "--part", "3/2"), r"--part takes i/n"),
        (("embed", "demo", "--part", "²/³"), r"--part takes i/n"),
        (("embed", "demo", "--part", f"1/{'9' * 5000}"), r"--part takes i/n"),
        (("embed", "demo", "--device", "tpu"), r"device 'tpu' cannot be used"),
        (("compare", "demo", "--modes", ","), r"--modes names nothing"),
        (("store", "show", "nowhere"), r"unknown data set 'nowhere': there is no store /.*/stores"),
        (("store", "verify"), r"there is no store /.*/stores \(--store or ENCORE_STORE.*fill one: encore embed demo"),
        (("store", "verify", ""), r"'' cannot name a data set"),
        (("store", "verify", "n" * 300), r"'n{300}' cannot name a data set"),
        (("store", "remove", "n" * 300), r"'n{300}' cannot name a data set"),
        (("head", "n" * 300), r"'n{300}' cannot name a data set"),
        (("report", "n" * 300), r"'n{300}' cannot name a data set"),
        (("store", "remove", "nowhere"), r"unknown data set 'nowhere': there is no store"),
    ],
)
def test_wrong_requests(encore: Encore, args: tuple[str, ...], pattern: str) -> None:
    ran = encore(*args, code=2)
    assert re.search(pattern, ran.err), ran.err
    assert ran.out == ""


def test_wrong_requests_on_a_stored_collection(encore: Encore, features_csv: Path, midi_folder: Path) -> None:
    embed_table(encore, features_csv)
    for args, message in (
        (("head", "hits", "--regime", "artists"), "regime 'artists'; have: album, album-5fold, artist, artist-5fold"),
        (("head", "hits", "--regime", "official"), "no official split"),
        (("head", "hits", "--backbone", "fcn"), "no representation 'fcn'; have: features-"),
        (("head", "hits", "--set", "epoch=3"), "unknown setting 'epoch'; gnn has hidden, "),
        (("head", "hits", "--set", "epochs=many"), "epochs takes a whole number, not 'many'"),
        (("head", "hits", "--set", "dropout=2"), "dropout is 2.0; it must be"),
        (("embed", "hits", "--backbone", "fcn"), "needs weights"),
        (("embed", "hits", "--backbone", "fcn", "--weights", "random"), "table of ready-made features"),
        (("embed", "hits", "--backbone", "features", "--weights", "x"), "has no weights"),
        (("embed", "hits", "--table", str(features_csv)), "is in the store already"),
    ):
        assert message in encore(*args, code=2).err
    encore("embed", "folder", "--data", midi_folder, "--table", "songs.csv", "--name", "midi")
    assert "has no audio files" in encore("embed", "midi", "--backbone", "fcn", "--weights", "random", code=2).err
    assert "holds songs" in encore("embed", "midi", "--backbone", "features", code=2).err


def test_a_damaged_manifest_has_one_remedy_and_ends_no_listing(encore: Encore, features_csv: Path) -> None:
    embed_table(encore, features_csv)
    (name,) = (entry["name"] for entry in encore("store", "ls", "--json").json[0]["representations"])
    manifest = encore.store / "hits" / name / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b" ")
    error = encore("head", "hits", code=1).err
    assert error.count(str(manifest)) == 1
    assert error.endswith("put a copy back, or take the collection as it is: encore store repair hits --accept\n")
    (entry,) = encore("store", "show", "hits", "--json").json["representations"]
    assert (entry["complete"], entry["error"]) == (False, error.removeprefix("error: ").strip())
    assert "does not hold what was written" in " ".join(encore("store", "show", "hits").out.split())
    assert encore("store", "gc").out == "nothing is unused\n"
    encore("store", "repair", "hits", "--accept")
    assert encore("store", "show", "hits", "--json").json["representations"][0]["complete"]


@pytest.mark.usefixtures("unsealed")
def test_a_damaged_store_is_an_error_not_a_traceback(encore: Encore, features_csv: Path) -> None:
    embed_table(encore, features_csv)
    representation = encore.store / "hits" / encore("store", "ls", "--json").json[0]["representations"][0]["name"]
    manifest = representation / "manifest.json"
    content = manifest.read_text()
    manifest.write_text(re.sub(r'"format": \d+', '"format": 7', content))
    assert "manifest was written in format 7" in encore("head", "hits", code=2).err
    manifest.write_text(content[:50])
    assert "remove it and encode again" in encore("head", "hits", code=1).err
    manifest.unlink()
    assert "not complete" in encore("head", "hits", code=2).err
    encore("embed", "hits")
    chunk = next((representation / "representations.zarr" / "c").rglob("0"))
    chunk = chunk if chunk.is_file() else next(p for p in chunk.rglob("*") if p.is_file())
    data = bytearray(chunk.read_bytes())
    data[5] ^= 0xFF
    chunk.write_bytes(data)
    assert "do not hold the numbers that were committed" in encore("store", "verify", code=1).err
    (encore.store / "hits" / "catalog.parquet").write_bytes(b"PAR1 nonsense")
    assert "damaged" in encore("head", "hits", code=1).err


def test_an_unwritable_store(tmp_path: Path, features_csv: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = Encore(tmp_path / "file" / "stores")(
        "embed", "table", "--table", features_csv, "--name", "hits", "--columns", COLUMNS, code=1
    )
    assert "cannot be written" in ran.err


def test_audit_keys_and_text(encore: Encore, features_csv: Path) -> None:
    embed_table(encore, features_csv)
    report = encore("audit", "hits", "--json").json
    assert {"songs", "clips", "artists", "edges", "homophily", "regimes", "baselines"} <= set(report)
    assert set(report["homophily"]) == {"exact", "jaccard", "any"}
    assert set(report["regimes"]) == {"random", "artist"}
    assert {"train", "validation", "test", "shared_artists", "shared_albums", "shared_songs"} <= set(
        report["regimes"]["random"]
    )
    assert report["regimes"]["artist"]["shared_artists"] == 0
    text = encore("audit", "hits").out
    assert "train and test share no artist" in text
    assert max(map(len, text.splitlines())) <= 80


def test_json_stands_alone_on_standard_output(tmp_path: Path, features_csv: Path) -> None:
    """One document on standard output, everything else on standard error, nothing with --quiet."""
    environment = {"ENCORE_STORE": str(tmp_path / "stores")}
    embed = ("embed", "table", "--table", features_csv, "--name", "hits", "--columns", COLUMNS)
    out, err = Process(COMMAND, *embed, "--json", "--quiet", environment=environment).communicate()
    assert json.loads(out)["clips"] == 400
    assert err == ""
    out, err = Process(COMMAND, "head", "hits", "--json", *QUICK, environment=environment).communicate()
    assert json.loads(out)[0]["mode"] == "gnn"
    assert "done in" in err


def test_help_names_every_plug_in(encore: Encore) -> None:
    from typer.testing import CliRunner

    from pipeline.cli import app

    text = CliRunner().invoke(app, ["embed", "--help"], terminal_width=200).output
    for name in (*registry.names("dataset"), *registry.names("backbone")):
        assert name in text


@pytest.mark.parametrize(("stdout", "code"), [(">&-", 0), ("> /dev/full", 1), ("| head -c 0", 0)])
def test_output_that_no_one_takes(encore: Encore, features_csv: Path, stdout: str, code: int) -> None:
    """A closed or full standard output costs at most the exit code."""
    embed_table(encore, features_csv)
    command = f"'{sys.executable}' -m pipeline.cli store show hits --store '{encore.store}' {stdout}"
    process = subprocess.run(["/bin/sh", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == code
    assert "Traceback" not in process.stderr
    assert ("standard output: cannot be written or read: No space" in process.stderr) == (code == 1)


def test_no_file_gets_the_number_of_a_closed_stream() -> None:
    """Else what is printed would be written into it."""
    script = (
        "import os, sys\nos.close(0)\nos.close(1)\nsys.stdin = sys.stdout = None\n"
        "from pipeline.process import take_standard_streams\ntake_standard_streams()\n"
        "print('lost')\nprint(os.open('/dev/null', os.O_RDONLY), file=sys.stderr)"
    )
    with Process(script) as process:
        out, err = process.communicate()
    assert (process.returncode, out) == (0, "")
    assert int(err) > 2


def test_a_terminal_of_few_letters(encore: Encore, features_csv: Path) -> None:
    embed_table(encore, features_csv)
    ascii_alone = f"import sys\nsys.stdout.reconfigure(encoding='ascii')\n{COMMAND}"
    process = Process(ascii_alone, "compare", "hits", "--modes", "artist", "--seeds", 2, "--store", encore.store)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "?" in out
