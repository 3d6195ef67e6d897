"""Genres in the tags of recordings: ID3 (MP3, WAV, AIFF), Vorbis comments (FLAC, Ogg, Opus) and MP4."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from store.errors import ClipError, EncoreError, RequestError

_MP4_GENRE = "\xa9gen"


def read_genres(path: Path) -> tuple[str, ...]:
    """The genres that a file's tags name.

    Raises
    ------
    ClipError
        where the file holds no tags of these kinds (MIDI, ASF, damaged files).
    """
    audio, kind = _open(path)
    if audio.tags is None:
        return ()
    if kind == "id3":
        return tuple(str(genre) for frame in audio.tags.getall("TCON") for genre in frame.genres)
    return tuple(map(str, audio.tags.get("genre" if kind == "vorbis" else _MP4_GENRE, ())))


def write_genres(path: Path, genres: Sequence[str]) -> None:
    """Put genres in the place of those in a file's tags; all else in the file stays as it is.

    A copy is changed, and takes the file's place when it is whole: whatever goes wrong, the file is as it was.

    Raises
    ------
    ClipError
        as `read_genres`.
    EncoreError
        where the file cannot be written.
    """
    target = path.resolve()
    partial = target.with_name(f".{target.stem}.partial{target.suffix}")
    try:
        shutil.copy2(target, partial)
        audio, kind = _open(partial)
        if audio.tags is None:
            audio.add_tags()
        if kind == "id3":
            _write_id3(audio, genres)
        else:
            audio.tags["genre" if kind == "vorbis" else _MP4_GENRE] = list(genres)
            audio.save()
        partial.replace(target)
    except OSError as error:
        raise EncoreError(f"{path} cannot be written: {error.strerror or error}; it is as it was") from error
    finally:
        partial.unlink(missing_ok=True)


def _write_id3(audio: Any, genres: Sequence[str]) -> None:
    """In the version of ID3 that the file has."""
    from mutagen import id3

    genre: Any = id3.TCON  # which has no types
    audio.tags.setall("TCON", [genre(encoding=3, text=list(genres))])
    if audio.tags.version[:2] == (2, 3):
        audio.tags.update_to_v23()
        audio.save(v2_version=3, v23_sep=None)  # several values of a frame stay several
    else:
        audio.save()


def _open(path: Path) -> tuple[Any, str]:
    """A file as mutagen opens it, and which kind of tags it has: ``id3``, ``vorbis`` or ``mp4``."""
    try:
        import mutagen
        from mutagen.aiff import AIFF
        from mutagen.flac import FLAC
        from mutagen.mp3 import MP3
        from mutagen.mp4 import MP4
        from mutagen.ogg import OggFileType
        from mutagen.wave import WAVE
    except ImportError as error:
        raise RequestError(
            "tags are read and written by mutagen, which is not installed: pip install mutagen"
        ) from error
    kinds = {"id3": (MP3, WAVE, AIFF), "vorbis": (FLAC, OggFileType), "mp4": (MP4,)}
    try:
        audio = mutagen.File(path)
    except Exception as error:  # mutagen's parsers meet damaged files with many errors
        raise ClipError("damaged", f"its tags cannot be read: {error}") from error
    kind = next((kind for kind, classes in kinds.items() if isinstance(audio, classes)), None)
    if kind is None:
        raise ClipError("not-supported", "is no file with ID3, Vorbis or MP4 tags")
    return audio, kind
