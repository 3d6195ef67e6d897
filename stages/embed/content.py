"""What a file holds apart from its tags, so that renaming, moving or tagging a song leaves it the same song.

Nothing is decoded. The music of an MP3 lies between its tags (https://id3.org, versions 1 and 2, and APEv2), that of a
WAV, AIFF or MP4 in one part of the file, and that of an Ogg behind its header pages. A FLAC carries the MD5 of its
decoded samples (RFC 9639, section 8.2).
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

AUDIO = "audio-"  # how a mark of music alone begins, where others begin with the size of the whole file

_WINDOW = 1 << 16
_MOST_PARTS = 10_000  # of a file, or pages of Ogg headers, that are looked at; more are taken for damage


@dataclass(frozen=True, slots=True)
class Music:
    """Where a file's music begins, how many bytes it has, and the hash of its samples where the file carries one.

    ``ogg`` is the number of the stream to which the pages that make up the music belong, None for any other format.
    ``is_guess`` says that no music was met where the format has it, so that all of the file is taken for music.
    """

    begin: int
    size: int
    samples_md5: bytes = b""
    ogg: int | None = None
    is_guess: bool = False


def music_of(path: Path) -> Music:
    """The music of a file; all of it for a format without known tags, or one that is damaged.

    Raises
    ------
    OSError
        if it cannot be read, or is no regular file.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{path} is no regular file")
    size = status.st_size
    with path.open("rb") as file:
        head = file.read(42)
        begin = _after_id3(head)
        if begin:
            file.seek(begin)
            head = file.read(42)
        if head[:4] == b"fLaC":
            return _flac(file, begin, size, head)
        if head[:4] == b"OggS":
            return _ogg(file, begin, size)
        if head[:4] in (b"RIFF", b"RF64", b"FORM") or head[4:8] == b"ftyp":
            return _part(file, begin, size, head)
        if path.suffix.lower() != ".mp3" and not begin:
            return Music(0, size)
        end = _before_tags(file, size)
    return Music(begin, end - begin) if begin < end else Music(0, size)


def audio_mark(path: Path) -> str:
    """A mark of a file's music: `AUDIO`, then a hash of its size and of 64 KiB of its beginning, middle and end.

    For a FLAC that carries the hash of its samples, it is made of that alone. OSError as for `music_of`.
    """
    music = music_of(path)
    digest = hashlib.blake2b(digest_size=16)
    if music.samples_md5:
        digest.update(b"samples" + music.samples_md5)
        return AUDIO + digest.hexdigest()
    with path.open("rb") as file:
        if music.ogg is not None:
            for piece in _ogg_pieces(file, music):
                digest.update(piece)
            return AUDIO + digest.hexdigest()
        digest.update(music.size.to_bytes(8, "little"))
        last = max(0, music.size - _WINDOW)
        for offset in sorted({0, last // 2, last}):
            file.seek(music.begin + offset)
            digest.update(file.read(min(_WINDOW, music.size - offset)))
    return AUDIO + digest.hexdigest()


def _after_id3(head: bytes) -> int:
    """Where an ID3v2 tag at the beginning of a file ends; 0 where there is none."""
    if len(head) < 10 or head[:3] != b"ID3":
        return 0
    length = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(head[9:5:-1]))
    return 10 + length + (10 if head[5] & 0x10 else 0)


def _before_tags(file: BinaryIO, size: int) -> int:
    """Where the tags at the end of an MP3 begin: ID3v1, and APEv2 before it."""
    end = size
    file.seek(max(0, size - 128))
    if file.read(3) == b"TAG":
        end -= 128
    file.seek(max(0, end - 32))
    footer = file.read(32)
    if footer[:8] == b"APETAGEX":
        has_header = footer[23] & 0x80
        end -= int.from_bytes(footer[12:16], "little") + (32 if has_header else 0)
    return end


def _flac(file: BinaryIO, begin: int, size: int, head: bytes) -> Music:
    """The frames of a FLAC, behind its blocks of metadata; `Music.samples_md5` where the first block tells the MD5."""
    digest = head[26:42] if len(head) == 42 and head[4] & 0x7F == 0 else b""
    digest = digest if any(digest) else b""
    at = begin + 4
    for _ in range(_MOST_PARTS):
        file.seek(at)
        header = file.read(4)
        if len(header) < 4:
            return Music(0, size, digest)
        at += 4 + int.from_bytes(header[1:], "big")
        if header[0] & 0x80:
            break
    return Music(at, size - at, digest) if at < size else Music(0, size, digest)


def _part(file: BinaryIO, begin: int, size: int, head: bytes) -> Music:
    """The largest part of a WAV, AIFF or MP4 that holds samples."""
    mp4 = head[4:8] == b"ftyp"
    order: Literal["little", "big"] = "little" if head[:2] in (b"RI", b"RF") else "big"
    at = begin if mp4 else begin + 12
    best = Music(0, size, is_guess=True)
    most = 0
    for _ in range(_MOST_PARTS):
        file.seek(at)
        header = file.read(16)
        if len(header) < 8:
            break
        name = header[4:8] if mp4 else header[:4]
        length = int.from_bytes(header[:4] if mp4 else header[4:8], order)
        skip = 8
        if mp4 and length == 1:
            length, skip = int.from_bytes(header[8:16], "big"), 16
        room = size - at - skip
        body = room if (mp4 and length == 0) or length == 0xFFFFFFFF else length - (skip if mp4 else 0)
        body = min(max(0, body), room)
        if name in (b"mdat", b"data", b"SSND") and body > most:
            most, best = body, Music(at + skip, body)
        at += skip + body + (0 if mp4 else body & 1)
    return best


def _ogg(file: BinaryIO, begin: int, size: int) -> Music:
    """The pages behind those of an Ogg stream's header, which alone have the granule position 0 (RFC 3533)."""
    at, stream = begin, None
    for _ in range(_MOST_PARTS):
        page = _page(file, at)
        if page is None:
            return Music(0, size)
        granule, stream, _, length = page
        if granule not in (0, (1 << 64) - 1):
            break
        at += length
    return Music(at, size - at, ogg=stream) if stream is not None and at < size else Music(0, size)


def _page(file: BinaryIO, at: int) -> tuple[int, int, int, int] | None:
    """Of the Ogg page at a place: granule position, number of its stream, where its content begins, its length."""
    file.seek(at)
    header = file.read(27)
    if len(header) < 27 or header[:4] != b"OggS":
        return None
    table = file.read(header[26])
    content = at + 27 + header[26]
    granule, stream = int.from_bytes(header[6:14], "little"), int.from_bytes(header[14:18], "little")
    return granule, stream, content, 27 + header[26] + sum(table)


def _ogg_pieces(file: BinaryIO, music: Music) -> Iterator[bytes]:
    """Content of pages, up to 64 KiB from the beginning and from the end, without their headers.

    The headers count pages, and longer tags take more of them.
    """
    end = music.begin + music.size
    yield from _contents(file, music.begin, end, first_only=True)
    at = max(music.begin, end - _WINDOW)
    file.seek(at)
    place = file.read(_WINDOW).find(b"OggS")
    if place >= 0:
        yield from _contents(file, at + place, end, first_only=False)


def _contents(file: BinaryIO, at: int, end: int, *, first_only: bool) -> Iterator[bytes]:
    amount = 0
    while at < end and (not first_only or amount < _WINDOW):
        page = _page(file, at)
        if page is None:
            return
        granule, _, content, length = page
        body = at + length - content
        file.seek(content)
        yield granule.to_bytes(8, "little") + file.read(body)
        amount += body
        at += length
