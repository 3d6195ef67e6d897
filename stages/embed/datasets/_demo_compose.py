"""From a recipe to notes: four-bar phrases over a chord progression, with comping, bass, melody, pad and drums."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.embed.datasets._demo_styles import BASSES, CHORDS, COMPS, DRUMS, LEADS, SCALES, Recipe

TICKS_PER_QUARTER = 480
_STEPS = 16  # sixteenths a bar
_PHRASE = 4  # bars
_STRINGS = 48  # General MIDI, from 0
_REGISTERS = {"bass": 28, "comp": 52, "pad": 55}  # the lowest pitch of an octave that chords fold into

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """One instrument's notes, float [notes, 4]: start and length in quarter notes, pitch, velocity."""

    name: str
    program: int
    is_drum: bool
    notes: Array


def compose(recipe: Recipe, length_s: float, rng: np.random.Generator) -> list[Part]:
    """The parts of a song that is at least ``length_s`` seconds long, the last bar filled."""
    bars = int(np.ceil(length_s * recipe.bpm / 240))
    return _Song(recipe, bars, rng).parts()


def midi_bytes(parts: list[Part], bpm: int) -> bytes:
    """The song as a Standard MIDI File."""
    import pretty_midi

    song = pretty_midi.PrettyMIDI(resolution=TICKS_PER_QUARTER, initial_tempo=bpm)
    for part in parts:
        instrument = pretty_midi.Instrument(part.program, part.is_drum, part.name)
        start, length = np.rint(part.notes[:, :2].T * TICKS_PER_QUARTER)
        seconds = np.stack([start, start + np.maximum(length, 1)]) * (60 / bpm / TICKS_PER_QUARTER)
        pitch, velocity = part.notes[:, 2:].T.astype(int)
        columns = (velocity.tolist(), pitch.tolist(), *seconds.tolist())
        instrument.notes = [pretty_midi.Note(*note) for note in zip(*columns, strict=True)]
        song.instruments.append(instrument)
    data = io.BytesIO()
    song.write(data)
    return data.getvalue()


class _Song:
    def __init__(self, recipe: Recipe, bars: int, rng: np.random.Generator) -> None:
        self.recipe = recipe
        self.bars = bars
        self.rng = rng
        self.scale = SCALES[recipe.scale]
        # The second theme starts the progression in its middle; a song's form is a row of the two themes.
        self.themes = (recipe.progression, recipe.progression[2:] + recipe.progression[:2])
        forms = ("AABA", "ABAB", "AAAB", "AABB")
        self.form = forms[int(rng.integers(len(forms)))]
        self.has_intro = bool(rng.random() < 0.4)

    def parts(self) -> list[Part]:
        recipe = self.recipe
        band = [
            Part("comp", recipe.comp_program, False, self.chords(COMPS[recipe.comp], "comp")),
            Part("bass", recipe.bass_program, False, self.bass()),
            Part("lead", recipe.lead_program, False, self.lead()),
            Part("drums", 0, True, self.drums()),
        ]
        pad = recipe.pad_program
        if pad < 0 and recipe.comp == "none":  # no bar of any song is silent
            pad = _STRINGS
        if pad >= 0:
            band.append(Part("pad", pad, False, self.chords(COMPS["whole"], "pad")))
        return [part for part in band if len(part.notes)]

    def theme(self, bar: int) -> int:
        return int(self.form[bar // _PHRASE % len(self.form)] == "B")

    def degree(self, bar: int) -> int:
        """The scale degree, from 0, of this bar's chord."""
        return int(self.themes[self.theme(bar)][bar % _PHRASE]) - 1

    def pitch(self, degree: int, lowest: int) -> int:
        """A scale degree (from 0, 7 an octave up) as a pitch within the octave above ``lowest``."""
        return lowest + (self.recipe.tonic + self.scale[degree % 7] - lowest) % 12

    def when(self, bar: int, step: int) -> float:
        """The start of a sixteenth in quarter notes, offbeat eighths late by the swing."""
        return bar * 4 + (step + (self.recipe.swing if step % 4 == 2 else 0.0)) / 4

    def velocity(self, softer: int = 0, accent: bool = False) -> int:
        return int(np.clip(self.recipe.loudness - softer + 12 * accent + self.rng.integers(-6, 7), 20, 120))

    def chords(self, pattern: str, role: str) -> Array:
        """Chords, or their tones one by one, in the pattern's rhythm."""
        tones = CHORDS[self.recipe.chord]
        lowest = _REGISTERS[role] - (14 if self.recipe.chord == "power" and role == "comp" else 0)
        notes = []
        for bar in range(self.bars):
            root = self.degree(bar)
            if self.recipe.chord == "power":  # root, fifth, octave in this order
                base = self.pitch(root, lowest)
                pitches = sorted({base, base + 7, base + 12})
            else:
                pitches = sorted({self.pitch(root + tone, lowest) for tone in tones})
            rising = [*pitches, pitches[0] + 12]
            for count, (step, length, symbol) in enumerate(_hits(pattern)):
                notes_of_chord = pitches if symbol == "x" else [rising[count % len(rising)]]
                at, velocity = self.when(bar, step), self.velocity(10 if role == "comp" else 25, step == 0)
                notes += [(at, length / 4, pitch, velocity) for pitch in notes_of_chord]
        return _rows(notes)

    def bass(self) -> Array:
        notes = []
        tones = {"r": 0, "t": 2, "f": 4, "u": 7}
        for bar in range(self.bars):
            root = self.degree(bar)
            for step, length, symbol in _hits(BASSES[self.recipe.bass]):
                pitch = self.pitch(root + tones[symbol], _REGISTERS["bass"]) + 12 * (symbol == "u")
                notes.append((self.when(bar, step), length / 4 * 0.95, pitch, self.velocity(0, step == 0)))
        return _rows(notes)

    def lead(self) -> Array:
        """A two-bar motif for each theme, moved along with the chords, its repeats slightly varied."""
        rng, chance = self.rng, LEADS[self.recipe.lead]
        motifs = []
        for _ in self.themes:
            strong = np.tile([0.25, -0.1, 0.05, -0.1], 4)  # of the eighths in two bars
            steps = np.flatnonzero(rng.random(16) < chance + strong * (chance > 0)) * 2
            motifs.append((steps, np.cumsum(rng.integers(-2, 3, size=len(steps)))))
        notes = []
        for bar in range(_PHRASE if self.has_intro else 0, self.bars):
            steps, contour = motifs[self.theme(bar)]
            ends = np.append(steps, 2 * _STEPS)[1:]
            for step, until, move in zip(steps, ends, contour, strict=True):
                if step // _STEPS != bar % 2 or rng.random() < 0.08:
                    continue
                degree = self.degree(bar) + int(move) + int(rng.random() < 0.1)
                pitch = self.pitch(degree, self.recipe.lead_lowest) + 12 * (degree >= 7) - 12 * (degree < -2)
                length = min(int(until - step), 6) / 4 * 0.9
                at = self.when(bar, int(step) % _STEPS)
                notes.append((at, length, pitch, self.velocity(-5, step % 8 == 0)))
        return _rows(notes)

    def drums(self) -> Array:
        kit = DRUMS[self.recipe.drums]
        notes = []
        for bar in range(_PHRASE // 2 if self.has_intro else 0, self.bars):
            for pitch, pattern in kit:
                if pitch == 49 and bar % _PHRASE:  # the crash opens a phrase
                    continue
                for step, _, symbol in _hits(pattern):
                    notes.append((self.when(bar, step), 0.2, pitch, self.velocity(25 * (symbol == "o"))))
            if kit and bar % _PHRASE == _PHRASE - 1 and self.rng.random() < 0.5:  # a fill leads on
                fill = 38 if self.rng.random() < 0.5 else 45
                notes += [(self.when(bar, step) + 0.02, 0.2, fill, self.velocity(10)) for step in (13, 15)]
        return _rows(notes)


def _hits(pattern: str) -> list[tuple[int, int, str]]:
    """The (step, length in steps, symbol) of each hit of a pattern."""
    hits = []
    for step, symbol in enumerate(pattern):
        if symbol not in ".-":
            rest = len(pattern) - step - 1 - len(pattern[step + 1 :].lstrip("-"))
            hits.append((step, rest + 1, symbol))
    return hits


def _rows(notes: list[tuple[float, float, int, int]]) -> Array:
    """Notes by start; one that still sounds when its pitch is struck again ends there."""
    if not notes:
        return np.empty((0, 4))
    rows = np.asarray(notes, dtype=np.float64)
    rows = rows[np.lexsort((rows[:, 0], rows[:, 2]))]
    same = rows[1:, 2] == rows[:-1, 2]
    gap = np.where(same, rows[1:, 0] - rows[:-1, 0], np.inf)
    rows[:-1, 1] = np.minimum(rows[:-1, 1], gap)
    rows = rows[rows[:, 1] > 0]
    return rows[np.argsort(rows[:, 0], kind="stable")]
