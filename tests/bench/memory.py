"""Peak memory of encoding a collection and one of four times as many clips, each in a fresh process."""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

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
    note = f"the main process and its largest worker, encoding {CLIPS:,} clips and {TIMES} times as many (mfcc)"
    return {"memory": entry(many, few, 0.9, "MB", note)}


def _peak_mb(folder: str, clips: int) -> float:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_encode, folder, clips).result()


def _encode(folder: str, clips: int) -> float:
    """Encode ``clips`` clips of a second, each file being several of them; the megabytes that this took at most."""
    import torch

    from stages.embed.backbones.mfcc import Mfcc, MfccConfig
    from stages.embed.encode import encode, open_writer
    from stages.progress import be_quiet
    from store.layout import Store
    from store.schema import Catalog, CatalogInfo

    be_quiet(True)
    torch.set_num_threads(1)
    ids = [f"{clip:06}" for clip in range(clips)]
    info = CatalogInfo(name="m", title="", version="1", licence="", citation="", backbone="mfcc", data_root=folder)
    columns = {"clip_id": ids, "song_id": ids, "artist_id": ids, "labels": [["a"]] * clips}
    catalog = Catalog.build(info, columns | {"path": [f"{clip % FILES}.wav" for clip in range(clips)]})
    backbone = Mfcc(MfccConfig(window_s=1.0))
    writer = open_writer(Store(Path(folder) / f"store-{clips}"), catalog, backbone, None)
    encode(writer, catalog, backbone, device=torch.device("cpu"), batch=16, workers=1)
    return 1024 * peak_gib() + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
