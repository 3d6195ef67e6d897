"""Standard MIDI Files whose bytes are not quite those of the standard, rewritten so that any parser reads them.

`unwrapped` takes off what stands around a file or makes its header longer. `rewritten` goes through the events one by
one and writes them again: it believes a track's End of Track before the length in its header, knows running status
behind meta events and system exclusives, deltas with needless leading bytes, and clamps values above 127. That is slow,
and done only for files that the parser refuses, or in which one note-off ends several notes.
"""

from __future__ import annotations

from store.errors import ClipError

MAX_REWRITTEN_BYTES = 1 << 22  # a second or two for each MiB

_MAX_LEAD_BYTES = 1 << 10  # before the header: a MacBinary header has 128
_MAX_DELTA_BYTES = 8
_MAX_ENDED_TRACKS = 1 << 10  # to each of which `with_all_off` adds 6 kB
_END_OF_TRACK = b"\xff\x2f\x00"
_RECORDINGS = (b"ID3", b"fLaC", b"OggS", b"FORM", b"caff", b".snd", b"\xff\xfb", b"\x1a\x45\xdf\xa3")
# Data bytes by the upper half of a status; system messages (0xF0) are looked up by themselves.
_LENGTHS = {0x80: 2, 0x90: 2, 0xA0: 2, 0xB0: 2, 0xC0: 1, 0xD0: 1, 0xE0: 2}
_SYSTEM_LENGTHS = {0xF1: 1, 0xF2: 2, 0xF3: 1}

# A note-off for every pitch of every channel, by running status: what ends a note that nothing else ended.
_ALL_OFF = b"".join(
    bytes([0, 0x80 | channel, 0, 0]) + bytes(value for pitch in range(1, 128) for value in (0, pitch, 0))
    for channel in range(16)
)


def unwrapped(data: bytes) -> tuple[bytes, list[str]]:
    """The MIDI file in ``data``, its header six bytes long; and what was odd about it, in words.

    Raises
    ------
    ClipError
        ``empty``; ``not-supported`` for recordings and packed files; ``damaged`` where there is no MIDI header.
    """
    oddities: list[str] = []
    if not data:
        raise ClipError("empty", "a file of 0 bytes")
    if data[:2] == b"\x1f\x8b":
        raise ClipError("not-supported", "is packed by gzip; unpack it")
    if data[:4] == b"RIFF" and data[8:12] == b"RMID":
        at = data.find(b"data", 12, _MAX_LEAD_BYTES)
        data = data[at + 8 :] if at >= 0 else b""
        oddities.append("was wrapped in RIFF")
    elif data.startswith(_RECORDINGS) or (data[:4] == b"RIFF" and data[8:12] == b"WAVE") or data[4:8] == b"ftyp":
        raise ClipError("not-supported", "is a recording, and this backbone reads MIDI")
    at = data.find(b"MThd", 0, _MAX_LEAD_BYTES)
    if at < 0 or len(data) < at + 14:
        raise ClipError("damaged", "not a Standard MIDI File: it does not begin with a MIDI header")
    if at:
        oddities.append(f"{at} bytes stood before its header")
        data = data[at:]
    length = int.from_bytes(data[4:8], "big")
    if length != 6:
        if length < 6 or 8 + length > len(data):
            raise ClipError("damaged", f"its header says that it has {length} bytes")
        oddities.append(f"its header has {length} bytes instead of 6")
        data = data[:4] + b"\0\0\0\x06" + data[8:14] + data[8 + length :]
    return data, oddities


def is_whole(data: bytes) -> bool:
    """Whether a file (`unwrapped`) is chunks to its end, and no track is empty by its header."""
    at = 14
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "big")
        if not data[at : at + 4].isalnum() or (not length and data[at : at + 4] == b"MTrk"):
            return False
        at += 8 + length
    return at == len(data)


def with_all_off(data: bytes) -> bytes | None:
    """The file with note-offs for everything at the end of each track.

    None where a track does not end as it should, or there are more than `_MAX_ENDED_TRACKS`.
    """
    if data.count(b"MTrk") > _MAX_ENDED_TRACKS:
        return None
    chunks, at = [data[:14]], 14
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "big")
        body = data[at + 8 : at + 8 + length]
        if data[at : at + 4] == b"MTrk":
            if not body.endswith(_END_OF_TRACK):
                return None
            # The end's delta goes to an empty text, so that the note-offs come one tick behind the last event.
            body = body[:-3] + b"\xff\x01\x00" + b"\x01" + _ALL_OFF[1:] + b"\0" + _END_OF_TRACK
            chunks.append(b"MTrk" + len(body).to_bytes(4, "big") + body)
        at += 8 + length
    return b"".join(chunks)


def rewritten(data: bytes, *, close_all: bool = False) -> bytes:
    """The file (`unwrapped`) with every event written out as the standard has it.

    Parameters
    ----------
    close_all : write as many note-offs as there are notes that a note-off ends: all of its channel and pitch that began
        before it; where there are none, those that begin with it.

    Raises
    ------
    ClipError
        ``truncated`` where the last track ends before its header says, ``damaged``; ``outside`` above
        `MAX_REWRITTEN_BYTES`.
    """
    if len(data) > MAX_REWRITTEN_BYTES:
        raise ClipError("outside", f"more than {MAX_REWRITTEN_BYTES >> 20} MiB of MIDI to mend")
    tracks, at, size = [], 14, len(data)
    while at + 8 <= size and data[at : at + 4].isalnum():
        length = int.from_bytes(data[at + 4 : at + 8], "big")
        begin, end = at + 8, at + 8 + length
        if data[at : at + 4] != b"MTrk":
            at = end
            continue
        is_untold = not length and begin < size and not data[begin : begin + 4].isalnum()  # events, and no other chunk
        events, stop = _events(data, begin, size if is_untold else end, close_all=close_all)
        tracks.append(b"MTrk" + len(events).to_bytes(4, "big") + events)
        at = end if not is_untold and (end == size or data[end : end + 4] == b"MTrk") else stop
    promised = int.from_bytes(data[10:12], "big")
    if not tracks or (len(tracks) < promised and at < size):
        raise ClipError(
            "damaged", f"{len(tracks)} tracks of the {promised} in its header, and then bytes that are none"
        )
    return data[:10] + len(tracks).to_bytes(2, "big") + data[12:14] + b"".join(tracks)


def _events(data: bytes, begin: int, end: int, *, close_all: bool) -> tuple[bytes, int]:
    """The events of a track from ``begin`` on, rewritten, and where they stop: behind End of Track, or at ``end``."""
    try:
        events, at = _Track(data, begin, end, close_all=close_all).read()
    except IndexError as error:
        if end <= len(data):
            raise ClipError("damaged", "an event that the file does not hold to its end") from error
        at, events = end, b""
    if end > len(data) and not events.endswith(_END_OF_TRACK):
        there = len(data) - begin
        raise ClipError("truncated", f"its last track has {end - begin} bytes by its header, and {there} are there")
    return events if events.endswith(_END_OF_TRACK) else events + b"\0" + _END_OF_TRACK, at


class _Track:
    """A track that is read event by event; IndexError where the file ends within one."""

    def __init__(self, data: bytes, begin: int, end: int, *, close_all: bool) -> None:
        self._data, self._at, self._end = data, begin, end
        self._out = bytearray()
        self._open_notes = _OpenNotes() if close_all else None
        self._status = self._wait = 0
        self._is_clamped = False

    def read(self) -> tuple[bytes, int]:
        """The events written anew, and where they stop."""
        data, last = self._data, len(self._data)
        while self._at < self._end or (self._status and self._at < last):
            delta = self._number()
            self._wait += delta
            if self._open_notes is not None:
                self._open_notes.now += delta
            first = data[self._at]
            if first < 0xF0:
                self._message(first)
            elif first == 0xFF:
                self._at += 2
                if self._meta(data[self._at - 1]):
                    break
            else:  # of the system: nothing that sounds, and its delta is added to the next event's
                self._at += 1
                self._take(self._number() if first in (0xF0, 0xF7) else _SYSTEM_LENGTHS.get(first, 0))
        return bytes(self._out), self._at

    def _message(self, first: int) -> None:
        """A message of a channel, by its own or running status."""
        if first >= 0x80:
            self._status = first
            self._at += 1
        elif not self._status:
            raise ClipError("damaged", "an event without a status")
        values = self._take(_LENGTHS[self._status & 0xF0])
        if not values.isascii():
            self._is_clamped = True
            values = bytes(min(value, 127) for value in values)
        event = bytes([self._status]) + values
        self._write(event)
        if self._open_notes is not None and self._status < 0xA0:
            self._out += (b"\0" + event) * (self._open_notes.count(self._status, event) - 1)

    def _meta(self, kind: int) -> bool:
        """A meta event; whether it is End of Track."""
        length = self._number()
        body = self._take(length)
        if kind != _END_OF_TRACK[1]:
            self._write(bytes((0xFF, kind)) + _delta(length) + body)
            return False
        if self._is_clamped and self._at != self._end:
            raise ClipError("damaged", "values above 127, and a track that ends elsewhere than its header says")
        self._write(_END_OF_TRACK)
        return True

    def _write(self, event: bytes) -> None:
        self._out += _delta(self._wait) + event
        self._wait = 0

    def _take(self, count: int) -> bytes:
        piece = self._data[self._at : self._at + count]
        if len(piece) < count:
            raise IndexError("the file ends")
        self._at += count
        return piece

    def _number(self) -> int:
        """A number of variable length."""
        number = 0
        for _ in range(_MAX_DELTA_BYTES):
            byte = self._data[self._at]
            self._at += 1
            number = number << 7 | byte & 0x7F
            if byte < 0x80:
                return number
        raise ClipError("damaged", "a number of more than eight bytes")


class _OpenNotes:
    """When the notes of each channel and pitch began that no note-off has ended yet."""

    def __init__(self) -> None:
        self.now = 0
        self._begun: dict[tuple[int, int], list[int]] = {}

    def count(self, status: int, event: bytes) -> int:
        """How many note-offs an event must be written as: 1, or more for one that ends several notes."""
        key = status & 0x0F, event[1]
        if status >= 0x90 and event[2]:
            self._begun.setdefault(key, []).append(self.now)
            return 1
        starts = self._begun.pop(key, [])
        before = [start for start in starts if start != self.now]
        if before and len(before) < len(starts):
            self._begun[key] = [self.now] * (len(starts) - len(before))
            return len(before)
        return len(starts) or 1


def _delta(number: int) -> bytes:
    if number > 0x0FFFFFFF:
        raise ClipError("damaged", "a time or length beyond what the format holds")
    digits = [number & 0x7F]
    while number := number >> 7:
        digits.append(0x80 | number & 0x7F)
    return bytes(reversed(digits))
