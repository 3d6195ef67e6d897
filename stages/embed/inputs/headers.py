"""How long a recording really is, where its header does not say so.

A file is as long as what decodes. Four kinds of headers say otherwise: a FLAC or WAV file that was written to a pipe
(length 0, or the largest number), an MP3 index with too small a count or none at all, and MP3 or Ogg files that were
joined end to end, of which a decoder reads only the first. Other bytes may stand before a header, which libsndfile
expects at the start. `layout` returns the bytes that a decoder should be given instead; an ordinary file stays as it
is.
"""

from __future__ import annotations

import mmap
import re
from pathlib import Path
from typing import Any

from stages.embed.inputs import remark
from stages.embed.inputs._flac import flac
from stages.embed.inputs._mp3 import frame_bytes, mp3
from stages.embed.inputs.ffmpeg import find_reader
from stages.embed.inputs.views import MAX_LINKS, Layout, View, joined
from store.words import plural

MAX_SCAN_BYTES = 1 << 28  # a larger file is taken at its header's word; 256 MiB are 4.6 hours of MP3 at 128 kbit/s
_MAX_STEPS = 1 << 22  # of a walk through a file
_MAX_CHUNKS = 1 << 12

_UNKNOWN_WAV_BYTES = 0x7FFFFF00  # from here on, a 32-bit length stands for one that was not known
_LEAD_BYTES = 1 << 16  # what may stand before a header
_HEADERS = re.compile(b"OggS\0\2|fLaC\0\0\0\x22|RIFF....WAVE|FORM....AIF[FC]|caff\0\1\0\0", re.DOTALL)
_GUESSED = (".au", ".snd", ".vox", ".gsm")  # what libsndfile takes for raw samples where there is no header


def layout(path: Path) -> Layout:
    """How to read a recording whose header may not tell its length; OSError where the disk fails."""
    size = path.stat().st_size
    with path.open("rb") as file:
        begin = _begin(file)
        file.seek(begin)
        magic = file.read(12)
        if magic[:4] == b"fLaC":
            return flac(path, file, begin, size)
        if magic[:4] == b"RIFF" and magic[8:] == b"WAVE":
            return _wav(path, file, begin, size)
        stated = _stated_bytes(file, begin, magic, size)
        if begin and magic[:4] in (b"FORM", b"caff"):
            return Layout((View(path, b"", begin, size),), header_share=max(1.0, stated / (size - begin)))
        if begin + stated > size:
            return Layout(header_share=stated / (size - begin))
        is_mpeg = not begin and _is_mpeg(magic)
        if magic[:4] == b"OggS":
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _ogg(path, data, begin) if size <= MAX_SCAN_BYTES else joined(path, [(b"", begin, size)])
        file.seek(0)
        if size <= MAX_SCAN_BYTES and (is_mpeg or file.read(3) == b"ID3"):
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return mp3(path, data)
    is_guessed = path.suffix.lower() in _GUESSED and magic[:4] != b".snd"
    return Layout((View(path, b"", 0, size),) if is_guessed else ())


def _begin(file: Any) -> int:
    """Where a recording begins: behind an ID3 tag, or at the first header within what is none."""
    magic = file.read(16)
    if magic[:3] == b"ID3":
        return _behind_id3(file)
    if _is_mpeg(magic) or find_reader(magic) is not None or magic[:4] in (b"fLaC", b".snd", b"riff", b"RF64"):
        return 0
    header = _HEADERS.search(magic + file.read(_LEAD_BYTES))
    if header is None or not header.start():
        return 0
    remark("mended", f"{plural(header.start(), 'byte')} stood before its header")
    return header.start()


def _is_mpeg(magic: bytes) -> bool:
    return len(magic) > 2 and magic[0] == 0xFF and frame_bytes(magic[1], magic[2]) > 0


def _behind_id3(file: Any) -> int:
    """Where the tag ends (https://id3.org, version 2.4) with which a file begins."""
    file.seek(0)
    head: bytes = file.read(10).ljust(10, b"\0")
    length = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(head[9:5:-1]))
    return 10 + length + (10 if head[5] & 0x10 else 0)


def _stated_bytes(file: Any, begin: int, magic: bytes, size: int) -> int:
    """How long a file of AIFF, AU, CAF, RF64 or Wave64 is by its header; 0 where that does not tell."""
    file.seek(begin)
    head = file.read(40)
    if magic[:4] == b"FORM":
        length = int.from_bytes(head[4:8], "big")
        return 8 + length if length < _UNKNOWN_WAV_BYTES else 0
    if magic[:4] == b".snd":
        length = int.from_bytes(head[8:12], "big")
        return int.from_bytes(head[4:8], "big") + length if length < 0xFFFFFFFF else 0
    if magic[:4] == b"caff":
        return _stated_caf_bytes(file, begin, size)
    length = 0
    if magic[:4] == b"RF64" and head[12:16] == b"ds64":
        length = 8 + int.from_bytes(head[20:28], "little")
    if magic[:4] == b"riff":
        length = int.from_bytes(head[16:24], "little")
    return length if length < 1 << 62 else 0


def _stated_caf_bytes(file: Any, begin: int, size: int) -> int:
    """The end of the data chunk (Apple's Core Audio Format 1.0), 0 where its length is not known."""
    at = begin + 8
    for _ in range(_MAX_CHUNKS):
        file.seek(at)
        chunk = file.read(12)
        length = int.from_bytes(chunk[4:], "big", signed=True)
        if len(chunk) < 12 or length < 0 or at > size:
            return 0
        at += 12 + length
        if chunk[:4] == b"data":
            return at - begin
    return 0


def _wav(path: Path, file: Any, begin: int, size: int) -> Layout:
    """One view for each RIFF of the file, with the true length in its data chunk.

    The data reaches to the end of the file where its length is 0, or where no chunk follows what it claims.
    """
    parts: list[tuple[bytes, int, int]] = []
    share, at = 1.0, begin
    while at < size and len(parts) <= MAX_LINKS:
        part, end, stated = _riff(file, at, size)
        if part is None:
            break
        parts.append(part)
        share = max(share, stated)
        at = end
    if not parts:
        return Layout()
    parts[-1] = (*parts[-1][:2], size)
    return joined(path, parts, share)


def _riff(file: Any, start: int, size: int) -> tuple[tuple[bytes, int, int] | None, int, float]:
    """The RIFF file that begins here as (prefix, start, end), where the next may begin, and the share it claims."""
    file.seek(start)
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return None, size, 1.0
    riff_end = start + 8 + int.from_bytes(head[4:8], "little")
    riff_end += riff_end % 2
    at = start + 12
    for _ in range(_MAX_CHUNKS):
        file.seek(at)
        chunk = file.read(8)
        length = int.from_bytes(chunk[4:], "little")
        if len(chunk) < 8 or chunk[:4] == b"data":
            break
        at += 8 + length + length % 2
    if chunk[:4] != b"data":
        return (b"", start, size), size, 1.0
    begin = at + 8
    there = size - begin
    if length > there:
        return (b"", start, size), size, 1.0 if length >= _UNKNOWN_WAV_BYTES else length / max(there, 1)
    behind = begin + length + length % 2
    if (length and (riff_end < size or _is_chunk(file, behind, size))) or there <= length + 1:
        return (b"", start, min(max(riff_end, behind), size)), max(riff_end, behind), 1.0
    file.seek(start)
    header = file.read(begin - start)
    prefix = header[:4] + _size(begin - start - 8 + there) + header[8:-4] + _size(there)
    return (prefix, begin, size), size, 1.0


def _size(count: int) -> bytes:
    return min(count, 0xFFFFFFFF).to_bytes(4, "little")


def _is_chunk(file: Any, at: int, size: int) -> bool:
    """Whether a RIFF chunk begins here, or the file ends."""
    file.seek(at)
    head = file.read(8)
    return len(head) < 8 or (head[:4].isalnum() and at + 8 + int.from_bytes(head[4:], "little") <= size + 1)


def _ogg(path: Path, data: mmap.mmap, begin: int) -> Layout:
    """One view for each link of a chained file (RFC 3533): a new one begins where a first page follows another page."""
    starts, was_first, at = [begin], True, begin
    for _ in range(_MAX_STEPS):
        at = data.find(b"OggS", at)
        if at < 0 or at + 27 > len(data):
            break
        is_first = bool(data[at + 5] & 2)
        if is_first and not was_first:
            starts.append(at)
        was_first = is_first
        lacing = data[at + 27 : at + 27 + data[at + 26]]
        at += 27 + len(lacing) + sum(lacing)
    return joined(path, [(b"", start, end) for start, end in zip(starts, [*starts[1:], len(data)], strict=True)])
