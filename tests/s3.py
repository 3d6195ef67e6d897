"""An S3 server on loopback (moto's), which can be told to fail, to be slow and to hang up."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

BUCKET = "music"
SLOW = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class Faults:
    """What goes wrong with some of the requests: the share of each kind, drawn from one seed.

    Attributes
    ----------
    before, after : hang up before the request is carried out, or once it is, so that its answer is lost.
    refuse : answer 503 SlowDown, and do nothing.
    wait : answer after a quarter of a second.
    """

    def __init__(self) -> None:
        self.before = self.after = self.refuse = self.wait = 0.0
        self.count = 0
        self.random = random.Random(0)
        self._lock = threading.Lock()

    def draw(self) -> str:
        with self._lock:
            self.count += 1
            kinds = {kind: getattr(self, kind) for kind in ("before", "after", "refuse", "wait")}
            point = self.random.random()
        for kind, share in kinds.items():
            if point < share:
                return kind
            point -= share
        return ""


class Faulty:
    """A WSGI application with `Faults` before it."""

    def __init__(self, app: Callable[..., Any], faults: Faults) -> None:
        self.app, self.faults = app, faults

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        kind = self.faults.draw()
        if kind == "refuse":
            start_response("503 Slow Down", [("Content-Type", "application/xml"), ("Content-Length", str(len(SLOW)))])
            return [SLOW]
        if kind == "wait":
            time.sleep(0.25)
        if kind == "before":
            self._hang_up(environ)
        answer = self.app(environ, start_response)
        if kind == "after":
            self._hang_up(environ)
        return answer

    def _hang_up(self, environ: dict[str, Any]) -> None:
        connection: socket.socket = environ["werkzeug.socket"]
        connection.shutdown(socket.SHUT_RDWR)
        raise ConnectionAbortedError


@contextlib.contextmanager
def server() -> Iterator[tuple[str, Faults]]:
    """The server's address, and its faults: none at first. It has one empty bucket."""
    import boto3
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    faults = Faults()
    app = Faulty(DomainDispatcherApplication(create_backend_app), faults)
    served = make_server("127.0.0.1", 0, app, threaded=True)
    served.log = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{served.server_port}"
    boto3.client("s3", endpoint_url=address, **_account()).create_bucket(Bucket=BUCKET)
    try:
        yield address, faults
    finally:
        served.shutdown()
        thread.join()


def environment(address: str) -> dict[str, str]:
    """The variables by which S3's clients find the server."""
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": f"127.0.0.1,{os.environ.get('NO_PROXY', '')}",
    }


def _account() -> dict[str, str]:
    return {
        "aws_access_key_id": "nobody",
        "aws_secret_access_key": "nothing",
        "region_name": "us-east-1",
    }
