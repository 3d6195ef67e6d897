"""How many samples a FLAC file holds, by its last whole frame (RFC 9639)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from stages.embed.inputs.views import Layout, View

_MAX_STEPS = 1 << 12  # back through a file
_TAIL_BYTES = 1 << 18
_SAMPLES = (1 << 36) - 1  # the 36 bits of STREAMINFO that count samples


def flac(path: Path, file: Any, begin: int, size: int) -> Layout:
    """STREAMINFO with the number of samples up to the last whole frame, where it gives none or too many.

    RFC 9639: a frame's header carries the number of its first sample, or its own number, and a checksum.
    """
    file.seek(begin)
    head = file.read(42)
    if len(head) < 42 or head[4] & 0x7F != 0:
        return Layout((View(path, b"", begin, size),) if begin else ())
    packed = int.from_bytes(head[18:26], "big")
    stated = packed & _SAMPLES
    file.seek(max(begin + 42, size - _TAIL_BYTES))
    there = _count_samples(file.read(_TAIL_BYTES), int.from_bytes(head[8:10], "big"), stated)
    if not 0 < there < (stated or _SAMPLES):
        return Layout((View(path, b"", begin, size),) if begin else ())
    prefix = head[:18] + (packed & ~_SAMPLES | there).to_bytes(8, "big") + head[26:]
    return Layout((View(path, prefix, begin + 42, size),), header_share=max(1.0, stated / there))


def _count_samples(tail: bytes, block_samples: int, stated: int) -> int:
    """Samples up to the end of the last whole frame in the file's last bytes; 0 where there is none.

    Behind the frame that ends with the ``stated`` sample there may be anything.
    """
    if tail[-128:-125] == b"TAG":
        tail = tail[:-128]
    end, at = len(tail), len(tail)
    for _ in range(_MAX_STEPS):
        at = tail.rfind(b"\xff", 0, at)
        if at < 0:
            return 0
        header = _frame_header(tail[at : at + 16], block_samples)
        if header is None:
            continue
        # A checksum with the two bytes that give it is 0.
        if sum(header) == stated and 0 in islice(_crcs(tail[at:], 0x8005, 16), 7, None):
            return stated
        if _crc(tail[at:end], 0x8005, 16) == 0:
            return sum(header)
        end = at
    return 0


def _frame_header(data: bytes, block_samples: int) -> tuple[int, int] | None:
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
