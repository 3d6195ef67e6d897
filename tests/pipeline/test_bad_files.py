"""What no one wants in people's files: the command tells each in one message, and nothing leaves its root."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from pipeline.cli import app
from tests.embed.test_fma import song as fma_song
from tests.embed.test_fma import write as write_fma
from tests.embed.test_mtg import HEADER, line, write_lists
from tests.embed.trees import midi
from tests.pipeline.conftest import Encore


def test_links_out_of_the_root_are_failures(encore: Encore, tmp_path: Path) -> None:
    """Also through a folder with a space and an accent in its name; the file outside is never read."""
    root = tmp_path / "my söngs"
    root.mkdir()
    (tmp_path / "out.mid").write_bytes(midi(20.0))
    for name in ("one two.mid", "drei ü.mid"):
        (root / name).write_bytes(midi(20.0))
    (root / "link.mid").symlink_to(tmp_path / "out.mid")
    (root / "inner.mid").symlink_to(root / "one two.mid")
    names = ["one two.mid", "drei ü.mid", "link.mid", "inner.mid"]
    lines = [f"{name},artist {i},rock" for i, name in enumerate(names)]
    (root / "songs.csv").write_text("\n".join(["file,artist,labels", *lines]) + "\n", encoding="utf-8")
    report = encore("embed", "folder", "--data", root, "--table", "songs.csv", "--name", "own", "--json").json
    assert report["failed"] == {"not-followed": 1}
    assert "link.mid: not-followed: is a link out of" in encore("store", "show", "own").out


def test_what_is_no_file_is_never_opened(encore: Encore, tmp_path: Path) -> None:
    root = tmp_path / "songs"
    root.mkdir()
    (root / "good.mid").write_bytes(midi(20.0))
    os.mkfifo(root / "pipe.mid")
    (root / "loop.mid").symlink_to(root / "loop.mid")
    lines = [f"{name}.mid,artist {name},rock" for name in ("good", "pipe", "loop")]
    (root / "songs.csv").write_text("\n".join(["file,artist,labels", *lines]) + "\n")
    report = encore("embed", "folder", "--data", root, "--table", "songs.csv", "--name", "own", "--json").json
    assert report["failed"] == {"not-a-file": 2}
    output = encore("store", "show", "own").out
    assert "pipe.mid: not-a-file: is a pipe" in output
    assert "loop.mid: not-a-file: is a link" in output


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("column", "autotagging_genre-test.tsv, line 1: the header lacks ALBUM_ID"),
        ("two sides", "track_0000001 stands in autotagging_genre-train.tsv, line 2, already"),
        ("release", "the header lacks TRACK_ID, ARTIST_ID, ALBUM_ID, PATH, DURATION, TAGS"),
        ("absent", "none of the files of mtg (3) is under"),
    ],
)
def test_official_lists(encore: Encore, tmp_path: Path, damage: str, words: str) -> None:
    songs = [line(1, "rock"), line(2, "pop", artist=2), line(1 if damage == "two sides" else 3, "jazz", artist=3)]
    write_lists(tmp_path, *([text] for text in songs))
    path = tmp_path / "autotagging_genre-test.tsv"
    if damage == "column":
        path.write_text(path.read_text().replace("ALBUM_ID\t", ""))
    elif damage == "release":
        path.write_text("id\ttags\n" + path.read_text().removeprefix(HEADER))
    assert words in encore("embed", "mtg", "--data", tmp_path, "--backbone", "mfcc", code=2).err


def test_another_release_of_a_table(encore: Encore, tmp_path: Path) -> None:
    write_fma(tmp_path, fma_song(1), drop="set.split")
    err = encore("audit", "fma", "--data", tmp_path, code=2).err
    assert "is not the tracks.csv of FMA's release of 2017: it lacks set.split" in err


def test_labels_for_files_that_are_absent(encore: Encore, midi_folder: Path) -> None:
    (midi_folder / "labels.csv").write_text("song,labels\nsöng 0,rock\ngone,pop\nsöng 1,rock\n", encoding="utf-8")
    args = ("audit", "folder", "--data", midi_folder, "--labels", "labels.csv", "--name", "own", "--clips", 1)
    assert "labels.csv has labels for 1 more song that is not here ('gone' is the first)" in encore(*args).err


@pytest.mark.parametrize(
    ("option", "known"), [((), ["X"]), (("--various", "X"), ["V"]), (("--various", ""), ["V", "X"])]
)
def test_nobody_in_particular_joins_no_songs(
    encore: Encore, midi_folder: Path, option: tuple[str, ...], known: list[str]
) -> None:
    """Empty artists never do; which names mean no one is configurable."""
    names = ["Various Artists"] * 8 + [""] * 8 + ["X"] * 8
    lines = [f"söng {i}.mid,{name},rock" for i, name in enumerate(names)]
    (midi_folder / "various.csv").write_text("\n".join(["file,artist,labels", *lines]) + "\n", encoding="utf-8")
    args = ("folder", "--data", midi_folder, "--table", "various.csv", "--name", "own", "--clips", 1)
    report = encore("audit", *args, *option, "--json").json
    assert report["artists"] == len(known)
    assert report["unknown_artist"] == 24 - 8 * len(known)
    assert report["edges"] == 28 * len(known)


def test_more_clips_than_a_catalog_holds(encore: Encore, midi_folder: Path) -> None:
    """Refused by what the request could make, not by what fits in memory."""
    own = ("embed", "folder", "--data", midi_folder, "--table", "songs.csv", "--name", "own", "--clip-s", "1e-9")
    message = encore(*own, "--clips", "99999999", code=2).err
    assert (
        "error: --clips 99,999,999 could cut 2,399,999,976 clips from 24 songs, and 50,000,000 are the most" in message
    )


def test_a_store_behind_a_url_that_opens_nothing(tmp_path: Path) -> None:
    archive = tmp_path / "songs.zip"
    archive.write_text("this is no archive")
    for where, words in ((f"zip://x::{archive}", "not a zip file"), ("github://x", "missing")):
        ran = CliRunner().invoke(app, ["store", "ls", "--store", where])
        assert (ran.exit_code, ran.output.count("\n")) == (2, 1)
        assert ran.output.startswith(f"error: cannot open the store '{where}': ")
        assert words in ran.output


def test_every_file_that_is_not_read_is_listed_with_its_reason(
    encore: Encore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By kind after embed; whole, by id, path, row and reason, by store show --failures; the same as CSV and JSON."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))  # where there is no ffmpeg
    root = tmp_path / "songs"
    root.mkdir()
    wave = 0.3 * np.sin(np.arange(4 * 16_000) * 0.2)
    for name in ("a.wav", "b.wav"):
        soundfile.write(root / name, wave, 16_000)
    soundfile.write(root / "loud.wav", 1000 * wave, 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "out.wav", wave, 16_000)
    (root / "cut.wav").write_bytes((root / "a.wav").read_bytes()[:70_000])
    (root / "link.wav").symlink_to(tmp_path / "out.wav")
    (root / "empty.wav").touch()
    (root / "text.wav").write_text("404 not found")
    (root / "song.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    (root / "cover.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    names = sorted([*(path.name for path in root.iterdir()), "gone.wav"])
    lines = [f"{name},artist,rock" for name in names]
    (root / "songs.csv").write_text("\n".join(["file,artist,labels", *lines]) + "\n")
    args = ("embed", "folder", "--data", root, "--table", "songs.csv", "--name", "own", "--backbone", "mfcc")
    report = encore(*args, "--json").json
    assert report["encoded"] == 4
    assert report["failed"] == {"not-supported": 2, "empty": 1, "missing": 1, "not-followed": 1, "damaged": 1}
    assert report["noted"] == {"loud": 1, "truncated": 1}
    listed = encore("store", "show", "own", "--failures", "--json").json["clips"]
    failed = {clip["clip_id"]: clip["kind"] for clip in listed if not clip["encoded"]}
    assert failed == {
        "cover.jpg": "not-supported",
        "empty.wav": "empty",
        "gone.wav": "missing",
        "link.wav": "not-followed",
        "song.m4a": "not-supported",
        "text.wav": "damaged",
    }
    noted = {clip["clip_id"]: clip["kind"] for clip in listed if clip["encoded"]}
    assert noted == {"cut.wav": "truncated", "loud.wav": "loud"}
    rows = list(csv.DictReader(io.StringIO(encore("store", "show", "own", "--failures", "--csv").out)))
    assert [{**row, "row": int(row["row"]), "encoded": row["encoded"] == "True"} for row in rows] == listed
    text = encore("store", "show", "own", "--failures").out
    assert all(clip["reason"] in text and f"row {clip['row']}: {clip['clip_id']}" in text for clip in listed)
    assert "2 clips encoded, with a note" in text
    assert "notes on encoded clips: 1 loud, 1 truncated" in encore("store", "show", "own").out
    assert "give --failures --csv" in encore("store", "show", "own", "--csv", code=2).err
    again = encore(*args, "--json").json
    assert again["noted"] == report["noted"]
    assert again["already_there"]
    assert again["failed"] == report["failed"]
    followed = encore(*args, "--follow-links", "--json").json
    assert followed["failed"] == {key: n for key, n in report["failed"].items() if key != "not-followed"}


def test_what_ffmpeg_reads_is_tried_again_once_it_is_there(
    encore: Encore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, programs = tmp_path / "songs", tmp_path / "bin"
    root.mkdir()
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    soundfile.write(root / "a.wav", 0.3 * np.sin(np.arange(32_000) * 0.2), 16_000)
    (root / "b.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    (root / "c.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (root / "songs.csv").write_text("file,labels\na.wav,x\nb.m4a,x\nc.jpg,x\n")
    args = ("embed", "folder", "--data", root, "--table", "songs.csv", "--name", "own", "--backbone", "mfcc")
    assert encore(*args, "--json").json["failed"] == {"not-supported": 2}
    assert "is already there; nothing was encoded" in encore(*args).out
    (programs / "ffmpeg").write_text("#!/bin/sh\nexit 1\n")
    (programs / "ffmpeg").chmod(0o755)
    with_ffmpeg = encore(*args, "--json").json
    assert with_ffmpeg["failed"] == {"not-supported": 1, "damaged": 1}
    assert encore(*args, "--json").json["already_there"]
    soundfile.write(root / "c.jpg", 0.3 * np.sin(np.arange(32_000) * 0.2), 16_000, format="WAV")
    changed = encore(*args, "--json").json
    assert (changed["encoded"], changed["failed"]) == (1, {"damaged": 1})


def test_failed_rows_of_a_table_can_be_traced(encore: Encore, tmp_path: Path) -> None:
    rows = [f"artist {i % 3},rock,{'inf' if i % 12 == 5 else i},{i}" for i in range(120)]
    (tmp_path / "t.csv").write_text("\n".join(["artist,labels,a,b", *rows]) + "\n")
    encore("embed", "table", "--name", "own", "--table", tmp_path / "t.csv")
    clips = encore("store", "show", "own", "--failures", "--json").json["clips"]
    assert [clip["clip_id"] for clip in clips] == [f"row-{i:06d}" for i in range(5, 120, 12)]
    output = encore("store", "show", "own").out
    assert "row-000005 (t.csv): not-finite: no finite number in a" in output
    assert "all: encore store show own --failures" in output
    assert "every clip of own is encoded" not in output


def test_songs_that_all_are_links_out_of_the_folder(encore: Encore, tmp_path: Path) -> None:
    """None is absent, and the message does not say so; followed, they are read, whatever the targets are called."""
    root = tmp_path / "snapshot"
    root.mkdir()
    (tmp_path / "blobs").mkdir()
    for i in range(3):
        (tmp_path / "blobs" / f"beef{i}").write_bytes(midi(20.0, 60 + i))
        (root / f"{i}.mid").symlink_to(f"../blobs/beef{i}")
    args = ("embed", "folder", "--data", root, "--unlabelled", "--name", "own", "--backbone", "pianoroll")
    err = encore(*args, code=2).err
    assert "the files of own (3; " in err
    assert "are links out of" in err
    assert "--follow-links follows them" in err
    report = encore(*args, "--follow-links", "--json").json
    assert report["failed"] == {}
    assert report["songs"] == 3
