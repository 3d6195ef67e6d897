"""Deformed clips: each kind does what it says, the same every time, and under a fingerprint of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pretty_midi
import pytest
import soundfile

from stages import registry
from stages.embed.backbones import Backbone
from stages.embed.deformations import KINDS, Deformation, Deformed, deformations
from stages.embed.encode import representation_name
from stages.embed.inputs import Clip
from stages.embed.inputs.midi import read_notes
from stages.embed.inputs.recording import open_recording
from store.errors import ClipError, RequestError

RATE_HZ = 22_050
EVERY_KIND = [(content, kind) for content, kinds in KINDS.items() for kind in kinds]


def backbone(name: str) -> Backbone:
    kind: type[Backbone] = registry.find("backbone", name)
    return kind(kind.Config())


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds: a tone of 440 Hz, and hiss that is 20 dB below it."""
    path = tmp_path_factory.mktemp("song") / "song.wav"
    time_s = np.arange(3 * RATE_HZ) / RATE_HZ
    hiss = np.random.default_rng(0).standard_normal(len(time_s)) * 0.02
    soundfile.write(path, 0.28 * np.sin(2 * np.pi * 440 * time_s) + hiss, RATE_HZ, subtype="FLOAT")
    return path


@pytest.fixture(scope="module")
def piece(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight notes each of piano, bass and drums, half a second apart."""
    midi = pretty_midi.PrettyMIDI(initial_tempo=120)
    for program, is_drum, pitch in ((0, False, 60), (33, False, 3), (0, True, 38)):
        track = pretty_midi.Instrument(program=program, is_drum=is_drum)
        track.notes += [pretty_midi.Note(80, pitch + i % 3, i / 2, i / 2 + 0.4) for i in range(8)]
        midi.instruments.append(track)
    path = tmp_path_factory.mktemp("piece") / "piece.mid"
    midi.write(str(path))
    return path


def deformed(path: Path, kind: str, amount: float, folder: Path, **stretch: float) -> Clip:
    content = "midi" if path.suffix == ".mid" else "audio"
    rng = np.random.default_rng(0)
    return KINDS[content][kind].write(Clip(clip_id="a", path=path, **stretch), amount, folder / "clip", rng)


def samples(path: Path) -> np.ndarray:
    with open_recording(path) as (recording, _):
        return recording.read_mono(0, recording.frames)


def level_db(values: np.ndarray) -> float:
    return 10 * np.log10(np.mean(np.square(values.astype(np.float64))))


def above_db(values: np.ndarray, hz: float, rate_hz: int = RATE_HZ) -> float:
    """The level of what lies above a frequency."""
    power = np.abs(np.fft.rfft(values)) ** 2
    return 10 * np.log10(power[np.fft.rfftfreq(len(values), 1 / rate_hz) > hz].sum() / power.sum())


def test_audio_does_what_it_says(song: Path, tmp_path: Path) -> None:
    clean = samples(song)
    changed = {
        (kind, amount): samples(deformed(song, kind, amount, tmp_path).path)
        for kind, amount in (
            *(("gain", -20), ("gain", 40), ("noise", 10), ("low-pass", 2000), ("stretch", 0.8), ("stretch", 1.25)),
            *(("pitch", 12), ("cut", 0.25), ("reverb", 1), ("mp3", 64), ("ogg", 5)),
        )
    }
    np.testing.assert_allclose(changed["gain", -20], clean / 10, rtol=1e-5)
    assert np.abs(changed["gain", 40]).max() > 20, "floats do not clip"
    assert level_db(clean) - level_db(changed["noise", 10] - clean) == pytest.approx(10, abs=0.2)
    assert above_db(changed["low-pass", 2000], 4000) < above_db(clean, 4000) - 25
    for rate in (0.8, 1.25):
        assert len(changed["stretch", rate]) == pytest.approx(len(clean) / rate, rel=0.01)
        assert level_db(changed["stretch", rate]) == pytest.approx(level_db(clean), abs=0.01)
    peak = np.abs(np.fft.rfft(changed["pitch", 12])).argmax() * RATE_HZ / len(changed["pitch", 12])
    assert peak == pytest.approx(880, abs=5)
    assert len(changed["cut", 0.25]) == round(len(clean) / 4)
    assert len(changed["reverb", 1]) == len(clean)
    for codec in (("mp3", 64), ("ogg", 5)):
        assert level_db(changed[codec]) == pytest.approx(level_db(clean), abs=1)


def test_a_clip_is_deformed_and_not_its_song(song: Path, tmp_path: Path) -> None:
    clip = deformed(song, "gain", 0, tmp_path, start_s=1.0, duration_s=0.5)
    assert (clip.start_s, clip.duration_s) == (None, None)
    np.testing.assert_array_equal(samples(clip.path), samples(song)[RATE_HZ : RATE_HZ + RATE_HZ // 2])
    with pytest.raises(ClipError, match="starts at second 9"):
        deformed(song, "gain", 0, tmp_path, start_s=9.0)


def test_midi_does_what_it_says(piece: Path, tmp_path: Path) -> None:
    clean = read_notes(piece)
    higher = read_notes(deformed(piece, "transpose", -6, tmp_path).path)
    piano, bass, drums = ~clean.is_drum & (clean.program == 0), clean.program == 33, clean.is_drum
    np.testing.assert_array_equal(higher.pitch[piano], clean.pitch[piano] - 6)
    np.testing.assert_array_equal(higher.pitch[drums], clean.pitch[drums])
    np.testing.assert_array_equal(higher.pitch[bass], clean.pitch[bass] + 6)  # an octave above where it would be
    clip = deformed(piece, "tempo", 1.5, tmp_path, start_s=1.5, duration_s=3.0)
    assert (clip.start_s, clip.duration_s) == (1.0, 2.0)
    np.testing.assert_allclose(read_notes(clip.path).start_s, clean.start_s / 1.5, atol=2e-3)
    assert len(read_notes(deformed(piece, "drop-tracks", 0.5, tmp_path).path)) == 8
    assert len(read_notes(deformed(piece, "drop-tracks", 0.99, tmp_path).path)) == 8, "one track is left"
    off = read_notes(deformed(piece, "velocity", 16, tmp_path).path).velocity.astype(int) - 80
    assert 8 < off.std() < 24


@pytest.mark.parametrize(("content", "kind"), EVERY_KIND)
def test_every_kind_gives_a_backbone_what_it_reads_and_the_same_each_time(
    content: str, kind: str, song: Path, piece: Path
) -> None:
    reader = backbone("pianoroll" if content == "midi" else "mfcc").input
    clip = Clip(clip_id="a", path=piece if content == "midi" else song, start_s=0.5, duration_s=2.0)
    for deformation in deformations(reader, [kind])[:2]:
        if deformation.kind == "cut":
            deformation = replace(deformation, amount=0.75)  # of two seconds, which leaves as many as MFCCs need
        first, second = (Deformed(input=reader, deformation=deformation).load(clip) for _ in range(2))
        np.testing.assert_array_equal(first, second)
        assert np.isfinite(first).all()
        assert first.shape == reader.load(clip).shape


def test_deformed_clips_have_a_fingerprint_of_their_own() -> None:
    names = set()
    for amount in (None, -10.0, 10.0):
        encoder = backbone("mfcc")
        if amount is not None:
            deformation = Deformation(content="audio", kind="gain", amount=amount)
            encoder.input = Deformed(input=encoder.input, deformation=deformation)
            assert encoder.input.KIND == "audio"
        names.add(representation_name(encoder, None))
    assert len(names) == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gian", "unknown deformation 'gian'; have: cut, gain"),
        ("gain=loud", "gain=loud: its amount is a number from -200 to 200 dB, not 'loud'"),
        ("mp3=1000", "from 32 to 320"),
        ("cut=nan", "from 0.001 to 1"),
        ("transpose", "unknown deformation 'transpose'"),
    ],
)
def test_wrong_requests(name: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        deformations(backbone("mfcc").input, [name])


def test_a_codec_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundfile, "check_format", lambda form, _subtype: form != "MP3")
    assert deformations(backbone("mfcc").input, ["ogg", "gain"])
    with pytest.raises(RequestError, match="writes no MP3; install a newer soundfile, or leave out mp3"):
        deformations(backbone("mfcc").input, ["mp3"])
