"""Who plays what in the demo collection: invented artists, their genres, albums, songs and official split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.embed.datasets._demo_styles import ASPECTS, GENRES, STYLES, Choice, Recipe

# Shares of a recipe that come from the artist's habits: in a song (the rest comes from the styles of its labels,
# which overlap), and in the habits of one album. They make an artist's songs alike beyond their labels.
_HABITS_IN_SONG = 0.2
_HABITS_ON_ALBUM = 0.7

_UNKNOWN = 0.025  # of the songs have no known artist
_FEWEST, _MOST = 2, 20  # songs of an artist
# How an artist's songs are labelled, as the weights of a Dirichlet distribution over: the main genre alone, both
# genres, the second alone, any other.
_LABELLINGS = (5.0, 1.8, 0.6, 0.1)
_SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}

# fmt: off
_SYLLABLES = (
    "ba", "do", "fe", "gri", "ha", "ju", "ka", "lo", "me", "nu", "or", "pi", "qua", "ri", "so", "ta", "ul", "ve", "wen",
    "xi", "yo", "zu",
)
_MOODS = (
    "Quiet", "Amber", "Restless", "Paper", "Northern", "Hollow", "Electric", "Golden", "Sleeping", "Broken", "Distant",
    "Silver",
)
_THINGS = (
    "Harbour", "Letters", "Engine", "Garden", "Signal", "Winter", "Mirrors", "Orchard", "Parade", "Static", "Lantern",
    "Tide",
)
# fmt: on

Generator = np.random.Generator


@dataclass(frozen=True, slots=True, kw_only=True)
class Song:
    """One song to be made; ``seed`` decides its notes. Artist and album are None where the artist is not known."""

    song_id: str
    artist_id: str | None
    artist_name: str | None
    album_id: str | None
    title: str
    labels: tuple[str, ...]
    split: str
    recipe: Recipe
    seed: tuple[int, int]


def cast(seed: int, songs: int) -> list[Song]:
    """The songs of the collection, a pure function of its arguments; no artist is on two sides of the split."""
    rng = np.random.default_rng(seed)
    nobodies = round(_UNKNOWN * songs)
    songs_left = {split: share * songs for split, share in _SHARES.items()}
    names: set[str] = set()
    result: list[Song] = []
    while len(result) < songs:
        named_songs = songs - nobodies - len(result)
        count = min(_songs_of_an_artist(rng), named_songs) if named_songs > 0 else 1
        split = max(songs_left, key=lambda name: songs_left[name])
        new = _songs(rng, _Artist(rng, names), named_songs > 0, count, split, (seed, len(result)))
        songs_left[split] -= len(new)
        result += new
    return result


class _Artist:
    """A main and a second genre, how often each labels a song, and habits: a recipe that songs borrow from."""

    def __init__(self, rng: Generator, names: set[str]) -> None:
        """The next artist; its name goes into ``names``, which holds those before it."""
        self.artist_id = f"artist-{len(names):03d}"
        self.main = GENRES[len(names) % len(GENRES)]
        self.name = _name(rng)
        while self.name in names:
            self.name = _name(rng)
        names.add(self.name)
        self.second = str(rng.choice([genre for genre in GENRES if genre != self.main]))
        self.labellings = rng.dirichlet(_LABELLINGS)
        self.habits = _draw(rng, (self.main, self.main, self.second))

    def labels(self, rng: Generator) -> tuple[str, ...]:
        kind = int(rng.choice(len(_LABELLINGS), p=self.labellings))
        any_genre = str(rng.choice(GENRES))
        return ((self.main,), tuple(sorted((self.main, self.second))), (self.second,), (any_genre,))[kind]


def _songs(rng: Generator, artist: _Artist, known: bool, count: int, split: str, seed: tuple[int, int]) -> list[Song]:
    """``count`` songs of one artist, spread over albums; ``seed`` is the first song's."""
    album, room, habits = 0, 0, artist.habits
    result = []
    for number in range(seed[1], seed[1] + count):
        if room == 0:
            album, room = album + 1, int(rng.integers(2, 7))
            habits = _draw(rng, (artist.main, artist.second), artist.habits, _HABITS_ON_ALBUM)
        room -= 1
        labels = artist.labels(rng)
        result.append(
            Song(
                # Other songs than those of another seed: a backbone that was trained on the one never heard the other.
                song_id=f"song-{number:04d}" if seed[0] == 0 else f"song-{seed[0]}-{number:04d}",
                artist_id=artist.artist_id if known else None,
                artist_name=artist.name if known else None,
                album_id=f"{artist.artist_id}-album-{album}" if known else None,
                title=f"{rng.choice(_MOODS)} {rng.choice(_THINGS)}",
                labels=labels,
                split=split,
                recipe=Recipe(**_draw(rng, labels, habits, _HABITS_IN_SONG)),
                seed=(seed[0], number),
            )
        )
    return result


def _draw(
    rng: Generator, genres: Sequence[str], habits: Mapping[str, Choice] | None = None, from_habits: float = 0.0
) -> dict[str, Any]:
    """One choice for each aspect of a recipe, each on its own from the habits or from the style of one genre."""
    traits: dict[str, Any] = {}
    for aspect in ASPECTS:
        options = STYLES[str(rng.choice(genres))][aspect]
        choice = options[int(rng.integers(len(options)))]
        traits[aspect] = habits[aspect] if habits is not None and rng.random() < from_habits else choice
    return traits


def _songs_of_an_artist(rng: Generator) -> int:
    """Long-tailed, about five on average."""
    return min(_MOST, _FEWEST + int(1.6 * rng.pareto(1.2)))


def _name(rng: Generator) -> str:
    first, last = ("".join(rng.choice(_SYLLABLES, size=int(size))) for size in rng.integers(2, 4, size=2))
    return f"{first.title()} {last.title()}"
