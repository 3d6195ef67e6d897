"""Processes of this machine: some load clips, and one encodes on each device."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, ClassVar

from stages import interrupts
from stages.embed.engines import Engine, Job, open_job
from store.errors import EncoreError
from store.shards import Shard

if TYPE_CHECKING:
    from stages.embed.encode import Done


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalConfig:
    """Settings.

    Attributes
    ----------
    devices : one encoder runs on each of them (``cuda:0,cuda:2``); none: every GPU there is, or the CPU. The option
        ``--device`` names a single one.
    """

    devices: tuple[str, ...] = ()


class Local(Engine):
    """One encoder a device, each a process with loaders of its own; shards go to whichever is free."""

    NAME = "local"
    TITLE = "processes of this machine"
    Config: ClassVar[type[Any]] = LocalConfig

    def devices(self, name: str) -> tuple[str, ...]:
        """The devices that encode, where the option ``--device`` is ``name``."""
        import torch

        if self.config.devices:
            return tuple(self.config.devices)
        count = torch.cuda.device_count() if name == "auto" else 0
        return tuple(f"cuda:{i}" for i in range(count)) if count > 1 else (name,)

    def encodes_here(self, device: str) -> str | None:
        """See `Engine.encodes_here`: a single device needs no process of its own."""
        devices = self.devices(device)
        return devices[0] if len(devices) == 1 else None

    def run(self, job: Job, shards: Sequence[Shard], advance: Callable[[int], None]) -> Iterator[Done]:
        """See `Engine.run`.

        Raises
        ------
        RequestError
            for a device that there is not.
        EncoreError
            if a process ends unexpectedly; what one of them raises, too.
        """
        from stages.devices import find_device

        devices = self.devices(job.device)
        for device in devices:
            if not device.startswith("cuda"):  # which would take memory of the GPU for this process
                find_device(device)
        context = multiprocessing.get_context("spawn")  # CUDA does not outlive a fork
        queue = context.Queue()
        for item in (*shards, *[None] * len(devices)):
            queue.put(item)
        ends, processes = [], []
        for device in devices:
            ours, theirs = context.Pipe(duplex=False)
            loaders = None if self.workers is None else self.workers // len(devices)
            process = context.Process(target=_encode, args=(replace(job, device=device), queue, loaders, theirs))
            with interrupts.kept_from_children():
                process.start()
            theirs.close()
            ends.append(ours)
            processes.append(process)
        try:
            yield from _results(ends, advance)
        finally:
            queue.cancel_join_thread()
            for process in processes:
                process.terminate()
                process.join()


def _results(ends: list[Any], advance: Callable[[int], None]) -> Iterator[Done]:
    """What the processes at the other ends of these pipes send, until each has said that it is through."""
    while ends:
        ready: list[Any] = wait(ends)
        for end in ready:
            try:
                message = end.recv()
            except EOFError as error:
                raise EncoreError(
                    "a process that encodes was ended from outside (out of memory?); what was committed is kept: run "
                    "the same command again"
                ) from error
            if isinstance(message, int):
                advance(message)
            elif isinstance(message, Exception):
                raise message
            elif message is None:
                ends.remove(end)
            else:
                yield message


def _encode(job: Job, queue: Any, loaders: int | None, results: Any) -> None:
    """Encode the shards that ``queue`` holds, up to the first None, in a process of its own."""
    from stages.embed.loading import default_workers

    try:
        work = open_job(job)
        workers = default_workers(work.device) if loaders is None else loaders
        for result in work.run(iter(queue.get, None), workers=workers, advance=results.send):
            results.send(result)
        results.send(None)
    except Exception as error:  # to be raised where a person sees it
        results.send(error if isinstance(error, EncoreError) else EncoreError(f"{type(error).__name__}: {error}"))
