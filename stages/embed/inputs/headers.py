"""How long a recording really is, where its header does not say so.

A file is as long as what decodes. Four kinds of headers say otherwise: a FLAC or WAV file that was written to a pipe
(length 0, or the largest number), an MP3 index with too small a count or none at all, and MP3 or Ogg files that were
joined end to end, of which a decoder reads only the first. Other bytes may stand before a header, which libsndfile
expects at the start. `layout` returns the bytes that a decoder should be given instead; an ordinary file stays as it
is.
"""

from __future__ import annotations

import io
import mmap
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from stages.embed.inputs import remark
from stages.embed.inputs.ffmpeg import find_reader
from store.errors import ClipError
from store.words import plural

MAX_SCAN_BYTES = 1 << 28  # a larger file is taken at its header's word; 256 MiB are 4.6 hours of MP3 at 128 kbit/s
MAX_LINKS = 1024  # recordings joined in one file
_MAX_STEPS = 1 << 22  # of a walk through a file
_MAX_CHUNKS = 1 << 12

_UNKNOWN_WAV_BYTES = 0x7FFFFF00  # from here on, a 32-bit length stands for one that was not known
_LEAD_BYTES = 1 << 16  # what may stand before a header
_HEADERS = re.compile(b"OggS\0\2|fLaC\0\0\0\x22|RIFF....WAVE|FORM....AIF[FC]|caff\0\1\0\0", re.DOTALL)
_GUESSED = (".au", ".snd", ".vox", ".gsm")  # what libsndfile takes for raw samples where there is no header
_FLAC_TAIL_BYTES = 1 << 18
_FLAC_SAMPLES = (1 << 36) - 1  # the 36 bits of STREAMINFO that count samples

_NO_FRAME = (0, 0)
_MAX_FRAME_BYTES = 2881  # 160 kbit/s at 8 kHz
_FEW_FRAMES = 8  # a fifth of a second: what an index may be off by, and what may look like frames by chance

# Bytes of an MP3 frame by version, layer, bit rate and sampling rate: ISO/IEC 11172-3 and 13818-3, layer III.
_KBPS = {
    "1": (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    "2": (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
}
_RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


class View(io.RawIOBase):
    """A stretch of a file as a file of its own, with other bytes in front of it.

    Parameters
    ----------
    prefix : bytes that come first.
    start, end : the stretch of ``path`` that follows them.
    """

    def __init__(self, path: Path, prefix: bytes, start: int, end: int) -> None:
        super().__init__()
        self._file = path.open("rb", buffering=0)
        self._prefix, self._start, self._size = prefix, start, len(prefix) + end - start
        self._at = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer)
        if self._at < len(self._prefix):
            piece = self._prefix[self._at : self._at + len(target)]
        else:
            self._file.seek(self._start + self._at - len(self._prefix))
            piece = self._file.read(max(0, min(len(target), self._size - self._at)))
        target[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def close(self) -> None:
        self._file.close()
        super().close()


@dataclass(frozen=True)
class Layout:
    """How to read a file: the views to decode one behind the other, none where the file is to be read as it is.

    ``header_share`` is what the header claims over what is there, where it claims more (2.0: half of it is missing).
    """

    views: tuple[View, ...] = ()
    header_share: float = 1.0


def layout(path: Path) -> Layout:
    """How to read a recording whose header may not tell its length; OSError where the disk fails."""
    size = path.stat().st_size
    with path.open("rb") as file:
        begin = _begin(file)
        file.seek(begin)
        magic = file.read(12)
        if magic[:4] == b"fLaC":
            return _flac(path, file, begin, size)
        if magic[:4] == b"RIFF" and magic[8:] == b"WAVE":
            return _wav(path, file, begin, size)
        stated = _claimed_bytes(file, begin, magic, size)
        if begin and magic[:4] in (b"FORM", b"caff"):
            return Layout((View(path, b"", begin, size),), header_share=max(1.0, stated / (size - begin)))
        if begin + stated > size:
            return Layout(header_share=stated / (size - begin))
        is_mpeg = not begin and _is_mpeg(magic)
        if magic[:4] == b"OggS":
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _ogg(path, data, begin) if size <= MAX_SCAN_BYTES else _joined(path, [(b"", begin, size)])
        file.seek(0)
        if size <= MAX_SCAN_BYTES and (is_mpeg or file.read(3) == b"ID3"):
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _mp3(path, data)
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
    return len(magic) > 2 and magic[0] == 0xFF and _frame_bytes(magic[1], magic[2]) > 0


def _behind_id3(file: Any) -> int:
    """Where the tag ends (https://id3.org, version 2.4) with which a file begins."""
    file.seek(0)
    head: bytes = file.read(10).ljust(10, b"\0")
    length = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(head[9:5:-1]))
    return 10 + length + (10 if head[5] & 0x10 else 0)


def _claimed_bytes(file: Any, begin: int, magic: bytes, size: int) -> int:
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
        return _claimed_caf_bytes(file, begin, size)
    length = 0
    if magic[:4] == b"RF64" and head[12:16] == b"ds64":
        length = 8 + int.from_bytes(head[20:28], "little")
    if magic[:4] == b"riff":
        length = int.from_bytes(head[16:24], "little")
    return length if length < 1 << 62 else 0


def _claimed_caf_bytes(file: Any, begin: int, size: int) -> int:
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


# WAV


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
    return _joined(path, parts, share)


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


# FLAC


def _flac(path: Path, file: Any, begin: int, size: int) -> Layout:
    """STREAMINFO with the number of samples up to the last whole frame, where it gives none or too many.

    RFC 9639: a frame's header carries the number of its first sample, or its own number, and a checksum.
    """
    file.seek(begin)
    head = file.read(42)
    if len(head) < 42 or head[4] & 0x7F != 0:
        return Layout((View(path, b"", begin, size),) if begin else ())
    packed = int.from_bytes(head[18:26], "big")
    stated = packed & _FLAC_SAMPLES
    file.seek(max(begin + 42, size - _FLAC_TAIL_BYTES))
    there = _flac_samples(file.read(_FLAC_TAIL_BYTES), int.from_bytes(head[8:10], "big"), stated)
    if not 0 < there < (stated or _FLAC_SAMPLES):
        return Layout((View(path, b"", begin, size),) if begin else ())
    prefix = head[:18] + (packed & ~_FLAC_SAMPLES | there).to_bytes(8, "big") + head[26:]
    return Layout((View(path, prefix, begin + 42, size),), header_share=max(1.0, stated / there))


def _flac_samples(tail: bytes, block_samples: int, stated: int) -> int:
    """Samples up to the end of the last whole frame in the file's last bytes; 0 where there is none.

    Behind the frame that ends with the ``stated`` sample there may be anything.
    """
    if tail[-128:-125] == b"TAG":
        tail = tail[:-128]
    end, at = len(tail), len(tail)
    for _ in range(_MAX_CHUNKS):
        at = tail.rfind(b"\xff", 0, at)
        if at < 0:
            return 0
        header = _flac_header(tail[at : at + 16], block_samples)
        if header is None:
            continue
        # A checksum with the two bytes that give it is 0.
        if sum(header) == stated and 0 in islice(_crcs(tail[at:], 0x8005, 16), 7, None):
            return stated
        if _crc(tail[at:end], 0x8005, 16) == 0:
            return sum(header)
        end = at
    return 0


def _flac_header(data: bytes, block_samples: int) -> tuple[int, int] | None:
    """First sample and number of samples of the frame that begins here; None where none does."""
    if len(data) < 6 or data[1] not in (0xF8, 0xF9):
        return None
    size_code, rate_code = data[2] >> 4, data[2] & 15
    if size_code == 0 or rate_code == 15 or data[3] & 1:
        return None
    ones = 8 - (~data[4] & 0xFF).bit_length()  # of the coded number, as in UTF-8
    if ones == 1 or ones == 8:
        return None
    extra = max(ones - 1, 0)
    at = 5 + extra
    number = data[4] & (0xFF >> (ones + 1))
    for byte in data[5:at]:
        number = number << 6 | byte & 0x3F
    width = {6: 1, 7: 2}.get(size_code, 0)
    samples = int.from_bytes(data[at : at + width], "big") + 1
    if size_code == 1:
        samples = 192
    elif 2 <= size_code <= 5:
        samples = 576 << (size_code - 2)
    elif size_code >= 8:
        samples = 256 << (size_code - 8)
    at += width + {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if len(data) <= at or _crc(data[: at + 1], 0x07, 8) != 0:
        return None
    return (number if data[1] == 0xF9 else number * block_samples), samples


def _crc(data: bytes, polynomial: int, bits: int) -> int:
    return next(islice(_crcs(data, polynomial, bits), len(data) - 1, None), 0)


def _crcs(data: bytes, polynomial: int, bits: int) -> Iterator[int]:
    """The checksum of the first byte, of the first two, ..."""
    table, shift, mask = _crc_table(polynomial, bits), bits - 8, (1 << bits) - 1
    crc = 0
    for byte in data:
        crc = (crc << 8 & mask) ^ table[(crc >> shift) ^ byte]
        yield crc


@cache
def _crc_table(polynomial: int, bits: int) -> tuple[int, ...]:
    top, mask, table = 1 << (bits - 1), (1 << bits) - 1, []
    for byte in range(256):
        crc = byte << (bits - 8)
        for _ in range(8):
            crc = (crc << 1 ^ polynomial if crc & top else crc << 1) & mask
        table.append(crc)
    return tuple(table)


# Ogg


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
    return _joined(path, [(b"", start, end) for start, end in zip(starts, [*starts[1:], len(data)], strict=True)])


def _joined(path: Path, parts: list[tuple[bytes, int, int]], share: float = 1.0) -> Layout:
    if len(parts) > MAX_LINKS:
        raise ClipError("outside", f"{len(parts):,} recordings joined in one file; {MAX_LINKS:,} are the most")
    if parts == [(b"", 0, path.stat().st_size)]:
        return Layout(header_share=share)
    return Layout(tuple(View(path, *part) for part in parts), share)


# MP3


@dataclass
class _Stream:
    """MP3 frames that belong together: where they lie, how many hold sound, and what an index in front says of them."""

    start: int
    kind: int  # version, layer and sampling rate
    frames: int = 0
    end: int = 0
    index_at: int | None = None  # of its name, Xing or Info
    indexed: int | None = None


def _mp3(path: Path, data: mmap.mmap) -> Layout:
    """One view for each recording; with an index in front that has the true number of frames where it was too small.

    Where there is no index, decoders guess the length from the first frames, so one is written.
    """
    streams = _mp3_streams(data)
    if not streams:
        return Layout()
    bounds = [0, *(stream.start for stream in streams[1:]), len(data)]
    parts = [
        (*_with_index(data, stream, start), end)
        for stream, start, end in zip(streams, bounds, bounds[1:], strict=False)
    ]
    stated = sum(stream.frames if stream.indexed is None else stream.indexed for stream in streams)
    return _joined(path, parts, max(1.0, stated / max(sum(stream.frames for stream in streams), 1)))


def _with_index(data: mmap.mmap, stream: _Stream, start: int) -> tuple[bytes, int]:
    """What to put in front of a stream, and from where on to read the file behind it."""
    if stream.index_at is not None:
        if stream.indexed is None or stream.indexed >= stream.frames - _FEW_FRAMES:
            return b"", start
        at = stream.index_at + 8
        return data[start:at] + stream.frames.to_bytes(4, "big"), at + 4
    if _is_constant(data, stream):
        return b"", start
    return _index(data[stream.start : stream.start + 4], stream.frames), stream.start


def _is_constant(data: mmap.mmap, stream: _Stream) -> bool:
    """Whether all frames are as long as the first says, so that a length guessed from it is right, or too long."""
    first = data[stream.start : stream.start + 4]
    kbps = _kbps(first[1], first[2])
    return stream.frames * _samples(first[1]) * kbps * 125 / _rate_hz(first[1], first[2]) <= stream.end - stream.start


def _index(header: bytes, frames: int) -> bytes:
    """A frame of silence with a Xing index that gives the number of frames behind it."""
    second, third = header[1] | 1, header[2] & 0x0C | 0x90  # without a checksum, of a middle bit rate
    frame = bytearray(_frame_bytes(second, third))
    frame[:4] = bytes([0xFF, second, third, header[3]])
    at = _index_offset(frame)
    frame[at : at + 12] = b"Xing" + (1).to_bytes(4, "big") + frames.to_bytes(4, "big")
    return bytes(frame)


def _mp3_streams(data: mmap.mmap) -> list[_Stream]:
    """The streams of a file: a new one begins at each index, and where sampling rate or version change."""
    indices = sorted(at for name in (b"Xing", b"Info") for at in _places(data, name))
    streams: list[_Stream] = []
    at, size, junk, next_index = 0, len(data), 0, 0
    cache: dict[bytes, tuple[int, int]] = {}
    steady, kind = False, -1
    while at + 4 <= size and junk < _MAX_CHUNKS:
        header = data[at : at + 3]
        length, this = cache.get(header) or cache.setdefault(header, _frame(header))
        if not length or not (steady or _frame_follows(data, at + length)):
            steady = False
            at, is_junk = _behind_tag(data, at)
            junk += is_junk
            continue
        if at + length > size:
            break
        while next_index < len(indices) and indices[next_index] < at:
            next_index += 1
        is_index = next_index < len(indices) and indices[next_index] == at + _index_offset(data[at : at + 4])
        if is_index or this != kind:
            kind = this
            streams.append(_Stream(at, kind))
        stream = streams[-1]
        if is_index:
            flags, count = struct.unpack(
                ">II", data[indices[next_index] + 4 : indices[next_index] + 12].ljust(8, b"\0")
            )
            stream.index_at, stream.indexed = indices[next_index], count if flags & 1 else None
            next_index += 1
        else:
            stream.frames += 1
        at += length
        stream.end, steady = at, True
        # Until the next index, frame after frame of one kind: nothing to look at but their headers.
        until = min(indices[next_index] if next_index < len(indices) else size, size) - _MAX_FRAME_BYTES
        count, get = 0, cache.get
        while at < until:
            length, this = get(data[at : at + 3], _NO_FRAME)
            if not length or this != kind:
                break
            at += length
            count += 1
        stream.frames += count
        stream.end = at
    return _merged([stream for stream in streams if stream.frames])


def _merged(streams: list[_Stream]) -> list[_Stream]:
    """The streams without what only looked like frames, between which one goes on."""
    if len(streams) == 1:
        return streams
    merged: list[_Stream] = []
    for stream in streams:
        if stream.index_at is None and stream.frames < _FEW_FRAMES:
            continue
        if merged and stream.index_at is None and stream.kind == merged[-1].kind:
            merged[-1].frames += stream.frames
            merged[-1].end = stream.end
        else:
            merged.append(stream)
    return merged


def _behind_tag(data: mmap.mmap, at: int) -> tuple[int, bool]:
    """Where to look for the next frame, behind a tag or at the next byte that may begin one; whether that was junk."""
    if data[at : at + 3] == b"ID3":
        a, b, c, d = data[at + 6 : at + 10].ljust(4, b"\0")
        return at + 10 + ((a & 127) << 21 | (b & 127) << 14 | (c & 127) << 7 | d & 127), False
    if data[at : at + 3] == b"TAG":
        return at + 128, False
    sync = data.find(b"\xff", at + 1)
    sync = sync if sync >= 0 else len(data)
    tag = data.find(b"ID3", at + 1, sync)
    return tag if tag >= 0 else sync, True


def _places(data: mmap.mmap, name: bytes) -> Iterator[int]:
    at = data.find(name)
    while at >= 0:
        yield at
        at = data.find(name, at + 1)


def _frame_follows(data: mmap.mmap, at: int) -> bool:
    head = data[at : at + 3]
    return len(head) < 3 or head in (b"TAG", b"ID3") or _frame(head)[0] > 0


def _frame(header: bytes) -> tuple[int, int]:
    """Bytes of the frame that begins with these three, and its version, layer and sampling rate; (0, 0) for none."""
    if header[0] != 0xFF:
        return _NO_FRAME
    length = _frame_bytes(header[1], header[2])
    return (length, (header[1] & 0xFE) << 8 | header[2] & 0x0C) if length else _NO_FRAME


@cache
def _frame_bytes(second: int, third: int) -> int:
    """Bytes of the layer III frame with these header bytes; 0 where they are none."""
    kbps = _kbps(second, third) if second >> 5 == 7 and second >> 1 & 3 == 1 and second >> 3 & 3 != 1 else 0
    if not kbps or third >> 2 & 3 == 3:
        return 0
    return _samples(second) * kbps * 125 // _rate_hz(second, third) + (third >> 1 & 1)


def _kbps(second: int, third: int) -> int:
    return _KBPS["1" if second >> 3 & 3 == 3 else "2"][third >> 4]


def _rate_hz(second: int, third: int) -> int:
    return _RATES_HZ[second >> 3 & 3][third >> 2 & 3]


def _samples(second: int) -> int:
    return 1152 if second >> 3 & 3 == 3 else 576


def _index_offset(header: bytes | bytearray) -> int:
    """Where in a frame a Xing index stands: behind the side information."""
    mono = header[3] >> 6 == 3
    if header[1] >> 3 & 3 == 3:
        return 4 + (17 if mono else 32)
    return 4 + (9 if mono else 17)
