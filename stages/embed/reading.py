"""A song that someone hands in, read as a backbone reads it, and as a picture.

Nothing here imports torch: it runs in processes of its own (`stages.embed.decoders`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.embed.datasets.folder import stretches_of
from stages.embed.inputs import Clip, Input, audio, midi, song_file
from stages.embed.inputs.audio import AUDIO_SUFFIXES
from store.errors import ClipError
from store.words import plural


@dataclass(frozen=True)
class ReadSong:
    """The clips of one song.

    Attributes
    ----------
    artist : the first that the file's own tags name.
    windows : [sum of counts, ...] as a backbone takes them; None where it reads none.
    counts : [clips] how many of these each clip has.
    start_s, duration_s : [clips] where it lies in the song; NaN from the beginning, or to the end.
    """

    artist: str | None
    windows: NDArray[Any] | None
    counts: list[int]
    start_s: NDArray[np.float64]
    duration_s: NDArray[np.float64]


def read_song(path: Path, reader: Input | None, cutting: tuple[int, float], most_s: float) -> ReadSong:
    """Read a song, cut into clips as those of a collection are.

    Parameters
    ----------
    reader : of the backbone; None for a head that hears nothing.
    cutting : how many clips at most, 0 for the whole song, and of how many seconds.
    most_s : longer songs are refused.

    Raises
    ------
    ClipError
        as `Input.load`, where no clip of the song can be read; ``outside`` for one that is too long, ``not-supported``
        for one of another kind.
    """
    artist = read_artist(path)
    if reader is None:
        return ReadSong(artist, None, [], np.full(1, np.nan), np.full(1, np.nan))
    stretches = stretches_of(check_length(path, most_s), *cutting)
    windows, numbers, errors = [], [], []
    for number, (start_s, duration_s) in enumerate(stretches):
        try:
            windows.append(reader.load(Clip(clip_id="song", path=path, start_s=start_s, duration_s=duration_s)))
            numbers.append(number)
        except ClipError as error:
            errors.append(error)
        except OSError as error:
            errors.append(ClipError("unreadable", error.strerror or str(error)))
    if not windows:
        raise errors[0]
    starts, durations = np.array([stretches[number] for number in numbers], dtype=np.float64).T
    return ReadSong(artist, np.concatenate(windows), [len(each) for each in windows], starts, durations)


def check_length(path: Path, most_s: float) -> float:
    """Seconds of a song; ClipError for one that is too long, or that cannot be opened."""
    length_s = midi.duration_s(path) if midi.has_notes(path) else audio.duration_s(path)
    if length_s > most_s:
        most = plural(round(most_s / 60), "minute")
        raise ClipError("outside", f"is longer than {most}: {length_s / 60:.1f}")
    return length_s


def stored_file(root: str | None, relative: str, *, follow_links: bool) -> Path:
    """The file of a song of the store; ClipError where it is not there, or may not be opened."""
    path = song_file(Path(root or ".").resolve(), relative, follow_links=follow_links)
    if not path.is_file():
        raise ClipError("missing", "there is no such file")
    return path


def read_artist(path: Path) -> str | None:
    """The first artist that a file's own tags name; None where they name none or mutagen is not installed."""
    if path.suffix.lower() not in AUDIO_SUFFIXES or not path.is_file():  # a pipe would be waited for without end
        return None
    try:
        import mutagen
    except ImportError:
        return None
    try:
        tags = mutagen.File(path, easy=True)
    except Exception:  # a damaged file: decoding it will say why
        return None
    names = (tags or {}).get("artist") or []
    return next((str(name).strip() for name in names if str(name).strip()), None)
