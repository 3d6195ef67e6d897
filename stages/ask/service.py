"""A trained head that many ask at once: songs are read side by side, encoded together, and judged one by one."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from stages.ask.answers import SimilarTo, SongPrediction
from stages.ask.predict import OpenHead, Song
from stages.ask.similar import nearest_to
from store.errors import ClipError, EncoreError, RequestError, StoreError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.embed.reading import ReadSong
    from stages.embed.songs import EncodedSongs
    from stages.head.similar import Query, Space
    from store.layout import Store

_SONGS = 16  # that are encoded together
_READING_S = 60.0  # that reading one song may take
PLAYABLE = frozenset({".mp3", ".flac", ".wav", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".webm"})  # by browsers


class NotThereError(RequestError):
    """What was asked about is not in the collection."""


@dataclass(frozen=True)
class Answer:
    """What a head says of a song.

    Attributes
    ----------
    alone : label -> score, as if nobody knew the artist; None of a head that reads none.
    encoded : the song's clips.
    """

    song: SongPrediction
    alone: dict[str, float] | None
    encoded: EncodedSongs


class Snapshot:
    """A head and its collection as they were when they were opened."""

    def __init__(self, store: Store, request: str, weights: str | None, device: str) -> None:
        from stages.embed.songs import SongIndex, cutting

        self.head = OpenHead(store, request, weights=weights, device=device)
        self.head.predictor.head.config  # noqa: B018 - raises where this version has no such head
        self.marks = self._marks()
        self.catalog = self.head.catalog
        self.index = SongIndex(self.catalog)
        self.cutting = cutting(self.catalog)
        self.refusal: RequestError | None = None
        try:
            backbone = self.head.backbone
            if backbone is not None:
                backbone.to(self.head.device)
            self.reader = None if backbone is None else backbone.input
        except RequestError as error:  # songs of the collection can be asked about all the same
            self.reader, self.refusal = None, error

    def _marks(self) -> tuple[str | None, str | None]:
        store, run = self.head.store, self.head.run
        return store.catalog_mark(self.head.dataset), store.files.mark(run.folder.record(run.name))

    def is_current(self) -> bool:
        """Whether catalog and head still lie in the store as they were read."""
        return self._marks() == self.marks

    @cached_property
    def space(self) -> Space:
        """Where similar songs are looked for."""
        from stages.head.similar import Space

        return Space(self.head.store, self.head.dataset, self.head.run.folder.representation)

    @cached_property
    def songs(self) -> dict[str, NDArray[np.int64]]:
        """The live catalog rows of each song by its id, in the order of the catalog."""
        import numpy as np

        from store import columns

        ids, number = columns.ids_and_codes(self.catalog, "song_id")
        rows = np.flatnonzero(~self.catalog.retired())
        rows = rows[np.argsort(number[rows], kind="stable")]
        codes, first = np.unique(number[rows], return_index=True)
        return dict(zip(ids.take(codes).to_pylist(), np.split(rows, first[1:]), strict=True))

    def rows(self, song_id: str) -> NDArray[np.int64]:
        """The catalog rows of a song."""
        if song_id not in self.songs:
            raise NotThereError(f"{self.head.dataset} has no song {song_id!r}")
        return self.songs[song_id]

    def file(self, song_id: str, *, to_hear: bool = False) -> Path:
        """A song's file: what the backbone reads, or the recording; ClipError where it is not there."""
        from stages.embed.reading import stored_file

        row, info = int(self.rows(song_id)[0]), self.catalog.info
        path, midi = (self.catalog.column(name)[row].as_py() for name in ("path", "midi_path"))
        if self.catalog.column("source_row")[row].as_py() is not None:
            raise ClipError("missing", "is a row of a table, of which there is no file")
        is_midi = not to_hear and self.reader is not None and self.reader.KIND == "midi"
        return stored_file(info.data_root, (midi or path) if is_midi else path, follow_links=info.follow_links)

    def can_be_heard(self, song_id: str) -> bool:
        """Whether a browser can play the song's recording, and it is there."""
        try:
            return self.file(song_id, to_hear=True).suffix.lower() in PLAYABLE
        except EncoreError:
            return False

    def about(self, song_id: str) -> dict[str, Any]:
        """A song of the collection as a list shows it."""
        rows = self.rows(song_id)
        record = self.catalog.table.select(["title", "artist_id", "artist_name", "labels"]).slice(int(rows[0]), 1)
        (row,) = record.to_pylist()
        return {
            "id": song_id,
            "title": row["title"],
            "artist": row["artist_name"] or row["artist_id"],
            "labels": row["labels"],
            "listen": self.can_be_heard(song_id),
        }

    def listed(self, search: str, first: int, count: int) -> dict[str, Any]:
        """The songs whose title, artist or id contains a text, ignoring case."""
        import numpy as np
        import pyarrow.compute as pc

        ids = list(self.songs)
        rows = np.array([int(rows[0]) for rows in self.songs.values()])
        if search:
            hits = np.zeros(len(rows), dtype=bool)
            for name in ("title", "artist_name", "song_id"):
                texts = self.catalog.column(name).take(rows)
                hits |= pc.match_substring(texts, search, ignore_case=True).fill_null(False).to_numpy()
            ids = [ids[place] for place in np.flatnonzero(hits).tolist()]
        return {"count": len(ids), "first": first, "songs": [self.about(song) for song in ids[first : first + count]]}

    def similar(
        self, subject: Query, vectors: NDArray[Any], count: int, artists: bool, *, others: bool, filters: Sequence[str]
    ) -> dict[str, Any]:
        """The songs or artists that lie nearest; ``others``: of other artists alone."""
        near = nearest_to(
            self.space, subject, vectors, count=count, artists=artists, not_same_artist=others, filters=filters
        )
        return self._without_paths(near, artists)

    def _without_paths(self, near: SimilarTo, artists: bool) -> dict[str, Any]:
        document = dataclasses.asdict(near)
        for entry in document["similar"]:
            del entry["file"]
            entry["listen"] = not artists and self.can_be_heard(entry["id"])
        return document


class Service:
    """What a server answers with.

    Parameters
    ----------
    most_s : longer songs are refused.

    Attributes
    ----------
    engine : where songs are encoded and judged.
    """

    def __init__(self, store: Store, request: str, *, weights: str | None, device: str, most_s: float) -> None:
        from stages.batching import Batcher
        from stages.embed.decoders import Decoders
        from stages.embed.loading import default_workers

        self._how = store, request, weights, device
        self._latest = Snapshot(*self._how)
        self._opening = threading.Lock()
        self.most_s = most_s
        self._decoders = Decoders(max(2, default_workers(self._latest.head.device)), _READING_S)
        self.engine: Batcher[_Job, Answer | EncoreError] = Batcher(self._answers, _SONGS)
        self._looking = ThreadPoolExecutor(1, thread_name_prefix="similar")
        self._uploads = tempfile.TemporaryDirectory(prefix="encore-", ignore_cleanup_errors=True)
        self.clips = 0

    def close(self) -> None:
        self._decoders.close()
        self.engine.close()
        self._looking.shutdown()
        self._uploads.cleanup()

    def snapshot(self) -> Snapshot:
        """The head and its collection, read again if they have changed in the store."""
        with self._opening:
            if not self._latest.is_current():
                try:
                    self._latest = Snapshot(*self._how)
                except RequestError as error:  # of whoever started the server, not of whoever asks
                    raise StoreError(str(error)) from error
            return self._latest

    @contextlib.asynccontextmanager
    async def uploaded(self, upload: IO[bytes], suffix: str) -> AsyncIterator[Path]:
        """An upload as a file, for as long as it is asked about."""
        path = await asyncio.to_thread(_write, upload, self._uploads.name, suffix)
        try:
            yield path
        finally:
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def predict(self, path: Path, name: str, artist: str | None) -> tuple[Snapshot, Answer]:
        """What the head says of an uploaded file."""
        snapshot, song = await asyncio.to_thread(self._look_up, path, name, artist)
        if len(song.clips):
            return snapshot, await self._answer(_Job(snapshot, song, None))
        if snapshot.refusal is not None:
            raise snapshot.refusal
        _check_kind(path, snapshot)
        content: ReadSong = await self._read(path, snapshot)
        if artist is None and content.artist is not None:
            song = dataclasses.replace(song, file=dataclasses.replace(song.file, artist=content.artist))
        return snapshot, await self._answer(_Job(snapshot, song, content))

    async def predict_stored(self, song_id: str) -> tuple[Snapshot, Answer]:
        """What the head says of a song of the collection."""
        snapshot = await asyncio.to_thread(self.snapshot)
        song = _stored(snapshot, song_id)
        if not len(song.clips):
            raise NotThereError(f"song {song_id!r} is not encoded, or has no label; the head cannot be asked about it")
        return snapshot, await self._answer(_Job(snapshot, song, None))

    async def picture(self, path: Path) -> dict[str, Any]:
        """A song to look at."""
        from stages.embed.picture import picture

        drawing: dict[str, Any] = await asyncio.wrap_future(self._decoders.submit(picture, path, self.most_s))
        return drawing

    async def look(self, function: Any, *arguments: Any, **options: Any) -> Any:
        """Call what reads the whole collection, one at a time."""
        call = self._looking.submit(function, *arguments, **options)
        return await asyncio.wrap_future(call)

    def _look_up(self, path: Path, name: str, artist: str | None) -> tuple[Snapshot, Song]:
        from stages.embed.songs import SongFile, tag_of

        snapshot = self.snapshot()
        (rows,) = snapshot.index.rows([tag_of(path)])
        song = snapshot.head.song(SongFile(path, name, artist), rows)
        if len(song.clips) and artist is not None:  # its stored answer, whoever is said to have made it
            song = dataclasses.replace(song, file=SongFile(path, name))
        return snapshot, song

    async def _read(self, path: Path, snapshot: Snapshot) -> ReadSong:
        from stages.embed.reading import read_song

        arguments = (path, snapshot.reader, snapshot.cutting, self.most_s)
        content: ReadSong = await asyncio.wrap_future(self._decoders.submit(read_song, *arguments))
        return content

    async def _answer(self, job: _Job) -> Answer:
        answer = await asyncio.wrap_future(self.engine.submit(job))
        if isinstance(answer, EncoreError):
            raise answer
        return answer

    def _answers(self, jobs: Sequence[_Job]) -> list[Answer | EncoreError]:
        """In the engine's thread."""
        answers: list[Answer | EncoreError] = []
        for snapshot, group in itertools.groupby(jobs, key=lambda job: job.snapshot):
            answers += _judge(snapshot, list(group))
        self.clips += sum(answer.song.clips for answer in answers if isinstance(answer, Answer))
        return answers


def _write(upload: IO[bytes], folder: str, suffix: str) -> Path:
    try:
        with tempfile.NamedTemporaryFile(dir=folder, suffix=suffix, delete=False) as file:
            shutil.copyfileobj(upload, file)
    except OSError as error:
        raise EncoreError(f"the upload cannot be kept: {error.strerror or error}") from error
    return Path(file.name)


@dataclass(frozen=True)
class _Job:
    """A song to be judged; ``content`` is None for one of the collection."""

    snapshot: Snapshot
    song: Song
    content: ReadSong | None


def _judge(snapshot: Snapshot, jobs: list[_Job]) -> list[Answer | EncoreError]:
    """Songs are encoded and scored together, but each is judged alone: it is no neighbour of what others ask about."""
    from stages.embed.songs import encode_read

    head = snapshot.head
    contents = [job.content for job in jobs if job.content is not None]
    encodings = iter(encode_read(contents, head.backbone, head.device) if contents else ())
    clips = [head.stored_clips(job.song) if job.content is None else next(encodings) for job in jobs]
    answers: dict[int, Answer | EncoreError] = {
        place: EncoreError(each.failures[0]) for place, each in enumerate(clips) if each.failures
    }
    new = [place for place, job in enumerate(jobs) if job.content is not None and place not in answers]
    groups = [[new[place] for place in group] for group in head.apart([jobs[place].song for place in new])]
    groups += [[place] for place, job in enumerate(jobs) if job.content is None]
    for group in groups:
        of_group = _scored(head, [jobs[place] for place in group], [clips[place] for place in group])
        answers |= zip(group, of_group, strict=True)
    return [answers[place] for place in range(len(jobs))]


def _scored(head: OpenHead, jobs: list[_Job], clips: list[EncodedSongs]) -> list[Answer | EncoreError]:
    """Of one song of the collection, or of new ones; where that fails, each of them alone."""
    from stages.embed.songs import together

    try:
        songs = [job.song for job in jobs]
        joined = together(clips)
        answers = head.of_stored(songs) if jobs[0].content is None else list(head.of_new(songs, joined).values())
        return [Answer(*of_song) for of_song in zip(answers, head.alone(joined), clips, strict=True)]
    except EncoreError as error:
        if len(jobs) == 1:
            return [error]
    return [answer for job, of_job in zip(jobs, clips, strict=True) for answer in _scored(head, [job], [of_job])]


def _stored(snapshot: Snapshot, song_id: str) -> Song:
    from stages.embed.songs import SongFile

    rows = snapshot.rows(song_id)
    title = snapshot.catalog.column("title")[int(rows[0])].as_py()
    return snapshot.head.song(SongFile(Path(song_id), title or song_id), rows)


def _check_kind(path: Path, snapshot: Snapshot) -> None:
    """Raise where a file's name says that it is not what the backbone reads."""
    from stages.embed.songs import reads

    if snapshot.reader is not None and not reads(snapshot.reader.KIND, path):
        raise ClipError("not-supported", f"is named {path.suffix}, and the head reads {snapshot.reader.KIND}")
