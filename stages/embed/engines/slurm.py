"""Jobs of a SLURM cluster, an array of them, through submitit.

Job i of n does every n-th shard. A job that is preempted or runs into its time limit is queued again, and goes on from
what it had committed.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from stages.embed.engines import Engine, Job, import_extra, open_job
from stages.progress import note
from store.errors import EncoreError, RequestError
from store.shards import Shard
from store.words import plural

if TYPE_CHECKING:
    from stages.embed.encode import Done

_JOBS = 4
_LEAST = {"timeout_min": 1, "requeues": 0, "gpus": 0, "cpus": 1, "mem_gb": 1, "loaders": 0}
_LOOK_S = {"slurm": 10.0, "local": 0.2}


@dataclass(frozen=True, kw_only=True, slots=True)
class SlurmConfig:
    """Settings.

    Attributes
    ----------
    cluster : ``slurm``, or ``local`` for jobs that are processes of this machine, to try things out.
    folder : for the jobs' logs and results; on a disk that all nodes share.
    partition, account, qos, constraint : as for ``sbatch``.
    timeout_min : after so many minutes a job is queued again, as often as ``requeues`` says.
    gpus, cpus, mem_gb : of each job.
    loaders : processes of each job that load clips.
    setup : a line of shell that each job begins with, such as ``module load python``.
    """

    cluster: str = "slurm"
    folder: str = "encore-jobs"
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    timeout_min: int = 240
    requeues: int = 20
    gpus: int = 0
    cpus: int = 2
    mem_gb: int = 8
    loaders: int = 1
    setup: str | None = None

    def __post_init__(self) -> None:
        if self.cluster not in _LOOK_S:
            raise RequestError(f"cluster takes one of {', '.join(_LOOK_S)}, not {self.cluster!r}")
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise RequestError(f"{name} is at least {least}, not {getattr(self, name)}")


@dataclass
class Share:
    """One job: some of the shards. It is pickled with its results so far when it is preempted."""

    job: Job
    shards: list[Shard]
    loaders: int
    results: list[Done] = field(default_factory=list)

    def __call__(self) -> list[Done] | EncoreError:
        """The shards, each committed; what a person should read is given back rather than raised."""
        from stages.embed.encode import Done

        try:
            work = open_job(self.job)
            indices = {result.index for result in self.results}
            waiting = []
            for shard in (shard for shard in self.shards if shard.index not in indices):
                record = work.writer.committed(shard)
                if record is None:
                    waiting.append(shard)
                else:  # by this job, before it was queued again
                    rows = set(shard.rows)
                    failures = tuple(failure for failure in record.failures if failure[0] in rows)
                    self.results.append(Done(shard.index, record.values, len(shard.rows), failures))
            for result in work.run(waiting, workers=self.loaders):
                self.results.append(result)
        except EncoreError as error:
            return error
        return self.results

    def checkpoint(self) -> Any:
        """What submitit queues again after this job was preempted."""
        return import_extra("submitit", Slurm.NAME).helpers.DelayedSubmission(self)


class Slurm(Engine):
    """A job array; what a job has committed counts when it has ended."""

    NAME = "slurm"
    TITLE = "an array of --workers SLURM jobs, through submitit"
    Config: ClassVar[type[Any]] = SlurmConfig

    def __init__(self, config: SlurmConfig, workers: int | None) -> None:
        super().__init__(config, workers)
        self._submitit = import_extra("submitit", self.NAME)
        if workers == 0:
            raise RequestError("an array needs at least one job (--workers)")
        if config.cluster == "slurm" and shutil.which("sbatch") is None:
            raise RequestError(
                "there is no SLURM here (no sbatch); run this on a login node, or with --engine-set cluster=local as "
                "processes of this machine"
            )

    def run(self, job: Job, shards: Sequence[Shard], advance: Callable[[int], None]) -> Iterator[Done]:
        """See `Engine.run`.

        Raises
        ------
        EncoreError
            if jobs end before their shards are done.
        """
        if not shards:
            return
        count = min(self.workers or _JOBS, len(shards))
        shares = [Share(job, list(shards[i::count]), self.config.loaders) for i in range(count)]
        executor = self._executor()
        with executor.batch():  # an array
            jobs = [executor.submit(share) for share in shares]
        note(f"{plural(count, 'job')}: {', '.join(submitted.job_id for submitted in jobs)}; logs in {self._folder}")
        try:
            yield from self._results(jobs, advance)
        except BaseException:
            for submitted in jobs:
                submitted.cancel(check=False)
            raise

    def _results(self, jobs: list[Any], advance: Callable[[int], None]) -> Iterator[Done]:
        waiting, lost_jobs = list(jobs), []
        while waiting:
            time.sleep(_LOOK_S[self.config.cluster])
            for job in [job for job in waiting if job.done()]:
                waiting.remove(job)
                try:
                    results = job.result()
                except (self._submitit.core.utils.UncompletedJobError, self._submitit.core.utils.FailedJobError):
                    lost_jobs.append(job)
                    continue
                if isinstance(results, EncoreError):
                    raise results
                for result in results:
                    advance(result.clips)
                    yield result
        if lost_jobs:
            raise EncoreError(
                f"{len(lost_jobs)} of {plural(len(jobs), 'job')} ended before all was done "
                f"({lost_jobs[0].paths.stderr} says why); what was committed is kept: run the same command again"
            )

    @property
    def _folder(self) -> Path:
        return Path(self.config.folder).absolute()

    def _executor(self) -> Any:
        config = self.config
        executor = self._submitit.AutoExecutor(
            folder=self._folder, cluster=config.cluster, slurm_max_num_timeout=config.requeues
        )
        options = {
            "name": "encore",
            "timeout_min": config.timeout_min,
            "gpus_per_node": config.gpus or None,
            "cpus_per_task": config.cpus,
            "mem_gb": config.mem_gb,
            "slurm_partition": config.partition,
            "slurm_account": config.account,
            "slurm_qos": config.qos,
            "slurm_constraint": config.constraint,
            "slurm_setup": [config.setup] if config.setup else None,
        }
        executor.update_parameters(**{name: value for name, value in options.items() if value is not None})
        return executor
