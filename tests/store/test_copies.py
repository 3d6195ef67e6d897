"""A collection is copied as it is, from any place to any other, and what was copied is not copied twice."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from store.copies import check_places, copy
from store.errors import FormatError, RequestError, StoreError
from store.files import Files
from store.layout import Store
from store.verify import verify
from tests.store.test_seal import FOLDER, read_all, whole, write_one_run

__all__ = ["whole"]  # a fixture


def test_to_a_url_and_back_after_a_kill(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, there, back = Store(whole), Store(f"memory://copies-{uuid.uuid4().hex}"), Store(tmp_path / "back")
    write, writes = Files.write, []

    def stop(self: Files, name: str, data: bytes, **how: bool) -> None:
        if len(writes) == 4:
            raise KeyboardInterrupt
        writes.append(name)
        write(self, name, data, **how)

    monkeypatch.setattr(Files, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        copy(source, there, "few")
    monkeypatch.undo()
    assert not there.files.exists("few/seal.json")
    copied = copy(source, there, "few")
    assert (copied.files, copied.already_there) == (10, 4)
    assert copy(source, there, "few").already_there == 14
    copy(there, back, "few")
    assert read_all(back) == read_all(there) == read_all(source)
    assert verify(back)[1] == []
    there.files.remove("few")


def test_damage_is_not_copied_and_nothing_else_is_written_over(whole: Path, tmp_path: Path) -> None:
    one, two = Store(tmp_path / "one"), Store(tmp_path / "two")
    copy(Store(whole), one, "few")
    copy(Store(whole), two, "few")
    write_one_run(two, FOLDER, 7)
    with pytest.raises(RequestError, match="is there already and is another, or an earlier, state of few"):
        copy(two, one, "few")
    (tmp_path / "two" / FOLDER.record("seed-7")).write_text("{}")
    with pytest.raises(FormatError, match=r"seed-7\.json does not hold what was written"):
        copy(two, Store(tmp_path / "three"), "few")


@pytest.mark.parametrize(
    ("source", "target"), [("one", "one"), ("one", "one/two"), ("memory://one", "memory://one/two")]
)
def test_a_store_is_not_copied_into_itself(source: str, target: str, tmp_path: Path) -> None:
    places = [name if "://" in name else str(tmp_path / name) for name in (source, target)]
    with pytest.raises(RequestError, match="name another place"):
        check_places(Store(places[0]), Store(places[1]))
    check_places(Store(places[0]), Store(f"{places[0]}-more"))
    check_places(Store(places[1]), Store("memory://elsewhere"))


def test_a_copy_stops_before_the_disk_is_full(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = Store(whole), Store(tmp_path / "copy")
    size = source.files.size("few")
    monkeypatch.setattr(Files, "room", lambda _self: size - 1)
    with pytest.raises(StoreError, match="MiB left, and 0 MiB are to be written"):
        copy(source, target, "few")
    assert not target.files.exists("few/catalog.parquet")
    monkeypatch.setattr(Files, "room", lambda _self: size)
    copy(source, target, "few")
    monkeypatch.setattr(Files, "room", lambda _self: 0)
    assert copy(source, target, "few").files == 0, "what is there takes no more room"
