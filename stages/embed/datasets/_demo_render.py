"""From notes to sound: each instrument family a pair of wave tables, drums from noise and falling sines.

A tone is ``(dull + (bright - dull) * exp(-t / fade_s)) * envelope``, both tables sums of harmonics below the
Nyquist frequency, so that it opens bright and mellows as struck and plucked strings do.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from stages.embed.datasets._demo_compose import Part

RATE_HZ = 16_000
_TABLE = 2048  # samples of one period
_VIBRATO = 2 * np.pi * 5.5  # radians a second
_PEAK = 0.5

Wave = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timbre:
    """``slope``: harmonic k has the amplitude ``k ** -slope`` while bright; ``odd`` leaves out the even ones."""

    slope: float
    odd: bool = False
    attack_s: float = 0.005
    decay_s: float = 0.8  # of the level towards ``sustain``
    sustain: float = 0.0
    release_s: float = 0.06
    fade_s: float = 0.3  # of the brightness
    vibrato: float = 0.0  # depth, as a share of the frequency
    gain: float = 1.0


# One for each of General MIDI's sixteen families of eight programs.
_FAMILIES = (
    Timbre(slope=1.3, decay_s=0.9, fade_s=0.25),  # piano
    Timbre(slope=2.2, decay_s=0.5, fade_s=0.1),  # chromatic percussion
    Timbre(slope=1.6, odd=True, sustain=0.9, fade_s=9.0, gain=0.7),  # organ
    Timbre(slope=1.0, decay_s=0.6, fade_s=0.15),  # guitar
    Timbre(slope=1.5, decay_s=0.7, sustain=0.2, fade_s=0.12, gain=1.2),  # bass
    Timbre(slope=1.1, attack_s=0.08, sustain=0.8, release_s=0.15, fade_s=9.0, vibrato=0.004, gain=0.7),  # strings
    Timbre(slope=1.3, attack_s=0.12, sustain=0.8, release_s=0.2, fade_s=9.0, vibrato=0.003, gain=0.6),  # ensemble
    Timbre(slope=0.9, attack_s=0.03, sustain=0.8, fade_s=0.6, gain=0.7),  # brass
    Timbre(slope=1.0, odd=True, attack_s=0.03, sustain=0.8, fade_s=2.0, vibrato=0.003, gain=0.7),  # reed
    Timbre(slope=2.5, attack_s=0.04, sustain=0.9, fade_s=9.0, vibrato=0.005),  # pipe
    Timbre(slope=0.8, odd=True, sustain=0.7, fade_s=0.4, gain=0.5),  # synth lead
    Timbre(slope=1.2, attack_s=0.25, sustain=0.9, release_s=0.4, fade_s=1.5, vibrato=0.002, gain=0.6),  # synth pad
    Timbre(slope=1.5, attack_s=0.2, sustain=0.6, fade_s=1.0, gain=0.6),  # synth effects
    Timbre(slope=0.9, decay_s=0.35, fade_s=0.08),  # plucked folk instruments
    Timbre(slope=2.0, decay_s=0.2, fade_s=0.05),  # percussive
    Timbre(slope=2.0, decay_s=0.4),  # sound effects
)
_DISTORTED = Timbre(slope=0.6, decay_s=2.5, sustain=0.5, fade_s=2.0, gain=0.45)  # programs 29 and 30


def render(parts: list[Part], bpm: int, length_s: float) -> Wave:
    """The parts as sound, float32 [samples] at `RATE_HZ`, its peak at half of full scale; the same each time."""
    total = round(length_s * RATE_HZ)
    mix = np.zeros(total + 2 * RATE_HZ, dtype=np.float32)
    for part in parts:
        timbre = _DISTORTED if part.program in (29, 30) else _FAMILIES[part.program // 8]
        for start, length, pitch, velocity in part.notes:
            first = int(start * 60 / bpm * RATE_HZ)
            if first >= total:
                continue
            sound = _drum(int(pitch)) if part.is_drum else _tone(timbre, int(pitch), int(length * 60 / bpm * RATE_HZ))
            sound = sound[: len(mix) - first]
            mix[first : first + len(sound)] += sound * np.float32((velocity / 127) ** 1.5)
    mix = mix[:total]
    echo = int(0.19 * RATE_HZ)
    mix[echo:] += np.float32(0.12) * mix[:-echo].copy()
    fade = RATE_HZ // 50
    mix[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
    return mix * np.float32(_PEAK / np.abs(mix).max())


@cache
def _tables(timbre: Timbre, pitch: int) -> tuple[Wave, Wave]:
    """One period each of the dull wave and of what the bright one has more, from harmonics below Nyquist."""
    frequency_hz = _frequency_hz(pitch)
    harmonics = np.arange(1, max(2, min(60, int(0.9 * RATE_HZ / 2 / frequency_hz))))
    bright, dull = harmonics**-timbre.slope, harmonics ** -(timbre.slope + 1.2)
    if timbre.odd:
        bright, dull = (np.where(harmonics % 2, amplitudes, 0.1 * amplitudes) for amplitudes in (bright, dull))
    waves = []
    for amplitudes in (dull, bright - dull):
        spectrum = np.zeros(_TABLE // 2 + 1, dtype=np.complex128)
        # Spread phases keep the peak of the sum, and with it the need for headroom, low.
        spectrum[harmonics] = amplitudes * np.exp(1j * harmonics**2) * _TABLE / 2
        waves.append(np.fft.irfft(spectrum).astype(np.float32))
    return waves[0], waves[1]


def _tone(timbre: Timbre, pitch: int, length: int) -> Wave:
    """One note, ``length`` samples long and its release after that."""
    release = int(timbre.release_s * RATE_HZ)
    time_s = _clock()[: min(length + release, len(_clock()))]
    phase = time_s * np.float32(_frequency_hz(pitch) * _TABLE)
    if timbre.vibrato:
        phase += np.float32(timbre.vibrato * _frequency_hz(pitch) * _TABLE / _VIBRATO) * _wobble()[: len(time_s)]
    index = phase.astype(np.int32) & (_TABLE - 1)
    dull, extra = _tables(timbre, pitch)
    brightness, level = _curves(timbre)
    sound: Wave = (dull[index] + extra[index] * brightness[: len(time_s)]) * level[: len(time_s)]
    tail = min(release, len(sound))
    if tail:
        sound[-tail:] *= np.linspace(1, 0, tail, dtype=np.float32)
    return sound


@cache
def _clock() -> Wave:
    return (np.arange(8 * RATE_HZ) / RATE_HZ).astype(np.float32)


@cache
def _wobble() -> Wave:
    wobble: Wave = np.sin(_VIBRATO * _clock()).astype(np.float32)
    return wobble


@cache
def _curves(timbre: Timbre) -> tuple[Wave, Wave]:
    """How brightness and level go on in time after the start of a note."""
    time_s = _clock()
    brightness = np.exp(-time_s / timbre.fade_s)
    level = timbre.sustain + (1 - timbre.sustain) * np.exp(-time_s / timbre.decay_s)
    level = timbre.gain * level * np.minimum(1, time_s / timbre.attack_s)
    return brightness.astype(np.float32), level.astype(np.float32)


@cache
def _drum(pitch: int) -> Wave:
    """One hit of a General MIDI drum."""
    rng = np.random.default_rng(pitch)
    noise = rng.standard_normal(RATE_HZ, dtype=np.float32)
    hiss = np.diff(noise, prepend=np.float32(0))
    time_s = _clock()[:RATE_HZ]

    def dying(seconds: float) -> np.ndarray[Any, Any]:
        level: np.ndarray[Any, Any] = np.exp(-time_s / seconds)
        return level

    def falling(high_hz: float, low_hz: float, seconds: float) -> np.ndarray[Any, Any]:
        cycles = low_hz * time_s + (high_hz - low_hz) * seconds * (1 - dying(seconds))
        tone: np.ndarray[Any, Any] = np.sin(2 * np.pi * cycles)
        return tone

    hit: np.ndarray[Any, Any] = {
        36: 1.6 * falling(160, 48, 0.03) * dying(0.12),
        37: 0.5 * hiss * dying(0.012) + 0.4 * falling(900, 800, 0.01) * dying(0.02),
        38: 0.35 * noise * dying(0.07) + 0.7 * falling(240, 180, 0.02) * dying(0.06),
        39: 0.4 * hiss * dying(0.06),
        42: 0.16 * hiss * dying(0.025),
        45: falling(190, 110, 0.05) * dying(0.15),
        46: 0.16 * hiss * dying(0.15),
        49: 0.2 * hiss * dying(0.35),
        51: 0.12 * hiss * dying(0.18) + 0.06 * falling(3100, 3000, 0.1) * dying(0.2),
        70: 0.12 * hiss * dying(0.03),
    }[pitch]
    return np.asarray(hit[: int(0.8 * RATE_HZ)], dtype=np.float32)


def _frequency_hz(pitch: int) -> float:
    return float(440 * 2 ** ((pitch - 69) / 12))
