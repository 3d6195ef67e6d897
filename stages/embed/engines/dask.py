"""A Dask cluster: shards go one by one to whichever worker is free.

A worker decodes and encodes by itself, so a machine takes as many workers as it has cores, or a few a GPU. Each keeps
one backbone with its weights. What comes back of a shard is its hash and its failures. The shards of a worker that is
lost go to others, and a worker that joins late gets its part.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

from stages import interrupts
from stages.embed.engines import Engine, Job, import_extra, open_job
from stages.progress import note
from store.errors import EncoreError, RequestError, StoreError
from store.files import Files
from store.layout import Store
from store.shards import Shard

if TYPE_CHECKING:
    from stages.embed.encode import Done

_AHEAD = 2  # shards a thread of the cluster that are handed over before others are done
_CONNECT_S = 10
_LOOK_S = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class DaskConfig:
    """Settings.

    Attributes
    ----------
    scheduler : the address of a cluster that runs, ``tcp://host:8786``; without one, a cluster of ``--workers``
        processes is started on this machine, and ended afterwards.
    """

    scheduler: str | None = None

    def __post_init__(self) -> None:
        if self.scheduler == "":
            raise RequestError("--scheduler is empty; name a cluster's address, such as tcp://host:8786")


class Dask(Engine):
    """A cluster that is there, or one of this machine's processes."""

    NAME = "dask"
    TITLE = "a Dask cluster (--scheduler), or one of --workers processes on this machine"
    Config: ClassVar[type[Any]] = DaskConfig

    def __init__(self, config: DaskConfig, workers: int | None) -> None:
        super().__init__(config, workers)
        self._distributed = import_extra("distributed", self.NAME)
        if config.scheduler is not None and workers is not None:
            raise RequestError("--workers starts workers on this machine, and --scheduler names a cluster that has its")
        if workers == 0:
            raise RequestError("a Dask cluster needs at least one of --workers")

    def run(self, job: Job, shards: Sequence[Shard], advance: Callable[[int], None]) -> Iterator[Done]:
        """See `Engine.run`.

        Raises
        ------
        RequestError
            if there is no scheduler at that address, or a worker cannot see the store.
        EncoreError
            if a shard has cost several workers their lives.
        """
        with self._client(len(shards)) as client:
            note(f"the cluster's dashboard: {client.dashboard_link}")
            self._wait_for_workers(client)
            _check_threads(client, job)
            _check_store(client, job)
            try:
                yield from self._results(client, job, shards, advance)
            except self._distributed.CancelledError as error:
                raise EncoreError(
                    "the cluster's scheduler is gone; what was committed is kept: run the same command again"
                ) from error

    @contextlib.contextmanager
    def _client(self, shards: int) -> Iterator[Any]:
        """A client of the cluster, which for so few shards needs no more workers."""
        import dask

        # Workers say every lost connection, which is no fault here.
        with dask.config.set({"logging.distributed": "critical"}):
            silence = {"silence_logs": 50}
            if self.config.scheduler is None:
                count = max(1, min(shards, self.workers or os.cpu_count() or 1))
                with interrupts.kept_from_children():
                    cluster = self._distributed.LocalCluster(
                        n_workers=count, threads_per_worker=1, dashboard_address="127.0.0.1:0", **silence
                    )
                with cluster, self._distributed.Client(cluster) as client, _replaced(cluster, count):
                    yield client
                return
            try:
                client = self._distributed.Client(self.config.scheduler, timeout=_CONNECT_S)
            except (OSError, ValueError, TypeError) as error:
                raise RequestError(f"no Dask scheduler answers at {self.config.scheduler}: {error}") from error
            with client:
                yield client

    def _wait_for_workers(self, client: Any) -> None:
        if not client.nthreads():
            note("the cluster has no worker yet; waiting for one (dask worker ADDRESS)")
            client.wait_for_workers(1)

    def _results(
        self, client: Any, job: Job, shards: Sequence[Shard], advance: Callable[[int], None]
    ) -> Iterator[Done]:
        """Each shard as it is committed; a few more than the workers have threads are handed over at a time."""
        waiting = iter(shards)
        running = self._distributed.as_completed([])

        def hand_over() -> None:
            room = _AHEAD * max(1, sum(client.nthreads().values())) - running.count()
            for shard in islice(waiting, max(0, room)):
                running.add(client.submit(_encode, job, shard, pure=False, key=f"shard-{shard.index}-{token}"))

        token = secrets.token_hex(4)
        hand_over()
        for future in running:
            try:
                result: Done = future.result()
            except self._distributed.KilledWorker as error:
                raise EncoreError(
                    f"workers were ended from outside, again and again, at the shard {future.key} (out of memory? a "
                    f"smaller --batch needs less); what was committed is kept"
                ) from error
            advance(result.clips)
            yield result
            hand_over()


@contextlib.contextmanager
def _replaced(cluster: Any, count: int) -> Iterator[None]:
    """Start other workers in the place of those that are lost for good, so that there are ``count``.

    Dask starts a worker that was killed again, and gives it up where it is killed once more while it starts, or takes
    too long.
    """
    over = threading.Event()

    def look() -> None:
        while not over.wait(_LOOK_S):
            cluster.scale(count)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _encode(job: Job, shard: Shard) -> Done:
    """Encode one shard; runs in a worker."""
    (result,) = open_job(job).run([shard], workers=0)
    return result


def _check_threads(client: Any, job: Job) -> None:
    """Say so where the workers of a machine have more threads than it has cores."""
    workers = Counter(worker.rpartition(":")[0] for worker in client.nthreads())
    crowded = workers.most_common(1)[0][1] * job.threads > (cores := os.cpu_count() or 1)
    if crowded and job.threads > 1 and job.device in ("auto", "cpu"):
        note(
            f"each worker computes with {job.threads} threads, as this process would, so that the bytes are the same; "
            f"on {cores} cores OMP_NUM_THREADS=1 before the command is quicker"
        )


def _check_store(client: Any, job: Job) -> None:
    """RequestError where a worker does not see what the driver has just written to the store."""
    files, token = Store(job.store).files, secrets.token_hex(16)
    # A name of its own, as another command may ask the same of the same collection; `Files.sweep` knows such names.
    name = f"{job.dataset}/.token.{token}.partial"
    files.write(name, token.encode())
    try:
        answers = client.run(_read, job.store, name)
    finally:
        files.remove(name)
    blind = sorted(worker for worker, answer in answers.items() if answer != token)
    if blind:
        raise RequestError(
            f"the worker {blind[0]} does not see the store {job.store}: {answers[blind[0]]}; name a --store that every "
            f"machine of the cluster can reach under the same name"
        )


def _read(store: str, name: str) -> str:
    """What a worker reads of a file of the store, or why it cannot."""
    try:
        return Files(store).read(name).decode()
    except FileNotFoundError:
        return "the file that was written to it is not there"
    except (RequestError, StoreError, ValueError) as error:
        return str(error)
