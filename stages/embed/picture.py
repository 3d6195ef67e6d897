"""A song to look at: the outline of its waveform with a mel spectrogram, or its piano roll.

Like `stages.embed.reading` it runs in processes of its own, and imports no torch.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.embed.inputs import midi
from stages.embed.inputs.midi import has_notes
from stages.embed.inputs.recording import open_recording
from stages.embed.reading import check_length
from store.errors import ClipError

_COLUMNS = 600
_BANDS = 64
_FFT = 2048
_FRAMES = 4  # spectra a column averages
_BLOCK = 1 << 21  # samples that are decoded at a time
_RANGE_DB = 80.0


def picture(path: Path, most_s: float) -> dict[str, Any]:
    """A song as numbers to draw.

    Returns
    -------
    ``kind`` (audio or midi); ``duration_s``; ``wave``: [columns, 2] the least and the highest sample of each stretch, 1
    is full scale, None of MIDI; ``image``: ``rows`` x ``columns`` of bytes in base64, row by row from the lowest, with
    ``low`` and ``high``: the frequencies in Hz (on the mel scale) or the pitches of the first and the last row.

    Raises
    ------
    ClipError
        as `check_length`, and where the song cannot be decoded.
    """
    length_s = check_length(path, most_s)
    return _roll(path) if has_notes(path) else _spectrogram(path, length_s)


def _roll(path: Path) -> dict[str, Any]:
    """Loudest velocity of each pitch in each column; the pitches that sound, an octave at least."""
    notes = midi.read_notes(path)
    if not len(notes):
        raise ClipError("no-notes", "holds no notes")
    length_s = float(notes.end_s.max())
    low = max(0, int(notes.pitch.min()) - 2)
    high = min(127, max(int(notes.pitch.max()) + 2, low + 12))
    image = np.zeros((high - low + 1, _COLUMNS), dtype=np.uint8)
    first = (notes.start_s / length_s * _COLUMNS).astype(np.int64).clip(0, _COLUMNS - 1)
    last = np.ceil(notes.end_s / length_s * _COLUMNS).astype(np.int64).clip(1, _COLUMNS)
    counts = np.maximum(last - first, 1)
    column = np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
    row = np.repeat(notes.pitch.astype(np.int64) - low, counts)
    np.maximum.at(image, (row, column.clip(max=_COLUMNS - 1)), np.repeat(notes.velocity * 2, counts).astype(np.uint8))
    return {"kind": "midi", "duration_s": length_s, "wave": None, "image": _image(image, low, high)}


def _spectrogram(path: Path, length_s: float) -> dict[str, Any]:
    with open_recording(path) as (recording, _):
        rate_hz, frames = recording.rate_hz, recording.frames
        columns = min(_COLUMNS, frames)
        edges = np.linspace(0, frames, columns + 1).astype(np.int64)
        wave, power = np.zeros((columns, 2), np.float32), np.zeros((columns, _FFT // 2 + 1), np.float32)
        step = max(1, int(_BLOCK * columns // frames))
        for begin in range(0, columns, step):
            end = min(begin + step, columns)
            samples = recording.read_mono(int(edges[begin]), int(edges[end] - edges[begin]))
            places = edges[begin : end + 1] - edges[begin]
            for column in range(begin, end):
                piece = samples[places[column - begin] : places[column - begin + 1]]
                if len(piece):
                    wave[column] = piece.min(), piece.max()
            power[begin:end] = _power(samples, places)
    bands = power @ _mel(rate_hz)
    decibels = 10 * np.log10(np.maximum(bands, 1e-10))
    scaled = (decibels - decibels.max() + _RANGE_DB) / _RANGE_DB
    image = np.rint(255 * scaled.clip(0, 1)).astype(np.uint8).T
    outline = np.nan_to_num(wave.clip(-1, 1)).astype(np.float64).round(3)
    return {
        "kind": "audio",
        "duration_s": length_s,
        "wave": outline.tolist(),
        "image": _image(image, 0, rate_hz // 2),
    }


def _power(samples: NDArray[np.float32], edges: NDArray[np.int64]) -> NDArray[np.float32]:
    """[columns, bins] the mean power of a few spectra within each column."""
    padded = np.pad(np.nan_to_num(samples), _FFT // 2)
    share = (np.arange(_FRAMES) + 0.5) / _FRAMES
    centres = (edges[:-1, None] + np.diff(edges)[:, None] * share).astype(np.int64)
    pieces = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[centres.clip(0, len(padded) - _FFT)]
    spectra = np.fft.rfft(pieces * np.hanning(_FFT).astype(np.float32), axis=2)
    mean: NDArray[np.float32] = (spectra.real**2 + spectra.imag**2).mean(axis=1, dtype=np.float32)
    return mean


def _mel(rate_hz: int) -> NDArray[np.float32]:
    """[bins, bands] overlapping triangles, evenly spread over the mel scale (2595 log10(1 + f / 700))."""
    highest = 2595 * np.log10(1 + rate_hz / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, highest, _BANDS + 2) / 2595) - 1)
    corners = np.maximum(corners, np.arange(_BANDS + 2) * rate_hz / _FFT)  # the lowest are no narrower than a bin
    frequencies = np.fft.rfftfreq(_FFT, 1 / rate_hz)[:, None]
    rising = (frequencies - corners[:-2]) / np.diff(corners)[:-1]
    falling = (corners[2:] - frequencies) / np.diff(corners)[1:]
    return np.minimum(rising, falling).clip(min=0).astype(np.float32)


def _image(values: NDArray[np.uint8], low: int, high: int) -> dict[str, Any]:
    rows, columns = values.shape
    data = base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
    return {"rows": rows, "columns": columns, "low": low, "high": high, "data": data}
