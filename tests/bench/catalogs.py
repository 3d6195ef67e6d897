"""A table of a million songs to a stored catalog with its splits: time and memory, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench import entry

SONGS = 1_000_000
LIMIT_S = 60.0
LIMIT_GIB = 2.0

_WORK = """
import json, sys, time
from pathlib import Path
import torch
from stages.embed.datasets.table import FeatureTable
from stages.splits.kept import KeptSplits
from store.layout import Store
from tests.bench import peak_gib

torch.set_num_threads(1)
base_gib = peak_gib()
started = time.perf_counter()
catalog = FeatureTable(table=sys.argv[1], name="many").catalog()
built_s = time.perf_counter() - started
store = Store(sys.argv[2])
store.write_catalog(catalog)
KeptSplits(catalog, store).settle()
whole_s = time.perf_counter() - started
again = KeptSplits(store.read_catalog("many"), store)
for regime in ("random", "album", "artist"):
    (part,) = again.parts(regime, 0)
    assert abs((part == 2).mean() - 0.1) < 0.005, regime
assert len(again.parts("artist-5fold", 0)) == 5
read_s = time.perf_counter() - started - whole_s
seconds = {"built_s": built_s, "whole_s": whole_s, "read_s": read_s}
print(json.dumps({**seconds, "base_gib": base_gib, "peak_gib": peak_gib()}))
"""


def write_songs(path: Path) -> None:
    """A CSV file of `SONGS` songs by a tenth as many artists, few of whom have most songs; one or two of 15 labels."""
    rng = np.random.default_rng(0)
    artists = SONGS // 10
    artist = np.minimum((artists * rng.random(SONGS) ** 2).astype(np.int64), artists - 1)
    album = artist * 4 + rng.integers(0, 4, SONGS)
    first = np.where(rng.random(SONGS) < 0.7, rng.integers(0, 15, artists)[artist], rng.integers(0, 15, SONGS))
    second = (first + rng.integers(1, 15, SONGS)) % 15
    two = rng.random(SONGS) < 0.4
    columns = (column.tolist() for column in (artist, album, first, second, two, rng.random(SONGS)))
    with path.open("w") as file:
        file.write("song,artist,album,labels,feature\n")
        for song, (who, where, one, other, both, x) in enumerate(zip(*columns, strict=True)):
            labels = f"genre {one}|genre {other}" if both else f"genre {one}"
            file.write(f"track_{song},artist {who},album {where},{labels},{x:.4f}\n")


def measure() -> dict[str, dict[str, Any]]:
    """Seconds and GiB from the file to the stored catalog and its splits; the peer is the limit set for it.

    Memory is that of the same process once it has also read both back and dealt five folds.
    """
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "songs.csv"
        write_songs(table)
        process = subprocess.run(
            [sys.executable, "-c", _WORK, table, Path(folder) / "store"], capture_output=True, text=True, check=True
        )
    figures = json.loads(process.stdout)
    note = (
        f"{SONGS:,} songs, no peer but the limit; the catalog alone {figures['built_s']:.1f} s; read back, with five "
        f"folds more, {figures['read_s']:.1f} s"
    )
    memory = f"peak of the process, {figures['base_gib']:.2f} GiB of it before the first song"
    return {
        "catalog with splits": entry(figures["whole_s"], LIMIT_S, 1.0, "s", note),
        "catalog with splits, memory": entry(figures["peak_gib"], LIMIT_GIB, 1.0, "GiB", memory),
    }


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))
