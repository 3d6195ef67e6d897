"""Small trees in the official layout of collections whose files are not at hand."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
from scipy.sparse import csc_matrix

TRACKS = ("TRAAAGR128F425B14B", "TRAAAZF12903CCCF6B", "TRAABVM128F92CA9DC", "TRAACQT128F9331780")

# The fields that are read, among others, in the types of the Million Song Dataset's summary.
_METADATA = [
    ("analyzer_version", "S32"),
    ("artist_7digitalid", "<i4"),
    ("artist_id", "S32"),
    ("artist_name", "S1024"),
    ("release", "S1024"),
    ("release_7digitalid", "<i4"),
    ("title", "S1024"),
]
_ANALYSIS = [("duration", "<f8"), ("tempo", "<f8"), ("track_id", "S32")]


def write_summary(path: Path, songs: Sequence[tuple[str, str, str, str, str]]) -> None:
    """``msd_summary_file.h5`` with (track, artist id, artist name, release, title) of each song."""
    metadata, analysis = np.zeros(len(songs), _METADATA), np.zeros(len(songs), _ANALYSIS)
    for row, (track, artist, name, release, title) in enumerate(songs):
        analysis["track_id"][row] = track
        for field, text in (("artist_id", artist), ("artist_name", name), ("release", release), ("title", title)):
            metadata[field][row] = text.encode()
    with h5py.File(path, "w") as file:
        file.create_dataset("analysis/songs", data=analysis, chunks=True, compression="gzip")
        file.create_dataset("metadata/songs", data=metadata, chunks=True, compression="gzip")
        file.create_dataset("musicbrainz/songs", data=np.zeros(len(songs), [("year", "<i4")]))


def write_matches(path: Path, matches: Mapping[str, Mapping[str, float]]) -> None:
    path.write_text(json.dumps(matches))


def midi(length_s: float, pitch: int = 60) -> bytes:
    """A MIDI file with one note of that length: 1,000 ticks a second."""
    ticks = round(length_s * 1000)
    delta = bytes([0x80 | ticks >> 14, 0x80 | ticks >> 7 & 0x7F, ticks & 0x7F])
    track = b"\0\xff\x51\x03\x0f\x42\x40" + bytes([0, 0x90, pitch, 0x40]) + delta + bytes([0x80, pitch, 0x40])
    track += b"\0\xff\x2f\0"
    return b"MThd\0\0\0\6\0\0\0\1" + (1000).to_bytes(2, "big") + b"MTrk" + len(track).to_bytes(4, "big") + track


LPD5 = (("Drums", 0, True), ("Piano", 0, False), ("Guitar", 24, False), ("Bass", 32, False), ("Strings", 48, False))


def write_roll(path: Path, rolls: Sequence[np.ndarray], tempo: Sequence[float], resolution: int = 24) -> None:
    """An LPD-5 file as pypianoroll 0.x writes it: each roll ``uint8 [steps, 128]``, and ``info.json`` beside them."""
    arrays: dict[str, np.ndarray] = {"tempo": np.asarray(tempo), "downbeat": np.zeros(len(tempo), dtype=bool)}
    info: dict[str, object] = {"beat_resolution": resolution, "name": path.stem}
    for number, (roll, (name, program, is_drum)) in enumerate(zip(rolls, LPD5, strict=False)):
        matrix = csc_matrix(roll)
        for part, values in (("data", matrix.data), ("indices", matrix.indices), ("indptr", matrix.indptr)):
            arrays[f"pianoroll_{number}_csc_{part}"] = values
        arrays[f"pianoroll_{number}_csc_shape"] = np.array(matrix.shape)
        info[str(number)] = {"program": program, "is_drum": is_drum, "name": name}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("info.json", json.dumps(info))
