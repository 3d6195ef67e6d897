"""Tags of one file: ID3, APEv2, Vorbis comments, MP4 and ASF under common names.

Names are those of MusicBrainz Picard's table of tags (https://picard-docs.musicbrainz.org). What a file holds is never
trusted: a tag of another type than it should be counts as absent, and one that is too large is not read.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.embed.content import music_of

REVISION = 1  # raise it by one when the same file would be read in another way

_MOST_BYTES = 64 << 20  # of all tags of a file, pictures included
_MOST_INFLATED = 1 << 20  # of a compressed frame
_MOST_VALUES, _MOST_LETTERS = 64, 1000  # of a tag that is text
_NAMES = {  # ours -> ID3 frames; the name in Vorbis comments and APEv2 (compared without case and blanks); MP4; ASF
    "artist": (("TPE1",), ("artist",), "\xa9ART", "Author"),
    "artists": (("TXXX:ARTISTS", "TXXX:Artists"), ("artists",), "----:com.apple.iTunes:ARTISTS", "WM/ARTISTS"),
    "album_artist": (("TPE2",), ("albumartist",), "aART", "WM/AlbumArtist"),
    "album": (("TALB",), ("album",), "\xa9alb", "WM/AlbumTitle"),
    "title": (("TIT2",), ("title",), "\xa9nam", "Title"),
    "date": (("TDRC", "TYER", "TDRL"), ("date", "year"), "\xa9day", "WM/Year"),
    "track": (("TRCK",), ("tracknumber", "track"), "trkn", "WM/TrackNumber"),
    "genre": (("TCON",), ("genre",), "\xa9gen", "WM/Genre"),
    "compilation": (("TCMP",), ("compilation",), "cpil", "WM/IsCompilation"),
    "gain": (
        ("TXXX:replaygain_track_gain", "TXXX:REPLAYGAIN_TRACK_GAIN"),
        ("replaygain_track_gain",),
        "----:com.apple.iTunes:replaygain_track_gain",
        "replaygain_track_gain",
    ),
    "artist_mbids": (
        ("TXXX:MusicBrainz Artist Id",),
        ("musicbrainz_artistid",),
        "----:com.apple.iTunes:MusicBrainz Artist Id",
        "MusicBrainz/Artist Id",
    ),
    "album_mbid": (
        ("TXXX:MusicBrainz Album Id",),
        ("musicbrainz_albumid",),
        "----:com.apple.iTunes:MusicBrainz Album Id",
        "MusicBrainz/Album Id",
    ),
}
_FRAMES = {name.partition(":")[0] for frames, *_ in _NAMES.values() for name in frames}
_MBID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_YEAR = re.compile(r"\b(1[5-9]\d\d|2[01]\d\d)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tags:
    """What a file's tags say; empty or None where they say nothing.

    Attributes
    ----------
    artist, artists : the performers as one credit, and one by one where the tags list them so.
    artist_mbids, album_mbid : their MusicBrainz identifiers.
    genre : as the file spells it, numbers of ID3v1's list already as names.
    gain_db : ReplayGain of the track.
    broken : why the tags could not be read; empty where they could, or where there are none.
    """

    artist: tuple[str, ...] = ()
    artists: tuple[str, ...] = ()
    album_artist: tuple[str, ...] = ()
    album: str | None = None
    title: str | None = None
    year: int | None = None
    track: int | None = None
    genre: tuple[str, ...] = ()
    compilation: bool = False
    gain_db: float | None = None
    artist_mbids: tuple[str, ...] = ()
    album_mbid: str | None = None
    broken: str = ""


def read_tags(path: Path) -> Tags:
    """The tags of a file; whatever is wrong with them ends up in `Tags.broken`."""
    try:
        music = music_of(path)
        size = path.stat().st_size - (0 if music.is_guess else music.size)
        if size > _MOST_BYTES:
            return Tags(broken=f"they take {size >> 20:,} MiB")
        return _tags_of(_values(path))
    except Exception as error:  # a damaged tag raises whatever the code that meets it raises
        return Tags(broken=f"{type(error).__name__}: {error}"[:200])


class _Inflate:
    """What stands for `zlib` where mutagen reads compressed frames of ID3: a few bytes may tell of gigabytes."""

    error = zlib.error

    @staticmethod
    def decompress(data: bytes) -> bytes:
        stream = zlib.decompressobj()
        content = stream.decompress(data, _MOST_INFLATED)
        if not stream.eof:
            raise zlib.error("cut short, or too large")
        return content


def _values(path: Path) -> dict[str, list[str]]:
    """Our name -> texts of one file."""
    import mutagen
    from mutagen.apev2 import APENoHeaderError, APEv2
    from mutagen.id3 import ID3, Frames, ID3NoHeaderError, _frames

    _frames.zlib = _Inflate
    if path.suffix.lower() == ".mp3":  # without looking at its frames of sound
        try:
            return _of_id3(ID3(path, known_frames={name: Frames[name] for name in _FRAMES if name in Frames}))
        except ID3NoHeaderError:
            try:
                return _of_comments(APEv2(path))
            except APENoHeaderError:
                pass
    file = mutagen.File(path)
    tags = getattr(file, "tags", None)
    if tags is None:
        return {}
    if isinstance(tags, ID3):
        return _of_id3(tags)
    kind = type(tags).__name__
    if kind == "MP4Tags":
        return {name: _texts(tags.get(mp4, ())) for name, (_, _, mp4, _) in _NAMES.items()}
    if kind == "ASFTags":
        return {name: _texts(tags.get(asf, ())) for name, (*_, asf) in _NAMES.items()}
    return _of_comments(tags)


def _of_id3(tags: Any) -> dict[str, list[str]]:
    values = {}
    for name, (frames, *_) in _NAMES.items():
        frame = next((tags[key] for key in frames if key in tags), None)
        values[name] = [] if frame is None else _texts(frame.genres if name == "genre" else frame.text)
    return values


def _of_comments(tags: Mapping[str, Any]) -> dict[str, list[str]]:
    plain: dict[str, list[str]] = {}
    for key in tags.keys():  # noqa: SIM118 - a list of pairs iterates over these
        plain.setdefault(re.sub(r"[ ]", "", str(key)).casefold(), _texts(tags[key]))
    return {name: next((plain[key] for key in keys if key in plain), []) for name, (_, keys, *_) in _NAMES.items()}


def _texts(value: Any) -> list[str]:
    """Whatever a format's reader gives as texts: trimmed, split at NUL, none empty, none without end."""
    items = [value] if isinstance(value, str | bytes | int | float | bool) else value
    texts: list[str] = []
    for item in items if isinstance(items, Iterable) else ():
        if len(texts) >= _MOST_VALUES:
            break
        if isinstance(item, tuple):  # an MP4's track and how many there are
            item = item[0] if item else ""
        if isinstance(item, bytes):
            item = bytes(item).decode("utf-8", "replace")
        text = str(getattr(item, "value", item))[:_MOST_LETTERS]
        texts += [part.strip() for part in text.encode("utf-8", "replace").decode().split("\0") if part.strip()]
    return texts[:_MOST_VALUES]


def _tags_of(values: Mapping[str, list[str]]) -> Tags:
    first = {name: texts[0] if texts else "" for name, texts in values.items()}
    year = _YEAR.search(first.get("date", ""))
    mbids = (mbid for text in values.get("artist_mbids", ()) for mbid in _MBID.findall(text.casefold()))
    album = _MBID.search(first.get("album_mbid", "").casefold())
    return Tags(
        artist=tuple(values.get("artist", ())),
        artists=tuple(values.get("artists", ())),
        album_artist=tuple(values.get("album_artist", ())),
        album=first.get("album") or None,
        title=first.get("title") or None,
        year=int(year[1]) if year else None,
        track=_whole(first.get("track", "")),
        genre=tuple(map(_genre_name, values.get("genre", ()))),
        compilation=first.get("compilation", "").casefold() in ("1", "true", "yes"),
        gain_db=_decibels(first.get("gain", "")),
        artist_mbids=tuple(dict.fromkeys(mbids)),
        album_mbid=album[0] if album else None,
    )


def _whole(text: str) -> int | None:
    """``3``, ``03`` or ``3/12`` as 3."""
    digits = re.match(r"\d{1,4}(?!\d)", text)
    return int(digits[0]) or None if digits else None


def _genre_name(text: str) -> str:
    """The name of a genre that is a number of ID3v1's list; any other text unchanged."""
    from mutagen.id3 import TCON

    number = re.fullmatch(r"\(?(\d{1,3})\)?", text)
    return str(TCON.GENRES[int(number[1])]) if number and int(number[1]) < len(TCON.GENRES) else text


def _decibels(text: str) -> float | None:
    """``-6.20 dB`` as -6.2."""
    number = re.match(r"[+-]?\d+(?:\.\d+)?(?=\s*(?:dB)?\s*$)", text, re.IGNORECASE)
    value = float(number[0]) if number else math.nan
    return value if abs(value) <= 100 else None
