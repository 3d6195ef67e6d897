"""The paths that ``encore serve`` answers."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.ask.guard import DEFECT, Guard, Metrics, RefusedError
from stages.ask.service import Answer, NotThereError, Service, Snapshot
from store.errors import ClipError, EncoreError, RequestError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

_FILES = {  # of the page, by path
    "/": ("serve.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/serve.css": ("serve.css", "text/css"),
    "/serve.js": ("serve.js", "text/javascript"),
    "/openapi.json": ("openapi.json", "application/json"),
}
_UPLOAD_S = 300.0
_GONE = 499  # nginx's status
_LETTERS = 1024  # of a field
_FIELDS = 8  # of a form, beside its file
_MOST = 200  # songs in a list
_REFUSALS = {
    404: "there is no such path here; /openapi.json lists what is answered",
    405: "this path is not asked in this way; /openapi.json tells how",
}


def app(service: Service, page: Path, *, token: str | None, loopback: bool, most_bytes: int) -> ASGIApp:
    """The server, which closes the service when it ends.

    Parameters
    ----------
    page : the folder of the files that browsers are given.
    token, loopback, most_bytes : see `stages.ask.guard.Guard`.
    """
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect
    from starlette.routing import Route

    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # clients are told what is wrong with a form
    metrics, doors = Metrics(), _Doors(service, most_bytes)
    metered = doors.metrics(metrics)
    routes = [
        *(Route(path, _page(page / name, kind)) for path, (name, kind) in _FILES.items()),
        Route("/predict", doors.predict, methods=["POST"]),
        Route("/similar", doors.similar),
        Route("/songs", doors.songs),
        Route("/picture", doors.picture),
        Route("/listen", doors.listen),
        Route("/about", doors.about),
        Route("/healthz", doors.healthz),
        Route("/metrics", metered),
    ]

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    failing: dict[Any, Any] = dict.fromkeys((EncoreError, HTTPException, ClientDisconnect, Exception), _failed)
    inner = Starlette(routes=routes, lifespan=lifespan, exception_handlers=failing)
    paths = frozenset(route.path for route in routes)
    return Guard(inner, token=token, loopback=loopback, most_bytes=most_bytes, paths=paths, metrics=metrics)


def _page(path: Path, kind: str) -> Callable[[Request], Response]:
    from starlette.responses import Response

    content = path.read_bytes()

    def answer(_request: Request) -> Response:
        return Response(content, media_type=kind)

    return answer


async def _failed(_request: Request, error: Exception) -> Response:
    """One message, with the status that says whose fault it is."""
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect
    from starlette.responses import JSONResponse

    if isinstance(error, ClientDisconnect):
        return JSONResponse({"error": "the client went away"}, _GONE)  # which nobody reads; it is counted
    if isinstance(error, HTTPException):
        message = _REFUSALS.get(error.status_code, error.detail)
        return JSONResponse({"error": message}, error.status_code, headers=error.headers)
    if not isinstance(error, EncoreError):
        return JSONResponse({"error": DEFECT}, 500)  # the guard tells more of it on the server's own screen
    status = 503  # the store cannot be read, or is gone
    for kind, code in ((NotThereError, 404), (ClipError, 422), (RequestError, 400)):
        if isinstance(error, kind):
            status = code
            break
    return JSONResponse({"error": str(error)}, error.status if isinstance(error, RefusedError) else status)


class _Doors:
    def __init__(self, service: Service, most_bytes: int) -> None:
        self._service, self._most_bytes = service, most_bytes

    async def about(self, _request: Request) -> Response:
        """What is asked here, and what may be handed in."""
        from starlette.responses import JSONResponse

        snapshot = await asyncio.to_thread(self._service.snapshot)
        head, info = snapshot.head.about(), snapshot.catalog.info
        del head["file"]
        limits = {
            "reads": None if snapshot.reader is None else snapshot.reader.KIND,
            "refusal": None if snapshot.refusal is None else str(snapshot.refusal),
            "most_mib": self._most_bytes >> 20,
            "most_minutes": round(self._service.most_s / 60, 1),
        }
        return JSONResponse({"title": info.title, "synthetic": info.synthetic, **head, **limits})

    async def predict(self, request: Request) -> Response:
        """A file that is handed in, or a song of the collection."""
        from starlette.datastructures import UploadFile
        from starlette.responses import JSONResponse

        async with _form(request) as form:
            song, upload = _text(form.get("song")), form.get("file")
            count, draws = _number(form.get("similar"), 0), _flag(form.get("picture"))
            if isinstance(upload, UploadFile) == bool(song):
                raise RequestError("give a file, or the id of a song: one of the fields file and song")
            if song:
                snapshot, answer = await self._service.predict_stored(song)
                drawing = self._draw(lambda: snapshot.file(song)) if draws else None
                return JSONResponse(await self._document(snapshot, answer, count, drawing))
            assert isinstance(upload, UploadFile)
            name = Path(upload.filename or "song").name[:_LETTERS] or "song"
            async with self._service.uploaded(upload.file, _suffix(name)) as path:
                snapshot, answer = await self._service.predict(path, name, _text(form.get("artist")) or None)
                drawing = self._draw(lambda: path) if draws else None
                return JSONResponse(await self._document(snapshot, answer, count, drawing))

    async def _document(self, snapshot: Snapshot, answer: Answer, count: int, drawing: Any) -> dict[str, Any]:
        about = snapshot.head.about()
        del about["file"]
        song = answer.song
        listen = song.song_id is not None and await asyncio.to_thread(snapshot.can_be_heard, song.song_id)
        document = {"head": about, "song": {**dataclasses.asdict(song), "alone": answer.alone, "listen": listen}}
        if drawing is not None:
            document["picture"] = await drawing
        if count:
            document["similar"] = await self._service.look(_near, snapshot, answer, count)
        return document

    async def _draw(self, file: Callable[[], Path]) -> dict[str, Any] | None:
        """None for a song whose file cannot be drawn: what the head says of it stands."""
        try:
            return await self._service.picture(await asyncio.to_thread(file))
        except ClipError:
            return None

    async def similar(self, request: Request) -> Response:
        from starlette.responses import JSONResponse

        query = request.query_params
        snapshot = await asyncio.to_thread(self._service.snapshot)
        text, song = query.get("query", ""), query.get("song")
        if bool(text) == bool(song):
            raise RequestError("name what others are to be similar to: one of query (a title or an artist) and song")
        others, filters = _flag(query.get("not_same_artist")), query.getlist("filter")
        count, artists = _number(query.get("count"), 10), _flag(query.get("artists"))

        def look() -> dict[str, Any]:
            subject = snapshot.space.song(song) if song else snapshot.space.find(text)
            vectors = snapshot.space.vectors(subject.rows)
            return snapshot.similar(subject, vectors, count, artists, others=others, filters=filters)

        if song:
            snapshot.rows(song)
        return JSONResponse(await self._service.look(look))

    async def songs(self, request: Request) -> Response:
        from starlette.responses import JSONResponse

        query = request.query_params
        snapshot = await asyncio.to_thread(self._service.snapshot)
        search, first, count = (
            query.get("search", ""),
            _number(query.get("first"), 0, None),
            _number(query.get("count"), 50),
        )
        return JSONResponse(await asyncio.to_thread(snapshot.listed, search, first, count))

    async def picture(self, request: Request) -> Response:
        from starlette.responses import JSONResponse

        snapshot = await asyncio.to_thread(self._service.snapshot)
        path = await asyncio.to_thread(snapshot.file, request.query_params.get("song", ""))
        return JSONResponse(await self._service.picture(path))

    async def listen(self, request: Request) -> Response:
        from starlette.responses import FileResponse

        snapshot = await asyncio.to_thread(self._service.snapshot)
        song = request.query_params.get("song", "")
        if not await asyncio.to_thread(snapshot.can_be_heard, song):
            raise NotThereError(f"there is no recording of {song!r} here that a browser plays")
        return FileResponse(await asyncio.to_thread(lambda: snapshot.file(song, to_hear=True)))

    async def healthz(self, _request: Request) -> Response:
        from starlette.responses import JSONResponse

        snapshot = await asyncio.to_thread(self._service.snapshot)
        return JSONResponse({"status": "ok", "dataset": snapshot.head.dataset})

    def metrics(self, metrics: Metrics) -> Callable[[Request], Response]:
        from starlette.responses import Response

        def answer(_request: Request) -> Response:
            engine = self._service.engine
            more = {
                "encore_songs_total": ("Songs that were judged.", float(engine.items)),
                "encore_clips_total": ("Clips of these.", float(self._service.clips)),
                "encore_batches_total": ("Batches in which they were encoded.", float(engine.batches)),
            }
            return Response(metrics.text(more), media_type="text/plain; version=0.0.4")

        return answer


def _near(snapshot: Snapshot, answer: Answer, count: int) -> dict[str, Any]:
    """The songs and the artists nearest to a song that was judged; None where no representation is read."""
    import numpy as np

    from stages.head.similar import Query

    song, values = answer.song, answer.encoded.values
    if values is None:
        return {"songs": None, "artists": None}
    if song.song_id is not None:
        subject = snapshot.space.song(song.song_id)
    else:
        subject = Query(song.file, np.empty(0, dtype=np.int64), song.file, song.artist)
    vectors = snapshot.space.read(values)
    by_song, by_artist = (
        snapshot.similar(subject, vectors, count, artists, others=False, filters=()) for artists in (False, True)
    )
    return {"songs": by_song, "artists": by_artist}


@contextlib.asynccontextmanager
async def _form(request: Request) -> AsyncIterator[Any]:
    from starlette.exceptions import HTTPException

    try:
        async with asyncio.timeout(_UPLOAD_S):
            form = await request.form(max_files=1, max_fields=_FIELDS, max_part_size=_LETTERS)
    except HTTPException as error:
        raise RefusedError(
            error.status_code,
            f"this is no form that can be read ({error.detail.rstrip('.')}); send multipart/form-data with one file or "
            f"song, and at most {_FIELDS} fields of {_LETTERS:,} bytes",
        ) from error
    except TimeoutError:
        raise RefusedError(408, f"the upload took more than {_UPLOAD_S:g} seconds") from None
    try:
        yield form
    finally:
        await form.close()


def _suffix(name: str) -> str:
    """The ending of a file's name, as far as it can be one; what is read of a file depends on it."""
    suffix = Path(name).suffix.lower()
    return suffix if suffix[1:].isalnum() and suffix.isascii() and len(suffix) <= 8 else ""


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _flag(value: Any) -> bool:
    return value in ("1", "true", "yes")


def _number(value: Any, default: int, most: int | None = _MOST) -> int:
    text = _text(value)
    if not text:
        return default
    if not (text.isascii() and text.isdigit()) or (most is not None and int(text[:9]) > most):
        raise RequestError(f"{text[:20]!r} is no number from 0 to {most}" if most else f"{text[:20]!r} is no number")
    return int(text[:9])
