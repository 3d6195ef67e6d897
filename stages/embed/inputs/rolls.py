"""Multitrack piano rolls (.npz) of the Lakh Pianoroll Dataset as note arrays.

A file holds the roll of each track as a sparse matrix by columns, ``pianoroll_<i>_csc_{data,indices,indptr,shape}``,
of ``[steps, 128]`` velocities; the tempo at each step in beats a minute; and ``info.json`` with the program of each
track and the number of steps per beat. The zip archive is read directly: nothing is unpickled, and sizes are checked
before memory is allocated.
"""

from __future__ import annotations

import errno
import json
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from store.errors import ClipError

ROLL_SUFFIX = ".npz"
MAX_BYTES = 1 << 27  # of all arrays of a file, uncompressed
MAX_TRACKS = 64

_PITCHES = 128
_TEMPO = 120.0
_DAMAGE = (zipfile.BadZipFile, zlib.error, ValueError, KeyError, TypeError, EOFError, OSError, NotImplementedError)

Columns = dict[str, np.ndarray[Any, Any]]


def read_roll(path: Path) -> Columns:
    """The notes of all tracks, sorted by start: ``pitch, velocity, start_s, end_s, program, is_drum``, each [notes].

    A note is a run of steps of one pitch at one velocity; its times follow from the tempo at each step.

    Raises
    ------
    ClipError
        ``missing``, ``unreadable``, ``damaged``, or ``outside`` above `MAX_BYTES`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _notes(archive)
    except FileNotFoundError as error:
        raise ClipError("missing", "there is no such file") from error
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # seeking in damage gives EINVAL
            raise ClipError("unreadable", error.strerror or str(error)) from error
        raise ClipError("damaged", f"no multitrack piano roll: {error}") from error


def _notes(archive: zipfile.ZipFile) -> Columns:
    unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > MAX_BYTES:
        raise ClipError("outside", f"a piano roll of {unpacked >> 20} MiB; {MAX_BYTES >> 20} are the most")
    info = json.loads(archive.read("info.json"))
    resolution = int(info["beat_resolution"])
    numbers = sorted(int(key) for key in info if key.isdigit())
    if resolution < 1 or len(numbers) > MAX_TRACKS:
        raise ValueError(f"{resolution} steps a beat, {len(numbers)} tracks")
    tracks = [_runs(archive, number) for number in numbers]
    steps = max((int(track["end"].max(initial=0)) for track in tracks), default=0)
    times_s = _times_s(archive, steps, resolution)
    columns: dict[str, list[np.ndarray[Any, Any]]] = {
        name: [] for name in ("pitch", "velocity", "start_s", "end_s", "program", "is_drum")
    }
    for number, track in zip(numbers, tracks, strict=True):
        about = info[str(number)]
        count = len(track["pitch"])
        program = int(about["program"])
        if not 0 <= program < _PITCHES:
            raise ValueError(f"track {number} has the program {program}")
        columns["pitch"].append(track["pitch"])
        columns["velocity"].append(track["velocity"])
        columns["start_s"].append(times_s[track["start"]])
        columns["end_s"].append(times_s[track["end"]])
        columns["program"].append(np.full(count, program, dtype=np.uint8))
        columns["is_drum"].append(np.full(count, bool(about["is_drum"])))
    arrays = {name: np.concatenate(parts) if parts else np.empty(0) for name, parts in columns.items()}
    order = np.argsort(arrays["start_s"], kind="stable")
    return {name: values[order] for name, values in arrays.items()}


def _runs(archive: zipfile.ZipFile, number: int) -> Columns:
    """The runs of one track: ``pitch, velocity, start, end``, each [runs]; the last two in steps, ``end`` exclusive."""
    data, indices, indptr, shape = (
        _array(archive, f"pianoroll_{number}_csc_{part}.npy") for part in ("data", "indices", "indptr", "shape")
    )
    if shape.shape != (2,) or shape[1] != _PITCHES or len(indptr) != _PITCHES + 1 or len(data) != len(indices):
        raise ValueError(f"track {number} is no roll of {_PITCHES} pitches")
    steps = int(shape[0])
    counts = np.diff(indptr.astype(np.int64))
    time = indices.astype(np.int64)
    if indptr[0] != 0 or (counts < 0).any() or indptr[-1] != len(data) or (time < 0).any() or (time >= steps).any():
        raise ValueError(f"track {number} has cells outside of its roll")
    pitch = np.repeat(np.arange(_PITCHES), counts)
    order = np.lexsort((time, pitch))
    pitch, time = pitch[order], time[order]
    velocity = np.clip(data[order].astype(np.int64), 0, 127)  # in a binary roll, True counts as 1
    sounds = velocity > 0
    pitch, time, velocity = pitch[sounds], time[sounds], velocity[sounds]
    begins = np.ones(len(time), dtype=bool)
    begins[1:] = (np.diff(pitch) != 0) | (np.diff(time) != 1) | (np.diff(velocity) != 0)
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(time)) - 1 if len(first) else first
    return {
        "pitch": pitch[first].astype(np.uint8),
        "velocity": velocity[first].astype(np.uint8),
        "start": time[first],
        "end": time[last] + 1,
    }


def _times_s(archive: zipfile.ZipFile, steps: int, resolution: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """[steps + 1] the start of each step; the last tempo holds to the end, and a file without any has 120."""
    is_there = "tempo.npy" in archive.namelist()
    tempos = _array(archive, "tempo.npy").astype(np.float64).ravel() if is_there else np.empty(0)
    if not (tempos > 0).all() or not np.isfinite(tempos).all():
        raise ValueError("a tempo that is not above 0")
    tempo = np.full(steps, tempos[-1] if len(tempos) else _TEMPO)
    tempo[: len(tempos)] = tempos[:steps]
    return np.concatenate([[0.0], np.cumsum(60.0 / (tempo * resolution))])


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray[Any, Any]:
    """One array of numbers, whose header must agree with the size of the file."""
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, by_columns, dtype = np.lib.format.read_array_header_2_0(file)
        content = file.read()
    if dtype.hasobject or dtype.kind not in "biuf":
        raise ValueError(f"{name} holds {dtype}, not numbers")
    if math.prod(shape) * dtype.itemsize != len(content):
        raise ValueError(f"{name} is cut short")
    return np.frombuffer(content, dtype=dtype).reshape(shape, order="F" if by_columns else "C")
