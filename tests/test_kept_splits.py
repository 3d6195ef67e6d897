"""Splits that a store keeps: what happens to a song's part when the collection grows or is corrected."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stages.head.audit import audit
from stages.head.open import from_catalog
from stages.splits.kept import KeptSplits
from stages.splits.regimes import PARTS
from store.errors import FormatError, RequestError
from store.layout import Store
from store.merge import merge
from store.schema import Catalog, CatalogInfo
from store.splits import keep_splits

INFO = CatalogInfo(name="own", title="Own", version="1", licence="CC0", citation="-", backbone="fcn")
REGIMES = ("random", "album", "artist", "random-5fold", "artist-4fold")


@dataclass
class Song:
    artist: str | None
    album: str | None
    recording: str | None
    labels: list[str]


def catalog(songs: dict[str, Song]) -> Catalog:
    """Two clips a song."""
    clips = [(name, song, clip) for name, song in songs.items() for clip in range(2)]
    columns: dict[str, Any] = {
        "clip_id": [f"{name}@{clip}" for name, _, clip in clips],
        "song_id": [name for name, _, _ in clips],
        "path": [name for name, _, _ in clips],
        "source": [name for name, _, _ in clips],
        "artist_id": [song.artist for _, song, _ in clips],
        "album_id": [song.album for _, song, _ in clips],
        "recording_id": [song.recording for _, song, _ in clips],
        "labels": [song.labels for _, song, _ in clips],
    }
    return Catalog.build(INFO, columns)


def draw_songs(rng: np.random.Generator, begin: int, count: int) -> dict[str, Song]:
    songs = {}
    for number in range(begin, begin + count):
        artist = int(60 * rng.random() ** 2)
        songs[f"s{number:05d}"] = Song(
            f"a{artist}" if rng.random() < 0.95 else None,
            f"b{artist}.{rng.integers(4)}" if rng.random() < 0.9 else None,
            f"r{rng.integers(1000)}" if rng.random() < 0.1 else None,
            [f"l{(artist + rng.integers(2)) % 5}"],
        )
    return songs


def by_song(songs: Catalog, part: np.ndarray) -> dict[str, int]:
    live = ~songs.retired()
    parts: dict[str, set[int]] = {}
    for song, number in zip(np.array(songs.strings("song_id"))[live], part[live].tolist(), strict=True):
        parts.setdefault(song, set()).add(number)
    assert all(len(numbers) == 1 for numbers in parts.values()), "a song stands in two parts"
    return {song: numbers.pop() for song, numbers in parts.items()}


def check_nothing_straddles(songs: dict[str, Song], part: dict[str, int], regime: str) -> None:
    kinds = {"random": ["recording"], "album": ["recording", "album"], "artist": ["recording", "artist"]}
    for kind in kinds[regime.split("-")[0]]:
        sides: dict[str, set[int]] = {}
        for name, song in songs.items():
            if getattr(song, kind) is not None:
                sides.setdefault(getattr(song, kind), set()).add(part[name])
        assert all(len(numbers) == 1 for numbers in sides.values()), kind


@settings(max_examples=12)
@given(st.integers(0, 10_000), st.lists(st.tuples(st.integers(0, 120), st.integers(0, 6)), min_size=1, max_size=3))
@example(813, [(0, 0)])
def test_songs_keep_their_part_and_nothing_straddles(seed: int, steps: list[tuple[int, int]]) -> None:
    """Through growth, corrections of artists and recordings, and songs that go and come back."""
    rng = np.random.default_rng(seed)
    store = Store("memory://division")
    store.files.remove("own")
    songs = draw_songs(rng, 0, 200)
    stored, _ = merge(None, catalog(songs))
    for regime in REGIMES:
        fresh, splits = KeptSplits(stored), KeptSplits(stored, store)
        for one, other in zip(fresh.parts(regime, 0), splits.parts(regime, 0), strict=True):
            np.testing.assert_array_equal(one, other)
    for grown, corrected in steps:
        before = {regime: by_song(stored, KeptSplits(stored, store).parts(regime, 0)[0]) for regime in REGIMES}
        old = songs
        songs = {name: Song(**vars(song)) for name, song in songs.items() if rng.random() < 0.97}
        for name in rng.permutation(sorted(songs))[:corrected].tolist():
            songs[name].artist, songs[name].recording = f"a{rng.integers(60)}", f"r{rng.integers(1000)}"
        new = draw_songs(rng, 1_000 + len(old) + int(rng.integers(1_000_000)), grown)
        for song in new.values():  # a new song can also put two others together, as the version of both
            song.recording = song.recording if corrected else None
        songs |= new
        stored, _ = merge(stored, catalog(songs))
        for regime in REGIMES:
            parts = KeptSplits(stored, store).parts(regime, 0)
            part = by_song(stored, parts[0])
            check_nothing_straddles(songs, part, regime)
            again = KeptSplits(stored, store).parts(regime, 0)
            np.testing.assert_array_equal(np.stack(parts), np.stack(again))
            stayed = set(part) & set(before[regime])
            moved = {song for song in stayed if part[song] != before[regime][song]}
            if not corrected:
                assert not moved
            if "fold" not in regime:  # what may have been trained on never becomes a test song
                assert all(part[song] < before[regime][song] for song in moved)


@pytest.mark.parametrize(("regime", "step"), [("random", 1), ("artist", 7), ("random", 250), ("artist", 250)])
def test_shares_hold_while_a_collection_grows(regime: str, step: int) -> None:
    rng = np.random.default_rng(3)
    store = Store("memory://growth")
    store.files.remove("own")
    every = draw_songs(rng, 0, 300)
    for song in every.values():
        song.recording = None
    names = list(every)
    for end in range(50, 301, step):
        collection = catalog({name: every[name] for name in names[:end]})
        (part,) = KeptSplits(collection, store).parts(regime, 0)
    share = np.bincount(part[::2], minlength=3) / end
    assert np.abs(share - [0.8, 0.1, 0.1]).max() < (0.02 if regime == "random" else 0.06)


def test_a_correction_that_joins_two_parts_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path)
    songs = {f"s{i:03d}": Song(f"a{i % 50}", None, None, ["rock"]) for i in range(200)}
    collection = catalog(songs)
    (part,) = KeptSplits(collection, store).parts("artist", 0)
    of_song = by_song(collection, part)
    one = next(name for name in songs if of_song[name] == 0)
    other = next(name for name in songs if of_song[name] == 2)
    capsys.readouterr()
    with_other = sum(song.artist == songs[other].artist for song in songs.values())
    songs[one].artist = songs[other].artist
    (again,) = KeptSplits(catalog(songs), store).parts("artist", 0)
    assert f"{with_other} songs of the split artist-0 now in another part" in capsys.readouterr().err
    assert by_song(catalog(songs), again)[other] == 0
    KeptSplits(catalog(songs), store).parts("artist", 0)
    assert capsys.readouterr().err == ""


def test_what_only_looks_keeps_nothing(tmp_path: Path) -> None:
    songs = {f"s{i:03d}": Song(f"a{i % 50}", None, None, ["rock"]) for i in range(200)}
    KeptSplits(catalog(songs), Store(tmp_path), keeps=False).parts("random", 0)
    assert not list(tmp_path.iterdir())
    outside = {"random-0": np.full(200, 3, dtype=np.int8)}
    keep_splits(Store(tmp_path), "own", KeptSplits(catalog(songs))._songs, outside, None, revision=2)
    with pytest.raises(FormatError, match="random-0 is kept with parts that there are none of"):
        KeptSplits(catalog(songs), Store(tmp_path)).parts("random", 0)


def test_embedding_settles_what_is_possible(tmp_path: Path) -> None:
    songs = {f"s{i:03d}": Song(f"a{i % 50}", None, None, ["rock"]) for i in range(200)}
    KeptSplits(catalog(songs), Store(tmp_path)).settle()
    table = Store(tmp_path).read_table("own/splits.parquet")
    assert table.column_names == ["song_id", "random-0", "artist-0"]
    with pytest.raises(RequestError, match="known album"):
        KeptSplits(catalog(songs), Store(tmp_path)).parts("album", 0)


def test_a_split_dealt_by_an_earlier_rule_stays_until_it_is_dealt_anew(tmp_path: Path) -> None:
    """Also where the present rule would keep songs together that stand apart, as those with a guest."""
    store = Store(tmp_path)
    songs = {f"s{i:03d}": Song(f"a{i % 50}", None, None, ["rock"]) for i in range(200)}
    stored = catalog(songs)
    (fresh,) = KeptSplits(stored).parts("artist", 0)
    by_seed_one = KeptSplits(stored).parts("artist", 1)[0]
    of_song = by_song(stored, by_seed_one)
    older = np.array([of_song[name] for name in sorted(songs)], dtype=np.int8)
    keep_splits(store, "own", pa.array(sorted(songs)), {"artist-0": older}, None, revision=1)
    with_guests = with_others(stored, {"s000": ["a1"]})
    splits = KeptSplits(with_guests, store)
    np.testing.assert_array_equal(splits.parts("artist", 0)[0], by_seed_one)
    assert splits.dealing("artist", 0).revision == 1
    dealings, impossible = splits.redeal()
    assert (list(dealings), impossible) == (["artist-0"], [])
    (again,) = KeptSplits(with_guests, store).parts("artist", 0)
    assert not np.array_equal(again, by_seed_one)
    of_song = by_song(with_guests, again)
    assert len({of_song[name] for name, song in songs.items() if song.artist in ("a0", "a1")}) == 1
    assert KeptSplits(stored, store).redeal()[0]["artist-0"].revision == 2
    np.testing.assert_array_equal(KeptSplits(stored, store).parts("artist", 0)[0], fresh)


def test_a_run_knows_its_split_by_a_mark_that_growth_leaves(tmp_path: Path) -> None:
    store = Store(tmp_path)
    songs = {f"s{i:03d}": Song(f"a{i % 50}", None, None, ["rock"]) for i in range(200)}
    small, large = catalog(dict(list(songs.items())[:150])), catalog(songs)
    marks = []
    for stored in (small, large, large):
        splits = KeptSplits(stored, store)
        assert splits.dealing("random", 0) is None
        splits.parts("random", 0)
        marks.append(splits.dealing("random", 0))
    assert marks[0] == marks[1] == marks[2] is not None
    (after, _) = KeptSplits(large, store).redeal()
    assert after["random-0"] != marks[0]
    assert KeptSplits(large, store).redeal() == (after, []), "the same songs are dealt the same"


def test_what_can_no_longer_be_split_is_kept_no_more(tmp_path: Path) -> None:
    store = Store(tmp_path)
    songs = {f"s{i:03d}": Song(f"a{i % 50}", None, None, ["rock"]) for i in range(200)}
    with pytest.raises(RequestError, match="no split of own is kept yet"):
        KeptSplits(catalog(songs), store).redeal()
    KeptSplits(catalog(songs), store).settle()
    for song in songs.values():
        song.artist = None
    dealings, impossible = KeptSplits(catalog(songs), store).redeal()
    assert (list(dealings), impossible) == (["random-0"], ["artist-0"])
    assert store.read_table("own/splits.parquet").column_names == ["song_id", "random-0"]


@pytest.mark.parametrize("regime", ["random", "album", "artist", "official"])
def test_unlabelled_songs_are_trained_on_where_no_test_song_is_akin(regime: str) -> None:
    songs = {f"s{i:03d}": Song(f"a{i % 50}", f"b{i % 100}", None, ["rock"]) for i in range(300)}
    free = {f"u{i:03d}": Song(f"a{i}", f"b{i}" if i % 2 else None, None, []) for i in range(80)}
    songs["s000"].recording = free["u079"].recording = "r"
    collection = catalog(songs | free)
    names = collection.strings("song_id")
    side = [PARTS[int(name[1:]) % 3] if name < "s250" or name[0] == "u" else None for name in names]
    index = collection.table.schema.get_field_index("split_official")
    collection = Catalog(INFO, collection.table.set_column(index, collection.table.schema.field(index), [side]))
    division = KeptSplits(collection)
    (part,) = division.parts(regime, 0)
    data = from_catalog(collection)
    assert {str(name)[0] for name in np.array(collection.strings("song_id"))[data.rows]} == {"s"}
    labelled, every = by_song(collection, part), by_song(collection, division.with_unlabelled(part, regime))
    assert all(labelled[name] == -1 for name in free)
    assert all(every[name] == labelled[name] for name in songs if labelled[name] >= 0)
    for name, song in free.items():
        akin = {
            labelled[other]
            for other, its in songs.items()
            if (its.recording == song.recording is not None)
            or (regime == "album" and its.album == song.album is not None)
            or (regime in ("artist", "official") and its.artist == song.artist)
        }
        own = int(name[1:]) % 3 if regime == "official" else 0
        assert every[name] == max(akin | {own}), name


def test_where_nothing_is_labelled_every_song_is_divided() -> None:
    collection = catalog({f"s{i:03d}": Song(f"a{i % 50}", None, None, []) for i in range(200)})
    (part,) = KeptSplits(collection).parts("random", 0)
    assert np.bincount(part[::2]).tolist() == [160, 20, 20]


def with_others(collection: Catalog, others: dict[str, list[str]]) -> Catalog:
    """The catalog with artists who are not named first, by song."""
    index = collection.table.schema.get_field_index("other_artist_ids")
    field = collection.table.schema.field(index)
    column = pa.array([others.get(str(name)) for name in collection.strings("song_id")], type=field.type)
    return Catalog(collection.info, collection.table.set_column(index, field, column))


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(0, 40))
def test_songs_that_share_any_artist_stand_together(seed: int, featured: int) -> None:
    """Unless the first-named artist alone counts; and a catalog without others is dealt as it was."""
    rng = np.random.default_rng(seed)
    songs = draw_songs(rng, 0, 200)
    alone = catalog(songs)
    others = {name: [f"a{rng.integers(90)}"] for name in rng.permutation(sorted(songs))[:featured].tolist()}
    any_artist = with_others(alone, others)
    first = Catalog(replace(INFO, first_artist=True), any_artist.table)
    for regime in ("artist", "artist-4fold"):
        for one, other in zip(KeptSplits(alone).parts(regime, 0), KeptSplits(first).parts(regime, 0), strict=True):
            np.testing.assert_array_equal(one, other)
    part = KeptSplits(any_artist).parts("artist", 0)[0]
    sides: dict[str, set[int]] = {}
    for name, number in by_song(any_artist, part).items():
        for artist in (songs[name].artist, *others.get(name, ())):
            if artist is not None:
                sides.setdefault(artist, set()).add(number)
    assert all(len(numbers) == 1 for numbers in sides.values())
    shared = from_catalog(any_artist).overlap(part[from_catalog(any_artist).rows])
    assert shared["shared_artists"] == shared.get("shared_any_artist", 0) == 0
    assert ("shared_any_artist" in shared) == bool(featured)
    if featured:
        both = from_catalog(first)
        shared = both.overlap(both.split("artist", 0))
        assert shared["shared_artists"] == 0
        crossing = {artist for artist, where in _sides(first, songs, others).items() if {0, 2} <= where}
        assert shared["shared_any_artist"] == len(crossing)


def _sides(collection: Catalog, songs: dict[str, Song], others: dict[str, list[str]]) -> dict[str, set[int]]:
    """The parts of the regime artist that each artist's songs stand in, however the artist is named."""
    sides: dict[str, set[int]] = {}
    for name, number in by_song(collection, KeptSplits(collection).parts("artist", 0)[0]).items():
        for artist in (songs[name].artist, *others.get(name, ())):
            if artist is not None:
                sides.setdefault(artist, set()).add(number)
    return sides


def test_unlabelled_songs_of_a_featured_test_artist_are_not_trained_on() -> None:
    songs = {f"s{i:03d}": Song(f"a{i % 50}", None, None, ["rock"]) for i in range(200)}
    free = {f"u{i:03d}": Song(None, None, None, []) for i in range(50)}
    collection = catalog(songs | free)
    collection = with_others(collection, {name: [f"a{int(name[1:])}"] for name in free})
    division = KeptSplits(collection)
    (part,) = division.parts("artist", 0)
    every = by_song(collection, division.with_unlabelled(part, "artist"))
    assert all(every[f"u{i:03d}"] == every[f"s{i:03d}"] for i in range(50))
    assert len({every[name] for name in free}) == 3


@pytest.mark.parametrize("joined", [80, 100])
def test_songs_that_artists_join_are_said(joined: int, capsys: pytest.CaptureFixture[str]) -> None:
    """With the option that helps, also where no split is left."""
    songs = {f"s{i:03d}": Song(f"a{i}", None, None, ["rock"]) for i in range(100)}
    stored = with_others(catalog(songs), {name: ["everyone"] for name in songs if name < f"s{joined:03d}"})
    line = f"{joined} of 100 songs are joined by artists that they share"
    if joined < len(songs):
        (part,) = KeptSplits(stored).parts("artist", 0)
        assert len({part for name, part in by_song(stored, part).items() if name < f"s{joined:03d}"}) == 1
    else:
        with pytest.raises(RequestError, match=f"too few groups .* {line}.* --first-artist"):
            KeptSplits(stored).parts("artist", 0)
    assert (line in capsys.readouterr().err) == (joined < len(songs))
    audited = audit(stored)
    remarks = [*audited.regimes["artist"]["remarks"]] if joined < len(songs) else [audited.impossible["artist"]]
    assert any(line in text and "--first-artist" in text for text in remarks)
    assert not any(line in text for text in audited.regimes["random"]["remarks"])
    capsys.readouterr()
    KeptSplits(Catalog(replace(INFO, first_artist=True), stored.table)).parts("artist", 0)
    assert capsys.readouterr().err == ""
