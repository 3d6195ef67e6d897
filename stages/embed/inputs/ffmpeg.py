"""Recordings that libsndfile does not read (AAC, WMA, WebM...), decoded by the system's ffmpeg where it is installed.

The program runs without a shell, on one file that it cannot take for an option, a protocol or a playlist: the reader is
chosen here, from the first bytes, so that no file can name others. Its output is read as it comes and given up after
`MAX_S` seconds or `MAX_SAMPLES` samples.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from stages.embed.inputs import remark
from store.errors import ClipError

FFMPEG_SUFFIXES = frozenset(
    {".m4a", ".m4b", ".mp4", ".aac", ".wma", ".webm", ".weba", ".mka", ".ape", ".wv", ".mpc", ".tta", ".ac3", ".amr"}
)
MAX_S = 15.0  # a song takes a fraction of a second
MAX_SAMPLES = 1 << 30  # of all channels: three hours of 44.1 kHz stereo
MAX_BYTES = 2 << 30  # of memory that the program may take

_KEPT_SAMPLES = 1 << 25  # of one channel; longer recordings are decoded again for each pass
_BLOCK_BYTES = 1 << 20
_HEADER_BYTES = 1 << 12

# The first bytes of a file, from an offset -> ffmpeg's name of the reader, and what people call it.
_READERS = (
    (4, b"ftyp", "mov", "MP4 (m4a, AAC)"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf", "Windows Media (wma)"),
    (0, b"\x1a\x45\xdf\xa3", "matroska", "Matroska (webm, mka)"),
    (0, b"MAC ", "ape", "Monkey's Audio"),
    (0, b"wvpk", "wv", "WavPack"),
    (0, b"MP+", "mpc", "Musepack"),
    (0, b"MPCK", "mpc8", "Musepack"),
    (0, b"TTA1", "tta", "True Audio"),
    (0, b"\x0b\x77", "ac3", "AC-3"),
    (0, b"#!AMR", "amr", "AMR"),
    (0, b"caff", "caf", "CAF that libsndfile does not read"),
    (0, b"RIFF", "wav", "WAV that libsndfile does not read"),
    (0, b"FORM", "aiff", "AIFF that libsndfile does not read"),
    (0, b"OggS\0\x02", "ogg", "Ogg that libsndfile does not read"),
)

_ABSENT = "which ffmpeg decodes; it is not installed here: install it, or convert the file"

Samples = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Reader:
    """ffmpeg's name of a reader (``-f``), and what to call the format."""

    name: str
    title: str


def find_reader(magic: bytes) -> Reader | None:
    """The reader for a file that begins with these 16 bytes; None where it is of no format that is handed to ffmpeg."""
    for offset, mark, name, title in _READERS:
        if magic[offset : offset + len(mark)] == mark and (name != "wav" or magic[8:12] == b"WAVE"):
            return Reader(name, title)
    if len(magic) > 1 and magic[0] == 0xFF and magic[1] & 0xF6 == 0xF0:
        return Reader("aac", "AAC")
    return None


def is_there_now(reason: str) -> bool:
    """Whether a recording was not read, for this reason, since ffmpeg was absent, and it is there now."""
    return reason.endswith(_ABSENT) and shutil.which("ffmpeg") is not None


class FfmpegRecording:
    """A recording that ffmpeg decodes, always from its beginning.

    Attributes
    ----------
    rate_hz, frames : sampling rate, and how many frames can be decoded.
    """

    def __init__(self, path: Path, reader: Reader) -> None:
        program = shutil.which("ffmpeg")
        if program is None:
            raise ClipError("not-supported", f"is {reader.title}, {_ABSENT}")
        self._command = [
            *(program, "-nostdin", "-loglevel", "quiet", "-threads", "1", "-protocol_whitelist", "file"),
            *("-f", reader.name, "-i", f"file:{path.absolute()}", "-map", "0:a:0", "-map_metadata", "-1"),
            *("-c:a", "pcm_f32le", "-f", "wav", "pipe:1"),
        ]
        self.rate_hz = self.frames = 0
        self._has_failed = False
        self._kept: list[Samples] | None = []
        for block in self._blocks():
            self.frames += len(block)
            if self._kept is not None:
                self._kept.append(block)
            if self.frames > _KEPT_SAMPLES:
                self._kept = None
        if self.frames and self._has_failed:
            remark("truncated", f"ffmpeg ended with an error behind second {self.frames / self.rate_hz:.1f}")
        if not self.frames:
            raise ClipError("damaged", f"is {reader.title}, of which ffmpeg decodes nothing")

    def read_mono(self, first: int, count: int) -> Samples:
        """``count`` frames from ``first`` on, mean over the channels; fewer where the recording ends."""
        mono, at = np.empty(count, np.float32), 0
        for block in self._kept if self._kept is not None else self._blocks():
            begin, end = max(first, at), min(first + count, at + len(block))
            if begin < end:
                mono[begin - first : end - first] = block[begin - at : end - at]
            at += len(block)
            if at >= first + count:
                break
        return mono[: max(0, min(count, at - first))]

    def recount(self) -> int:
        """The number of frames, which was counted on opening."""
        return self.frames

    def _blocks(self) -> Iterator[Samples]:
        """The whole recording, block by block, mean over the channels."""
        with _running(self._command) as (process, output, is_late):
            self.rate_hz, channels = _read_header(output)
            room, rest = MAX_SAMPLES, b""
            while data := output.read(_BLOCK_BYTES):
                data = rest + data
                end = len(data) - len(data) % (4 * channels)
                rest = data[end:]
                samples = np.frombuffer(data[:end], dtype="<f4").reshape(-1, channels)
                room -= samples.size
                if room < 0:
                    raise ClipError("outside", f"more than {MAX_SAMPLES:,} samples to decode; cut it into files")
                with np.errstate(invalid="ignore", over="ignore"):
                    yield samples.mean(axis=1, dtype=np.float32)
            code = process.wait()
            if is_late():
                raise ClipError("unreadable", f"ffmpeg was stopped after {MAX_S:g} s; convert the file to FLAC or WAV")
            self._has_failed = code != 0


@contextmanager
def _running(command: list[str]) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes], Callable[[], bool]]]:
    """The program, its output, and whether it was stopped because it took too long.

    It has a session of its own, so that Ctrl-C does not end it in the middle of a song.
    """
    late = threading.Event()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )

    def stop() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(MAX_S, stop)
    timer.daemon = True
    timer.start()
    try:
        _limit_memory(process.pid)
        assert process.stdout is not None
        yield process, process.stdout, late.is_set
    finally:
        timer.cancel()
        process.kill()
        if process.stdout is not None:
            process.stdout.close()
        process.wait()


def _limit_memory(pid: int) -> None:
    import resource

    if hasattr(resource, "prlimit"):
        with suppress(OSError):  # it has ended already
            resource.prlimit(pid, resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))


def _read_header(output: IO[bytes]) -> tuple[int, int]:
    """Sampling rate and channels of the WAV stream, read up to its first sample; (1, 1) where there is none."""
    header = b""
    while len(header) < _HEADER_BYTES and not header.endswith(b"data"):
        byte = output.read(1)
        if not byte:
            return 1, 1
        header += byte
    output.read(4)
    at = header.find(b"fmt ") + 8
    channels = int.from_bytes(header[at + 2 : at + 4], "little")
    return int.from_bytes(header[at + 4 : at + 8], "little"), max(channels, 1)
