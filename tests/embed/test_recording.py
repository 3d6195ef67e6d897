"""Recordings whose headers do not tell their length, formats that ffmpeg decodes, and what is noted of odd ones."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from stages.embed.inputs import Clip, ffmpeg, recording, remarks
from stages.embed.inputs._silence import silenced
from stages.embed.inputs.audio import AudioInput, duration_s
from stages.embed.inputs.headers import layout
from stages.embed.inputs.views import View
from store.errors import ClipError
from tests.embed.test_audio import music, sine

RATE_HZ = 22_050
WINDOWS = AudioInput(rate_hz=RATE_HZ, window_samples=RATE_HZ, max_windows=64, min_s=0.1)

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


def load(path: Path, start_s: float | None = None, length_s: float | None = None) -> tuple[np.ndarray, list[str]]:
    """Windows and the kinds of remarks on them."""
    with remarks() as notes:
        windows = WINDOWS.load(Clip(clip_id="c", path=path, start_s=start_s, duration_s=length_s))
    assert all("\n" not in reason for _, reason in notes)
    return windows, [kind for kind, _ in notes]


def refusal(path: Path) -> ClipError:
    with pytest.raises(ClipError) as caught:
        load(path)
    return caught.value


def pitch_hz(wave: np.ndarray) -> float:
    """The strongest frequency of a second."""
    return float(np.argmax(np.abs(np.fft.rfft(wave * np.hanning(len(wave))))) * RATE_HZ / len(wave))


def write(path: Path, wave: np.ndarray, rate_hz: int = RATE_HZ, **options: object) -> bytes:
    soundfile.write(path, wave, rate_hz, **options)  # type: ignore[arg-type]
    return path.read_bytes()


@given(prefix=st.binary(max_size=20), body=st.binary(max_size=60), data=st.data())
def test_a_view_is_its_prefix_and_a_stretch_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, prefix: bytes, body: bytes, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "view"
    path.write_bytes(body)
    start = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(start, len(body)))
    expected = prefix + body[start:end]
    with View(path, prefix, start, end) as view:
        assert view.seek(0, os.SEEK_END) == len(expected)
        view.seek(0)
        assert view.read() == expected
        for _ in range(5):
            at, count = data.draw(st.integers(0, len(expected) + 5)), data.draw(st.integers(1, 30))
            view.seek(at)
            piece = view.read(count)
            assert piece == expected[at : at + len(piece)]
            assert piece or not expected[at : at + count]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp3", {"bitrate_mode": "CONSTANT"}),
        ("a.mp3", {"bitrate_mode": "VARIABLE"}),
        ("a.ogg", {"subtype": "VORBIS"}),
        ("a.ogg", {"subtype": "OPUS"}),
        ("a.wav", {}),
    ],
)
def test_files_that_were_joined_are_read_to_their_end(tmp_path: Path, name: str, options: dict) -> None:
    rate_hz = 48_000 if options.get("subtype") == "OPUS" else RATE_HZ
    tones = (300.0, 1_500.0, 700.0)
    parts = [write(tmp_path / name, sine(rate_hz, 4.0, hz), rate_hz, **options) for hz in tones]
    path = tmp_path / f"joined-{name}"
    path.write_bytes(b"".join(parts))
    assert duration_s(path) == pytest.approx(12.0, abs=0.1)
    windows, notes = load(path)
    assert len(windows) == 12
    assert not notes
    for i, hz in enumerate(tones):
        assert pitch_hz(windows[4 * i + 1]) == pytest.approx(hz, abs=2)
        assert pitch_hz(load(path, 4.0 * i + 1.5, 1.0)[0][0]) == pytest.approx(hz, abs=2)


def test_files_of_other_rates_cannot_be_joined(tmp_path: Path) -> None:
    parts = [write(tmp_path / "a.ogg", sine(rate_hz, 4.0), rate_hz) for rate_hz in (44_100, 22_050)]
    (tmp_path / "joined.ogg").write_bytes(b"".join(parts))
    error = refusal(tmp_path / "joined.ogg")
    assert error.kind == "not-supported"
    assert "22050 and 44100" in error.reason


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_an_mp3_index_that_counts_too_few_frames(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.mp3"
    data = bytearray(write(path, music(RATE_HZ, 12.0), bitrate_mode=mode))
    expected, _ = load(path)
    at = max(data.find(b"Info"), data.find(b"Xing"))
    count = int.from_bytes(data[at + 8 : at + 12], "big")
    data[at + 8 : at + 12] = (count // 3).to_bytes(4, "big")
    path.write_bytes(data)
    np.testing.assert_array_equal(load(path)[0], expected)


def test_an_mp3_without_an_index_whose_first_frames_are_large(tmp_path: Path) -> None:
    wave = music(RATE_HZ, 20.0)
    wave[4 * RATE_HZ :] *= 1e-3
    data = write(tmp_path / "whole.mp3", wave, bitrate_mode="VARIABLE", compression_level=0.5)
    path = tmp_path / "a.mp3"
    header = data.index(b"\xff\xf3", 0)
    path.write_bytes(data[data.index(b"\xff\xf3", header + 4) :])
    with soundfile.SoundFile(path) as file:
        assert file.frames < 15 * RATE_HZ  # as is guessed from them
    assert duration_s(path) == pytest.approx(20.0, abs=0.2)
    assert len(load(path)[0]) == 20


def unknown_flac(data: bytes) -> bytes:
    return data[:21] + bytes([data[21] & 0xF0]) + bytes(4) + data[26:]


def wav_length(length: int, riff: int | None = None) -> object:
    def change(data: bytes) -> bytes:
        at = data.index(b"data") + 4
        size = data[4:8] if riff is None else struct.pack("<I", riff)
        return data[:4] + size + data[8:at] + struct.pack("<I", length) + data[at + 4 :]

    return change


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("a.flac", unknown_flac),
        ("a.flac", lambda data: unknown_flac(data) + b"TAG" + bytes(125)),
        ("a.flac", lambda data: b"ID3\4\0\0\0\0\2\x2c" + bytes(300) + unknown_flac(data)),
        ("a.wav", wav_length(0)),
        ("a.wav", wav_length(0, 0)),
        ("a.wav", wav_length(0xFFFFFFFF, 0xFFFFFFFF)),
        ("a.wav", wav_length(0x7FFFFFFF)),
        ("a.wav", wav_length(20_000)),
    ],
)
def test_lengths_that_are_not_known(tmp_path: Path, name: str, change: object) -> None:
    path = tmp_path / name
    data = write(path, music(RATE_HZ, 6.0))
    expected, stretch = load(path)[0], load(path, 4.0, 1.5)[0]
    path.write_bytes(change(data))  # type: ignore[operator]
    assert duration_s(path) == 6.0
    windows, notes = load(path)
    np.testing.assert_array_equal(windows, expected)
    np.testing.assert_array_equal(load(path, 4.0, 1.5)[0], stretch)
    assert not notes


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3"])
def test_an_ordinary_file_is_left_as_it_is(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, music(RATE_HZ, 3.0))
    assert layout(tmp_path / name).views == ()
    if name == "a.wav":  # chunks behind the data, and what stands behind the RIFF, are no samples
        data = (tmp_path / name).read_bytes()
        more = data[:4] + struct.pack("<I", len(data) + 4) + data[8:] + b"LIST\x04\0\0\0INFO"
        for odd in (more, data + bytes(1000), data + b"TAG" + bytes(125)):
            (tmp_path / name).write_bytes(odd)
            assert duration_s(tmp_path / name) == 3.0


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.aiff", "a.au", "a.w64", "a.rf64", "a.caf"])
def test_a_file_that_ends_early_is_read_and_noted(tmp_path: Path, name: str) -> None:
    if name == "a.caf" and shutil.which("ffmpeg") is None:
        pytest.skip("libsndfile reads no CAF that ends early, and there is no ffmpeg")
    path = tmp_path / name
    data = write(path, music(RATE_HZ, 20.0))
    stretch = load(path, 2.0, 3.0)[0]
    path.write_bytes(data[: len(data) // 2])
    windows, notes = load(path)
    assert 8 <= len(windows) <= 12
    assert notes == ["truncated"]
    np.testing.assert_array_equal(load(path, 2.0, 3.0)[0], stretch)


def test_what_is_loud_or_mostly_silent_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write(path, sine(RATE_HZ, 3.0) * 20_000, subtype="FLOAT")  # sixteen bits in floats
    assert load(path)[1] == ["loud"]
    write(path, sine(RATE_HZ, 3.0) * 1.5, subtype="FLOAT")
    assert load(path)[1] == []
    wave = sine(RATE_HZ, 20.0)
    wave[: 19 * RATE_HZ] = 0
    write(path, wave)
    assert load(path)[1] == ["mostly-silent"]
    assert load(path, 19.0)[1] == []


@pytest.mark.parametrize(
    "data",
    [
        b"OggS" * (1 << 18),
        b"OggS\0\2" + bytes(20) + b"\xff" * 256 + bytes(1 << 20),
        b"\xff\xfb\x90\0" * (1 << 18),
        b"ID3\x04\0\0\0\0\0\0" + b"\xff" * (1 << 22),
        b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + bytes(1 << 20),
        b"fLaC\0\0\0\x22" + b"\xff" * (1 << 20),
        b"RIFF\xff\xff\xff\xffWAVE" + b"junk\0\0\0\0" * (1 << 17),
        b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\1\0\xff\xff\x44\xac\0\0" + b"\xff" * 6 + b"\x10\0data" + b"\xff" * 99,
        b"\0\0\0\x08ftypM4A " + b"\xff" * (1 << 20),
        b"\x1a\x45\xdf\xa3" + b"\xff" * (1 << 20),
    ],
    ids=["pages", "page", "frames", "no frames", "tag", "flac", "chunks", "channels", "mp4", "matroska"],
)
def test_headers_that_claim_anything_cost_little(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.mp3").write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(ClipError):
            load(tmp_path / "a.mp3")
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_what_takes_too_long_to_count_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mp3"
    data = write(path, music(RATE_HZ, 20.0))
    path.write_bytes(data[: len(data) // 2])  # its frames are counted, as fewer are there than the header says
    monkeypatch.setattr(recording, "MAX_SAMPLES", 1000)
    assert refusal(path).kind == "outside"


def encoded(path: Path, wave: np.ndarray, *options: str) -> Path:
    """A recording in a format that only ffmpeg writes."""
    write(path.with_suffix(".source.wav"), wave)
    command = ["ffmpeg", "-v", "error", "-y", "-i", f"file:{path.with_suffix('.source.wav')}", *options, f"file:{path}"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


FORMATS = {
    "a.m4a": (),
    "a.mp4": ("-c:a", "aac", "-movflags", "faststart"),
    "a.aac": (),
    "a.wma": (),
    "a.webm": ("-c:a", "libopus"),
    "a.mka": ("-c:a", "libvorbis"),
    "a.wv": (),
    "a.caf": ("-c:a", "adpcm_ima_qt"),
    "wrong name.mp3": ("-f", "ipod"),
    "-i http:x|y;%00 ä.m4a": (),
}


@needs_ffmpeg
def test_codecs_of_which_no_stretch_can_be_read(tmp_path: Path) -> None:
    """libsndfile decodes them from their start alone."""
    write(tmp_path / "a.wav", sine(RATE_HZ, 4.0), subtype="GSM610")
    assert pitch_hz(load(tmp_path / "a.wav", 1.5)[0][1]) == pytest.approx(440, abs=2)


@needs_ffmpeg
@pytest.mark.parametrize("name", FORMATS)
def test_formats_that_ffmpeg_decodes(tmp_path: Path, name: str) -> None:
    wave = np.stack([sine(RATE_HZ, 4.0), 0 * sine(RATE_HZ, 4.0)], axis=1)
    try:
        path = encoded(tmp_path / name, wave, *FORMATS[name])
    except subprocess.CalledProcessError:
        pytest.skip(f"this ffmpeg does not write {name}")
    assert duration_s(path) == pytest.approx(4.0, abs=0.1)
    windows, notes = load(path, 0.5)
    assert pitch_hz(windows[1]) == pytest.approx(440, abs=2)
    assert np.abs(windows[1]).max() == pytest.approx(0.25, abs=0.05)  # the mean of both channels
    assert not notes
    assert len(load(path, 2.5, 1.0)[0]) == 1


@needs_ffmpeg
def test_long_recordings_are_decoded_again_for_each_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encoded(tmp_path / "a.m4a", music(RATE_HZ, 6.0))
    windows = load(path)[0]
    monkeypatch.setattr(ffmpeg, "_KEPT_SAMPLES", 1000)
    np.testing.assert_array_equal(load(path)[0], windows)


@needs_ffmpeg
@pytest.mark.parametrize(
    "text", ["#EXTM3U\n#EXTINF:9,\n{0}\n", "ffconcat version 1.0\nfile '{0}'\n", "[playlist]\nFile1={0}\n"]
)
def test_no_file_names_another(tmp_path: Path, text: str) -> None:
    """A list of files under the name of a recording is not played, whatever ffmpeg would make of it."""
    write(tmp_path / "secret.wav", sine(RATE_HZ, 4.0))
    path = tmp_path / "a.m4a"
    path.write_text(text.format(tmp_path / "secret.wav"))
    assert refusal(path).kind == "damaged"


MP4 = b"\0\0\0\x20ftypM4A " + bytes(100)


def fake_ffmpeg(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    folder.mkdir()
    (folder / "ffmpeg").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    (folder / "a.m4a").write_bytes(MP4)
    return folder / "a.m4a"


def test_a_decoder_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fake_ffmpeg(tmp_path / "bin", monkeypatch, "exec sleep 1000")
    monkeypatch.setattr(ffmpeg, "MAX_S", 0.2)
    error = refusal(path)
    assert error.kind == "unreadable"  # so that the next run tries again
    assert "was stopped after 0.2 s" in error.reason


def test_a_decoder_that_never_ends_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "head.wav", sine(RATE_HZ, 0.1), subtype="FLOAT")
    path = fake_ffmpeg(tmp_path / "bin", monkeypatch, f"cat '{tmp_path}/head.wav'; exec cat /dev/zero")
    monkeypatch.setattr(ffmpeg, "MAX_SAMPLES", 1 << 22)
    assert refusal(path).kind == "outside"


def test_a_decoder_that_fails_half_way_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "half.wav", sine(RATE_HZ, 2.0), subtype="FLOAT")
    path = fake_ffmpeg(tmp_path / "bin", monkeypatch, f"cat '{tmp_path}/half.wav'; exit 1")
    windows, notes = load(path)
    assert len(windows) == 2
    assert notes == ["truncated"]


def test_without_ffmpeg_formats_are_not_supported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "a.m4a").write_bytes(MP4)
    error = refusal(tmp_path / "a.m4a")
    assert error.kind == "not-supported"
    assert "MP4 (m4a, AAC)" in error.reason
    assert "install it" in error.reason
    (tmp_path / "a.mid").write_bytes(b"MThd\0\0\0\6\0\0\0\1\1\xe0")
    assert refusal(tmp_path / "a.mid").kind == "not-supported"


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_a_file_of_a_few_bytes_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "song.mp3"
    path.write_bytes(b"\xff\xfb\x90"[:length])
    refusal(path)


def test_decoders_do_not_write_to_standard_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """libmpg123 tells what it thinks of a damaged file; other threads' decoding does not bring that back."""
    text = tmp_path / "text.mp3"
    text.write_text("this is no song\n" * 100)
    with pytest.raises(ClipError, match="is no audio"):
        load(text)
    assert capfd.readouterr().err == ""
    with silenced():
        with silenced():
            os.write(2, b"inner\n")
        os.write(2, b"outer\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"
