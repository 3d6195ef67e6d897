"""A server of this process on a port of its own, and a small collection of recordings for it."""

from __future__ import annotations

import csv
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import requests
import soundfile
import uvicorn

from pipeline.serve import PAGE
from stages.ask.routes import app
from stages.ask.service import Service
from store.layout import Store
from tests import PATIENCE_S
from tests.pipeline.conftest import Encore

RATE_HZ = 8000
SONGS, ARTISTS = 16, 4
ODD = "<img src=x onerror=alert(1)>"  # in every title: what a page must not take for markup
QUICK = ("--set", "epochs=2", "--set", "hidden=8")


def write_recording(path: Path, number: int, seconds: float = 3.0) -> Path:
    """Tones and noise that differ from number to number."""
    rng = np.random.default_rng(number)
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    tones = sum(np.sin(2 * np.pi * (110 + 55 * (number % 3)) * k * time) / k for k in range(1, 5))
    soundfile.write(path, 0.1 * tones + 0.02 * (1 + number % 5) * rng.standard_normal(len(time)), RATE_HZ)
    return path


def make_collection(folder: Path) -> Encore:
    """``mine``: recordings with titles that look like markup, encoded by mfcc, and a gated head."""
    songs = folder / "songs"
    songs.mkdir(parents=True)
    with (songs / "songs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "artist", "title", "labels"])
        for number in range(SONGS):
            write_recording(songs / f"{number}.wav", number)
            writer.writerow([f"{number}.wav", f"artist {number % ARTISTS}", f"{ODD} {number}", f"genre {number % 3}"])
    encore = Encore(folder / "stores")
    embed(encore, songs)
    encore("head", "mine", "--mode", "gated", *QUICK)
    return encore


def embed(encore: Encore, songs: Path) -> None:
    # In this process, which may have a server's threads by now: it must not be forked then.
    table = ("--table", songs / "songs.csv", "--backbone", "mfcc", "--workers", 0)
    encore("embed", "folder", "--name", "mine", "--data", songs, *table)


@dataclass
class Serving:
    """A server.

    Attributes
    ----------
    url : without a slash at its end.
    token : what requests bring.
    """

    url: str
    service: Service
    token: str | None = None

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return host, int(port)

    def get(self, path: str, headers: dict[str, str] | None = None, **query: Any) -> requests.Response:
        return requests.get(
            self.url + path, params=query, headers={**self._headers(), **(headers or {})}, timeout=PATIENCE_S
        )

    def post(self, path: Path | None = None, name: str | None = None, **fields: Any) -> requests.Response:
        """``POST /predict``, with a file where there is one."""
        form: dict[str, Any] = {field: (None, str(value)) for field, value in fields.items()}
        if path is not None:
            form["file"] = (name or path.name, path.read_bytes())
        return requests.post(f"{self.url}/predict", files=form, headers=self._headers(), timeout=PATIENCE_S)

    def predict(self, path: Path | None = None, name: str | None = None, **fields: Any) -> Any:
        """The answer to one that must be given."""
        answer = self.post(path, name, **fields)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def _headers(self) -> dict[str, str]:
        return {} if self.token is None else {"Authorization": f"Bearer {self.token}"}


@contextmanager
def serving(
    store: Path,
    head: str = "mine",
    *,
    token: str | None = None,
    loopback: bool = True,
    most_bytes: int = 1 << 20,
    most_s: float = 60.0,
) -> Iterator[Serving]:
    """A server, as ``encore serve`` starts it."""
    service = Service(Store(store), head, weights=None, device="cpu", most_s=most_s)
    application = app(service, PAGE, token=token, loopback=loopback, most_bytes=most_bytes)
    server = uvicorn.Server(uvicorn.Config(application, log_config=None, access_log=False))
    listening = socket.create_server(("127.0.0.1", 0), backlog=200)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield Serving(f"http://127.0.0.1:{listening.getsockname()[1]}", service, token)
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
