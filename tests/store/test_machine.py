"""Whatever is done to a store in whatever order, it holds what a model in memory holds."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from store.compact import compact
from store.copies import copy
from store.errors import EncoreError
from store.files import Files
from store.layout import Store
from store.merge import update
from store.reader import Representations
from store.schema import Catalog
from store.verify import verify
from store.writer import RepresentationWriter
from tests.store.build import NAME, Array, catalog

ROWS = 4  # a shard
SONGS = [f"song-{i:02d}" for i in range(14)]


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


class StoreMachine(RuleBasedStateMachine):
    """A folder of songs (each a version, an artist and a genre) and a store of it.

    ``songs`` is the folder; ``encoded`` is the folder as it was when a representation was last complete: what a reader
    must find, to the bit.
    """

    marks = Bundle("marks")

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.songs: dict[str, tuple[int, str, str]] = {}
        self.encoded: dict[str, int] | None = None
        self.cataloged: dict[str, tuple[int, str, str]] = {}
        self.damaged = False

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    @property
    def store(self) -> Store:
        """Opened anew, as each command does."""
        return Store(self.root / "store")

    def folder(self) -> Catalog:
        names = sorted(self.songs)
        return catalog(
            names,
            artist_id=[self.songs[name][1] for name in names],
            labels=[[self.songs[name][2]] for name in names],
            source=[f"version {self.songs[name][0]}" for name in names],
        )

    @initialize(names=st.sets(st.sampled_from(SONGS), min_size=1))
    def begin(self, names: set[str]) -> None:
        self.songs = dict.fromkeys(names, (0, "a", "rock"))

    @rule(name=st.sampled_from(SONGS), artist=st.sampled_from("abc"))
    def add(self, name: str, artist: str) -> None:
        self.songs.setdefault(name, (0, artist, "rock"))

    @rule(name=st.sampled_from(SONGS))
    def change(self, name: str) -> None:
        if name in self.songs:
            version, artist, genre = self.songs[name]
            self.songs[name] = (version + 1, artist, genre)

    @rule(name=st.sampled_from(SONGS))
    def retire(self, name: str) -> None:
        if len(self.songs) > 1:
            self.songs.pop(name, None)

    @rule(name=st.sampled_from(SONGS), artist=st.sampled_from("abc"), genre=st.sampled_from(["rock", "jazz"]))
    def correct(self, name: str, artist: str, genre: str) -> None:
        if name in self.songs:
            self.songs[name] = (self.songs[name][0], artist, genre)

    @rule()
    def encode(self) -> None:
        if self.damaged:
            return
        self._encode()
        self.encoded = _numbers(self.songs)

    @rule(writes=st.integers(0, 25))
    def kill(self, writes: int) -> None:
        """The process that encodes dies before one of its writes, or not at all where there are fewer."""
        if self.damaged:
            return
        try:
            with _dying_after(writes):
                self._encode()
        except Killed:
            live = _versions(self.store.read_catalog("few")) if self.store.has_catalog("few") else {}
            assert live in (_numbers(self.cataloged), _numbers(self.songs))
            self.cataloged = dict(self.songs) if live == _numbers(self.songs) else self.cataloged
            return
        self.encoded = _numbers(self.songs)

    def _encode(self) -> None:
        store = self.store
        mark = store.catalog_mark("few")
        songs, _ = update(store, self.folder(), mark, self.folder)
        self.cataloged = dict(self.songs)
        writer = _writer(store, songs)
        values = _vectors(songs)
        for shard in writer.pending:
            writer.commit(shard, values[list(shard.rows)])
        assert writer.finish() is not None

    @precondition(lambda self: self.encoded is not None and not self.damaged)
    @rule(data=st.data())
    def damage(self, data: st.DataObject) -> None:
        """A shard's file is overwritten or lost."""
        chunks = sorted(path for path in (self.root / "store").rglob("c/*/0/0") if path.is_file())
        manifest = self.store.read_manifest("few", NAME)
        assert manifest is not None
        chunk = chunks[data.draw(st.integers(0, len(manifest.shards) - 1))]
        if data.draw(st.booleans()):
            chunk.unlink()
        else:
            chunk.write_bytes(bytes(byte ^ 0x55 for byte in chunk.read_bytes()))
        self.damaged = True

    @precondition(lambda self: self.damaged)
    @rule()
    def repair(self) -> None:
        store = self.store
        songs = store.read_catalog("few")
        wrong = sorted(Representations(store, songs, NAME).damaged())
        assert wrong
        self._forget_gone(wrong, songs)
        writer, values = _writer(store, songs, wrong), _vectors(songs)
        for shard in writer.pending:
            writer.commit(shard, values[list(shard.rows)])
        writer.finish()
        self.damaged = bool(Representations(store, store.read_catalog("few"), NAME).damaged())
        assert not self.damaged

    def _forget_gone(self, shards: list[int], songs: Catalog) -> None:
        """Numbers that are damaged, of songs that are gone since, cannot be had again: the folder has them no more."""
        manifest = self.store.read_manifest("few", NAME)
        assert manifest is not None
        assert self.encoded is not None
        names, sources, retired = songs.strings("clip_id"), songs.strings("source"), songs.retired()
        gone = {
            (names[row], sources[row])
            for index in shards
            for row in range(*manifest.shards[index].rows)
            if retired[row]
        }
        self.encoded = {
            name: version for name, version in self.encoded.items() if (name, f"version {version}") not in gone
        }

    @precondition(lambda self: self.encoded is not None and not self.damaged)
    @rule()
    def compact(self) -> None:
        try:
            compact(self.store, "few")
        except EncoreError as error:
            assert "not up to date" in str(error)  # noqa: PT017 - a machine's rules are no tests
        else:
            rows = self.store.read_catalog("few")
            assert not rows.retired().any()
            # Whatever an update that was killed has retired is gone, and the rest is encoded: it was up to date.
            self.encoded = _numbers(self.cataloged)

    @precondition(lambda self: self.encoded is not None and not self.damaged)
    @rule()
    def copy(self) -> None:
        """From now on the copy is the store."""
        target = Path(tempfile.mkdtemp(dir=self.root)) / "store"
        copy(self.store, Store(target), "few")
        shutil.rmtree(self.root / "store")
        target.rename(self.root / "store")

    @invariant()
    def readers_find_what_was_encoded(self) -> None:
        if self.encoded is None:
            return
        store = self.store
        songs = store.read_catalog("few")
        assert _versions(songs) == _numbers(self.cataloged)
        stored = Representations(store, songs, NAME)
        assert bool(verify(store, "few")[1]) == self.damaged
        if self.damaged:
            return
        values, encoded, expected = stored.read(), stored.encoded(), _vectors(songs)
        np.testing.assert_array_equal(values[encoded], expected[: stored.rows][encoded])
        np.testing.assert_array_equal(stored.read(layer=1), values[:, 1])
        names, sources = songs.strings("clip_id"), songs.strings("source")
        readable = {(names[row], sources[row]) for row in np.flatnonzero(encoded)}
        assert {(name, f"version {version}") for name, version in self.encoded.items()} <= readable


def _numbers(songs: dict[str, tuple[int, str, str]]) -> dict[str, int]:
    """Each song's version."""
    return {name: version for name, (version, _, _) in songs.items()}


def _versions(songs: Catalog) -> dict[str | None, int]:
    """The version of each song that is not retired, by a catalog."""
    rows = zip(songs.strings("clip_id"), songs.strings("source"), songs.retired(), strict=True)
    return {name: int((source or "")[8:]) for name, source, gone in rows if not gone}


def _writer(store: Store, songs: Catalog, damaged: list[int] | None = None) -> RepresentationWriter:
    return RepresentationWriter(
        store, songs, NAME, settings={"backbone": "fcn"}, shape=(2, 3), dtype="float32", damaged=damaged or ()
    )


def _vectors(songs: Catalog) -> Array:
    """Each row's numbers, two layers of three, which its song and the song's version decide."""
    names, sources = songs.strings("clip_id"), songs.strings("source")
    rows = [[int((name or "")[5:]), int((source or "")[8:]), 1] for name, source in zip(names, sources, strict=True)]
    layer = np.array(rows, dtype=np.float32)
    return np.stack([layer, layer + 0.5], 1)


def test_a_shard_that_a_killed_run_wrote_and_did_not_record_is_no_damage() -> None:
    for writes in range(14):
        machine = SmallShards()
        try:
            machine.begin({"song-00", "song-01"})
            machine.encode()
            machine.add("song-09", "a")
            machine.kill(writes)
            machine.readers_find_what_was_encoded()
        finally:
            machine.teardown()


def test_a_run_killed_once_its_manifest_is_written_may_be_compacted() -> None:
    for writes in range(9, 14):
        machine = SmallShards()
        try:
            machine.begin({"song-00"})
            machine.encode()
            machine.change("song-00")
            machine.kill(writes)
            machine.compact()
            machine.readers_find_what_was_encoded()
        finally:
            machine.teardown()


@pytest.mark.parametrize("writes", [0, 4, 9, 12])
def test_a_damaged_shard_of_a_collection_that_has_grown_since_is_repaired(writes: int) -> None:
    machine = SmallShards()
    try:
        machine.begin({"song-00"})
        machine.encode()
        machine.add("song-04", "a")
        machine.kill(writes)
        (chunk,) = (machine.root / "store").rglob("c/0/0/0")
        chunk.unlink()
        machine.damaged = True
        machine.repair()
        machine.readers_find_what_was_encoded()
    finally:
        machine.teardown()


@pytest.mark.parametrize("writes", [2, 3, 7, 9, 12])
def test_a_damaged_shard_with_a_song_that_is_gone_is_repaired_before_the_songs_that_came(writes: int) -> None:
    """The new songs' rows are still to be encoded; those of the shard are readable already."""
    machine = SmallShards()
    try:
        machine.begin({"song-00", "song-01", "song-02", "song-03", "song-04", "song-05"})
        machine.encode()
        for name in ("song-06", "song-07", "song-08"):
            machine.add(name, "a")
        machine.change("song-01")
        machine.change("song-05")
        machine.kill(writes)
        for shard in (0, 1):
            (chunk,) = (machine.root / "store").rglob(f"c/{shard}/0/0")
            chunk.unlink()
            machine.damaged = True
            machine.repair()
            machine.readers_find_what_was_encoded()
        machine.encode()
        machine.readers_find_what_was_encoded()
    finally:
        machine.teardown()


@contextmanager
def _dying_after(writes: int) -> Iterator[None]:
    left, write = writes, Files.write

    def dying(self: Files, name: str, data: bytes, **how: bool) -> None:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1
        write(self, name, data, **how)

    Files.write = dying  # type: ignore[method-assign]
    try:
        yield
    finally:
        Files.write = write  # type: ignore[method-assign]


class SmallShards(StoreMachine):
    """In shards of few rows, so that there are several."""

    def __init__(self) -> None:
        import store.arrays

        super().__init__()
        self._rows = store.arrays._SHARD_ROWS
        store.arrays._SHARD_ROWS = (ROWS, ROWS)

    def teardown(self) -> None:
        import store.arrays

        store.arrays._SHARD_ROWS = self._rows
        super().teardown()


TestStore = SmallShards.TestCase
TestStore.settings = settings(max_examples=12, stateful_step_count=14, deadline=None)
