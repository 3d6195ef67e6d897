"""Engines: who runs the shards. One file each: processes of this machine, a Dask cluster, jobs of SLURM.

An engine is handed shards and says of each when it is committed, in any order. A shard is encoded and written by one
process, whichever: doing one twice harms nothing, and the bytes are the same whoever did it. The driver alone writes
the manifest. What an engine's processes need to know is a `Job`; each opens it once and keeps the backbone that it is
about.
"""

from __future__ import annotations

import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from stages import registry
from stages.configure import configure
from store.clips import ClipKeys, Clips, blocks, flags
from store.errors import RequestError, StoreError
from store.fingerprint import hash_ids, hash_values
from store.layout import Store
from store.shards import Shard

if TYPE_CHECKING:
    from stages.embed.encode import Done, Work


@dataclass(frozen=True)
class Job:
    """What a process, on whichever machine, needs to know in order to encode shards of a representation.

    Attributes
    ----------
    store : an absolute path, or a URL.
    settings : those that decide the representation's numbers, as JSON.
    weights : where the backbone's weights lie; None where it has none, or random ones.
    catalog : `catalog_hash` of the catalog that the shards belong to.
    run : names the command that asks, so that a worker which outlives it opens everything anew for the next.
    threads : how many threads torch has; sums are rounded otherwise with another number.
    device, batch, strict : see `stages.embed.run.embed`; they are resolved by the process that encodes.
    """

    store: str
    dataset: str
    settings: str
    weights: str | None
    catalog: str
    device: str
    batch: int | None
    strict: bool
    threads: int
    run: str


class Engine(ABC):
    """Runs shards somewhere.

    Class attributes
    ----------------
    NAME, TITLE : what a user types, and one line on it.
    Config : the frozen dataclass of its settings (``--engine-set``).

    Parameters
    ----------
    config : the resolved settings.
    workers : how many processes, of the engine's kind; None for what suits the machine.

    Raises
    ------
    RequestError
        if the packages that it needs are not installed, or the settings do not go together.
    """

    NAME: ClassVar[str]
    TITLE: ClassVar[str]
    Config: ClassVar[type[Any]]

    def __init__(self, config: Any, workers: int | None) -> None:
        self.config, self.workers = config, workers

    def encodes_here(self, device: str) -> str | None:  # noqa: ARG002 - for engines that do
        """The device with which the driver itself encodes, where nobody else is to; None where `run` does the work.

        Parameters
        ----------
        device : the option ``--device``.
        """
        return None

    @abstractmethod
    def run(self, job: Job, shards: Sequence[Shard], advance: Callable[[int], None]) -> Iterator[Done]:
        """Commit ``shards`` and say so of each, in any order.

        Parameters
        ----------
        advance : is called with the number of clips that were encoded or failed.

        Raises
        ------
        EncoreError
            where shards are left over. Those that were committed stay.
        """


@lru_cache(maxsize=1)
def open_job(job: Job) -> Work:
    """The work that a job asks for, with its backbone loaded; the last one of a process is kept.

    Raises
    ------
    StoreError
        if this process sees another store than the driver, or another state of it.
    RequestError
        if the weights are not there, or not the same.
    """
    import torch

    from stages.devices import find_device
    from stages.embed.choose import restore_backbone
    from stages.embed.encode import Work, decides, default_batch, has_passed, representation_name
    from store.shards import ShardWriter

    torch.set_num_threads(job.threads)
    store, settings = Store(job.store), json.loads(job.settings)
    catalog = store.open_clips(job.dataset)
    if catalog_hash(catalog) != job.catalog:
        raise StoreError(
            f"the catalog of {store.files.show(job.dataset)} is not the one that this run began with: another run grew "
            f"it, or this process sees another store; what was committed is kept: run the same command again"
        )
    backbone, mark = restore_backbone(settings, job.weights, f"{job.dataset}/{settings['backbone']}")
    if decides(backbone, mark) != settings:
        raise StoreError(f"this process has another version of {backbone.NAME} than the one that began the run")
    writer = ShardWriter(
        store,
        catalog,
        representation_name(backbone, mark),
        settings=settings,
        shape=backbone.shape,
        dtype=backbone.dtype,
        has_passed=has_passed,
    )
    device = find_device(job.device)
    batch = job.batch or default_batch(device)
    return Work(writer, catalog, backbone, device=device, batch=batch, strict=job.strict)


def catalog_hash(catalog: Clips) -> str:
    """A hash of what shards depend on: the clips of each row, whether they are retired, whether their file was seen."""
    keys, (retired, seen) = ClipKeys(catalog), flags(catalog)
    of_keys = [keys.hash(first, first + len(table)) for first, table in blocks(catalog)]
    return hash_ids([*of_keys, hash_values(retired), hash_values(seen)])


def address(store: Store) -> str:
    """The store's address for other processes; RequestError for one that lives in this process's memory."""
    if store.files.local is not None:
        return str(store.files.local.absolute())
    if "memory" in (store.files.fs.protocol, *store.files.fs.protocol):
        raise RequestError(f"no other process can reach the store {store.files.url}; name a folder or another URL")
    return store.files.url


def find_engine(name: str, settings: Mapping[str, str], workers: int | None) -> Engine:
    """The engine of that name with these settings; RequestError for an unknown one, or for settings it cannot have."""
    kind: type[Engine] = registry.find("engine", name)
    return kind(configure(kind.Config(), settings, f"the engine {name}"), workers)


def import_extra(module: str, engine: str) -> Any:
    """A package that comes with an extra of Encore; RequestError where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise RequestError(
            f"the engine {engine} needs the package {module}: pip install 'encore-mir[{engine}]' ({error})"
        ) from error
