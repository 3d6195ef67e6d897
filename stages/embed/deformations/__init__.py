"""Deformed songs: what a backbone is given in place of a clip, to see what its numbers bear.

A deformation is a kind and an amount of it; `KINDS` lists all. A deformed clip is a file of its own for as long as it
is read, so that any backbone reads it as it reads a song, and its representation has a fingerprint of its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from stages.embed.deformations import audio, midi
from stages.embed.inputs import Clip, Input
from stages.embed.inputs import Kind as Content
from store.errors import RequestError, unknown


@dataclass(frozen=True)
class Kind:
    """A way to deform.

    Attributes
    ----------
    title, unit : what it does, and what its amounts count.
    amounts : those that are tried where none are named, the mildest first.
    bounds : the least and the greatest amount that there is.
    write : makes the deformed clip: (clip, amount, file to write, generator) -> where the stretch lies in it.
    """

    title: str
    unit: str
    amounts: tuple[float, ...]
    bounds: tuple[float, float]
    write: Callable[[Clip, float, Path, np.random.Generator], Clip]


KINDS: dict[Content, dict[str, Kind]] = {
    "audio": {
        "gain": Kind("louder or softer", "dB", (-10, 10, -20, 20), (-200, 200), audio.gain),
        "noise": Kind("white noise, this far below the song", "dB", (30, 20, 10, 0), (-100, 100), audio.noise),
        "mp3": Kind("MP3 at a constant rate", "kbit/s", (128, 64, 32), audio.MP3_KBPS, audio.mp3),
        "ogg": Kind("Ogg Vorbis of this quality", "q", (5, 2, 0), (0, 10), audio.ogg),
        "low-pass": Kind("nothing above", "Hz", (8000, 4000, 2000), (20, 1e6), audio.low_pass),
        "stretch": Kind("so many times as fast", "x", (0.95, 1.05, 0.8, 1.25), (0.1, 10), audio.stretch),
        "pitch": Kind("higher or lower", "semitones", (-1, 1, -4, 4), (-48, 48), audio.pitch),
        "cut": Kind("a stretch of this share alone", "x", (0.5, 0.25, 0.1), (0.001, 1), audio.cut),
        "reverb": Kind("a room that rings so long", "s", (0.3, 1, 3), (0.01, 30), audio.reverb),
    },
    "midi": {
        "transpose": Kind("higher or lower", "semitones", (-1, 1, -6, 6), (-127, 127), midi.transpose),
        "tempo": Kind("so many times as fast", "x", (0.9, 1.1, 0.67, 1.5), (0.1, 10), midi.tempo),
        "drop-tracks": Kind("without this share of the tracks", "x", (0.25, 0.5), (0, 0.99), midi.drop_tracks),
        "velocity": Kind("velocities off by this deviation", "steps", (8, 16, 32), (0, 127), midi.velocity),
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deformation:
    """A kind of deformation, an amount of it, and what the songs are."""

    content: Content
    kind: str
    amount: float

    @property
    def about(self) -> Kind:
        return KINDS[self.content][self.kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deformed:
    """What a backbone reads, with every clip deformed first. What is random hangs on the song's file alone."""

    REVISION: ClassVar[int] = 1

    input: Any
    deformation: Deformation

    @property
    def KIND(self) -> Content:  # noqa: N802 - as inputs call it
        kind: Content = self.input.KIND
        return kind

    def load(self, clip: Clip) -> np.ndarray[Any, Any]:
        """As `Input.load`; ClipError, too, where the clip cannot be deformed."""
        seed = [ord(letter) for letter in f"{clip.path.name} {clip.start_s} {self.deformation.kind}"]
        rng = np.random.default_rng(seed)
        with tempfile.TemporaryDirectory(prefix="encore-") as folder:
            about = self.deformation.about
            deformed = about.write(clip, self.deformation.amount, Path(folder) / "clip", rng)
            windows: np.ndarray[Any, Any] = self.input.load(deformed)
        return windows


def deformations(reader: Input, names: list[str] | None = None) -> list[Deformation]:
    """All deformations of what a backbone reads, or those of some kinds: ``noise``, or ``noise=10`` for one amount.

    Raises
    ------
    RequestError
        for a kind that there is not, an amount that is no number, or features, which no song is made from.
    """
    kinds = KINDS.get(reader.KIND)
    if kinds is None:
        raise RequestError("songs are deformed, and this collection holds ready-made features")
    result = []
    for name in names if names is not None else kinds:
        kind, sign, amount = name.partition("=")
        if kind not in kinds:
            raise unknown("deformation", kind, kinds)
        amounts = kinds[kind].amounts if not sign else (_amount(kinds[kind], name, amount),)
        result += [Deformation(content=reader.KIND, kind=kind, amount=float(each)) for each in amounts]
    audio.check_codecs({each.kind for each in result if each.content == "audio"})
    return result


def _amount(kind: Kind, name: str, text: str) -> float:
    low, high = kind.bounds
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not low <= value <= high:
        raise RequestError(f"{name}: its amount is a number from {low:g} to {high:g} {kind.unit}, not {text!r}")
    return value
