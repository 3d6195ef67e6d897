"""``encore embed``: once, resumable, in parts, and never more than what is new."""

from __future__ import annotations

import json
import re
import shutil
import signal
from pathlib import Path

import numpy as np

from store.layout import Store
from store.reader import Representations
from tests.pipeline.conftest import COLUMNS, QUICK, Encore, embed_table
from tests.processes import COMMAND, Process


def test_embedding_twice_encodes_once(encore: Encore, features_csv: Path) -> None:
    embed_table(encore, features_csv)
    again = encore("embed", "hits")
    assert "already there; nothing was encoded" in again.out
    # A corrected label encodes nothing; a new song is the only one to be encoded; a changed one is a new row.
    text = features_csv.read_text()
    features_csv.write_text(text.replace("song 3,genre", "song 3,more", 1))
    table = ("embed", "table", "--table", features_csv, "--name", "hits", "--columns", COLUMNS, "--json")
    report = encore(*table).json
    assert (report["corrected"], report["encoded"], report["already_there"]) == (1, 0, True)
    features_csv.write_text(text + "artist 1,song 400,genre 1,1.0,2.0,3.0\n")
    report = encore(*table).json
    assert (report["added"], report["encoded"], report["clips"]) == (1, 1, 401)
    lines = text.splitlines()
    lines[5] = re.sub(r"[-\d.]+$", "77.0", lines[5])
    features_csv.write_text("\n".join(lines) + "\n")
    report = encore(*table).json
    assert (report["added"], report["retired"], report["encoded"], report["clips"]) == (1, 2, 1, 400)
    assert encore("store", "verify", "hits").out.strip().endswith("intact")


def test_other_features_of_a_table_lie_beside(encore: Encore, features_csv: Path) -> None:
    """Another choice of columns is another representation of the same songs: no row is retired or added."""
    args = ("embed", "table", "--table", features_csv, "--name", "hits", "--json")
    first = encore(*args, "--columns", "labels=genre").json
    second = encore(*args, "--columns", "labels=genre,features=tempo").json
    assert (second["added"], second["retired"], second["corrected"], second["encoded"]) == (0, 0, 0, 400)
    assert second["representation"] != first["representation"]
    third = encore(*args, "--columns", "labels=genre").json
    assert third["already_there"]
    assert third["representation"] == first["representation"]


def test_other_settings_lie_beside(encore: Encore, midi_folder: Path) -> None:
    encore("embed", "folder", "--data", midi_folder, "--table", "songs.csv", "--name", "midi")
    (encore.store / "midi" / "gone.0123abcd.removed").mkdir()
    encore("embed", "midi", "--set", "frames=8")
    assert not list(encore.store.rglob("*.removed"))
    listed = encore("store", "ls", "--json").json
    assert [len(entry["representations"]) for entry in listed] == [2]
    ambiguous = encore("head", "midi", code=2)
    assert "2 representations that fit; name one by --backbone" in ambiguous.err
    name = listed[0]["representations"][0]["name"]
    encore("head", "midi", "--backbone", name, *QUICK)
    encore("store", "remove", "midi", "--backbone", name, "--yes")
    assert len(encore("store", "ls", "--json").json[0]["representations"]) == 1
    (encore.store / "gone.0123abcd.removed").mkdir()
    encore("store", "remove", "midi", "--yes")
    assert encore("store", "ls", "--json").json == []
    assert not list(encore.store.iterdir())


def test_bf16_is_refused_on_a_cpu_with_the_reason(encore: Encore, midi_folder: Path) -> None:
    songs = ("embed", "folder", "--data", midi_folder, "--table", "songs.csv", "--name", "midi")
    network = (*songs, "--backbone", "pianoroll-cnn", "--weights", "random")
    refused = encore(*network, "--precision", "bf16", "--device", "cpu", code=2).err
    assert "precision bf16 needs a GPU: on some CPUs, torch's convolutions in bf16 give wrong numbers" in refused
    assert "unknown precision '16'; have: 32, bf16" in encore(*network, "--precision", "16", code=2).err
    refused = encore(*songs, "--backbone", "pianoroll", "--precision", "bf16", code=2).err
    assert "pianoroll has no network that could run in bf16" in refused


def test_songs_that_cannot_be_encoded_are_counted(encore: Encore, audio_folder: Path) -> None:
    args = ("embed", "folder", "--data", audio_folder, "--table", "songs.csv", "--name", "own", "--weights", "random")
    report = encore(*args, "--json")
    assert report.json["failed"] == {"silent": 1, "damaged": 1, "missing": 1}
    assert "3 clips could not be encoded (1 damaged, 1 missing, 1 silent); which: encore store show own" in (
        encore(*args).out
    )
    output = encore("store", "show", "own").out
    assert "3 clips could not be encoded (1 damaged, 1 missing, 1 silent):" in output
    assert "missing.wav: missing" in output
    store = Store(encore.store)
    opened = Representations(store, store.read_catalog("own"), store.find("own", None))
    assert opened.encoded().sum() == 4
    assert np.isfinite(opened.read()[opened.encoded()]).all()
    failed = encore(*args, "--strict", code=1)
    assert re.search(r"error: (silent|text|missing)\.wav: ", failed.err)
    # The missing song turns up: it alone is encoded.
    shutil.copy(audio_folder / "0.wav", audio_folder / "missing.wav")
    report = encore(*args, "--json").json
    assert (report["encoded"], report["failed"]) == (1, {"silent": 1, "damaged": 1})


def test_a_song_that_came_back_is_no_failure_and_a_damaged_catalog_is_told(encore: Encore, midi_folder: Path) -> None:
    song = midi_folder / "söng 3.mid"
    data = song.read_bytes()
    song.unlink()
    embed = ("embed", "folder", "--data", midi_folder, "--table", "songs.csv", "--name", "own")
    encore(*embed)
    (entry,) = encore("store", "show", "own", "--json").json["representations"]
    assert [failure["kind"] for failure in entry["first_failures"]] == ["missing"]
    song.write_bytes(data)
    encore(*embed)
    (entry,) = encore("store", "show", "own", "--json").json["representations"]
    assert (entry["failures"], entry["first_failures"]) == (0, [])
    (encore.store / "own" / "catalog.parquet").write_text("no catalog")
    for dataset in ([], ["own"]):
        ran = encore("store", "verify", *dataset, code=1)
        assert ran.out == "own: damaged\n"
        assert "put a copy of catalog.parquet back" in ran.err


# The command, which stops itself when it is to commit its first shard.
STOPPED = """
import os, signal
from store.writer import RepresentationWriter
signal.signal(signal.SIGINT, signal.default_int_handler)
commit = RepresentationWriter.commit
def stop(*args):
    os.kill(os.getpid(), {stop})
    commit(*args)
RepresentationWriter.commit = stop
from pipeline.cli import main
main()
"""


def test_a_killed_embed_goes_on(tmp_path: Path, features_csv: Path) -> None:
    """Ctrl-C and SIGKILL between the catalog and the first shard; what follows is as if nothing had stopped it."""
    reference, broken = tmp_path / "whole", tmp_path / "broken"
    Encore(reference)("embed", "table", "--table", features_csv, "--name", "hits", "--columns", COLUMNS)
    arguments = ["embed", "table", "--table", str(features_csv), "--name", "hits", "--columns", COLUMNS]
    for stop, code in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        process = Process(STOPPED.format(stop=int(stop)), *arguments, "--store", broken)
        _, err = process.communicate()
        assert process.returncode == code, err
        assert "Traceback" not in err
        assert (broken / "hits" / "catalog.parquet").exists()
    Encore(broken)("embed", "table", "--table", features_csv, "--name", "hits", "--columns", COLUMNS)
    assert _tree(broken) == _tree(reference)


def _tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_parts_share_the_work(encore: Encore, midi_folder: Path) -> None:
    args = ("embed", "folder", "--data", midi_folder, "--table", "songs.csv", "--name", "midi", "--json")
    one = encore(*args, "--part", "1/2").json
    two = encore(*args, "--part", "2/2").json
    assert two["complete"]
    assert one["encoded"] + two["encoded"] == one["clips"]


def test_parts_run_at_the_same_time(tmp_path: Path, midi_folder: Path) -> None:
    """Two processes read the same folder, agree over its rows, and encode their own shards."""
    environment = {"ENCORE_STORE": str(tmp_path / "stores")}
    embed = ("embed", "folder", "--data", midi_folder, "--table", "songs.csv", "--name", "midi", "--json")
    options = ("--clips", 6, "--clip-s", 3, "--workers", 0, "--set", "frames=256")
    both = [Process(COMMAND, *embed, *options, "--part", part, environment=environment) for part in ("1/2", "2/2")]
    outputs = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    reports = [json.loads(out) for out, _ in outputs]
    assert sorted(report["encoded"] for report in reports) == [64, 80]
    assert {report["added"] for report in reports} == {0, 144}
    assert any(report["complete"] for report in reports)
    store = Store(tmp_path / "stores")
    opened = Representations(store, store.read_catalog("midi"), store.find("midi", None))
    assert opened.verify() == []
    assert opened.encoded().all()


def test_every_backbone_has_the_same_splits(encore: Encore, audio_folder: Path) -> None:
    """A song that one backbone cannot read moves no other song to another side."""
    rows = [f"{i}.wav,artist {i},rock" for i in range(4)] + [f"lost-{i}.wav,artist {i},rock" for i in range(40)]
    (audio_folder / "songs.csv").write_text("\n".join(["file,artist,labels", *rows]) + "\n")
    encore(*("embed", "folder", "--data", audio_folder, "--table", "songs.csv", "--name", "own", "--weights", "random"))
    from stages.head.open import from_catalog, load

    store = Store(encore.store)
    collection, part = from_catalog(store.read_catalog("own")), load(store, "own", None)
    assert (len(collection), len(part)) == (44, 4)
    for regime in ("random", "artist"):
        sides = dict(zip(collection.rows.tolist(), collection.split(regime, 3).tolist(), strict=True))
        assert [sides[row] for row in part.rows.tolist()] == part.split(regime, 3).tolist()
        folds = collection.parts("random-4fold", 1)[2]
        sides = dict(zip(collection.rows.tolist(), folds.tolist(), strict=True))
        assert [sides[row] for row in part.rows.tolist()] == part.parts("random-4fold", 1)[2].tolist()
