"""The frames of an MP3 file (ISO/IEC 11172-3 and 13818-3, layer III), and an index in front that counts them right."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from stages.embed.inputs.views import Layout, joined

_MAX_JUNK = 1 << 12  # stretches between frames
_NO_FRAME = (0, 0)
_MAX_FRAME_BYTES = 2881  # 160 kbit/s at 8 kHz
_FEW_FRAMES = 8  # a fifth of a second: what an index may be off by, and what may look like frames by chance
# Bytes of an MP3 frame by version, layer, bit rate and sampling rate: ISO/IEC 11172-3 and 13818-3, layer III.
_KBPS = {
    "1": (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    "2": (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
}
_RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


@dataclass
class _Stream:
    """MP3 frames that belong together: where they lie, how many hold sound, and what an index in front says of them."""

    start: int
    kind: int  # version, layer and sampling rate
    frames: int = 0
    end: int = 0
    index_at: int | None = None  # of its name, Xing or Info
    index_frames: int | None = None


def mp3(path: Path, data: mmap.mmap) -> Layout:
    """One view for each recording; with an index in front that has the true number of frames where it was too small.

    Where there is no index, decoders guess the length from the first frames, so one is written.
    """
    streams = _streams(data)
    if not streams:
        return Layout()
    bounds = [0, *(stream.start for stream in streams[1:]), len(data)]
    parts = [
        (*_with_index(data, stream, start), end)
        for stream, start, end in zip(streams, bounds, bounds[1:], strict=False)
    ]
    stated = sum(stream.frames if stream.index_frames is None else stream.index_frames for stream in streams)
    return joined(path, parts, max(1.0, stated / max(sum(stream.frames for stream in streams), 1)))


def _with_index(data: mmap.mmap, stream: _Stream, start: int) -> tuple[bytes, int]:
    """What to put in front of a stream, and from where on to read the file behind it."""
    if stream.index_at is not None:
        if stream.index_frames is None or stream.index_frames >= stream.frames - _FEW_FRAMES:
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
    frame = bytearray(frame_bytes(second, third))
    frame[:4] = bytes([0xFF, second, third, header[3]])
    at = _index_offset(frame)
    frame[at : at + 12] = b"Xing" + (1).to_bytes(4, "big") + frames.to_bytes(4, "big")
    return bytes(frame)


def _streams(data: mmap.mmap) -> list[_Stream]:
    """The streams of a file: a new one begins at each index, and where sampling rate or version change."""
    indices = sorted(at for name in (b"Xing", b"Info") for at in _places(data, name))
    streams: list[_Stream] = []
    at, size, junk, next_index = 0, len(data), 0, 0
    cache: dict[bytes, tuple[int, int]] = {}
    steady, kind = False, -1
    while at + 4 <= size and junk < _MAX_JUNK:
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
            stream.index_at, stream.index_frames = indices[next_index], count if flags & 1 else None
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
    return _merge([stream for stream in streams if stream.frames])


def _merge(streams: list[_Stream]) -> list[_Stream]:
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
    length = frame_bytes(header[1], header[2])
    return (length, (header[1] & 0xFE) << 8 | header[2] & 0x0C) if length else _NO_FRAME


@cache
def frame_bytes(second: int, third: int) -> int:
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
