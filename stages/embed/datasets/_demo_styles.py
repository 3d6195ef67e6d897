"""How the demo collection's genres sound: for each genre, what a song of it may choose from.

A choice that stands twice is twice as likely. The genres share many choices on purpose: no single one gives a
genre away. Patterns are sixteenths of a 4/4 bar: ``x`` a chord or hit, ``o`` one chord tone or a soft hit, ``-``
holds on, ``.`` rests; bass lines play ``r`` root, ``t`` third, ``f`` fifth, ``u`` the root's octave.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "harmonic": (0, 2, 3, 5, 7, 8, 11),
}

CHORDS = {"triad": (0, 2, 4), "seventh": (0, 2, 4, 6), "power": (0, 4, 7), "open": (0, 3, 4), "ninth": (2, 4, 6, 8)}

COMPS = {
    "none": "................",
    "whole": "x---------------",
    "halves": "x-------x-------",
    "quarters": "x--.x--.x--.x--.",
    "eighths": "x-x-x-x-x-x-x-x-",
    "offbeats": "..x-..x-..x-..x-",
    "charleston": "x--...x-........",
    "strum": "x---x-x-..x-x-x-",
    "stabs": "x.....x.....x...",
    "arpeggio": "o-o-o-o-o-o-o-o-",
    "ripple": "oooooooooooooooo",
    "waltzing": "o---x---x---o---",
}

BASSES = {
    "none": "................",
    "held": "r---------------",
    "halves": "r-------f-------",
    "quarters": "r--.r--.r--.r--.",
    "eighths": "r-r-r-r-r-r-r-r-",
    "walking": "r---t---f---u---",
    "offbeats": "..r-..r-..r-..u-",
    "syncopated": "r--r..r-....f-r-",
    "country": "r---....f---....",
    "long": "r-----r---------",
}

# General MIDI drums: 36 bass drum, 38 snare, 37 side stick, 39 clap, 42 closed and 46 open hi-hat, 51 ride,
# 49 crash, 45 tom, 70 maracas.
DRUMS: dict[str, tuple[tuple[int, str], ...]] = {
    "none": (),
    "sparse": ((36, "x..............."), (70, "....o.......o...")),
    "brushes": ((51, "x...x.o.x...x.o."), (42, "....x.......x..."), (36, "o.......o.......")),
    "shaker": ((70, "x.o.x.o.x.o.x.o."), (36, "x.......x......."), (37, "........x.......")),
    "backbeat": ((36, "x.......x.x....."), (38, "....x.......x..."), (42, "x.o.x.o.x.o.x.o.")),
    "rock": ((36, "x.x.....x.x....."), (38, "....x.......x..."), (46, "x...x...x...x...")),
    "driving": ((36, "x...x...x...x..."), (38, "..x...x...x...x."), (49, "x..............."), (42, "x.x.x.x.x.x.x.x.")),
    "house": ((36, "x...x...x...x..."), (39, "....x.......x..."), (46, "..x...x...x...x.")),
    "broken": ((36, "x.....x...x....."), (38, "....x..o.o..x..o"), (42, "xoxoxoxoxoxoxoxo")),
    "boombap": ((36, "x......x..x....."), (38, "....x.......x..."), (42, "x.x.x.x.x.x.x.x.")),
    "trap": ((36, "x.....x....x...."), (39, "........x......."), (42, "x.xxx.x.x.x.xxxx")),
    "toms": ((45, "x.......x.o....."), (49, "o...............")),
}

# The chance that the melody sounds a note on each eighth of a bar; strong beats are likelier.
LEADS = {"none": 0.0, "sparse": 0.2, "calm": 0.35, "lively": 0.55, "busy": 0.8}


@dataclass(frozen=True, slots=True)
class Recipe:
    """One song's choices.

    ``bpm`` quarter notes a minute, ``loudness`` the usual velocity, ``tonic`` 0..11 from C, ``swing`` how late
    offbeat eighths come, as a share of a sixteenth, ``progression`` scale degrees from 1, one a bar,
    ``lead_lowest`` the lowest pitch of the melody's octave, programs from 0, -1 for no such part.
    """

    bpm: int
    loudness: int
    tonic: int
    swing: float
    scale: str
    progression: str
    chord: str
    comp: str
    comp_program: int
    bass: str
    bass_program: int
    drums: str
    lead: str
    lead_lowest: int
    lead_program: int
    pad_program: int


ASPECTS = tuple(field.name for field in fields(Recipe))
Choice = str | int | float
_KINDS: dict[str, type[Choice]] = dict.fromkeys(ASPECTS, int) | {
    "swing": float,
    **dict.fromkeys(("scale", "progression", "chord", "comp", "bass", "drums", "lead"), str),
}


def _style(**choices: str) -> dict[str, tuple[Choice, ...]]:
    return {aspect: tuple(map(_KINDS[aspect], choices[aspect].split())) for aspect in ASPECTS}


STYLES: dict[str, dict[str, tuple[Choice, ...]]] = {
    "ambient": _style(
        bpm="56 64 72 84",
        loudness="52 58 64",
        tonic="2 7 9 0",
        swing="0",
        scale="lydian major dorian minor",
        progression="1111 1414 1144 1515 6415",
        chord="open ninth seventh triad",
        comp="whole whole ripple arpeggio none",
        comp_program="4 88 46 11 0",
        bass="held held none long",
        bass_program="39 38 43 32",
        drums="none none sparse shaker",
        lead="sparse sparse none calm",
        lead_lowest="55 67 79",
        lead_program="73 11 88 0 53",
        pad_program="89 91 95 48 89",
    ),
    "classical": _style(
        bpm="66 80 96 112 132",
        loudness="64 72 80",
        tonic="0 7 2 5",
        swing="0",
        scale="major harmonic minor major",
        progression="1451 1625 1463 4151 1526",
        chord="triad triad seventh",
        comp="arpeggio waltzing halves ripple quarters whole",
        comp_program="0 0 48 6 46",
        bass="halves held quarters none",
        bass_program="42 43 42 32",
        drums="none none none toms",
        lead="lively busy calm",
        lead_lowest="72 67 72",
        lead_program="40 73 68 71 0",
        pad_program="48 48 -1 52",
    ),
    "electronic": _style(
        bpm="112 120 124 128 136",
        loudness="96 104 100",
        tonic="9 5 0 8",
        swing="0 0 0.2",
        scale="minor minor dorian major",
        progression="6415 1176 1111 1414 1646",
        chord="triad seventh power ninth",
        comp="offbeats ripple stabs arpeggio whole",
        comp_program="81 90 80 50 4",
        bass="offbeats eighths syncopated held",
        bass_program="38 39 38 33",
        drums="house house broken driving trap",
        lead="calm lively sparse none",
        lead_lowest="67 72 79",
        lead_program="80 81 87 11 53",
        pad_program="90 89 -1 50",
    ),
    "folk": _style(
        bpm="84 96 108 120",
        loudness="72 80 84",
        tonic="7 2 9 4",
        swing="0 0.3",
        scale="major major mixolydian dorian",
        progression="1415 1151 1564 1745 1414",
        chord="triad triad open",
        comp="strum arpeggio waltzing quarters",
        comp_program="24 25 25 105 21",
        bass="country none halves held",
        bass_program="32 43 32 33",
        drums="none shaker none brushes backbeat",
        lead="lively calm busy",
        lead_lowest="67 72 62",
        lead_program="40 22 73 75 25",
        pad_program="-1 -1 21 48",
    ),
    "hiphop": _style(
        bpm="76 84 90 96 140",
        loudness="84 92 98",
        tonic="1 6 8 3",
        swing="0.4 0.2 0.5 0",
        scale="minor dorian minor harmonic",
        progression="1111 1161 1414 2511 6415",
        chord="seventh triad ninth",
        comp="stabs charleston whole halves none",
        comp_program="4 0 11 48 5",
        bass="long syncopated held syncopated",
        bass_program="38 33 39 38",
        drums="boombap trap boombap broken backbeat",
        lead="sparse none calm",
        lead_lowest="60 67 55",
        lead_program="80 11 61 73 53",
        pad_program="-1 48 89 52",
    ),
    "jazz": _style(
        bpm="92 112 128 144 168",
        loudness="70 78 86",
        tonic="10 3 5 8",
        swing="0.66 0.6 0.66 0.3",
        scale="major dorian mixolydian minor",
        progression="2511 1625 2516 3625 1414",
        chord="seventh ninth seventh",
        comp="charleston stabs offbeats halves",
        comp_program="0 4 26 0 16",
        bass="walking walking walking halves syncopated",
        bass_program="32 32 35 43",
        drums="brushes brushes backbeat none shaker",
        lead="busy lively lively calm",
        lead_lowest="62 67 60",
        lead_program="65 56 66 11 0",
        pad_program="-1 -1 -1 48",
    ),
    "pop": _style(
        bpm="92 104 112 120 128",
        loudness="84 90 96",
        tonic="0 7 5 2",
        swing="0 0 0.2",
        scale="major major minor mixolydian",
        progression="1564 6415 1645 4156 1415",
        chord="triad triad open seventh",
        comp="strum eighths quarters offbeats arpeggio",
        comp_program="0 25 27 4 81",
        bass="eighths quarters syncopated held",
        bass_program="33 34 38 33",
        drums="backbeat backbeat house boombap rock",
        lead="lively calm busy",
        lead_lowest="67 72 64",
        lead_program="53 80 73 27 65",
        pad_program="48 89 -1 50",
    ),
    "rock": _style(
        bpm="104 116 128 140 160",
        loudness="100 108 96",
        tonic="4 9 2 11",
        swing="0 0 0 0.3",
        scale="minor mixolydian major dorian",
        progression="1454 1741 6415 1674 1564",
        chord="power power triad",
        comp="eighths eighths strum quarters",
        comp_program="29 30 27 16 25",
        bass="eighths eighths quarters syncopated",
        bass_program="33 34 33 32",
        drums="rock driving rock backbeat",
        lead="lively calm busy none",
        lead_lowest="64 60 67",
        lead_program="30 29 27 53 16",
        pad_program="-1 -1 16 48",
    ),
}

GENRES = tuple(STYLES)
