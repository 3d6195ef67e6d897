"""``serve`` with many clients at once, beside encoding the same recordings as ``embed`` does.

Both are told in processor's time, of all processes on either side, with a thread each for the network: the clients',
which share the processors here, is nobody's. By a clock both would measure what else the machine does, too.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from stages.ask.predict import OpenHead
from stages.embed.datasets.folder import clips_of
from stages.embed.loading import default_workers
from stages.embed.represent import encode_unstored
from stages.progress import be_quiet
from store.layout import Store
from tests.bench import entry, processor_seconds
from tests.bench.asking import LENGTH_S, collection, write_recording

_CLIENTS = 20
_REPEATS = 3
_CONTEXT = multiprocessing.get_context("spawn")
_CPU = torch.device("cpu")
_TICKS = os.sysconf("SC_CLK_TCK")
WAYS = {"serve": ("mfcc", 200, 0.9), "serve-network": ("fcn", 60, 0.9)}  # backbone, recordings, target


def measure() -> dict[str, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        return {name: _serving(Path(folder, name), *way) for name, way in WAYS.items()}


def _serving(folder: Path, name: str, count: int, target: float) -> dict[str, Any]:
    (folder / "new").mkdir(parents=True)
    store = collection(folder, name)
    paths = [write_recording(folder / "new" / f"{number}.wav", 1000 + number) for number in range(count)]
    with _server(store) as (process, port), _encoder(store, paths) as encoder:
        post(port, paths[0])

        def serve() -> None:
            with ThreadPoolExecutor(_CLIENTS) as clients:
                list(clients.map(lambda path: post(port, path), paths))

        def embed() -> tuple[float, float]:
            encoder.send(None)
            used: tuple[float, float] = encoder.recv()
            return used

        used = [(embed(), _used(serve, lambda: _tree_s(process.pid))) for _ in range(_REPEATS)]
    (embed_s, embed_clock), (serve_s, serve_clock) = (
        [statistics.median(each) for each in zip(*side, strict=True)] for side in zip(*used, strict=True)
    )
    return entry(
        count / serve_s,
        count / embed_s,
        target,
        "clips/s",
        f"{count} recordings of {LENGTH_S:g} s by {name}, {_CLIENTS} clients at once, no error, by a processor's time; "
        f"peer: encoding them as embed does. By the clock of this machine {count / serve_clock:.1f} and "
        f"{count / embed_clock:.1f}, the clients and all else on it included",
        less_is_better=False,
    )


def _used(work: Callable[[], None], clock: Callable[[], float]) -> tuple[float, float]:
    """Seconds of the processor and of the wall."""
    used, started = clock(), time.perf_counter()
    work()
    return clock() - used, time.perf_counter() - started


def _tree_s(pid: int) -> float:
    """The processor's time that a process and its children have had."""
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    own = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, own[11:15])) / _TICKS + sum(map(_tree_s, children))


@contextlib.contextmanager
def _encoder(store: Path, paths: list[Path]) -> Iterator[Connection]:
    """A process of its own, as ``embed`` is one, that encodes when something is sent and answers what `_used` does."""
    ours, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=_encode, args=(theirs, store, paths))
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join()


def _encode(pipe: Connection, store: Path, paths: list[Path]) -> None:
    multiprocessing.set_start_method(None, force=True)  # for the loader: that of a fresh process
    torch.set_num_threads(1)
    be_quiet(True)
    backbone = OpenHead(Store(store), "mine", device="cpu").backbone
    assert backbone is not None
    clips, workers = clips_of("songs", paths, 0, 1.0), default_workers(_CPU)

    def embed() -> None:
        encode_unstored(clips, backbone, device=_CPU, batch=16, workers=workers)

    with contextlib.suppress(EOFError):
        while True:
            pipe.recv()
            pipe.send(_used(embed, processor_seconds))


@contextlib.contextmanager
def _server(store: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-m", "pipeline", "serve", "--head", "mine", "--port", "0", "--store", str(store)]
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    try:
        yield process, int(process.stdout.readline().rstrip("/\n").rpartition(":")[2])
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
        process.stdout.close()


def post(port: int, path: Path) -> None:
    """Ask a server about a recording."""
    body = io.BytesIO()
    body.write(b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n')
    body.write(path.read_bytes() + b"\r\n--x--\r\n")
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", "/predict", body.getvalue(), {"Content-Type": "multipart/form-data; boundary=x"})
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    answer.read()
    connection.close()
