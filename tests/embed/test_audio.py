"""Decoding: formats, rates, channels, exact stretches, spread windows, and everything that is no song."""

from __future__ import annotations

import os
import struct
import tracemalloc
from contextlib import suppress
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stages.embed.inputs import Clip
from stages.embed.inputs.audio import AUDIO_SUFFIXES, AudioInput, duration_s, spread
from store.errors import ClipError, RequestError

RATE_HZ = 16_000
SECOND = AudioInput(rate_hz=RATE_HZ, window_samples=RATE_HZ, max_windows=1, min_s=0.1)


def clip(path: Path, start_s: float | None = None, length_s: float | None = None) -> Clip:
    return Clip(clip_id="c", path=path, start_s=start_s, duration_s=length_s)


def sine(rate_hz: int, seconds: float, hz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(rate_hz * seconds)) / rate_hz)


def music(rate_hz: int, seconds: float, channels: int = 2) -> np.ndarray:
    """Beating tones with bursts of noise: what makes a lossy codec borrow bits from its neighbours."""
    rng = np.random.default_rng(0)
    time = np.arange(round(rate_hz * seconds)) / rate_hz
    tones = np.sin(440 * np.pi * time) * np.sin(np.pi * time) ** 2 + np.sin(1900 * np.pi * time) * np.sin(3 * time) ** 2
    wave = 0.2 * tones + 0.1 * rng.standard_normal(len(time)) * (np.sin(2 * np.pi * 0.9 * time) > 0)
    return np.stack([wave, wave[::-1]], axis=1)[:, :channels]


def kind_of(path: Path, *, start_s: float | None = None, length_s: float | None = None) -> str:
    with pytest.raises(ClipError) as caught:
        SECOND.load(clip(path, start_s, length_s))
    assert "\n" not in caught.value.reason
    return caught.value.kind


@pytest.mark.parametrize(
    ("name", "subtype", "rate_hz", "channels", "tolerance"),
    [
        ("a.wav", "PCM_U8", 8_000, 1, 0.01),
        ("a.wav", "PCM_16", 44_100, 2, 1e-3),
        ("a.wav", "PCM_24", 192_000, 6, 1e-3),
        ("a.wav", "PCM_32", 11_025, 2, 1e-3),
        ("a.wav", "FLOAT", 16_000, 1, 1e-6),
        ("a.wav", "DOUBLE", 96_000, 6, 1e-3),
        ("a.wav", "ULAW", 22_050, 1, 0.03),
        ("a.flac", "PCM_16", 48_000, 6, 1e-3),
        ("a.aiff", "PCM_16", 32_000, 2, 1e-3),
        ("a.ogg", "VORBIS", 44_100, 2, 0.05),
        ("a.ogg", "OPUS", 48_000, 2, 0.05),
        ("a.mp3", "MPEG_LAYER_III", 44_100, 2, 0.05),
        ("a.mp3", "MPEG_LAYER_III", 8_000, 1, 0.1),
        ("Séculaire – été.flac", "PCM_16", 44_100, 1, 1e-3),
    ],
)
def test_any_format_rate_and_channel_count_gives_the_tone(
    tmp_path: Path, name: str, subtype: str, rate_hz: int, channels: int, tolerance: float
) -> None:
    wave = sine(rate_hz, 1.0)
    gains = np.linspace(0.5, 1.5, channels)  # their mean is 1: the mix must be the mean, not one of them
    soundfile.write(tmp_path / name, wave[:, None] * (gains if channels > 1 else 1.0), rate_hz, subtype=subtype)
    windows = SECOND.load(clip(tmp_path / name))
    assert windows.shape == (1, RATE_HZ)
    assert windows.dtype == np.float32
    middle = slice(2_000, -2_000)
    np.testing.assert_allclose(windows[0, middle], sine(RATE_HZ, 1.0)[middle], atol=tolerance)
    assert duration_s(tmp_path / name) == pytest.approx(1.0, abs=0.06)


def test_resampling_is_librosas(tmp_path: Path) -> None:
    wave = music(44_100, 1.0, 1)[:, 0].astype(np.float32)
    soundfile.write(tmp_path / "a.wav", wave, 44_100, subtype="FLOAT")
    expected = librosa.resample(wave, orig_sr=44_100, target_sr=RATE_HZ, res_type="soxr_hq")
    np.testing.assert_array_equal(SECOND.load(clip(tmp_path / "a.wav"))[0], expected)


@pytest.mark.parametrize(
    ("name", "rate_hz", "options"),
    [
        ("a.wav", 44_100, {}),
        ("a.flac", 44_100, {}),
        ("a.ogg", 44_100, {}),
        ("opus.ogg", 48_000, {"subtype": "OPUS"}),
        ("a.mp3", 44_100, {}),
        ("vbr.mp3", 44_100, {"bitrate_mode": "VARIABLE", "compression_level": 0.9}),
        ("low.mp3", 8_000, {"bitrate_mode": "CONSTANT", "compression_level": 0.95}),
    ],
)
def test_a_stretch_holds_exactly_its_own_samples(tmp_path: Path, name: str, rate_hz: int, options: dict) -> None:
    path = tmp_path / name
    soundfile.write(path, music(rate_hz, 12.0), rate_hz, **options)
    samples, _ = soundfile.read(path, dtype="float32", always_2d=True)
    for start_s in (0.0, 0.013, 0.71, 3.3337, 7.0, 10.999):
        first = round(start_s * rate_hz)
        cut = (samples[first : first + rate_hz].sum(axis=1) / 2).astype(np.float32)
        expected = soxr.resample(cut, rate_hz, RATE_HZ)
        window = SECOND.load(clip(path, start_s, 1.0))
        np.testing.assert_allclose(window, expected[None, :RATE_HZ], atol=1e-6)


def test_an_mp3_without_an_index_is_read_to_its_real_end(tmp_path: Path) -> None:
    wave = music(44_100, 20.0)
    wave[: 2 * 44_100] = 0  # small frames at the start: the length that is guessed from them is far too long
    soundfile.write(tmp_path / "whole.mp3", wave, 44_100, bitrate_mode="VARIABLE", compression_level=0.5)
    data = (tmp_path / "whole.mp3").read_bytes()
    path = tmp_path / "a.mp3"
    path.write_bytes(data[data.index(b"\xff\xfb", 400) :])  # without the first frame, which holds the index
    real, _ = soundfile.read(path, dtype="float32")
    assert duration_s(path) > 1.1 * len(real) / 44_100
    windows = AudioInput(rate_hz=44_100, window_samples=44_100, max_windows=64, min_s=1).load(clip(path))
    assert len(windows) == len(real) // 44_100
    first = spread(0, len(real), 44_100, 64)[-1][0]
    np.testing.assert_allclose(windows[-1], real[first : first + 44_100].mean(axis=1), atol=1e-6)


@given(begin=st.integers(0, 10**9), length=st.integers(1, 10**9), need=st.integers(1, 10**7), most=st.integers(1, 100))
@example(begin=0, length=1_278_900, need=1_278_900, most=5)
def test_windows_are_evenly_spread_and_never_overlap(begin: int, length: int, need: int, most: int) -> None:
    windows = spread(begin, begin + length, need, most)
    if length <= need:
        assert windows == [(begin, length)]
        return
    assert len(windows) == min(most, length // need)
    assert {count for _, count in windows} == {need}
    edges = [begin, *(edge for first, count in windows for edge in (first, first + count)), begin + length]
    assert edges == sorted(edges)
    gaps = [later - earlier for earlier, later in zip(edges[::2], edges[1::2], strict=True)]
    assert max(gaps[1:-1], default=0) - min(gaps[1:-1], default=0) <= 1
    assert abs(gaps[0] - gaps[-1]) <= 1


def test_a_longer_stretch_gives_windows_of_the_places_they_stand_for(tmp_path: Path) -> None:
    ramp = np.linspace(0.1, 0.9, 100 * 8_000).astype(np.float32)
    ramp[::2] *= -1
    soundfile.write(tmp_path / "a.wav", ramp, 8_000, subtype="FLOAT")
    reader = AudioInput(rate_hz=8_000, window_samples=8_000, max_windows=4)
    levels = np.abs(reader.load(clip(tmp_path / "a.wav"))).mean(axis=1)
    np.testing.assert_allclose(levels, [0.2, 0.4, 0.6, 0.8], atol=1e-3)
    inside = np.abs(reader.load(clip(tmp_path / "a.wav", 50.0, 2.5))).mean(axis=1)
    np.testing.assert_allclose(inside, [0.505, 0.515], atol=1e-3)


def test_a_shorter_stretch_is_repeated(tmp_path: Path) -> None:
    wave = music(RATE_HZ, 0.4, 1).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", wave, RATE_HZ, subtype="FLOAT")
    (window,) = SECOND.load(clip(tmp_path / "a.wav"))
    np.testing.assert_array_equal(window, np.concatenate([wave[:, 0]] * 3)[:RATE_HZ])
    (window,) = SECOND.load(clip(tmp_path / "a.wav", 0.3, 5.0))  # ends with the file
    np.testing.assert_array_equal(window[:1600], wave[-1600:, 0])


def test_ten_hours_cost_one_window(tmp_path: Path) -> None:
    rate_hz, seconds, path = 8_000, 36_000, tmp_path / "long.wav"
    size = rate_hz * seconds
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, 1, rate_hz, rate_hz, 1, 8, b"data", size
    )
    with path.open("wb") as file:  # a file with holes: it takes no room on the disk
        file.write(header)
        file.seek(len(header) + size // 2 - rate_hz)
        file.write(np.tile(np.array([28, 228], np.uint8), rate_hz).tobytes())
        file.truncate(len(header) + size)
    assert duration_s(path) == seconds
    reader = AudioInput(rate_hz=RATE_HZ, window_samples=2 * RATE_HZ)
    tracemalloc.start()
    try:
        windows = reader.load(clip(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert windows.shape == (1, 2 * RATE_HZ)
    assert windows.max() > 0.5
    assert peak < 4 << 20


def test_a_header_that_claims_gigabytes_costs_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, music(RATE_HZ, 2.0), RATE_HZ)
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = struct.pack("<I", 0xFFFFFFF0)
    path.write_bytes(data)
    assert SECOND.load(clip(path)).shape == (1, RATE_HZ)
    assert duration_s(path) == 2.0


def test_what_is_no_song_says_so(tmp_path: Path) -> None:
    def write(name: str, wave: np.ndarray | list[float], rate_hz: int = RATE_HZ, subtype: str = "FLOAT") -> Path:
        soundfile.write(tmp_path / name, np.asarray(wave), rate_hz, subtype=subtype)
        return tmp_path / name

    song = sine(RATE_HZ, 2.0)
    assert kind_of(tmp_path / "absent.wav") == "missing"
    for path in (tmp_path, tmp_path / ("a" * 300), Path("a\0.wav")):
        assert kind_of(path) == "missing"
    (tmp_path / "nothing.mp3").touch()
    assert kind_of(tmp_path / "nothing.mp3") == "empty"
    assert kind_of(write("header.wav", [])) == "empty"
    for name in ("text.wav", "text.mp3", "text.flac", "text"):
        (tmp_path / name).write_text("<html>404 not found</html>\n" * 100)
        assert kind_of(tmp_path / name) == "damaged"
    (tmp_path / "text.raw").write_text("no recording")
    assert kind_of(tmp_path / "text.raw") == "not-supported"
    assert kind_of(write("zeros.wav", song * 0)) == "silent"
    assert kind_of(write("dither.wav", np.resize([0, 1 / 32768], RATE_HZ), subtype="PCM_16")) == "silent"
    assert kind_of(write("offset.wav", song * 0 + 0.25)) == "constant"
    with pytest.raises(ClipError, match=r"all samples are 0\.25 in its one-channel mix: an offset and no sound"):
        AudioInput(rate_hz=RATE_HZ, window_samples=RATE_HZ).load(Clip(clip_id="c", path=tmp_path / "offset.wav"))
    assert kind_of(write("opposite.wav", np.stack([song, -song], axis=1))) == "silent"
    for number in (np.nan, np.inf, -np.inf, 1e30):
        assert kind_of(write("a.wav", np.where(np.arange(len(song)) == len(song) // 2, number, song))) == "not-finite"
    assert kind_of(write("a.wav", np.stack([song + np.inf, song - np.inf], axis=1))) == "not-finite"
    assert kind_of(write("a.wav", song * 1e200, subtype="DOUBLE")) == "not-finite"
    assert kind_of(write("blip.wav", song[:800])) == "short"
    assert kind_of(write("fast.wav", song, rate_hz=2_000_000)) == "damaged"
    assert kind_of(write("slow.wav", song, rate_hz=100)) == "damaged"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    assert kind_of(tmp_path / "pipe.wav") == "missing"


def test_a_stretch_outside_the_song_is_short(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, sine(RATE_HZ, 2.0), RATE_HZ)
    for start_s in (2.0, 1.95, 1e300, float("inf"), float("nan"), -1.0):
        assert kind_of(path, start_s=start_s) == "short"
    for length_s in (0.0, 0.05, -1.0, float("nan")):
        assert kind_of(path, length_s=length_s) == "short"
    assert SECOND.load(clip(path, 0.0, 1e300)).shape == (1, RATE_HZ)


@pytest.mark.parametrize(("name", "rate_hz"), [("a.mp3", 44_100), ("a.flac", 44_100), ("a.ogg", 44_100)])
def test_a_file_that_was_cut_off(tmp_path: Path, name: str, rate_hz: int) -> None:
    original, cut = tmp_path / f"whole-{name}", tmp_path / name
    soundfile.write(original, music(rate_hz, 20.0), rate_hz)
    data = original.read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    np.testing.assert_array_equal(SECOND.load(clip(cut, 4.0, 1.0)), SECOND.load(clip(original, 4.0, 1.0)))
    assert kind_of(cut, start_s=15.0) in ("short", "damaged")
    if name != "a.flac":  # whose header is no guess: it says that half of the song is gone
        assert np.isfinite(SECOND.load(clip(cut))).all()
    cut.write_bytes(data[: len(data) // 1000])
    assert kind_of(cut) == "damaged"


@settings(max_examples=30, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["a.wav", "a.flac", "a.ogg", "a.mp3"]),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=20),
    keep=st.floats(0, 1),
    head=st.booleans(),
)
def test_no_bytes_break_the_run(
    tmp_path: Path, name: str, changes: list[tuple[float, int]], keep: float, head: bool
) -> None:
    path = tmp_path / name
    if not path.exists():
        soundfile.write(path, music(RATE_HZ, 1.5), RATE_HZ)
    data = bytearray(path.read_bytes())
    for place, byte in changes:
        data[int(place * (min(len(data), 100 if head else len(data)) - 1))] = byte
    broken = tmp_path / f"broken-{name}"
    broken.write_bytes(data[: round(keep * len(data))])
    with suppress(ClipError):
        windows = SECOND.load(clip(broken))
        assert windows.shape == (1, RATE_HZ)
        assert np.isfinite(windows).all()


@pytest.mark.parametrize("wrong", [{"rate_hz": 0}, {"window_samples": 0}, {"max_windows": 0}, {"min_s": float("nan")}])
def test_settings_that_make_no_sense_are_refused(wrong: dict) -> None:
    with pytest.raises(RequestError, match=next(iter(wrong))):
        AudioInput(**{"rate_hz": 1, "window_samples": 1, **wrong})


def test_real_songs_are_cut_exactly(shared_data: Path) -> None:
    reader = AudioInput(rate_hz=RATE_HZ, window_samples=29 * RATE_HZ)
    songs = sorted((shared_data / "jamendo-lyrics/mp3").glob("*.mp3"))
    assert len(songs) == 5
    for path in songs:
        assert path.suffix in AUDIO_SUFFIXES
        samples, rate_hz = soundfile.read(path, dtype="float32", frames=60 * 44_100)
        expected = soxr.resample(samples[30 * rate_hz : 59 * rate_hz].mean(axis=1), rate_hz, RATE_HZ)
        np.testing.assert_allclose(reader.load(clip(path, 30.0, 29.0)), expected[None], atol=1e-6)
