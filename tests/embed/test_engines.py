"""Who runs the shards: the bytes are the same whoever does, and whoever dies meanwhile."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stages import registry
from stages.embed.backbones.features import Features
from stages.embed.encode import decides, open_writer
from stages.embed.engines import Job, address, catalog_hash, find_engine, open_job
from stages.embed.engines.dask import _check_store, _replaced
from stages.embed.engines.local import Local
from stages.embed.engines.slurm import Share
from stages.embed.run import prepare
from store.errors import RequestError, StoreError
from store.layout import Store
from store.schema import Catalog
from store.shards import Shard
from tests import PATIENCE_S
from tests.counting import counts
from tests.family import descendants, grandchildren, signal_all
from tests.processes import COMMAND, Process
from tests.store.build import tree

COLUMNS = "labels=genre"
SONGS = 80
# In shards of one row each, so that there are many to be shared; the engines' processes learn so from the driver.
SCRIPT = f"import store.arrays\nstore.arrays._SHARD_ROWS = (1, 1)\n{COMMAND}"
OPTIONS = {
    "local": ("--engine-set", "devices=cpu,cpu", "--workers", "0"),
    "dask": ("--workers", "2"),
    "slurm": ("--workers", "2", "--engine-set", "cluster=local", "--engine-set", "mem_gb=1"),
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "songs.csv"
    lines = [f"artist {song % 9},genre {song % 4},{song * 0.5},{song % 7}" for song in range(SONGS)]
    path.write_text("\n".join(["artist,genre,tempo,energy", *lines]) + "\n")
    return path


def start(store: Path, table: Path, *options: str, forks: bool = True) -> Process:
    where = ("--table", table, "--name", "hits", "--columns", COLUMNS, "--store", store)
    return Process(SCRIPT, "embed", "table", *where, *options, new_session=True, forks=forks)


def finish(process: Process, code: int = 0) -> str:
    _, err = process.communicate()
    assert process.returncode == code, err
    assert "Traceback" not in err
    return err


def files(store: Path) -> dict[str, bytes]:
    return {name: content for name, content in tree(store).items() if not name.endswith((".lock", ".partial"))}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, table: Path) -> dict[str, bytes]:
    """The bytes of a store whose shards one process has encoded, one after the other."""
    store = tmp_path_factory.mktemp("alone")
    finish(start(store, table, "--workers", "0"))
    return files(store)


def records(store: Path) -> int:
    return len(list(store.glob("hits/*/shards/*.json")))


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def of_engine(name: str, folder: Path) -> tuple[str, ...]:
    jobs = ("--engine-set", f"folder={folder / 'jobs'}") if name == "slurm" else ()
    return ("--engine", name, *OPTIONS[name], *jobs)


def test_every_engine_is_tested() -> None:
    assert set(registry.names("engine")) == set(OPTIONS)


@pytest.mark.parametrize("name", ["dask", "slurm"])
def test_bytes_are_the_same_whoever_is_killed_meanwhile(
    tmp_path: Path, table: Path, unbroken: dict[str, bytes], name: str
) -> None:
    """A Dask worker by SIGKILL, twice; a job of SLURM by the signal of preemption, after which it goes on."""
    store = tmp_path / "store"
    number = signal.SIGUSR2 if name == "slurm" else signal.SIGKILL
    process = start(store, table, *of_engine(name, tmp_path))

    def workers() -> list[int]:
        if name == "dask":
            return grandchildren(process.pid)
        jobs = [pid for pid, line in descendants(process.pid).items() if "submitit.core._submit" in line]
        return [pid for pid in jobs if _catches(pid, number)]

    for fraction in (0.1, 0.5) if name == "dask" else (0.3,):
        wait_for(lambda fraction=fraction: records(store) > fraction * SONGS or process.returncode is not None)
        signal_all(workers()[-1:], number)
    finish(process)
    assert files(store) == unbroken


def test_the_local_engine_with_two_devices(tmp_path: Path, table: Path, unbroken: dict[str, bytes]) -> None:
    """A process that is killed ends the run with a message; the next one goes on, to the same bytes."""
    store = tmp_path / "store"
    process = start(store, table, *of_engine("local", tmp_path))
    wait_for(lambda: records(store) > 0.1 * SONGS or process.returncode is not None)
    signal_all(grandchildren(process.pid)[-1:], signal.SIGKILL)
    _, err = process.communicate()
    assert "ended from outside" in err
    assert "Traceback" not in err
    finish(start(store, table, *of_engine("local", tmp_path)))
    assert files(store) == unbroken


CLUSTER = """
import sys
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=0, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster:
        print(cluster.scheduler_address, flush=True)
        for line in sys.stdin:
            cluster.scale(int(line))
"""


def test_workers_that_join_late(tmp_path: Path, table: Path, unbroken: dict[str, bytes]) -> None:
    """The command waits for a first one; a second one gets its part; the cluster outlives the command."""
    store, count = tmp_path / "store", tmp_path / "count"
    environment = {"DASK_DISTRIBUTED__WORKER__PRELOAD": "tests.counting", "COUNT": str(count), "ALONE_S": "3"}
    with Process(CLUSTER, environment=environment, new_session=True, forks=True) as cluster:
        address = cluster.stdout.readline().strip()

        def scale(workers: int) -> None:
            cluster.stdin.write(f"{workers}\n")
            cluster.stdin.flush()

        process = start(store, table, "--engine", "dask", "--scheduler", address)
        assert any("the cluster has no worker yet" in line for line in process.stderr)
        scale(1)
        wait_for(lambda: records(store) > 0 or process.returncode is not None)
        scale(2)
        finish(process)
        assert files(store) == unbroken
        written = counts(count)
        assert len({worker for _, worker in written}) == 2
        assert len(written) == SONGS
        assert cluster.returncode is None
        family = list(descendants(cluster.pid))
        cluster.stdin.close()
        cluster.join()
    assert not any(_alive(pid) for pid in family)


@pytest.mark.parametrize("name", ["dask", "local"])
def test_ctrl_c(tmp_path: Path, table: Path, unbroken: dict[str, bytes], name: str) -> None:
    """In a terminal it goes to every process; what was committed is kept, and nothing of the engine lives on."""
    store = tmp_path / "store"
    process = start(store, table, *of_engine(name, tmp_path), forks=False)
    wait_for(lambda: records(store) > 0.1 * SONGS or process.returncode is not None)
    family = list(descendants(process.pid))
    signal_all([*family, process.pid], signal.SIGINT)
    assert "stopped; what was committed is kept" in finish(process, 130)
    wait_for(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() and _alive(pid) for pid in family))
    finish(start(store, table, "--workers", "0"))
    assert files(store) == unbroken


def _catches(pid: int, number: int) -> bool:
    """Whether a process has a handler of this signal yet; one that has just begun would be ended by it."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    return bool(int(status.partition("SigCgt:")[2].split()[0], 16) >> (number - 1) & 1)


def _alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


@pytest.fixture
def job(tmp_path: Path, table: Path) -> Iterator[Job]:
    """What processes would be told of the table's features; its catalog is in the store."""
    store = Store(tmp_path / "store")
    options = {"table": table, "name": "hits", "columns": COLUMNS}
    prepared = prepare("table", options, store, "features", None, {}, "32")
    store.write_catalog(prepared.files)
    yield Job(
        store=address(store),
        dataset="hits",
        settings=json.dumps(decides(prepared.backbone, None)),
        weights=None,
        catalog=catalog_hash(prepared.files),
        device="cpu",
        batch=None,
        strict=False,
        threads=1,
        run="first",
    )
    open_job.cache_clear()


def test_a_process_keeps_one_backbone(job: Job) -> None:
    work = open_job(job)
    assert isinstance(work.backbone, Features)
    assert open_job(replace(job)) is work
    assert open_job(replace(job, run="second")) is not work


def test_a_process_that_sees_another_catalog_encodes_nothing(job: Job) -> None:
    stored = Store(job.store).read_catalog("hits")
    shorter = Catalog(stored.info, stored.table.slice(0, 10))
    with pytest.raises(StoreError, match="not the one that this run began with"):
        open_job(replace(job, catalog=catalog_hash(shorter)))


def test_a_job_that_is_queued_again_goes_on(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its first life has committed is told without being encoded again."""
    monkeypatch.setattr("store.arrays._SHARD_ROWS", (64, 64))
    store = Store(job.store)
    work = open_job(job)
    shards = open_writer(store, store.read_catalog("hits"), work.backbone, None).pending
    assert len(shards) == 2
    first = list(work.run(shards[:1], workers=0))
    encoded: list[int] = []
    commit = work.writer.commit
    monkeypatch.setattr(work.writer, "commit", lambda shard, *rest: encoded.append(shard.index) or commit(shard, *rest))
    results = Share(job, shards, loaders=0)()
    assert isinstance(results, list)
    assert encoded == [1]
    assert results[:1] == first
    assert sorted(result.index for result in results) == [0, 1]


def test_jobs_that_are_no_longer_waited_for_are_cancelled(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled: list[str] = []

    class Submitted:
        job_id = "7"

        def done(self) -> bool:
            raise KeyboardInterrupt

        def cancel(self, check: bool) -> None:
            assert not check
            cancelled.append(self.job_id)

    executor = SimpleNamespace(batch=nullcontext, submit=lambda _share: Submitted())
    engine = find_engine("slurm", {"cluster": "local"}, 2)
    monkeypatch.setattr(engine, "_executor", lambda: executor)
    shards = [Shard(index, index, index + 1, range(index, index + 1)) for index in range(3)]
    with pytest.raises(KeyboardInterrupt):
        list(engine.run(job, shards, lambda _clips: None))
    assert cancelled == ["7", "7"]


def test_what_goes_wrong_in_a_job_is_given_back(job: Job) -> None:
    wrong = Share(replace(job, catalog="another"), [], loaders=0)()
    assert isinstance(wrong, StoreError)


def test_several_processes_need_a_store_that_they_can_reach() -> None:
    with pytest.raises(RequestError, match="no other process can reach the store memory://x"):
        address(Store("memory://x"))


def test_workers_that_are_lost_for_good_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    ready = threading.Event()

    class Lossy:
        def scale(self, workers: int) -> None:
            asked.append(workers)
            ready.set()

    monkeypatch.setattr("stages.embed.engines.dask._LOOK_S", 0.001)
    with _replaced(Lossy(), 3):
        assert ready.wait(PATIENCE_S)
    count = len(asked)
    assert set(asked) == {3}
    time.sleep(0.01)
    assert len(asked) == count


class Cluster:
    """A client of workers, of which one sees the store and one does not."""

    def __init__(self, elsewhere: Path) -> None:
        self.elsewhere = elsewhere

    def run(self, function: Callable[[str, str], str], store: str, name: str) -> dict[str, Any]:
        return {"tcp://one": function(store, name), "tcp://two": function(str(self.elsewhere), name)}


def test_a_worker_that_cannot_see_the_store(job: Job, tmp_path: Path) -> None:
    before = tree(tmp_path / "store")
    with pytest.raises(RequestError, match=r"worker tcp://two does not see the store .*is not there; name a --store"):
        _check_store(Cluster(tmp_path / "elsewhere"), job)
    assert tree(tmp_path / "store") == before
    _check_store(Cluster(tmp_path / "store"), job)


def test_two_commands_may_ask_workers_at_once(job: Job, tmp_path: Path) -> None:
    class Slow(Cluster):
        def run(self, function: Any, store: str, name: str) -> dict[str, str]:
            _check_store(Cluster(tmp_path / "store"), job)  # another command, meanwhile
            return super().run(function, store, name)

    _check_store(Slow(tmp_path / "store"), job)


@pytest.mark.parametrize(("name", "package"), [("dask", "distributed"), ("slurm", "submitit")])
def test_an_extra_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, name: str, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(RequestError, match=rf"needs the package {package}: pip install 'encore-mir\[{name}\]'"):
        find_engine(name, {}, None)


@pytest.mark.parametrize(
    ("name", "settings", "workers", "words"),
    [
        ("dusk", {}, None, "unknown engine 'dusk'; have: dask, local, slurm. Did you mean dask?"),
        ("local", {"scheduler": "x"}, None, "unknown setting of the engine local 'scheduler'"),
        ("dask", {"scheduler": "tcp://x:1"}, 2, "--scheduler names a cluster that has its"),
        ("dask", {}, 0, "at least one of --workers"),
        ("dask", {"scheduler": ""}, None, "--scheduler is empty"),
        ("slurm", {"cluster": "local", "timeout_min": "-1"}, 1, "timeout_min is at least 1, not -1"),
        ("slurm", {"cluster": "local", "gpus": "-2"}, 1, "gpus is at least 0, not -2"),
        ("slurm", {"cluster": "local", "cpus": "0"}, 1, "cpus is at least 1, not 0"),
        ("slurm", {"cluster": "moon"}, None, "cluster takes one of slurm, local, not 'moon'"),
        ("slurm", {"cluster": "local"}, 0, "at least one job"),
    ],
)
def test_requests_that_cannot_be_met(name: str, settings: dict[str, str], workers: int | None, words: str) -> None:
    with pytest.raises(RequestError, match=words.replace("?", r"\?")):
        find_engine(name, settings, workers)


@pytest.mark.skipif(shutil.which("sbatch") is not None, reason="there is a SLURM here")
def test_no_slurm() -> None:
    with pytest.raises(RequestError, match=r"there is no SLURM here .*cluster=local"):
        find_engine("slurm", {}, None)


def test_no_scheduler(job: Job) -> None:
    engine = find_engine("dask", {"scheduler": "nonsense"}, None)
    with pytest.raises(RequestError, match="no Dask scheduler answers at nonsense"):
        list(engine.run(job, [], lambda _clips: None))


def test_a_device_that_there_is_not_is_refused_before_processes_start(job: Job) -> None:
    with pytest.raises(RequestError, match="device 'nope' cannot be used"):
        list(find_engine("local", {"devices": "cpu,nope"}, None).run(job, [], lambda _clips: None))


def test_one_device_needs_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    local = find_engine("local", {}, None)
    assert isinstance(local, Local)
    assert local.encodes_here("cpu") == "cpu"
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert local.encodes_here("auto") is None
    assert local.devices("auto") == ("cuda:0", "cuda:1")
    assert local.devices("cuda:1") == ("cuda:1",)
    assert find_engine("local", {"devices": "cpu,cpu"}, None).encodes_here("auto") is None
