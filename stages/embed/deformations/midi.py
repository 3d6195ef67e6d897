"""MIDI files, deformed: pitch, tempo, tracks, velocities. Drums are never transposed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from stages.embed.inputs import Clip
from store.errors import ClipError

Rng = np.random.Generator
_PITCHES, _VELOCITIES = 128, 127


def transpose(clip: Clip, amount: float, file: Path, rng: Rng) -> Clip:  # noqa: ARG001 - all have the same arguments
    """``amount`` whole semitones higher; a note that would leave the keyboard goes to the nearest octave on it."""
    score = _read(clip)
    for track in score.tracks:
        if not track.is_drum:
            for note in track.notes:
                pitch = note.pitch + round(amount)
                while not 0 <= pitch < _PITCHES:
                    pitch += 12 if pitch < 0 else -12
                note.pitch = pitch
    return _written(clip, score, file)


def tempo(clip: Clip, amount: float, file: Path, rng: Rng) -> Clip:  # noqa: ARG001
    """``amount`` times as fast; the stretch holds the same notes."""
    import symusic

    score = _read(clip)
    if not len(score.tempos) or score.tempos[0].time > 0:
        score.tempos.insert(0, symusic.Tempo(time=0, qpm=120.0))
    for change in score.tempos:
        change.qpm = change.qpm * amount
    copy = _written(clip, score, file)
    start_s, duration_s = (None if value is None else value / amount for value in (clip.start_s, clip.duration_s))
    return replace(copy, start_s=start_s, duration_s=duration_s)


def drop_tracks(clip: Clip, amount: float, file: Path, rng: Rng) -> Clip:
    """Without the share ``amount`` of the tracks that hold notes, which are drawn; one is left at least."""
    score = _read(clip)
    sounding = [number for number, track in enumerate(score.tracks) if len(track.notes)]
    count = min(len(sounding) - 1, round(amount * len(sounding)))
    for number in rng.permutation(sounding)[: max(0, count)].tolist():
        score.tracks[int(number)].notes = type(score.tracks[int(number)].notes)()
    return _written(clip, score, file)


def velocity(clip: Clip, amount: float, file: Path, rng: Rng) -> Clip:
    """Velocities off by normal noise of the deviation ``amount``, within 1 to 127."""
    score = _read(clip)
    for track in score.tracks:
        for note, step in zip(track.notes, rng.normal(0, amount, len(track.notes)), strict=True):
            note.velocity = int(np.clip(round(note.velocity + step), 1, _VELOCITIES))
    return _written(clip, score, file)


def _read(clip: Clip) -> Any:
    import symusic

    if not clip.path.is_file():
        raise ClipError("missing", "is not a file")
    try:
        return symusic.Score(str(clip.path))
    except Exception as error:  # symusic has no error of its own
        raise ClipError("not-supported", "can be encoded, and not deformed: symusic does not parse it") from error


def _written(clip: Clip, score: Any, file: Path) -> Clip:
    path = file.with_suffix(".mid")
    score.dump_midi(str(path))
    return replace(clip, path=path)
