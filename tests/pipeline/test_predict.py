"""``encore predict``: stored answers again, new songs by what is known of their artist, and what cannot be judged."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pretty_midi
import pytest
import soundfile
import torch

from stages import registry
from stages.embed.genre_tags import read_genres
from store.fingerprint import hash_file
from store.layout import Store
from store.runs import RunFolder, read_runs
from tests.pipeline.conftest import Encore
from tests.processes import Process

QUICK = ("--set", "epochs=2", "--set", "hidden=8")
SONGS = 24
ARTISTS = 6


def write_song(path: Path, number: int) -> None:
    """Twenty seconds that differ from song to song in pitch, loudness and steps."""
    midi = pretty_midi.PrettyMIDI()
    piano = pretty_midi.Instrument(program=0)
    for i in range(40):
        pitch = 40 + (number % 3) * 15 + (i * (1 + number % 2)) % 12
        piano.notes.append(pretty_midi.Note(velocity=20 + number, pitch=pitch, start=i * 0.5, end=i * 0.5 + 0.4))
    midi.instruments.append(piano)
    midi.write(str(path))


@dataclass
class Trained:
    """A collection ``mine`` of twenty-four songs of six artists, two clips a song, and heads of every mode."""

    encore: Encore
    songs: Path
    modes: list[str]

    def predict(self, *args: object, code: int = 0, head: str = "mine/gnn") -> Any:
        ran = self.encore("predict", *args, "--head", head, "--json", code=code)
        return ran.json if code == 0 else ran.err

    def song(self, number: int) -> Path:
        return self.songs / f"{number}.mid"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("predict")
    songs = folder / "songs"
    songs.mkdir()
    lines = ["file,artist,labels"]
    for number in range(SONGS):
        write_song(songs / f"{number}.mid", number)
        lines.append(f"{number}.mid,artist {number % ARTISTS},{['jazz', 'rock|pop', 'folk'][number % 3]}")
    (songs / "songs.csv").write_text("\n".join(lines) + "\n")
    encore = Encore(folder / "stores")
    table = ("--table", songs / "songs.csv", "--backbone", "pianoroll", "--clips", 2, "--clip-s", 5)
    encore("embed", "folder", "--name", "mine", "--data", songs, *table)
    modes = [mode for mode in registry.names("head") if mode != "side-edges"]  # which needs numeric targets
    encore("compare", "mine", "--modes", ",".join(modes), "--seeds", 1, *QUICK)
    return Trained(encore, songs, modes)


@pytest.fixture
def new_song(tmp_path: Path) -> Callable[[int], Path]:
    def write(number: int) -> Path:
        path = tmp_path / f"new {number}.mid"
        write_song(path, number)
        return path

    return write


def stored_scores(trained: Trained, mode: str) -> dict[int, np.ndarray[Any, Any]]:
    """By catalog row, the scores that a run left of its test clips."""
    store = Store(trained.encore.store)
    (name,) = store.complete("mine")
    representation = str(name) if registry.find("head", mode).READS_SONGS else None
    runs = list(read_runs(store, RunFolder("mine", representation, mode, "random")))
    run = next(run for run in runs if run.record.rule in (None, "at least half"))
    return dict(zip(run.rows, run.score, strict=True))


def test_every_mode_gives_a_stored_song_its_stored_answer_whatever_else_is_asked(
    trained: Trained, new_song: Callable[[int], Path]
) -> None:
    catalog = Store(trained.encore.store).read_catalog("mine")
    paths = catalog.strings("path")
    for mode in trained.modes:
        scores = stored_scores(trained, mode)
        song = paths[min(scores)]
        rows = [row for row, path in enumerate(paths) if path == song]
        number = int(str(song).removesuffix(".mid"))
        head = "mine/runs/metadata/artist-random/seed-0-at-least-half" if mode == "artist" else f"mine/{mode}"
        others = (new_song(100), new_song(101), trained.song((number + ARTISTS) % SONGS))
        answer = trained.predict(trained.song(number), *others, "--artist", f"artist {number % ARTISTS}", head=head)
        first = answer["songs"][0]
        assert (first["song_id"], first["part"], first["clips"]) == (song, "test", 2), mode
        labels = sorted(first["scores"])
        for row, segment in zip(rows, first["segments"], strict=True):
            answers = [segment["scores"][label] for label in labels]
            np.testing.assert_allclose(answers, scores[row], atol=1e-5, rtol=0, err_msg=mode)
        mean = np.mean([scores[row] for row in rows], axis=0)
        np.testing.assert_allclose([first["scores"][label] for label in labels], mean, atol=1e-5, rtol=0)


def test_a_copy_of_a_stored_song_has_its_answer_and_a_training_song_is_told(trained: Trained, tmp_path: Path) -> None:
    answers = trained.predict(trained.songs)["songs"]
    assert len(answers) == SONGS
    by_part = {answer["part"]: answer for answer in answers}
    assert set(by_part) == {"train", "validation", "test"}
    copy = tmp_path / "copy.mid"
    shutil.copy(by_part["train"]["file"], copy)
    (again,) = trained.predict(copy)["songs"]
    first = by_part["train"]
    assert (again["song_id"], again["part"], again["labels"]) == (first["song_id"], "train", first["labels"])
    assert again["scores"] == pytest.approx(first["scores"], abs=1e-5)
    text = trained.encore("predict", copy, "--head", "mine/gnn").out
    assert "which the head was trained on" in " ".join(text.split())


def test_the_artist_decides_who_the_neighbours_are(trained: Trained, new_song: Callable[[int], Path]) -> None:
    songs = new_song(50), new_song(51)
    alone = trained.predict(*songs)["songs"]
    assert [(answer["artist"], answer["neighbours"], answer["clips"]) for answer in alone] == [(None, 0, 2)] * 2
    known = trained.predict(*songs, "--artist", "ARTIST 1")["songs"]
    # Four stored songs and the other new one, of two clips each, and the song's own other clip.
    assert [(answer["artist"], answer["neighbours"]) for answer in known] == [("artist 1", 11)] * 2
    ran = trained.encore("predict", *songs, "--artist", "Nobody", "--head", "mine/gnn", "--json")
    strangers = ran.json["songs"]
    assert [(a["artist"], a["artist_is_stored"], a["neighbours"]) for a in strangers] == [("Nobody", False, 3)] * 2
    assert "the collection has no artist 'Nobody'" in ran.err
    assert alone[0]["scores"] != known[0]["scores"] != strangers[0]["scores"]


def test_the_gate_tells_how_much_the_artist_weighed(trained: Trained, new_song: Callable[[int], Path]) -> None:
    song = new_song(50)
    (known,) = trained.predict(song, "--artist", "artist 1", head="mine/gated")["songs"]
    (unknown,) = trained.predict(song, "--artist", "Nobody", head="mine/gated")["songs"]
    assert known["trust"] > 0
    assert unknown["trust"] == 0
    (song_only,) = trained.predict(song, head="mine/song")["songs"]
    assert (song_only["neighbours"], song_only["trust"]) == (None, None)


def test_a_table_names_the_artists(trained: Trained, new_song: Callable[[int], Path], tmp_path: Path) -> None:
    new_song(60), new_song(61)
    table = tmp_path / "who.csv"
    table.write_text("file,who\nnew 60.mid,artist 2\nnew 61.mid,\n")
    answers = trained.predict(tmp_path, "--table", table, "--columns", "artist=who")["songs"]
    assert {answer["artist"] for answer in answers} == {"artist 2", None}
    for words, message in (
        ((tmp_path, "--table", table, "--artist", "x"), "give one of them"),
        ((tmp_path, tmp_path, "--table", table), "name that folder alone"),
        ((tmp_path, "--columns", "artist=who"), "which is not given"),
    ):
        assert message in trained.predict(*words, code=2)


def test_an_answer_along_the_song(trained: Trained, new_song: Callable[[int], Path]) -> None:
    words = ("--segments", 3, "--hop", 1.5)
    for by in ("mean", "vote"):
        new, known = trained.predict(new_song(50), trained.song(3), *words, "--by", by)["songs"]
        starts = [segment["start_s"] for segment in new["segments"]]
        assert starts == [1.5 * i for i in range(12)]  # of 19.9 s
        assert new["clips"] == known["clips"] == 12
        if by == "vote":
            labels = [label for segment in new["segments"] for label in segment["labels"]]
            assert all(abs(score - labels.count(label) / 12) < 1e-6 for label, score in new["scores"].items())
    # The stored clips of the song itself are not among its neighbours.
    assert known["neighbours"] == 11 + 3 * 2
    for words, message in ((("--hop", 1), "which is not given"), (("--segments", 0), "0.01 or more")):
        assert message in trained.predict(trained.song(3), *words, code=2)


def test_only_what_is_asked_for_is_shown(trained: Trained) -> None:
    song = trained.song(0)
    (every,) = trained.predict(song, "--threshold", 0)["songs"]
    assert every["labels"] == list(every["scores"])
    assert list(every["scores"].values()) == sorted(every["scores"].values(), reverse=True)
    (two,) = trained.predict(song, "--threshold", 1, "--top", 2)["songs"]
    assert (two["labels"], list(two["scores"])) == ([], list(every["scores"])[:2])
    rows = list(csv.DictReader(io.StringIO(trained.encore("predict", song, "--head", "mine", "--csv").out)))
    assert {row["label"] for row in rows} == set(every["scores"])
    assert trained.predict(song, "--csv", code=2).startswith("error: --csv and --json")


def test_the_head_is_the_best_by_validation_or_the_newest_or_the_one_named(trained: Trained) -> None:
    song, runs = trained.song(0), Path(trained.encore.store, "mine", "runs")
    records = [json.loads(path.read_text()) for path in runs.glob("*/*/seed-0.json")]
    best = max(
        (max(epoch["validation"] for epoch in record["history"]), record["mode"])
        for record in records
        if record["history"]
    )
    choice = trained.predict(song, head="mine")["head"]
    (record,) = (record for record in records if record["mode"] == choice["mode"])
    assert max(epoch["validation"] for epoch in record["history"]) == best[0]
    assert "validation" in choice["chosen"]
    half, top = (
        runs / "metadata" / "artist-random" / f"seed-0-{rule}.json" for rule in ("at-least-half", "most-frequent")
    )
    for newest, other, rule in ((half, top, "at least half"), (top, half, "most frequent")):
        os.utime(other, (1, 1))
        os.utime(newest, (2, 2))
        assert trained.predict(song, head="mine/artist-random")["head"]["rule"] == rule
        for path in (other, other.with_suffix(".pt"), other.with_suffix("")):
            assert trained.predict(song, head=str(path))["head"]["rule"] != rule


@pytest.mark.usefixtures("unsealed")
def test_heads_that_are_not_there(trained: Trained, tmp_path: Path) -> None:
    song = trained.song(0)
    assert "unknown data set 'yours'" in trained.predict(song, head="yours", code=2)
    assert "unknown trained head of mine 'gmm'; have: " in trained.predict(song, head="mine/gmm", code=2)
    assert "there is no trained head" in trained.predict(song, head="mine/runs/metadata/artist-album", code=2)
    store = tmp_path / "stores"
    shutil.copytree(trained.encore.store, store)
    (representation,) = (store / "mine").glob("pianoroll-*")
    other = Trained(Encore(store), trained.songs, [])
    representation.rename(representation.with_name("pianoroll-000000000000"))
    assert f"reads the representation {representation.name}, which mine no longer has" in other.predict(song, code=2)
    shutil.rmtree(store / "mine" / "runs")
    assert "mine has no trained head yet; train one: encore head mine" in other.predict(song, code=2)


def test_a_representation_of_another_version_or_of_features(
    trained: Trained,
    encore: Encore,
    features_csv: Path,
    new_song: Callable[[int], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    song = new_song(50)
    words = ("--columns", "artist=artist,labels=genre,features=tempo|energy|loudness")
    encore("embed", "table", "--name", "hits", "--table", features_csv, *words)
    encore("head", "hits", "--mode", "song", *QUICK)
    for asked in ((song,), (song.parent,), ("--table", features_csv)):
        assert "holds ready-made features" in encore("predict", *asked, "--head", "hits", code=2).err
    monkeypatch.setattr(registry.find("backbone", "pianoroll"), "REVISION", 99)
    (representation,) = Path(trained.encore.store, "mine").glob("pianoroll-*")
    fingerprint = representation.name.rpartition("-")[2]
    assert f"it needs the fingerprint {fingerprint}, and this version gives" in trained.predict(song, code=2)


def test_files_that_cannot_be_judged(trained: Trained, new_song: Callable[[int], Path], tmp_path: Path) -> None:
    text, nothing, audio = tmp_path / "text.mid", tmp_path / "nothing.mid", tmp_path / "text.mp3"
    text.write_text("no song")
    nothing.write_bytes(b"")
    audio.write_text("no song either")
    ran = trained.encore("predict", new_song(50), text, nothing, audio, "--head", "mine/gnn", "--json", code=1)
    assert [Path(song["file"]).name for song in ran.json["songs"]] == ["new 50.mid"]
    assert [Path(file).name for file in ran.json["failures"]] == ["text.mid", "nothing.mid", "text.mp3"]
    assert "3 of 4 files could not be judged" in ran.err
    assert "text.mp3: not-supported: pianoroll reads midi" in trained.predict(audio, code=1)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "there is no song under" in trained.predict(empty, code=2)
    (empty / "a.mp3").write_bytes(b"")
    assert "the head reads midi, and none of the 1 song" in trained.predict(empty, code=2)
    assert "there is no file or folder" in trained.predict(tmp_path / "absent.mid", code=2)
    assert "name the files" in trained.predict(code=2)
    assert "--artist is empty" in trained.predict(text, "--artist", " ", code=2)
    assert "there is no file or folder ~no-such-user/a.mid" in trained.predict("~no-such-user/a.mid", code=2)
    assert "there is no file or folder ''" in trained.predict("", code=2)
    assert "name that folder alone" in trained.predict(text, "--table", nothing, code=2)
    for device in ("/dev/zero", "/dev/null"):
        assert f"{device}: not-a-file: is a pipe, a socket or a device" in trained.predict(device, code=1)
    os.mkfifo(tmp_path / "pipe.mp3")
    assert "not-supported" in trained.predict(tmp_path / "pipe.mp3", code=1)


def test_names_that_a_terminal_would_obey(trained: Trained, new_song: Callable[[int], Path], tmp_path: Path) -> None:
    for name in ("red \x1b[31m.mid", "two\nlines.mid"):
        ran = trained.encore("predict", shutil.copy(new_song(50), tmp_path / name), "--head", "mine/gnn")
        assert ascii(name)[1:-1] in ran.out
        assert name not in ran.out
    odd = shutil.copy(new_song(50), os.fsdecode(os.fsencode(tmp_path) + b"/odd\xff.mid"))
    assert r"odd\xff.mid is not UTF-8; rename it" in trained.predict(odd, code=2)


@pytest.mark.parametrize("is_pipe", [True, False], ids=["closed-pipe", "full-disk"])
def test_an_answer_that_no_one_takes(trained: Trained, is_pipe: bool) -> None:
    """It costs the exit code, and no traceback is shown."""
    full = "" if is_pipe else "import os\nos.dup2(os.open('/dev/full', os.O_WRONLY), 1)\n"
    command = f"{full}from pipeline.__main__ import main\nmain()"
    where = ("--head", "mine/song", "--store", trained.encore.store)
    process = Process(command, "predict", trained.song(0), *where)
    process.stdout.close()
    _, err = process.communicate()
    assert process.returncode == 1
    assert "Traceback" not in err


def test_a_file_without_an_ending_is_read_by_its_content(
    trained: Trained, new_song: Callable[[int], Path], tmp_path: Path
) -> None:
    original, bare = new_song(50), tmp_path / "bare"
    bare.write_bytes(original.read_bytes())
    first, second = (trained.predict(path)["songs"][0] for path in (original, bare))
    assert first["clips"] == second["clips"] == 2
    assert first["scores"] == second["scores"]


def test_a_head_of_artists_knows_nothing_of_a_song_without_one(
    trained: Trained, new_song: Callable[[int], Path]
) -> None:
    ran = trained.encore("predict", new_song(50), "--head", "mine/artist")
    assert "no artist: this mode knows nothing of the song" in " ".join(ran.out.split())


def test_the_weights_are_found_again_or_named_and_no_others_are_read(encore: Encore, tmp_path: Path) -> None:
    songs = tmp_path / "songs"
    songs.mkdir()
    lines = ["file,artist,labels"]
    for number in range(12):
        write_song(songs / f"{number}.mid", number)
        lines.append(f"{number}.mid,artist {number % 3},{['jazz', 'rock'][number % 2]}")
    (songs / "songs.csv").write_text("\n".join(lines) + "\n")
    kind = registry.find("backbone", "pianoroll-cnn")
    weights, others = tmp_path / "weights.pt", tmp_path / "others.pt"
    for file in (weights, others):
        torch.save(kind(kind.Config()).module.state_dict(), file)
    words = ("--backbone", "pianoroll-cnn", "--weights", weights, "--clips", 1)
    encore("embed", "folder", "--name", "mine", "--data", songs, "--table", songs / "songs.csv", *words)
    encore("head", "mine", "--mode", "song", *QUICK)
    new = tmp_path / "new.mid"
    write_song(new, 50)
    ask = ("predict", new, "--head", "mine/song", "--json")
    answer = encore(*ask).json
    moved = weights.rename(tmp_path / "moved.pt")
    mark = hash_file(moved)[:12]
    assert f"whose SHA-256 begins with {mark}, and there is no {weights}; give them by" in encore(*ask, code=2).err
    assert f"begins with {mark}, and {others} holds others" in encore(*ask, "--weights", others, code=2).err
    assert encore(*ask, "--weights", moved).json == answer
    (record,) = (encore.store / "mine").glob("*/weights.txt")
    record.unlink()
    assert f"begins with {mark}; where they lie is not known here: --weights FILE" in encore(*ask, code=2).err


def test_weights_are_refused_where_there_are_none(trained: Trained, new_song: Callable[[int], Path]) -> None:
    """Whatever is asked: for a stored song they would not be read at all."""
    encore, new = trained.encore, new_song(60)
    for head in ("mine/song", "mine/artist"):
        assert "leave out --weights" in encore("predict", new, "--head", head, "--weights", new, code=2).err
    assert "leave out --weights" in encore("serve", "--head", "mine/song", "--weights", new, "--port", 0, code=2).err
    stored = encore("similar", new, "--dataset", "mine", "--json").json["similar"][0]["id"]
    for query in (new, stored):
        assert "leave out --weights" in encore("similar", query, "--dataset", "mine", "--weights", new, code=2).err


def test_labels_are_written_into_tags_after_a_question(encore: Encore, audio_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("mutagen")
    (audio_folder / "songs.csv").write_text(
        "file,artist,labels\n" + "".join(f"{n}.wav,artist {n % 2},{['rock', 'pop'][n % 2]}\n" for n in range(4))
    )
    table = ("--table", audio_folder / "songs.csv", "--backbone", "mfcc")
    encore("embed", "folder", "--name", "mine", "--data", audio_folder, *table)
    encore("head", "mine", "--mode", "artist", "--regime", "random")
    song = tmp_path / "new.flac"
    soundfile.write(song, np.sin(np.arange(24000) / 9), 8000)
    before = song.read_bytes()
    ask = ("predict", song, "--head", "mine/artist", "--artist", "artist 1", "--write-tags")
    (labels,) = {tuple(answer["labels"]) for answer in encore(*ask, "--dry-run", "--json").json["songs"]}
    assert labels
    plan = encore(*ask, "--dry-run", "--quiet").err
    assert plan == f"{song}: genre none -> pop\n1 file would be changed\n"
    assert "say --yes to do it" in encore(*ask, code=2).err
    assert song.read_bytes() == before
    assert encore(*ask, "--yes", "--quiet").err == ""
    assert read_genres(song) == labels == ("pop",)
    assert "no tag is to be changed" in encore(*ask, "--yes").err
    assert "which is not given" in encore("predict", song, "--head", "mine", "--yes", code=2).err
