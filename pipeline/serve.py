"""``encore serve``: predict and similar over HTTP, with a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.arguments import open_store
from pipeline.options import DEFAULT_STORE, DeviceOption, StoreOption, WeightsOption
from pipeline.process import INTERRUPTED, share_processors
from store.errors import RequestError

PAGE = Path(__file__).parent / "page"
_CONNECTIONS = 1000
_LAST_ANSWERS_S = 10  # that answers may take after Ctrl-C
_SHORTEST = 16  # letters of a token


def serve(
    head: Annotated[
        str, typer.Option("--head", help="DATASET (its best mode), DATASET/MODE, or a run's path", metavar="HEAD")
    ] = "demo",
    host: Annotated[str, typer.Option("--host", help="the address to listen on", metavar="ADDRESS")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one", metavar="N")] = 8765,
    token: Annotated[
        str | None,
        typer.Option(
            "--token", envvar="ENCORE_TOKEN", help="what requests must bring; any --host but loopback needs one"
        ),
    ] = None,
    max_mib: Annotated[int, typer.Option("--max-mib", min=1, help="the largest upload", metavar="MIB")] = 64,
    max_minutes: Annotated[
        float, typer.Option("--max-minutes", min=0.1, help="the longest song", metavar="MINUTES")
    ] = 60,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Answer over HTTP, with a page. What predict and similar say; until Ctrl-C."""
    from stages.ask.guard import is_loopback
    from stages.memory import keep_freed_memory

    loopback = is_loopback(host)
    if token is not None and len(token) < _SHORTEST:
        raise RequestError(f"--token must have {_SHORTEST} letters or more, so that nobody guesses it")
    if token is None and not loopback:
        raise RequestError(f"--host {host} can be reached from other machines; give --token, which requests must bring")
    share_processors()
    keep_freed_memory(for_threads=True)
    import uvicorn

    from stages.ask.routes import app
    from stages.ask.service import Service

    with _listen(host, port) as listening:
        service = Service(open_store(store), head, weights=weights, device=device, most_s=60 * max_minutes)
        config = uvicorn.Config(
            app(service, PAGE, token=token, loopback=loopback, most_bytes=max_mib << 20),
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=_LAST_ANSWERS_S,
        )
        address, secret = f"[{host}]" if ":" in host else host, "" if token is None else "#token=TOKEN"
        print(f"http://{address}:{listening.getsockname()[1]}/{secret}", flush=True)
        try:
            uvicorn.Server(config).run(sockets=[listening])
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None


def _listen(host: str, port: int) -> Any:
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_CONNECTIONS)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise RequestError(f"cannot listen on {host}, port {port}: {why}; --port 0 takes a free one") from error
