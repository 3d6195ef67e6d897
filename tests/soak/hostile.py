"""Mutated files of every kind that is read: none ends the run, takes long or much memory, or is taken for more than it
is.

Valid recordings, MIDI files, piano rolls, tables and checkpoints are flipped, cut, lengthened, joined and given lying
lengths. Each is read in a process of its own kind; what comes of it is numbers, or an error that Encore raises on
purpose.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import random
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from tests import processes  # noqa: F401
from tests.bench import peak_gib
from tests.embed.trees import midi, write_roll
from tests.soak import Line

FILES = 10_000
_MOST_S, _MOST_GIB = 20.0, 2.0
_RATE_HZ = 8_000


def run(short: bool) -> Iterator[Line]:
    count = 70 if short else FILES
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seeds = _seeds(folder / "seeds")
        for path in seeds:
            yield _many(folder, path, max(1, count // len(seeds)))


def _seeds(folder: Path) -> list[Path]:
    """A valid file of each kind."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import soundfile
    import torch

    folder.mkdir()
    wave = np.sin(np.arange(2 * _RATE_HZ) * 0.3)
    for suffix in ("wav", "flac", "ogg", "mp3"):
        soundfile.write(folder / f"song.{suffix}", wave, _RATE_HZ)
    (folder / "song.mid").write_bytes(b"".join([midi(2.0, 60)]))
    rolls = np.zeros((5, 96, 128), dtype=np.uint8)
    rolls[1, ::7, 60] = 1
    write_roll(folder / "song.npz", list(rolls), [120.0] * 96)
    rows = [f"a{i}.wav,artist {i % 3},rock|pop,{i / 7}" for i in range(60)]
    (folder / "table.csv").write_text("\n".join(["file,artist,labels,tempo", *rows]) + "\n")
    pq.write_table(pa.table({"artist": ["a", "b"] * 20, "labels": [["x"], ["y"]] * 20}), folder / "table.parquet")
    torch.save({"layer.weight": torch.randn(16, 16), "layer.bias": torch.zeros(16)}, folder / "weights.pt")
    return sorted(folder.iterdir())


def mutate(data: bytes, draw: random.Random) -> bytes:
    """``data`` with one to three things done to it."""
    for _ in range(draw.randint(1, 3)):
        at, size = draw.randrange(len(data) + 1), len(data)
        kind = draw.randrange(8)
        if kind == 0 and data:
            changed = bytearray(data)
            for _ in range(draw.randint(1, 20)):
                changed[draw.randrange(size)] ^= 1 << draw.randrange(8)
            data = bytes(changed)
        elif kind == 1:
            data = data[:at]
        elif kind == 2:
            data = data[:at] + draw.randbytes(draw.randint(1, 64)) + data[at:]
        elif kind == 3:
            data = data + data[at:]
        elif kind == 4:  # a length, wherever one may stand
            lie = draw.choice([b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0" * 4, b"\x80" * 4])
            near = draw.randrange(min(size, 64) + 1)
            data = data[:near] + lie + data[near + 4 :]
        elif kind == 5:
            data = data[at:]
        elif kind == 6:
            data = data[: size // 2] + bytes(draw.choice([64, 4096])) + data[size // 2 :]
        else:
            data = draw.randbytes(min(size, 32)) + data[32:]
    return data


def bomb(path: Path) -> bytes | None:
    """An archive in the file's format that unpacks to far more than it weighs; None for a format that is none."""
    if path.suffix != ".npz":
        return None
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        header = b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000,), }"
        archive.writestr("info.json", "{}")
        archive.writestr("pianoroll_0_csc_data.npy", header.ljust(127) + b"\n" + bytes(1 << 24))
    return packed.getvalue()


def _many(folder: Path, path: Path, count: int) -> Line:
    draw, outcomes, slowest, wrong = random.Random(path.name), {"read": 0, "refused": 0}, 0.0, ""
    context = multiprocessing.get_context("forkserver")  # as `tests.processes` has set it up
    reader: Any = None
    data = path.read_bytes()
    peak = 0.0
    for number in range(count):
        content = bomb(path) if number == 0 else None
        victim = folder / f"{number}{path.suffix}"
        victim.write_bytes(mutate(data, draw) if content is None else content)
        if reader is None:
            ours, theirs = context.Pipe()
            reader = context.Process(target=_read_all, args=(theirs,), daemon=True)
            reader.start()
            theirs.close()
        started = time.monotonic()
        ours.send(victim)
        if ours.poll(_MOST_S * 6 if number == 0 else _MOST_S):  # the first imports the libraries
            with contextlib.suppress(EOFError):
                kind, message, peak = ours.recv()
                if kind in outcomes:
                    outcomes[kind] += 1
                    slowest = max(slowest, time.monotonic() - started if number else 0.0)
                    victim.unlink()
                    continue
                wrong = f"{message} at {victim.name}"
                continue
            wrong = f"its process ended at {victim.name}"
        else:
            wrong = f"more than {_MOST_S:.0f} s at {victim.name}"
        reader.kill()
        reader = None
    if reader is not None:
        reader.kill()
    if peak > _MOST_GIB:
        wrong = f"{peak:.1f} GiB of memory"
    what = f"{count} files, {outcomes['refused']} refused, slowest {slowest:.1f} s, {peak:.1f} GiB"
    return Line(f"hostile, {path.name}", what, wrong)


def _read_all(pipe: Connection) -> None:
    """Read each file whose path comes, and answer what came of it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    from store.errors import EncoreError

    while True:
        path: Path = pipe.recv()
        try:
            _READERS[path.suffix](path)
            pipe.send(("read", "", peak_gib()))
        except (EncoreError, OSError):
            pipe.send(("refused", "", peak_gib()))
        except Exception as error:  # a defect
            pipe.send(("wrong", f"{type(error).__name__}: {error}", peak_gib()))


def _audio(path: Path) -> object:
    from stages.embed.inputs import Clip
    from stages.embed.inputs.audio import AudioInput

    return AudioInput(rate_hz=_RATE_HZ, window_samples=_RATE_HZ).load(Clip(clip_id="a", path=path))


def _notes(path: Path) -> object:
    from stages.embed.inputs.midi import read_notes

    return read_notes(path)


def _table(path: Path) -> object:
    from stages.embed.tables import read_table

    table = read_table(path)
    return [table.values(name) for name in table.names if name not in table.unreadable]


def _checkpoint(path: Path) -> object:
    from stages.embed.weights import read_state_dict

    return read_state_dict(path)


_READERS: dict[str, Callable[[Path], object]] = {
    **dict.fromkeys((".wav", ".flac", ".ogg", ".mp3"), _audio),
    **dict.fromkeys((".mid", ".npz"), _notes),
    **dict.fromkeys((".csv", ".parquet"), _table),
    ".pt": _checkpoint,
}
