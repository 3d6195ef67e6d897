"""A collection written anew in artist order: every clip keeps its numbers, whatever happens meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.compact import compact
from store.errors import FormatError, RequestError, StoreError
from store.files import WORK, Files
from store.layout import Store
from store.merge import merge
from store.reader import Representations
from store.schema import Catalog
from store.verify import verify
from tests.store.build import NAME, Array, catalog, numbers, open_writer, tree, write

Songs = dict[str, str]  # song -> artist


def collection(songs: Songs, **columns: Any) -> Catalog:
    return catalog(list(songs), artist_id=list(songs.values()), **columns)


def grown(store: Store, states: list[Songs]) -> Catalog:
    """A collection that was these songs one after another, each state encoded; a song's numbers are its own."""
    current, _ = merge(None, collection(states[0]))
    for state in states:
        current, _ = merge(current, collection(state))
        write(store, current, vectors(current), failures_of(current))
    return current


def vectors(current: Catalog) -> Array:
    return np.stack([np.frombuffer(f"{name:>28}".encode(), dtype="<u4").astype(np.float32) for name in ids(current)])


def ids(current: Catalog) -> list[str]:
    return [name or "" for name in current.strings("clip_id")]


def failures_of(current: Catalog) -> dict[int, str]:
    """Every fifth song is damaged."""
    return {
        row: "torn" for row, name in enumerate(ids(current)) if int(name[5:]) % 5 == 3 and not current.retired()[row]
    }


def state_of(store: Store) -> dict[str, tuple[Any, ...]]:
    """What the store says of each live song: artist, numbers, failure."""
    current = store.read_catalog("few")
    stored = Representations(store, current, NAME)
    failed = {entry["row"]: entry["reason"] for entry in stored.failures().to_pylist()}
    artists, values = current.strings("artist_id"), stored.read()
    return {
        name: (artists[row], values[row].tobytes(), failed.get(row))
        for row, name in enumerate(ids(current))
        if not current.retired()[row]
    }


songs = st.dictionaries(
    st.integers(0, 40).map(lambda i: f"song-{i:05d}"), st.sampled_from("abcde"), min_size=1, max_size=25
)


@settings(max_examples=8)
@given(states=st.lists(songs, min_size=1, max_size=3))
def test_every_live_song_keeps_what_it_has(tmp_path_factory: pytest.TempPathFactory, states: list[Songs]) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    grown(store, states)
    before = state_of(store)
    summary = compact(store, "few")
    after = store.read_catalog("few")
    assert state_of(store) == before
    assert verify(store, "few")[1] == []
    assert not after.retired().any()
    assert after.strings("artist_id") == sorted(after.strings("artist_id"))  # type: ignore[type-var]
    assert (summary.rows, summary.representations) == (len(before), [str(NAME)])
    assert open_writer(store, after, vectors(after)).is_complete
    assert compact(store, "few").moved == 0  # it is as it should be


def files_of(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in tree(folder).items() if not name.endswith(".lock")}


def two_states(store: Store) -> None:
    first = {f"song-{i:05d}": "ab"[i % 2] for i in range(10)}
    second = {f"song-{i:05d}": "ab"[i % 2] for i in range(3, 14)}
    grown(store, [first, second])


def test_killed_at_any_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old state or the new one, whole, and never anything else; the next try succeeds."""
    store = Store(tmp_path / "store")
    two_states(store)
    before, files = state_of(store), files_of(tmp_path / "store" / "few")
    left = 0
    real = {name: getattr(Files, name) for name in ("write", "exchange", "remove")}

    def limited(name: str) -> Any:
        def work(self: Files, *arguments: Any, **how: Any) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            real[name](self, *arguments, **how)

        return work

    for name in real:
        monkeypatch.setattr(Files, name, limited(name))
    steps = 0
    while True:
        left = steps
        try:
            compact(Store(tmp_path / "store"), "few")
        except KeyboardInterrupt:
            left = 10**9
            again = Store(tmp_path / "store")
            assert state_of(again) == before
            assert again.datasets() == ["few"]
            assert verify(again)[1] == []
            is_old = len(again.read_catalog("few")) == 14
            assert not is_old or files_of(tmp_path / "store" / "few") == files
            steps += 1
            continue
        break
    assert steps > 10
    assert len(Store(tmp_path / "store").read_catalog("few")) == 11
    assert not list((tmp_path / "store").glob(f"{WORK}*"))


def test_where_folders_cannot_be_exchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    two_states(store)
    before = state_of(store)
    monkeypatch.setattr("store.files._exchange", lambda _one, _two: False)
    with monkeypatch.context() as killed:
        renamed: list[str] = []

        def replace(source: Path, target: Path) -> None:
            if renamed:
                raise OSError("no power")
            renamed.append(str(source))
            source.rename(target)

        def broken(files: Files, name: str, other: str) -> None:
            killed.setattr("store.files.os.replace", replace)
            exchange(files, name, other)

        exchange = Files.exchange
        killed.setattr(Files, "exchange", broken)
        with pytest.raises(StoreError, match="no power"):
            compact(store, "few")
    assert not (tmp_path / "few").exists()
    assert compact(Store(tmp_path), "few").rows == 11
    assert state_of(Store(tmp_path)) == before


def test_what_cannot_go_along_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    two_states(store)
    before = files_of(tmp_path)
    current, _ = merge(store.read_catalog("few"), collection({"song-00020": "a"}))
    with pytest.raises(RequestError, match="unknown data set 'fewer'"):
        compact(store, "fewer")
    store.write_catalog(current)
    with pytest.raises(RequestError, match=f"few/{NAME} is not up to date; finish it"):
        compact(store, "few")
    store.write_catalog(merge(current, collection({f"song-{i:05d}": "ab"[i % 2] for i in range(3, 14)}))[0])
    runs = tmp_path / "few" / "runs" / str(NAME) / "gnn-random"
    runs.mkdir(parents=True)
    (runs / "seed-0.parquet").write_bytes(b"scores")
    with pytest.raises(RequestError, match="few has trained heads or searches, which are bound to its rows"):
        compact(store, "few")
    assert {name for name in files_of(tmp_path) if "/runs/" not in name} == set(before)
    with pytest.raises(RequestError, match="nothing behind a URL can be replaced at one moment"):
        compact(Store("memory://somewhere"), "few")


def test_damage_is_not_carried_along(tmp_path: Path) -> None:
    store = Store(tmp_path)
    two_states(store)
    chunk = tmp_path / "few" / str(NAME) / "representations.zarr" / "c" / "0" / "0"
    chunk.write_bytes(bytes(len(chunk.read_bytes())))
    before = files_of(tmp_path)
    with pytest.raises(FormatError, match="do not hold the numbers that were committed"):
        compact(store, "few")
    assert {name: data for name, data in files_of(tmp_path).items() if not name.startswith(WORK)} == before


def test_layers_go_along(tmp_path: Path) -> None:
    store, values = Store(tmp_path), numbers(12, 6).reshape(12, 3, 2)
    current = catalog([f"song-{i:05d}" for i in range(12)], artist_id=["ba"[i % 2] for i in range(12)])
    old, _ = merge(current, current.__class__(current.info, current.table.slice(3)))
    write(store, current, values)
    store.write_catalog(old)
    compact(store, "few")
    stored = Representations(store, store.read_catalog("few"), NAME)
    np.testing.assert_array_equal(stored.read(), values[3:])
    np.testing.assert_array_equal(stored.read(layer=1), values[3:, 1])


def test_what_is_known_of_a_representation_goes_along(tmp_path: Path) -> None:
    store = Store(tmp_path)
    grown(store, [{"song-00000": "b", "song-00001": "a"}])
    known = {"weights.txt", "licence.txt", "command.txt", "probe.json"}
    for file in known:
        store.files.write(f"few/{NAME}/{file}", file.encode())
    compact(store, "few")
    assert {file: store.files.read(f"few/{NAME}/{file}").decode() for file in known} == {file: file for file in known}
