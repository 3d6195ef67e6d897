"""Files of a store that are damaged, lost, renamed or of another format, and who says so."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store.arrays import shard_rows
from store.errors import FormatError, RequestError
from store.layout import Store
from store.reader import Representations
from tests.store.build import NAME, catalog, names, numbers, open_writer, write


@pytest.mark.parametrize(("dtype", "fill"), [("float32", np.nan), ("uint8", 0)])
def test_a_lost_chunk_is_not_taken_for_fill_values(tmp_path: Path, dtype: str, fill: float) -> None:
    store = Store(tmp_path)
    values = np.full((5000, 3), fill, dtype=dtype)
    values[4500:] = 1
    write(store, catalog(names(5000)), values)
    opened = Representations(store, store.read_catalog("few"), NAME)
    np.testing.assert_array_equal(opened.read(), values)
    (tmp_path / "few" / str(NAME) / "representations.zarr" / "c" / "0" / "0").unlink()
    with pytest.raises(FormatError, match=r"rows 0-\d+ cannot be read"):
        opened.read()
    assert len(opened.verify()) == 1


def test_damage_is_not_grown_over(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write(store, catalog(names(10)), numbers(10))
    chunk = tmp_path / "few" / str(NAME) / "representations.zarr" / "c" / "0" / "0"
    torn = bytearray(chunk.read_bytes())
    torn[9] ^= 1
    chunk.write_bytes(torn)
    with pytest.raises(FormatError, match="rows 0-9 are damaged and cannot be added to"):
        write(store, catalog(names(12)), numbers(12))


def test_records_of_other_clips_are_refused(tmp_path: Path) -> None:
    """A longer record belongs to a catalog that grew, or to none that is there."""
    store = Store(tmp_path)
    values = numbers(20)
    write(store, catalog(names(20)), values)
    store.write_catalog(catalog(names(10)))
    with pytest.raises(FormatError, match="belongs to other clips"):
        open_writer(store, catalog(names(10)), values)


def test_a_damaged_shard_is_not_taken_over_until_it_is_encoded_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    step = shard_rows((7,), "float32")
    songs, values = catalog(names(2 * step)), numbers(2 * step)
    store.write_catalog(songs)
    writer = open_writer(store, songs, values)
    writer.commit(writer.pending[0], values[:step])
    chunk = tmp_path / "few" / str(NAME) / "representations.zarr" / "c" / "0" / "0"
    chunk.write_bytes(bytes(len(chunk.read_bytes())))
    second, third = (open_writer(store, songs, values) for _ in range(2))
    assert [shard.index for shard in second.pending] == [0, 1]
    second.commit(second.pending[1], values[step:])
    assert second.finish() is None  # the record of the first shard is there, its numbers are not
    third.commit(third.pending[0], values[:step])
    assert second.finish() is not None
    np.testing.assert_array_equal(Representations(store, songs, NAME).read(), values)


@pytest.mark.usefixtures("unsealed")
def test_the_reader_checks_what_it_opens(tmp_path: Path) -> None:
    store = Store(tmp_path)
    songs = catalog(names(100))
    write(store, songs, numbers(100))
    manifest = tmp_path / "few" / str(NAME) / "manifest.json"
    good = manifest.read_bytes()

    def change(**changes: Any) -> None:
        manifest.write_text(json.dumps(json.loads(good) | changes))

    change(shape=[8])
    with pytest.raises(FormatError, match=r"the manifest says 100 x \(8,\)"):
        Representations(store, songs, NAME)
    change(rows=99)
    with pytest.raises(FormatError, match="shards are not those of 99 rows"):
        Representations(store, songs, NAME)
    change(format=3)
    with pytest.raises(RequestError, match=r"manifest was written in format 3, .* format 2; update Encore"):
        Representations(store, songs, NAME)
    change(fingerprint="ffffffffffff")
    with pytest.raises(
        FormatError, match=r"holds the representation fcn-f{12}, so it was renamed; name the folder fcn-f{12} again"
    ):
        Representations(store, songs, NAME)
    manifest.write_text("{")
    with pytest.raises(FormatError, match="cannot be read"):
        Representations(store, songs, NAME)
    manifest.write_bytes(good)
    with pytest.raises(FormatError, match="belongs to other clips"):
        Representations(store, catalog([f"x{name}" for name in names(100)]), NAME)
    with pytest.raises(FormatError, match="100 rows and the catalog 50"):
        Representations(store, catalog(names(50)), NAME)
    chunk = tmp_path / "few" / str(NAME) / "representations.zarr" / "c" / "0" / "0"
    content = chunk.read_bytes()
    chunk.write_bytes(content[:999])
    with pytest.raises(FormatError, match="cut short"):
        Representations(store, songs, NAME).read()
    chunk.write_bytes(content[:40] + b"\x00\x00\x80\x3f" + content[44:])
    opened = Representations(store, songs, NAME)
    assert len(opened.verify()) == 1
    for rows in ((0, 100), (3, 5), (90, 100)):  # also where the damage lies among rows that nobody asked for
        with pytest.raises(FormatError, match="rows 0-99 do not hold the numbers that were committed"):
            opened.read(*rows)
    (tmp_path / "few" / str(NAME) / "representations.zarr" / "zarr.json").write_text("nonsense")
    with pytest.raises(FormatError, match="damaged"):
        Representations(store, songs, NAME)


@pytest.mark.usefixtures("unsealed")
@pytest.mark.parametrize("to", ["few/fcn-old", "few/fcn-eeeeeeeeeeee", "many"])
def test_a_folder_that_was_renamed(tmp_path: Path, to: str) -> None:
    store = Store(tmp_path)
    write(store, catalog(names(10)), numbers(10))
    folder = tmp_path / "few" if to == "many" else tmp_path / "few" / str(NAME)
    folder.rename(tmp_path / to)
    dataset = to.partition("/")[0]
    with pytest.raises(FormatError, match=f"{to} holds .*, so it was renamed; name the folder {folder.name} again"):
        Representations(store, store.read_catalog(dataset), store.find(dataset, None))


@pytest.mark.usefixtures("unsealed")
@pytest.mark.parametrize(
    ("change", "message"),
    [((r"little", "big"), "bytes swapped"), ((r'("chunk_shape": \[\s*)', r"\g<1>1"), "tells of chunks of")],
)
def test_verify_sees_another_layout(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    """Encore reads its files as it wrote them; other programs go by ``zarr.json``."""
    store, songs = Store(tmp_path), catalog(names(300))
    write(store, songs, numbers(300))
    described = tmp_path / "few" / str(NAME) / "representations.zarr" / "zarr.json"
    text = described.read_text()
    changed = re.sub(*change, text)
    assert changed != text
    described.write_text(changed)
    (line,) = Representations(store, songs, NAME).verify()
    assert message in line


@pytest.mark.usefixtures("unsealed")
def test_verify_sees_lost_failures_and_short_padding(tmp_path: Path) -> None:
    store = Store(tmp_path)
    songs = catalog(names(100))
    values = numbers(100)
    values[7] = np.nan
    write(store, songs, values, {7: "no header"})
    folder = tmp_path / "few" / str(NAME)
    opened = Representations(store, songs, NAME)
    assert opened.verify() == []
    table = store.read_table(f"few/{NAME}/failures.parquet")
    (folder / "failures.parquet").write_bytes(b"PAR1 nonsense")
    assert ["failures.parquet is damaged" in line for line in opened.verify()] == [True]
    store.write_table(f"few/{NAME}/failures.parquet", table.slice(1))
    assert ["does not hold the failures" in line for line in opened.verify()] == [True]
    (folder / "failures.parquet").unlink()
    assert ["is not there" in line for line in opened.verify()] == [True]
    store.write_table(f"few/{NAME}/failures.parquet", table)
    chunk = folder / "representations.zarr" / "c" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-4])
    assert ["should have" in line for line in opened.verify()] == [True]


@pytest.mark.parametrize("file", ["manifest.json", "representations.zarr/zarr.json"])
def test_deeply_nested_json_is_damage(tmp_path: Path, file: str) -> None:
    store = Store(tmp_path)
    songs = catalog(names(100))
    write(store, songs, numbers(100))
    (tmp_path / "few" / str(NAME) / file).write_text("[" * 200_000)
    with pytest.raises(FormatError):
        Representations(store, songs, NAME)


@pytest.mark.usefixtures("unsealed")
@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("rows", [-1, True, 1.5, "100", None, [100], 10**400, 10**30]),
        ("shard_rows", [0, -4, "64", 0.5, None, 10**30]),
        ("shape", [0, [0], [-7], [7.0], ["7"], [[7]], None, {"a": 1}, "7"]),
        ("dtype", ["nonsense", "O", "U4", 4, None, ["f4"]]),
        ("backbone", [5, None, ["fcn"]]),
        ("fingerprint", [123456789012, None]),
        ("settings", [7, [1], "x", None, {"a": math.nan}, {"a": math.inf}]),
        ("shards", [3, [3], ["ab"], [{}], None, {"rows": 1}, []]),
        ("format", [None, [], {}, "2", 2.5]),
    ],
)
def test_every_field_of_a_manifest_is_checked(tmp_path: Path, field: str, values: list[Any]) -> None:
    store = Store(tmp_path)
    write(store, catalog(names(100)), numbers(100))
    manifest = tmp_path / "few" / str(NAME) / "manifest.json"
    good = json.loads(manifest.read_text())
    for value in values:
        manifest.write_text(json.dumps(good | {field: value}))
        with pytest.raises((FormatError, RequestError), match=r"manifest\.json: .*(cannot be|shards are|in format)"):
            store.read_manifest("few", NAME)


@pytest.mark.usefixtures("unsealed")
@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("rows", [[0, 99], [1, 100], [0], [0, 100, 200], ["0", "100"], [0, 10**30], [-100, 0], "01", None]),
        ("clips", [5, None, ["a"]]),
        ("values", [5, None]),
        ("failures", [5, [5], [[0, "damaged"]], [[100, "damaged", "x"]], [[-1, "damaged", "x"]], [[0, 1, 2]], ["abc"]]),
    ],
)
def test_every_field_of_a_shard_is_checked(tmp_path: Path, field: str, values: list[Any]) -> None:
    store = Store(tmp_path)
    write(store, catalog(names(100)), numbers(100))
    manifest = tmp_path / "few" / str(NAME) / "manifest.json"
    good = json.loads(manifest.read_text())
    for value in values:
        manifest.write_text(json.dumps(good | {"shards": [good["shards"][0] | {field: value}]}))
        with pytest.raises(FormatError, match=r"cannot be|shards are"):
            store.read_manifest("few", NAME)


@pytest.mark.usefixtures("unsealed")
@pytest.mark.parametrize("nested", ['{"format": 2, "a": ' + "[" * 100_000, "[" * 100_000, "7", "null", '"a"', "[]", ""])
def test_a_manifest_of_nested_nonsense(tmp_path: Path, nested: str) -> None:
    store = Store(tmp_path)
    write(store, catalog(names(3)), numbers(3))
    (tmp_path / "few" / str(NAME) / "manifest.json").write_text(nested)
    with pytest.raises(FormatError, match="the manifest cannot be read"):
        store.read_manifest("few", NAME)
