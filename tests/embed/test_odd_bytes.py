"""Recordings with other bytes around them, recordings that were cut anywhere, and what is called so and is none."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from stages.embed.inputs import ffmpeg, recording
from store.errors import ClipError
from tests.embed.test_audio import music
from tests.embed.test_recording import RATE_HZ, load, refusal, write

WAVE = music(RATE_HZ, 3.0)
CONTAINERS = ("wav", "flac", "ogg", "aiff", "caf", "mp3")


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(CONTAINERS),
    st.one_of(st.just(b""), st.binary(min_size=1, max_size=300), st.just(b"ID3\4\0\0\0\0\0\x0a" + bytes(10))),
    st.one_of(st.just(b""), st.just(b"TAG" + bytes(125)), st.just(b"APETAGEX" + bytes(24)), st.binary(max_size=300)),
)
def test_bytes_around_a_recording_are_no_part_of_it(tmp_path: Path, suffix: str, lead: bytes, tail: bytes) -> None:
    """What stands before the header is noted; tags, which belong there, are not."""
    assume(b"ID3" not in lead[1:] and b"\xff" not in lead + tail)  # which may begin a tag, or a frame of MP3
    other = (b"fLaC", b".snd", b"riff", b"RF64")
    assume(ffmpeg.find_reader(lead[:16].ljust(16, b"\0")) is None and not lead.startswith(other))  # of another format
    path = tmp_path / f"a.{suffix}"
    data = write(path, WAVE)
    expected, _ = load(path)
    path.write_bytes(lead + data + tail)
    windows, notes = load(path)
    np.testing.assert_array_equal(windows, expected)
    is_odd = lead and lead[:3] != b"ID3" and suffix != "mp3"
    assert notes == (["mended"] if is_odd else [])


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([*CONTAINERS, "au", "w64", "rf64"]), st.floats(0, 1))
def test_a_file_that_is_cut_anywhere_is_its_beginning_or_refused(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"a.{suffix}"
    data = write(path, WAVE)
    expected, _ = load(path, 0.0, 1.0)
    path.write_bytes(data[: int(share * len(data))])
    try:
        _, notes = load(path)
    except ClipError as error:
        # Some of what libsndfile gives up ffmpeg would read.
        absent = set() if shutil.which("ffmpeg") else {"not-supported"}
        assert error.kind in {"empty", "damaged", "short", "silent", *absent}  # noqa: PT017
        return
    with recording.open_recording(path) as (sound, _):
        seconds = sound.recount() / sound.rate_hz
    assert seconds <= 3.05
    if suffix != "ogg" and not 2.4 < seconds < 2.6:  # Ogg has no header that tells; half a second is not told
        assert notes == (["truncated"] if seconds < 2.5 else [])
    if suffix not in ("mp3", "ogg") and seconds > 1:
        np.testing.assert_array_equal(load(path, 0.0, 1.0)[0], expected)


@pytest.mark.parametrize("suffix", ["au", "snd", "wav", "flac", "ogg", "mp3"])
def test_text_is_no_recording_whatever_it_is_called(tmp_path: Path, suffix: str) -> None:
    """libsndfile takes a .au or .snd without a header for raw samples."""
    (tmp_path / f"a.{suffix}").write_bytes(b"<html>404 not found</html>" * 9_000)
    assert refusal(tmp_path / f"a.{suffix}").kind == "damaged"
