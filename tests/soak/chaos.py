"""Many shards, four workers, a SIGKILL every two seconds: the bytes are those of an unbroken run."""

from __future__ import annotations

import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests import PATIENCE_S
from tests.counting import counts
from tests.family import descendants, signal_all
from tests.processes import Process
from tests.soak import Line
from tests.soak._commands import SMALL_SHARDS, embed, files_of, finished, write_table

_EVERY_S = 2.0
_KILLS = 100  # at most
_ENGINES = {"local": ("--workers", "4"), "dask": ("--engine", "dask", "--workers", "4")}


def run(short: bool) -> Iterator[Line]:
    shards = 60 if short else 2000
    with tempfile.TemporaryDirectory() as folder:
        table = write_table(Path(folder) / "songs.csv", shards)
        started = time.monotonic()
        code, _, err = finished(SMALL_SHARDS, *embed(table, Path(folder) / "alone", "--workers", 0))
        alone_s = time.monotonic() - started
        assert code == 0, err
        expected = files_of(Path(folder) / "alone")
        for engine in ("local",) if short else _ENGINES:
            yield _chaos(Path(folder), table, engine, expected, 0.3 if short else _EVERY_S, alone_s)


def _wait_for_shards(store: Path, process: Process, count: int) -> bool:
    """Wait until so many more shards are committed, or the process has ended; False where neither happens."""
    aim, until = _committed(store) + count, time.monotonic() + PATIENCE_S
    while process.returncode is None and _committed(store) < aim:
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def _committed(store: Path) -> int:
    return len(list(store.glob("hits/*/shards/*.json")))


def _chaos(folder: Path, table: Path, engine: str, expected: dict[str, bytes], every_s: float, alone_s: float) -> Line:
    """Kill one of the command's processes, any of them, again and again; give the command anew where it ended."""
    store, count = folder / engine, folder / f"{engine}.count"
    draw, kills, starts = random.Random(0), 0, 0
    started = time.monotonic()
    code, wrong = None, ""
    ends: Counter[str] = Counter()  # what it said where it left by itself
    while code != 0:
        starts += 1
        process = Process(
            f"import tests.counting\n{SMALL_SHARDS}",
            *embed(table, store, *_ENGINES[engine]),
            environment={"COUNT": str(count), "DASK_DISTRIBUTED__WORKER__PRELOAD": "tests.counting"},
            new_session=True,
        )
        while process.returncode is None:
            # A start takes longer than the time between kills, on a busy machine.
            if not _wait_for_shards(store, process, max(1, len(expected) // _KILLS)):
                process.kill()
                return Line(f"chaos, {engine}", f"{kills} SIGKILLs", f"no shard for {PATIENCE_S:.0f} s")
            time.sleep(every_s)
            family = [pid for pid, line in descendants(process.pid).items() if "resource_tracker" not in line]
            # With Dask the driver lives: it is the workers that come and go. Locally all are one command.
            victims = family if engine == "dask" else [process.pid, *family]
            if process.returncode is None and victims:
                signal_all([draw.choice(victims)], signal.SIGKILL)
                kills += 1
        _, err = process.communicate()
        signal_all(list(descendants(process.pid)), signal.SIGKILL)
        code = process.returncode
        if code is not None and code > 0:
            ends[err.strip().rpartition("\n")[2]] += 1
        if "Traceback" in err or "defect in Encore" in err:
            wrong = f"it said {err[-300:]!r}"
        if starts > 200:
            return Line(f"chaos, {engine}", f"{starts} starts", "it comes to no end")
    seconds = time.monotonic() - started
    written = [shard for shard, _ in counts(count)]
    again = len(written) - len(set(written))
    if files_of(store) != expected:
        wrong = "the bytes are not those of an unbroken run"
    if again > kills:
        wrong = "more than one shard a kill was written again"
    what = (
        f"{len(expected)} files, 4 workers, {kills} SIGKILLs, {starts} starts, {seconds:.0f} s "
        f"(unbroken, one process: {alone_s:.0f} s), {again} shards written again"
        + "".join(f"; left {count} times with {end!r}" for end, count in ends.items())
    )
    return Line(f"chaos, {engine}", what, wrong)
