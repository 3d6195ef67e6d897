"""A process that imports this, and is told a file by ``COUNT``, adds ``shard process`` to it for each that it writes.

Where ``ALONE_S`` is set, it waits as many seconds at most, before each shard, for another process to have written one.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import store.shards
from store.schema import ShardRecord

_write = store.shards.ShardWriter._write


def counts(path: Path) -> list[tuple[int, int]]:
    """(shard, process) of each time that a shard was written."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(shard), int(process)) for shard, process in map(str.split, lines)]


def _counted(writer: store.shards.ShardWriter, shard: store.shards.Shard, *rest: Any) -> ShardRecord:
    path, until = Path(os.environ["COUNT"]), time.monotonic() + float(os.environ.get("ALONE_S", 0))
    while time.monotonic() < until and {process for _, process in counts(path)} <= {os.getpid()}:
        time.sleep(0.02)
    with path.open("a") as file:
        file.write(f"{shard.index} {os.getpid()}\n")
    return _write(writer, shard, *rest)


if "COUNT" in os.environ:
    store.shards.ShardWriter._write = _counted  # type: ignore[method-assign]
