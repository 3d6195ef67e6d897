"""What stands between a network and the server: who may ask, how much, and what is said where something fails."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from stages.progress import note
from store.errors import EncoreError
from store.words import plural

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
OPEN = frozenset({"/", "/page.css", "/serve.css", "/serve.js", "/healthz", "/openapi.json"})  # tell nothing of a store
DEFECT = "the server failed over this request; this is a defect in Encore"
HEADERS = {
    # Styles and scripts of the server alone: a title that is markup runs nowhere.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data: blob:; media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class RefusedError(EncoreError):
    """A request that is not answered, with its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def is_loopback(host: str) -> bool:
    """Whether a name or address can be reached from this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Metrics:
    """Counts for Prometheus.

    Attributes
    ----------
    requests : by path and status.
    seconds : by path.
    """

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.running = 0

    def text(self, more: dict[str, tuple[str, float]]) -> str:
        """The exposition format, version 0.0.4; ``more``: by name, what it counts and the value."""
        lines = ["# HELP encore_requests_total Requests that were answered.", "# TYPE encore_requests_total counter"]
        for (path, status), count in sorted(self.requests.items()):
            lines.append(f'encore_requests_total{{path="{path}",status="{status}"}} {count}')
        lines += [
            "# HELP encore_request_seconds_total Seconds from the first byte of a request to the last of its answer.",
            "# TYPE encore_request_seconds_total counter",
        ]
        for path, seconds in sorted(self.seconds.items()):
            lines.append(f'encore_request_seconds_total{{path="{path}"}} {seconds:.6f}')
        for name, (what, value) in {**more, "encore_running": ("Requests at work.", self.running)}.items():
            kind = "counter" if name.endswith("_total") else "gauge"
            lines += [f"# HELP {name} {what}", f"# TYPE {name} {kind}", f"{name} {value:g}"]
        return "\n".join(lines) + "\n"


class Guard:
    """The outermost layer of the server.

    Parameters
    ----------
    token : what a request must bring as ``Authorization: Bearer TOKEN``; None for a server of this machine alone, which
        answers to no name but its own: pages of other servers that call themselves by it (DNS rebinding) get nothing.
    most_bytes : of a request's body.
    paths : those that are counted by name.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str | None,
        loopback: bool,
        most_bytes: int,
        paths: frozenset[str],
        metrics: Metrics,
    ) -> None:
        self._app, self._token, self._loopback, self._most = app, token, loopback, most_bytes
        self._paths, self._metrics = paths, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        start_s, metrics = time.perf_counter(), self._metrics
        path = scope["path"] if scope["path"] in self._paths else "other"
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    *((name.encode(), value.encode()) for name, value in HEADERS.items()),
                ]
            await send(message)

        metrics.running += 1
        try:
            await self._answer(scope, receive, sending)
        except (OSError, asyncio.CancelledError):  # the client went away
            raise
        except Exception as error:
            note(f"defect: {type(error).__name__} while {scope['method']} {path} was answered: {error}")
            if not status:
                await _refuse(500, DEFECT, sending)
        finally:
            metrics.running -= 1
            metrics.requests[path, status] += 1
            metrics.seconds[path] += time.perf_counter() - start_s

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.datastructures import Headers

        remaining_bytes = self._most

        async def counted() -> Message:
            nonlocal remaining_bytes
            message = await receive()
            remaining_bytes -= len(message.get("body", b""))
            if remaining_bytes < 0:
                raise self._too_large()
            return message

        try:
            self._check(scope["path"], Headers(scope=scope))
        except RefusedError as refused:
            await _refuse(refused.status, str(refused), send)
            return
        await self._app(scope, counted, send)

    def _check(self, path: str, headers: Any) -> None:
        host = headers.get("host", "")
        if self._loopback and _name(host) not in LOOPBACK:
            raise RefusedError(403, "this server answers to localhost alone")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            raise RefusedError(403, "pages of other servers may not ask this one")
        if self._token is not None and path not in OPEN:
            kind, _, token = headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not secrets.compare_digest(token.encode(), self._token.encode()):
                raise RefusedError(401, "this server wants its token: Authorization: Bearer TOKEN")
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length[:20]) > self._most:
            raise self._too_large()

    def _too_large(self) -> RefusedError:
        return RefusedError(413, f"more than {plural(self._most >> 20, 'MiB', 'MiB')}, which is the most (--max-mib)")


def _name(host: str) -> str:
    """A Host header without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


async def _refuse(status: int, message: str, send: Send) -> None:
    import json

    body = json.dumps({"error": message}).encode()
    more = [(b"www-authenticate", b"Bearer")] if status == 401 else []
    length = (b"content-length", str(len(body)).encode())
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-type", b"application/json"), length, (b"connection", b"close"), *more],
        }
    )
    await send({"type": "http.response.body", "body": body})
