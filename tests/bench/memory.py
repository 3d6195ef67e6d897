"""Peak memory of encoding a collection and one of many times as many clips, each in a fresh process."""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from stages.embed.inputs import Clip
from stages.embed.inputs.audio import AudioInput
from store.schema import Catalog
from tests.bench import entry, peak_gib

CLIPS, TIMES = 1_500, 4
RATE_HZ = 22_050
FILES = 20


def measure() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        for number in range(FILES):
            soundfile.write(Path(folder) / f"{number}.wav", 0.1 * rng.standard_normal(RATE_HZ), RATE_HZ)
        few, many = (_peak_mb(folder, count) for count in (CLIPS, TIMES * CLIPS))
        thousands, million = (_peak_mb(folder, count, _encode_nothing) for count in (10_000, 1_000_000))
    note = f"the main process and its largest worker, encoding {CLIPS:,} clips and {TIMES} times as many (mfcc)"
    beyond = (
        f"10,000 clips and 1,000,000, each a file that is looked at and not read, no workers; the catalog and its "
        f"rows take {(million - thousands) * 1e6 / 990_000:.0f} bytes a clip"
    )
    return {
        "memory": entry(many, few, 0.9, "MB", note),
        "memory-million": entry(million, thousands, 0.9, "MB", beyond),
    }


def _peak_mb(folder: str, clips: int, work: Callable[[str, int], float] | None = None) -> float:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work or _encode, folder, clips).result()


def _catalog(folder: str, clips: int) -> Catalog:
    from store.schema import CatalogInfo

    ids = [f"{clip:07}" for clip in range(clips)]
    info = CatalogInfo(name="m", title="", version="1", licence="", citation="", backbone="mfcc", data_root=folder)
    columns = {"clip_id": ids, "song_id": ids, "artist_id": ids, "labels": [["a"]] * clips}
    return Catalog.build(info, columns | {"path": [f"{clip % FILES}.wav" for clip in range(clips)]})


def _encode_nothing(folder: str, clips: int) -> float:
    """As `_encode`, by a backbone whose clips are all the same few numbers; the catalog comes from the store."""
    import torch

    from stages.embed.backbones.mfcc import Mfcc, MfccConfig
    from stages.embed.encode import encode, open_writer
    from stages.progress import be_quiet
    from store.layout import Store

    class Same(AudioInput):
        def load(self, clip: Clip) -> np.ndarray[Any, Any]:
            return np.ones((1, 8), dtype=np.float32)

    class Numbers(Mfcc):
        def forward(self, windows: torch.Tensor) -> torch.Tensor:
            return windows

    be_quiet(True)
    torch.set_num_threads(1)
    store = Store(Path(folder) / f"nothing-{clips}")
    process = multiprocessing.get_context("fork").Process(target=lambda: store.write_catalog(_catalog(folder, clips)))
    process.start()
    process.join()
    catalog = store.open_clips("m")
    backbone = Numbers(MfccConfig())
    backbone.input, backbone.shape = Same(rate_hz=RATE_HZ, window_samples=8), (8,)
    writer = open_writer(store, catalog, backbone, None)
    encode(writer, catalog, backbone, device=torch.device("cpu"), batch=64, workers=0)
    return 1024 * peak_gib()


def _encode(folder: str, clips: int) -> float:
    """Encode ``clips`` clips of a second, each file being several of them; the megabytes that this took at most."""
    import torch

    from stages.embed.backbones.mfcc import Mfcc, MfccConfig
    from stages.embed.encode import encode, open_writer
    from stages.progress import be_quiet
    from store.layout import Store

    be_quiet(True)
    torch.set_num_threads(1)
    catalog = _catalog(folder, clips)
    backbone = Mfcc(MfccConfig(window_s=1.0))
    writer = open_writer(Store(Path(folder) / f"store-{clips}"), catalog, backbone, None)
    encode(writer, catalog, backbone, device=torch.device("cpu"), batch=16, workers=1)
    return 1024 * peak_gib() + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
