"""The training loop of stage one, for every backbone and every objective.

Each epoch is seeded by the settings' seed and the epoch's number, each example by seed, epoch and row. So a training
that was interrupted continues from its last whole epoch to the same weights, whatever the number of worker processes.

Several processes (``torchrun``) share each batch and average their gradients; the first one writes. Their weights are
those of one process with the same batch, up to rounding, unless the examples of a batch depend on each other (batch
normalisation, CoLA's negatives) or random numbers are drawn (dropout, masks): each process has its own share of those.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from numpy.typing import NDArray
from torch import Tensor

from stages.embed.backbones import Backbone, check_precision
from stages.embed.checkpoint import CheckpointFiles, Log, State
from stages.embed.examples import VALIDATION, Examples
from stages.embed.loading import ClipTable, killed_workers_told, load_in_workers
from stages.embed.objectives import Objective, Rows, Training
from stages.progress import note, task
from store.errors import EncoreError, RequestError
from store.words import plural


@dataclass(frozen=True)
class Outcome:
    """What a training did.

    Attributes
    ----------
    log : the mean training and validation loss of each epoch, the first of which is epoch 1.
    best_epoch : the epoch of the lowest validation loss, whose weights the checkpoint holds.
    resumed : the epoch after which this run resumed the training; 0 if it started it.
    unread : how many training and validation clips this run could not read.
    """

    log: Log
    best_epoch: int
    resumed: int
    unread: int


def train(
    backbone: Backbone,
    objective: Objective,
    clips: ClipTable,
    *,
    train_rows: Rows,
    validation_rows: Rows,
    labels: NDArray[np.bool_],
    settings: Training,
    out: Path,
    about: Mapping[str, Any],
    device: torch.device,
    workers: int,
) -> Outcome:
    """Train ``backbone.module`` by an objective over it, and write a checkpoint.

    Parameters
    ----------
    labels : bool [rows, labels], the labels of each catalog row.
    out : the checkpoint: ``weights`` (as `Backbone.load` reads them), ``output`` (the objective's other parameters) and
        ``about``. Beside it lie ``out.csv``, the log, and until the end ``out.resume``, the state from which an
        interrupted training continues.
    about : the description that the checkpoint carries, in JSON types; different descriptions are different trainings.

    Raises
    ------
    RequestError
        if ``out`` belongs to another training, there are too few clips, or the device cannot train in the precision.
    EncoreError
        if the loss is not finite, or hardly any clip can be read.
    """
    fabric = _fabric(device, settings)
    fabric.launch()
    with torch.random.fork_rng(devices=[fabric.device] if fabric.device.type == "cuda" else []):
        files = CheckpointFiles(out, dict(about))
        result = files.finished()
        if result is not None:
            return Outcome(result["log"], result["best_epoch"], resumed=len(result["log"]), unread=0)
        run = _Run(fabric, objective, clips, train_rows, validation_rows, labels, settings, workers)
        with torch.enable_grad():
            return run.to_the_end(backbone, files)


def _fabric(device: torch.device, settings: Training) -> Fabric:
    check_precision(settings.precision, device)
    supported = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    bf16 = settings.precision == "bf16" or (settings.precision == "auto" and supported)
    local, world = (int(os.environ.get(name, 1)) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    one: Any = [device.index or 0] if device.type == "cuda" else 1
    return Fabric(
        accelerator=device.type,
        # An objective may leave out some layers of a network, the same ones at every step.
        strategy=DDPStrategy(static_graph=True) if world > 1 else "auto",
        devices=local if world > 1 else one,
        num_nodes=world // local,
        precision="bf16-mixed" if bf16 else "32-true",
    )


class _Run:
    def __init__(
        self,
        fabric: Fabric,
        objective: Objective,
        clips: ClipTable,
        train_rows: Rows,
        validation_rows: Rows,
        labels: NDArray[np.bool_],
        settings: Training,
        workers: int,
    ) -> None:
        self.fabric, self.objective, self.settings, self.workers = fabric, objective, settings, workers
        self.examples = Examples(clips, train_rows, objective.WINDOWS, settings.seed)
        self.labels = torch.from_numpy(labels.astype(np.float32))
        minimum = objective.BATCH_LEAST * fabric.world_size
        size = min(settings.batch, len(train_rows))
        if size < minimum or len(validation_rows) < objective.BATCH_LEAST:
            raise RequestError(
                f"{plural(len(train_rows), 'training clip')}, {plural(len(validation_rows), 'validation clip')} and "
                f"a batch of {settings.batch}: {objective.NAME} training wants a batch of {minimum} or more, and clips "
                f"in both parts"
            )
        self.batch = size // fabric.world_size * fabric.world_size
        self.train_rows = train_rows
        order = np.random.default_rng(settings.seed).permutation(validation_rows)
        pieces = np.array_split(order, range(size, len(order), size))
        self.validation = [piece.tolist() for piece in pieces if len(piece) >= objective.BATCH_LEAST]
        self.total = len(train_rows) // self.batch * settings.epochs
        self.total = min(self.total, settings.steps or self.total)
        self.plain = settings.optimize(objective.parameters())
        self.wrapped, self.optimizer = fabric.setup(objective, self.plain)
        self.unread: set[int] = set()

    def to_the_end(self, backbone: Backbone, files: CheckpointFiles) -> Outcome:
        state = files.resume(self.objective, self.plain)
        resumed = len(state.log)
        if resumed:
            note(f"goes on after epoch {resumed}")
        with killed_workers_told(), task(f"training {backbone.NAME}", self.total, "updates") as advance:
            advance(state.step)
            while not self._ends(state):
                start_s = time.perf_counter()
                epoch = len(state.log) + 1
                loss = self._epoch(epoch, state, advance)
                validation = self._validate()
                rate = self.settings.rate(state.step - 1, self.total)
                state.log.append({"loss": loss, "validation_loss": validation, "learning_rate": rate})
                if not math.isfinite(loss + validation):
                    raise EncoreError(
                        f"the loss became {loss} in training and {validation} in validation in epoch {epoch}; "
                        f"a lower learning rate than {self.settings.learning_rate:g} may hold it (--set learning_rate=)"
                    )
                better = validation < state.best_loss
                if better:
                    state.best_epoch, state.best_loss = epoch, validation
                if self.fabric.global_rank == 0:
                    files.save(backbone, self.objective, self.plain, state, better=better)
                    seconds = time.perf_counter() - start_s
                    note(f"epoch {epoch}: loss {loss:.4f}, validation {validation:.4f} ({seconds:.1f} s)")
                self.fabric.barrier()
        if self.fabric.global_rank == 0:
            files.finish(state)
        self.fabric.barrier()
        return Outcome(state.log, state.best_epoch, resumed, len(self.unread))

    def _ends(self, state: State) -> bool:
        epochs = len(state.log)
        return state.step >= self.total or (epochs > 0 and epochs - state.best_epoch >= self.settings.patience)

    def _epoch(self, epoch: int, state: State, advance: Any) -> float:
        rank, world = self.fabric.global_rank, self.fabric.world_size
        order = np.random.default_rng((self.settings.seed, epoch)).permutation(self.train_rows)
        count = min(len(order) // self.batch, self.total - state.step)
        batches = order[: count * self.batch].reshape(count, self.batch)
        seed = np.random.SeedSequence((self.settings.seed, epoch, rank)).generate_state(1)[0]
        torch.manual_seed(int(seed))
        self.wrapped.train()
        total = torch.zeros((), device=self.fabric.device)
        for windows, labels in self._loaded([(epoch, batch[rank::world].tolist()) for batch in batches]):
            if len(windows) < self.batch // world:
                raise EncoreError(
                    f"{plural(len(self.unread), 'training clip')} cannot be read and hardly any can; are the files "
                    f"whole?"
                )
            for group in self.optimizer.param_groups:
                group["lr"] = self.settings.rate(state.step, self.total)
            loss = self.wrapped(windows, labels)
            self.optimizer.zero_grad(set_to_none=True)
            self.fabric.backward(loss)
            self.fabric.clip_gradients(
                self.wrapped, self.optimizer, max_norm=self.settings.max_norm, error_if_nonfinite=False
            )
            self.optimizer.step()
            total += loss.detach()
            state.step += 1
            advance(1)
        return float(self._summed(total).item()) / (count * world)

    def _validate(self) -> float:
        """The mean loss over the validation clips, with the same windows and masks in every epoch."""
        torch.manual_seed(self.settings.seed)
        self.wrapped.eval()
        batches = self.validation[self.fabric.global_rank :: self.fabric.world_size]
        sums = torch.zeros(2, device=self.fabric.device)
        with torch.no_grad(), self.fabric.autocast():
            for windows, labels in self._loaded([(VALIDATION, rows) for rows in batches]):
                if len(windows) >= self.objective.BATCH_LEAST:
                    sums += torch.stack([self.objective(windows, labels).float(), sums.new_ones(())]) * len(windows)
        loss, clips = (float(value) for value in self._summed(sums))
        if not clips:
            raise EncoreError("not a single validation clip can be read")
        return loss / clips

    def _loaded(self, batches: list[tuple[int, list[int]]]) -> Iterator[tuple[Tensor, Tensor]]:
        pin = self.fabric.device.type == "cuda"
        for windows, rows, failures in load_in_workers(self.examples, batches, self.workers, pin=pin):
            self.unread |= {row for row, _, _ in failures}
            device = self.fabric.device
            yield windows.to(device, non_blocking=True), self.labels[rows].to(device, non_blocking=True)

    def _summed(self, values: Tensor) -> Tensor:
        summed: Tensor = self.fabric.all_reduce(values, reduce_op="sum")  # type: ignore[assignment]
        return summed
