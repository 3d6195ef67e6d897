"""The demo collection: the same bytes each time, a catalog that keeps its promises, music that is music."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pretty_midi
import pyarrow.compute as pc
import pytest
import soundfile

from stages import registry
from stages.embed.datasets import _demo_files as files
from stages.embed.datasets._demo_cast import Song, cast
from stages.embed.datasets._demo_compose import compose, midi_bytes
from stages.embed.datasets._demo_render import RATE_HZ, render
from stages.embed.datasets._demo_styles import ASPECTS, BASSES, CHORDS, COMPS, DRUMS, GENRES, LEADS, SCALES, STYLES
from stages.embed.datasets.demo import Demo
from stages.embed.inputs.midi import PianoRollInput, read_notes
from store.errors import EncoreError, RequestError
from store.schema import Catalog
from tests import PATIENCE_S

SONGS = 10


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Catalog]:
    root = tmp_path_factory.mktemp("demo") / "songs"
    return root, Demo(data=root, songs=SONGS).catalog()


def bytes_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


class TestCatalog:
    def test_it_is_found_and_says_that_it_is_synthetic(self, generated: tuple[Path, Catalog]) -> None:
        root, catalog = generated
        assert registry.find("dataset", "demo") is Demo
        assert Demo.SYNTHETIC
        assert catalog.info.synthetic
        assert catalog.info.data_root == str(root)
        assert catalog.info.backbone in registry.names("backbone")

    def test_every_clip_lies_in_its_song(self, generated: tuple[Path, Catalog]) -> None:
        root, catalog = generated
        assert len(catalog) == 2 * SONGS
        reader = PianoRollInput()
        for row in catalog.table.to_pylist():
            assert soundfile.info(root / row["path"]).duration >= row["start_s"] + row["duration_s"]
            assert reader.roll(read_notes(root / row["midi_path"]), row["start_s"], row["duration_s"]) is not None
            assert set(row["labels"]) <= set(GENRES)
            assert dict(row["targets"])["bpm"] >= 56

    def test_paths_are_relative_to_the_working_directory_by_default(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(files, "generate", lambda *args: None)
        assert Demo().catalog().info.data_root == str(tmp_path / "data" / "demo")

    @pytest.mark.parametrize("wrong", [{"songs": 9}, {"songs": 1_000_000}, {"seed": -1}])
    def test_options_are_checked(self, wrong: dict[str, int]) -> None:
        with pytest.raises(RequestError, match="--"):
            Demo(**wrong)


class TestCast:
    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_artists_labels_and_splits(self, seed: int) -> None:
        songs = cast(seed, 400)
        assert len({song.song_id for song in songs}) == 400
        by_artist = Counter(song.artist_id for song in songs)
        assert by_artist.pop(None) == 10
        assert 55 <= len(by_artist) <= 120
        assert max(by_artist.values()) == 20
        assert sorted(by_artist.values())[len(by_artist) // 2] <= 4
        names = {song.artist_id: song.artist_name for song in songs if song.artist_id}
        assert len(set(names.values())) == len(by_artist)
        assert {len(song.labels) for song in songs} == {1, 2}
        assert all(len(set(song.labels)) == len(song.labels) for song in songs)
        assert Counter(label for song in songs for label in song.labels).keys() == set(GENRES)
        sides = {artist: {song.split for song in songs if song.artist_id == artist} for artist in by_artist}
        assert all(len(side) == 1 for side in sides.values())
        shares = Counter(song.split for song in songs)
        assert 0.75 <= shares["train"] / 400 <= 0.85
        assert 0.05 <= shares["validation"] / 400 <= 0.15
        assert 0.05 <= shares["test"] / 400 <= 0.15
        albums = {song.album_id: song.artist_id for song in songs if song.album_id}
        assert len(albums) > len(by_artist)
        assert all((song.album_id is None) == (song.artist_id is None) for song in songs)

    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_artists_keep_to_few_genres(self, seed: int) -> None:
        songs = [song for song in cast(seed, 400) if song.artist_id]
        pairs = [
            one.labels == other.labels
            for index, one in enumerate(songs)
            for other in songs[index + 1 :]
            if one.artist_id == other.artist_id
        ]
        assert 0.4 <= np.mean(pairs) <= 0.65
        by_chance = np.mean([one.labels == other.labels for one, other in zip(songs, reversed(songs), strict=True)])
        assert by_chance < 0.25

    def test_another_seed_is_another_collection(self) -> None:
        assert cast(0, 50) == cast(0, 50)
        assert cast(0, 50) != cast(1, 50)

    def test_styles_name_what_there_is(self) -> None:
        tables = {"scale": SCALES, "chord": CHORDS, "comp": COMPS, "bass": BASSES, "drums": DRUMS, "lead": LEADS}
        for style in STYLES.values():
            assert tuple(style) == ASPECTS
            for aspect, table in tables.items():
                assert set(style[aspect]) <= set(table)
        patterns = [*COMPS.values(), *BASSES.values(), *(pattern for kit in DRUMS.values() for _, pattern in kit)]
        assert {len(pattern) for pattern in patterns} == {16}


def one_of_each_genre() -> list[Song]:
    songs = cast(0, 400)
    return [next(song for song in songs if song.labels == (genre,)) for genre in GENRES]


class TestMusic:
    @pytest.mark.parametrize("song", one_of_each_genre(), ids=GENRES)
    def test_notes_and_sound(self, song: Song, tmp_path: Path) -> None:
        parts = compose(song.recipe, 30.0, np.random.default_rng(song.seed))
        path = tmp_path / "song.mid"
        path.write_bytes(midi_bytes(parts, song.recipe.bpm))
        theirs = pretty_midi.PrettyMIDI(str(path))
        assert theirs.get_end_time() >= 30 - 60 / song.recipe.bpm
        assert theirs.get_tempo_changes()[1].tolist() == pytest.approx([song.recipe.bpm], rel=1e-4)
        assert sum(len(i.notes) for i in theirs.instruments) == sum(len(part.notes) for part in parts)
        assert len(read_notes(path)) == sum(len(part.notes) for part in parts)
        assert {(i.program, i.is_drum) for i in theirs.instruments} == {(p.program, p.is_drum) for p in parts}

        wave = render(parts, song.recipe.bpm, 30.0)
        assert wave.shape == (30 * RATE_HZ,)
        assert wave.dtype == np.float32
        assert np.abs(wave).max() == pytest.approx(0.5)
        loudness = np.sqrt(np.mean(wave.reshape(30, -1) ** 2, axis=1))
        assert (loudness > 0.002).all()
        assert abs(wave.mean()) < 0.01

    def test_a_tone_has_its_pitch(self) -> None:
        from stages.embed.datasets._demo_compose import Part

        wave = render([Part("lead", 73, False, np.array([[0.0, 4.0, 69.0, 100.0]]))], 120, 2.0)
        spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
        assert spectrum.argmax() / 2.0 == pytest.approx(440, abs=1.0)


class TestGeneration:
    def test_the_same_bytes_each_time(self, generated: tuple[Path, Catalog], tmp_path: Path) -> None:
        root, catalog = generated
        again = Demo(data=tmp_path / "again", songs=SONGS).catalog()
        assert bytes_of(tmp_path / "again") == bytes_of(root)
        assert again.table.equals(catalog.table)

    def test_worker_processes_make_the_same_bytes(
        self, generated: tuple[Path, Catalog], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(files, "_ENOUGH_FOR_WORKERS", 1)
        Demo(data=tmp_path / "again", songs=SONGS).catalog()
        assert bytes_of(tmp_path / "again") == bytes_of(generated[0])

    def test_nothing_is_made_twice(
        self, generated: tuple[Path, Catalog], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(files, "_make", lambda *args: pytest.fail("made a song again"))
        Demo(data=generated[0], songs=SONGS).catalog()
        assert not capsys.readouterr().err

    def test_an_interrupted_generation_goes_on(
        self, generated: tuple[Path, Catalog], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make, songs = files._make, []

        def stop_at_third(root: Path, song: Song) -> None:
            if len(songs) == 3:
                raise KeyboardInterrupt
            songs.append(song)
            make(root, song)

        monkeypatch.setattr(files, "_make", stop_at_third)
        with pytest.raises(KeyboardInterrupt):
            Demo(data=tmp_path, songs=SONGS).catalog()
        assert not json.loads((tmp_path / "demo.json").read_text())["complete"]
        monkeypatch.setattr(files, "_make", lambda root, song: (songs.append(song), make(root, song))[1])
        Demo(data=tmp_path, songs=SONGS).catalog()
        assert len(songs) == SONGS
        assert bytes_of(tmp_path) == bytes_of(generated[0])

    def test_a_lost_file_is_made_again(self, generated: tuple[Path, Catalog], tmp_path: Path) -> None:
        root, catalog = generated
        songs = Path(shutil.copytree(root, tmp_path / "songs"))
        (songs / catalog.strings("path")[0]).unlink()
        (songs / catalog.strings("midi_path")[4]).unlink()
        Demo(data=songs, songs=SONGS).catalog()
        assert bytes_of(songs) == bytes_of(root)

    def test_other_settings_replace_the_files(self, tmp_path: Path) -> None:
        Demo(data=tmp_path, songs=SONGS + 2).catalog()
        catalog = Demo(data=tmp_path, songs=SONGS, seed=5).catalog()
        assert len(list(tmp_path.glob("audio/*"))) == len(pc.unique(catalog.column("path"))) == SONGS

    @pytest.mark.parametrize("stamp", [None, "{", "[]", "{}"])
    def test_other_peoples_folders_are_left_alone(self, tmp_path: Path, stamp: str | None) -> None:
        (tmp_path / "audio").mkdir()
        (tmp_path / "audio" / "song-of-mine.flac").write_bytes(b"mine")
        if stamp is not None:
            (tmp_path / "demo.json").write_text(stamp)
        before = bytes_of(tmp_path)
        with pytest.raises(RequestError, match="--data"):
            Demo(data=tmp_path, songs=SONGS).catalog()
        assert bytes_of(tmp_path) == before

    def test_a_file_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(EncoreError):
            Demo(data=tmp_path / "file", songs=SONGS).catalog()
        with pytest.raises(EncoreError, match="cannot be written"):
            Demo(data=tmp_path / "file" / "below", songs=SONGS).catalog()

    def test_a_full_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write = Path.write_bytes

        def no_room_for_audio(path: Path, data: bytes) -> int:
            if ".flac" in path.name:
                write(path, data[:100])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(path, data)

        monkeypatch.setattr(Path, "write_bytes", no_room_for_audio)
        with pytest.raises(EncoreError, match="No space left"):
            Demo(data=tmp_path, songs=SONGS).catalog()
        assert not list(tmp_path.glob("audio/*"))

    def test_ctrl_c_ends_it_and_its_workers(self, tmp_path: Path) -> None:
        script = (
            "import signal, sys; from pathlib import Path; from stages.embed.datasets.demo import Demo\n"
            # Started in the background of a script, Python would leave Ctrl-C alone.
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "if __name__ == '__main__':\n    Demo(data=Path(sys.argv[1]), songs=2000).catalog()\n"
        )
        (tmp_path / "run.py").write_text(script)
        root = tmp_path / "songs"
        child = subprocess.Popen(
            [sys.executable, str(tmp_path / "run.py"), str(root)],
            env={"PYTHONPATH": str(Path(files.__file__).parents[3]), "PATH": ""},
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        while not list(root.glob("audio/*.flac")):
            assert child.poll() is None
            time.sleep(0.05)
        os.killpg(child.pid, signal.SIGINT)  # as a terminal does
        _, error = child.communicate(timeout=PATIENCE_S)  # the pipe ends when the last of the workers is gone
        assert child.returncode != 0
        assert error.strip().endswith(b"KeyboardInterrupt")
        assert len(list(root.glob("audio/*.flac"))) < 2000
        assert not list(root.rglob("*.part"))
