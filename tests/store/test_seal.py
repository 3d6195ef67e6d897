"""Whatever happens to a file of a collection, whoever reads it notices, and never returns other numbers."""

from __future__ import annotations

import random
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from store.errors import EncoreError, FormatError
from store.layout import Store
from store.reader import Representations
from store.runs import RunFolder, RunRecord, read_runs, write_run
from store.seal import hash_bytes
from store.splits import keep_splits, read_splits, splits_mark
from store.verify import verify
from tests.store.build import NAME, catalog, names, numbers, write

FOLDER = RunFolder("few", str(NAME), "gnn", "random")
IDS = names(70)


def write_one_run(store: Store, folder: RunFolder, seed: int) -> None:
    record = RunRecord(
        dataset="few",
        representation=folder.representation,
        mode=folder.mode,
        regime=folder.regime,
        rule=None,
        seed=seed,
        fold=None,
        metrics={"micro_f1": 0.5},
        seconds=1.0,
        synthetic=True,
        labels=("rock",),
        catalog=None,
        clips={"test": 3},
        threshold=None,
        settings={"epochs": 3},
        remark="",
        best_epoch=1,
        history=[],
        other_members=[],
    )
    score = np.full((3, 1), 0.25 * seed, dtype=np.float32)
    write_run(store, folder, record, np.arange(3), score, score > 0.5, [b"weights" * (seed + 9)])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    make_whole(root)
    return root


def make_whole(root: Path) -> None:
    """A synthetic store with every kind of file."""
    store = Store(root)
    write(store, catalog(IDS), numbers(70), {3: "cut short"})
    songs = pa.array(IDS)
    keep_splits(store, "few", songs, {"random-0": np.zeros(70, dtype=np.int8)}, splits_mark(store, "few"), revision=2)
    store.write_table(f"few/{NAME}/trained_on.parquet", pa.table({"song_id": songs}))
    for seed in (0, 1):
        write_one_run(store, FOLDER, seed)


def read_all(store: Store) -> dict[str, Any]:
    """What a collection holds, as its readers return it."""
    rows = store.read_catalog("few")
    stored = Representations(store, rows, store.find("few", None))
    heads = [name for name in store.names(FOLDER.path) if name.endswith(".pt")]
    return {
        "catalog": rows.table,
        "settings": stored.manifest.settings,
        "numbers": stored.read().tobytes(),
        "failures": stored.failures(),
        "splits": str(read_splits(store, "few", ["random-0"], pa.array(IDS))),
        "trained_on": store.read_table(f"few/{NAME}/trained_on.parquet"),
        "runs": [(run.record, run.rows, run.score.tolist()) for run in read_runs(store, FOLDER)],
        "heads": [store.read(f"{FOLDER.path}/{name}") for name in heads],
    }


def damages(root: Path) -> Iterator[tuple[Path, Callable[[Path], object], str]]:
    """For every file: flipped bits, truncations, another file in its place, its loss."""
    draw = random.Random(0)
    paths = sorted(path for path in root.rglob("*") if path.is_file() and not path.name.endswith(".lock"))
    assert len(paths) == 14
    for path in paths:
        data = path.read_bytes()
        for _ in range(12):
            bit = draw.randrange(8 * len(data))
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            yield path, lambda p, flipped=flipped: p.write_bytes(flipped), f"bit {bit}"
        for length in (0, draw.randrange(len(data)), len(data) - 1):
            yield path, lambda p, cut=data[:length]: p.write_bytes(cut), f"cut to {length}"
        other = draw.choice([p for p in paths if p != path])
        yield path, lambda p, other=other: shutil.copy(other, p), f"swapped for {other.name}"
        yield path, lambda p: p.unlink(), "lost"


def message_of(read: Callable[[], object], expected: object, where: str) -> str | None:
    """The message of the error that ``read`` ends with; None where it ends with what is expected."""
    try:
        result = read()
    except EncoreError as error:
        return str(error)
    assert result == expected, f"{where}: not noticed"
    return None


def test_nothing_goes_unnoticed(whole: Path, tmp_path: Path) -> None:
    expected = read_all(Store(whole))
    assert verify(Store(whole)) == ([f"few/{NAME}: intact"], [])
    root = tmp_path / "copy"
    shutil.copytree(whole, root)
    for original, damage, what in damages(whole):
        path = root / original.relative_to(whole)
        damage(path)
        where = f"{path.relative_to(root)}: {what}"
        message = message_of(lambda: read_all(Store(root)), expected, where)
        assert message is not None or "/c/" in str(path), f"{where}: not noticed"  # bytes that hold no number
        places = (path.name, f"few/{NAME}", "seal.json")
        assert message is None or any(name in message for name in places), f"{where}: {message}"
        message_of(lambda: bool(verify(Store(root), "few")[1]), True, f"{where}, by verify")
        shutil.copy2(original, path)
    assert read_all(Store(root)) == expected


def test_a_lost_folder_and_a_strange_file_are_noticed(whole: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(whole, tmp_path / "copy"))
    shutil.copy(root / FOLDER.predictions("seed-0"), root / FOLDER.predictions("seed-2"))
    with pytest.raises(FormatError, match=r"seed-2\.parquet was not written by Encore"):
        list(read_runs(Store(root), FOLDER))
    shutil.rmtree(root / FOLDER.path)
    with pytest.raises(FormatError, match=r"seed-0\.parquet is missing; .* encore store repair few --accept"):
        list(read_runs(Store(root), FOLDER))
    assert len(verify(Store(root))[1]) == 6
    assert Store(root).seals.accept("few") == sorted(path for path in accepted_files(whole) if path.startswith("runs/"))
    assert verify(Store(root)) == ([f"few/{NAME}: intact"], [])
    assert list(read_runs(Store(root), FOLDER)) == []
    shutil.rmtree(root / "few" / str(NAME))
    with pytest.raises(FormatError, match=r"manifest\.json is missing"):
        Representations(Store(root), Store(root).read_catalog("few"), Store(root).find("few", None))


def accepted_files(root: Path) -> set[str]:
    return set(Store(root).seals.entries("few") or {})


def test_moved_and_removed_folders_take_their_seal_along(whole: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(whole, tmp_path / "copy"))
    store = Store(root)
    unfinished = RunFolder("few", str(NAME), "gnn", "random", unfinished=True)
    write_one_run(store, unfinished, 5)
    store.move(unfinished.path, FOLDER.path)
    assert [run.record.seed for run in read_runs(store, FOLDER)] == [5]
    assert verify(store) == ([f"few/{NAME}: intact"], [])
    store.remove(f"few/{NAME}")
    assert verify(store) == ([], [])


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_command_killed_while_it_replaces_a_file_leaves_no_damage(whole: Path, tmp_path: Path, moment: str) -> None:
    store = Store(shutil.copytree(whole, tmp_path / "copy"))
    data = store.read(FOLDER.record("seed-0"))
    new = data.replace(b"0.5", b"0.7")
    changing = store.seals.changing("few", {FOLDER.record("seed-0").removeprefix("few/"): hash_bytes(new)})
    changing.__enter__()
    if moment == "after":
        store.files.write(FOLDER.record("seed-0"), new)
    assert store.read(FOLDER.record("seed-0")) == (new if moment == "after" else data)
    assert verify(store)[1] == []


def test_commands_that_write_at_once_keep_each_others_entries(whole: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(whole, tmp_path / "copy"))
    folders = [RunFolder("few", str(NAME), mode, "random") for mode in ("song", "sage", "gat")]

    def work(folder: RunFolder) -> None:
        for seed in range(4):
            write_one_run(Store(root), folder, seed)

    threads = [threading.Thread(target=work, args=(folder,)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(list(read_runs(Store(root), folder))) for folder in folders] == [4, 4, 4]
    assert verify(Store(root))[1] == []


def test_a_damaged_catalog_is_known_before_it_is_parsed(whole: Path, tmp_path: Path) -> None:
    """Names in its footer that are no text, and whatever else Arrow's reader may not expect."""
    shutil.copytree(whole, tmp_path / "copy")
    file = tmp_path / "copy" / "few" / "catalog.parquet"
    content = file.read_bytes()
    places = [match.end() - 1 for match in re.finditer(rb"song_id|artist_id|labels", content)]
    assert len(places) > 6
    for place in places:
        file.write_bytes(content[:place] + bytes([content[place] | 0xC0]) + content[place + 1 :])
        with pytest.raises(FormatError, match=r"catalog\.parquet"):
            Store(tmp_path / "copy").open_clips("few")
