"""Every backbone that reads songs, on recordings and MIDI files of every kind, and on those that are none."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from stages import registry
from stages.embed.backbones import Backbone
from stages.embed.inputs import Clip
from store.errors import ClipError
from tests.embed.test_midi import SCALE, midi, off, on, program, tempo
from tests.embed.test_octuple import meter

AUDIO = (
    *("cnn1d", "cola", "fcn", "fcn4", "fma-features", "mfcc", "mfcc-cnn", "mixcnn", "musicnn", "passt", "samplecnn"),
)
MIDI = ("musicbert", "pianoroll", "pianoroll-cnn")
SETTINGS: dict[str, dict[str, Any]] = {
    "musicbert": {"size": "tiny"},
    "cola": {"max_segments": 3},
    "passt": {"size": "tiny"},
    "samplecnn": {"max_windows": 3},
}


@pytest.fixture(scope="module")
def backbone(request: pytest.FixtureRequest) -> Backbone:
    torch.manual_seed(0)
    kind = registry.find("backbone", request.param)
    instance: Backbone = kind(kind.Config(**SETTINGS.get(request.param, {})))
    instance.to(torch.device("cpu"))
    return instance


def represented(backbone: Backbone, path: Path, start_s: float | None = None, length_s: float | None = None) -> Any:
    """The vectors of one file's windows, [windows, dim]."""
    windows = backbone.input.load(Clip(clip_id="c", path=path, start_s=start_s, duration_s=length_s))
    with torch.inference_mode():
        vectors = backbone.encode(torch.from_numpy(windows))
    assert vectors.shape == (len(windows), *backbone.shape)
    assert torch.isfinite(vectors.float()).all()
    assert len(windows) <= 4
    return vectors


def peak_bytes(backbone: Backbone, path: Path, start_s: float | None = None, length_s: float | None = None) -> int:
    """The most that numpy held while the file was loaded, once what is imported on the way is there."""
    clip = Clip(clip_id="c", path=path, start_s=start_s, duration_s=length_s)
    backbone.input.load(clip)
    tracemalloc.start()
    try:
        backbone.input.load(clip)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def kind_of(backbone: Backbone, path: Path) -> str:
    with pytest.raises(ClipError) as caught:
        represented(backbone, path)
    assert "\n" not in caught.value.reason
    return caught.value.kind


def test_every_backbone_that_reads_songs_stands_here() -> None:
    # A table's rows; whatever weights describe, through the same inputs.
    described = {"clamp3", "clap", "effnet", "encodec", "hf", "maest", "mert", "mert2", "muq", "music2vec", "musicfm"}
    elsewhere = {"features", *described}
    assert {*AUDIO, *MIDI} == set(registry.names("backbone")) - elsewhere


@pytest.mark.parametrize("backbone", AUDIO, indirect=True)
def test_recordings(backbone: Backbone, tmp_path: Path) -> None:
    """One channel of 8 bits at 8 kHz, two of 24 at 48, six of floats at 192: the last two all but the same."""
    vectors = []
    for rate_hz, channels, subtype in ((8_000, 1, "PCM_U8"), (48_000, 2, "PCM_24"), (192_000, 6, "FLOAT")):
        time_s = np.arange(2 * rate_hz) / rate_hz
        wave = 0.3 * np.sin(2 * np.pi * 440 * time_s) * (1 + np.sin(12 * time_s)) / 2
        soundfile.write(tmp_path / "a.wav", np.repeat(wave[:, None], channels, axis=1), rate_hz, subtype=subtype)
        vectors.append(represented(backbone, tmp_path / "a.wav")[0].flatten())
    assert torch.cosine_similarity(vectors[1], vectors[2], dim=0) > 0.99
    soundfile.write(tmp_path / "short.wav", wave[:19_200], 192_000)
    assert kind_of(backbone, tmp_path / "short.wav") == "short"  # 0.1 s


@pytest.fixture(scope="module")
def long_song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty minutes of MP3: one minute, twenty times over, without the frame in front that counts its frames."""
    path = tmp_path_factory.mktemp("long") / "long.mp3"
    time_s = np.arange(60 * 32_000) / 32_000
    soundfile.write(
        path, 0.3 * np.sin(2_000 * time_s) * np.sin(time_s), 32_000, bitrate_mode="CONSTANT", compression_level=0.99
    )
    data = path.read_bytes()
    path.write_bytes(data[data.index(data[:2], 4) :] * 20)
    return path


# The others read the same input in windows of other lengths.
@pytest.mark.parametrize("backbone", ["cola", "fcn", "fma-features"], indirect=True)
def test_a_long_song_is_not_decoded_for_a_clip(backbone: Backbone, long_song: Path) -> None:
    assert soundfile.info(long_song).duration > 1_190
    assert peak_bytes(backbone, long_song) < 64 << 20  # all of it would be 153 MB


@pytest.mark.parametrize("backbone", MIDI, indirect=True)
@pytest.mark.parametrize(
    "data",
    [
        midi(SCALE, form=0),
        midi([tempo(0, 600_000)], SCALE, form=1),
        midi(SCALE, division=(256 - 25) << 8 | 40),  # frames instead of beats
        midi([tempo(0, 1), *SCALE * 3, on(0, 127, 127, 9), off(0x0FFFFF, 127, 9)]),  # beyond tempi and durations
        midi([tempo(0, 0xFFFFFF), meter(0, 255, 1), program(33), *SCALE]),
        midi([on(96 * 480, 1 + i % 127) + off(1, 1 + i % 127) for i in range(60)]),  # 1,440 bars
    ],
    ids=["format 0", "format 1", "SMPTE", "fast and long", "slow, 255/2", "bars beyond the vocabulary"],
)
def test_midi_files(backbone: Backbone, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "song.mid").write_bytes(data)
    represented(backbone, tmp_path / "song.mid")


@pytest.mark.parametrize("backbone", MIDI, indirect=True)
def test_midi_files_that_are_refused(backbone: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "song.mid"
    for kind, data in (
        ("outside", midi(SCALE, SCALE, form=2)),
        ("damaged", midi([on(0, 60), b"\0\xff\x01\x8f\xff\xff\x7f"])),
        ("truncated", midi(SCALE)[:-6]),
        ("damaged", b"RIFF, or so"),
        ("empty", b""),
        ("no-notes", midi([])),
    ):
        path.write_bytes(data)
        assert kind_of(backbone, path) == kind
    assert kind_of(backbone, tmp_path / "none.mid") == "missing"


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("million") / "song.mid"
    path.write_bytes(midi([on(1, 60) + off(1, 60)] * 1_000_000))
    return path


@pytest.mark.parametrize("backbone", MIDI, indirect=True)
def test_a_million_notes_cost_a_few_hundred_megabytes(backbone: Backbone, million: Path) -> None:
    represented(backbone, million, 60.0, 15.0)
    assert peak_bytes(backbone, million) < 320 << 20
