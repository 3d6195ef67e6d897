"""Audio: HPSS and mel spectrograms against librosa, and how busy encoding keeps its device."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import soundfile
import torch

from stages.embed.backbones import Backbone
from stages.embed.backbones.cola import Cola, ColaConfig
from stages.embed.encode import encode, open_writer
from stages.embed.inputs.audio import AudioInput
from stages.embed.inputs.hpss import hpss
from stages.embed.inputs.spectral import Mel, mel_spectrogram
from stages.embed.loading import ClipTable, load_in_workers
from store.layout import Store
from store.schema import Catalog, CatalogInfo
from tests.bench import best_seconds, entry, processor_seconds

RATE_HZ = 44_100
SONG_S = 30.0
SONGS = 24
PASSES = 4  # over all songs
MEL = Mel(rate_hz=22_050, fft=1_024, hop=512, bands=128, low_hz=0.0, high_hz=11_025.0, scale="slaney")
CPU = torch.device("cpu")


def measure() -> dict[str, Any]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            catalog = _songs(Path(folder))
            return {"hpss": _hpss(), "mel": _mel(catalog), "busy": _busy(catalog, Path(folder))}
    finally:
        torch.set_num_threads(threads)


def _wave(seed: int, seconds: float, rate_hz: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    tones = sum(np.sin(2 * np.pi * hertz * time_s) for hertz in rng.uniform(80, 2_000, 4))
    wave: np.ndarray[Any, Any] = (0.1 * tones + 0.05 * rng.standard_normal(len(time_s))).astype(np.float32)
    return wave


def _songs(folder: Path) -> Catalog:
    ids = [f"{song:02}" for song in range(SONGS)]
    for song, name in enumerate(ids):
        mono = _wave(song, SONG_S, RATE_HZ)
        soundfile.write(folder / f"{name}.wav", np.stack([mono, mono[::-1]], axis=1), RATE_HZ)
    info = CatalogInfo(
        name="bench", title="", version="1", licence="", citation="", backbone="cola", data_root=str(folder)
    )
    columns = {"clip_id": ids, "song_id": ids, "artist_id": ids, "labels": [["a"]] * SONGS}
    return Catalog.build(info, columns | {"path": [f"{name}.wav" for name in ids]})


def _hpss() -> dict[str, Any]:
    magnitude = np.abs(librosa.stft(_wave(0, 30.0, 22_050), n_fft=1024, hop_length=512))
    tensor = torch.from_numpy(magnitude)[None]
    librosa.decompose.hpss(magnitude)
    ours, peer = best_seconds(lambda: hpss(tensor), lambda: librosa.decompose.hpss(magnitude), repeats=5)
    return entry(1e3 * ours, 1e3 * peer, 8, "ms", "a spectrogram of 513 x 1,292 on one core, against librosa's hpss")


def _mel(catalog: Catalog) -> dict[str, Any]:
    """Files to mel spectrograms: two workers that decode, this process that transforms, against a loop of librosa."""
    paths = [str(Path(str(catalog.info.data_root)) / str(path)) for path in catalog.strings("path")]
    reader = AudioInput(rate_hz=22_050, window_samples=30 * 22_050)
    clips = ClipTable(catalog, reader)
    spectrogram = mel_spectrogram(MEL)

    def ours() -> None:
        with torch.inference_mode():
            for loaded in load_in_workers(clips, [[row] for row in range(len(clips))] * PASSES, 2, pin=False):
                spectrogram(loaded.windows)

    def loop() -> None:
        for path in paths * PASSES:
            wave, _ = librosa.load(path, sr=22_050)
            librosa.feature.melspectrogram(y=wave, sr=22_050, n_fft=1024, hop_length=512, n_mels=128)

    loop()
    songs = SONGS * PASSES
    started = processor_seconds()
    ours()
    between = processor_seconds()
    loop()
    ours_ms, peer_ms = (1e3 * seconds / songs for seconds in (between - started, processor_seconds() - between))
    ours_s, peer_s = best_seconds(ours, loop)
    return entry(
        songs / ours_s,
        songs / peer_s,
        3,
        "songs/s",
        f"{songs} songs, the start of the workers included: stereo WAV of 44.1 kHz, 30 s, to mel at 22,050 Hz on two "
        f"cores, against librosa file by file; a processor's time {ours_ms:.1f} and {peer_ms:.1f} ms a song",
        less_is_better=False,
    )


def _busy(catalog: Catalog, folder: Path) -> dict[str, Any]:
    """Wall time of encoding against the slower of its two sides, each alone."""
    torch.manual_seed(0)
    backbone: Backbone = Cola(ColaConfig())
    backbone.to(CPU)
    clips = ClipTable(catalog, backbone.input)
    batches = [list(range(first, first + 4)) for first in range(0, SONGS, 4)]
    loaded = [clips[batch].windows for batch in batches]

    def device() -> None:
        with torch.inference_mode():
            for windows in loaded:
                assert windows is not None
                backbone.encode(windows)

    stores = (Store(folder / f"store-{i}") for i in itertools.count())

    def whole() -> None:
        writer = open_writer(next(stores), catalog, backbone, "bench")
        encode(writer, catalog, backbone, device=CPU, batch=4, workers=1)

    device()
    load_s, device_s, wall_s = best_seconds(
        lambda: list(load_in_workers(clips, batches, 1, pin=False)), device, whole, repeats=2
    )
    return entry(
        wall_s,
        max(load_s, device_s),
        1 / 1.2,
        "s",
        f"cola over {SONGS} songs of 30 s; one worker alone {load_s:.2f} s, the network alone {device_s:.2f} s "
        f"({SONGS / wall_s:.1f} clips/s)",
    )
