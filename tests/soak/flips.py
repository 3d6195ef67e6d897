"""Every file of a store with a flipped bit, cut short, swapped or missing: whoever reads it says so, naming it."""

from __future__ import annotations

import contextlib
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import store.arrays
from store.errors import EncoreError
from store.layout import Store
from store.verify import verify
from tests.soak import Line
from tests.store.test_seal import make_whole, read_all

Damage = tuple[str, Callable[[Path], object]]


def run(short: bool) -> Iterator[Line]:
    bits = 4 if short else 500
    with tempfile.TemporaryDirectory() as name:
        source, copy = Path(name) / "whole", Path(name) / "copy"
        with _small_shards():
            make_whole(source)
        shutil.copytree(source, copy)
        expected = read_all(Store(source))
        paths = sorted(path for path in source.rglob("*") if path.is_file() and not path.name.endswith(".lock"))
        for original in paths:
            where = original.relative_to(source)
            count, wrong, silent = 0, "", 0
            for what, damage in _damages(original, paths, bits):
                damage(copy / where)
                count += 1
                try:
                    if read_all(Store(copy)) == expected:
                        silent += 1
                    else:
                        wrong = f"{what}: other numbers, and not a word"
                except EncoreError as error:
                    if not any(word in str(error) for word in (original.name, "few/", "seal.json")):
                        wrong = f"{what}: {error}"
                if not verify_tells(copy):
                    wrong = wrong or f"{what}: verify says nothing"
                shutil.copy2(original, copy / where)
            # Readers take no notice of what they do not read (bytes behind the last row); verify does.
            yield Line(f"flips, {where}", f"{count} damages, {silent} in bytes that no reader takes", wrong)


@contextlib.contextmanager
def _small_shards() -> Iterator[None]:
    """Shards that are full of rows, of which the last is not."""
    rows, store.arrays._SHARD_ROWS = store.arrays._SHARD_ROWS, (32, 32)
    try:
        yield
    finally:
        store.arrays._SHARD_ROWS = rows


def verify_tells(root: Path) -> bool:
    """Whether ``store verify`` finds something wrong."""
    try:
        return bool(verify(Store(root), "few")[1])
    except EncoreError:
        return True


def _damages(path: Path, paths: list[Path], bits: int) -> Iterator[Damage]:
    draw, data = random.Random(path.name), path.read_bytes()
    for _ in range(bits):
        bit = draw.randrange(8 * len(data))
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        yield f"bit {bit}", lambda p, flipped=flipped: p.write_bytes(flipped)
    for length in {0, draw.randrange(len(data)), len(data) - 1}:
        yield f"cut to {length}", lambda p, cut=data[:length]: p.write_bytes(cut)
    yield "appended", lambda p: p.write_bytes(data + b"\0")
    other = draw.choice([p for p in paths if p.read_bytes() != data])
    yield f"swapped for {other.name}", lambda p: shutil.copy(other, p)
    yield "missing", lambda p: p.unlink()
