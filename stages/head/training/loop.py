"""The one training loop: epochs, early stopping, learning rate, seeds, for every head that is a network."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stages.head.collection import Collection
from stages.head.heads import Draw, TrainedHead
from stages.head.heads._layers import Dropout, DropoutMasks
from stages.head.random import bits, key
from stages.head.scores.prediction import Prediction
from stages.head.settings import Settings
from stages.head.training.adam import Adam
from stages.head.training.checkpoint import Checkpoint
from stages.head.training.losses import Loss
from stages.head.training.stretches import Heads, Stretches
from stages.head.training.threads import keep_freed_memory, threads
from stages.splits.regimes import PARTS, Split
from store.errors import EncoreError, RequestError

_SCORING_BATCH = 4096
_LEAST_PROGRESS = 0.002  # a loss that falls by less than this share no longer counts as falling


@dataclass(frozen=True)
class Trained:
    """A trained network and what it says of every clip.

    Attributes
    ----------
    state : the network's weights after ``best_epoch`` (counted from 1).
    shift, scale : [dim] what was taken from the representations and what they were multiplied by, before the network.
    history : epoch by epoch the training loss, the validation score and the validation loss.
    facts : what of the collection the weights cannot be read without, as `TrainedHead.facts` tells it.
    seconds : that it took, those before it was stopped and taken up again included.
    remark : what the head says of how it was done (`TrainedHead.remark`).
    """

    state: dict[str, Tensor]
    shift: Tensor
    scale: Tensor
    prediction: Prediction
    history: list[dict[str, float]]
    best_epoch: int
    facts: dict[str, Any]
    seconds: float
    remark: str = ""


def train(
    head_type: type[TrainedHead],
    data: Collection,
    part: Split,
    settings: Settings,
    *,
    seed: int,
    device: torch.device,
    on_epoch: Callable[[int], None] = lambda _epoch: None,
    shards: Stretches | None = None,
    checkpoint: Checkpoint | None = None,
) -> Trained:
    """Train a head on part 0, stop by part 1, and score every clip once.

    Equal arguments give equal results on one machine, also where the training was stopped and goes on (on a GPU for
    all heads but `gat` and `gcnii`, which say why). The loss is that of `stages.head.training.losses`.

    Parameters
    ----------
    part : [clips] 0 train, 1 validation, 2 test, -1 none.
    on_epoch : called after each epoch with how many were done.
    shards : how ``data`` is shared among processes, or read in stretches; all in memory, here, where None. Several
        processes give what one gives, but for the order in which floats are summed. With several stretches a step's
        clips come from one stretch, and the stretches from an order drawn anew in each epoch.
    checkpoint : where an unfinished training is kept, and taken up again.
    """
    started = time.perf_counter()
    shards = shards or Stretches(data.held())
    for i, name in enumerate(PARTS[:2]):
        if not (part == i).any():
            raise RequestError(f"the {name} part of this split is empty")
    shards.check(head_type)
    heads = Heads(head_type, shards, part, settings, device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        network = heads.any().build().to(device)
    loop = _Loop(heads, network, seed, started)
    keep_freed_memory()
    with threads(data, settings):
        progress = loop.run(on_epoch, checkpoint)
    network.load_state_dict(progress.best)
    everything = torch.arange(len(data), device=device)
    score = heads.any().refine(data.task.activate(loop.logits(everything)))
    return Trained(
        state={name: value.cpu() for name, value in progress.best.items()},
        shift=heads.shift.cpu(),
        scale=heads.scale.cpu(),
        prediction=data.task.decide(score.cpu().numpy()),
        history=progress.history,
        best_epoch=progress.best_epoch,
        facts=heads.any().facts(),
        seconds=time.perf_counter() - loop.started,
        remark=heads.any().remark,
    )


@dataclass
class _Progress:
    """How far a training is: after ``epoch``, with the best weights and scores so far."""

    epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_score: tuple[float, float] = (-1.0, 0.0)
    best_epoch: int = 0
    least_loss: float = float("inf")
    last_progress: int = 0
    seconds: float = 0.0

    def is_over(self, settings: Settings) -> bool:
        return self.epoch >= settings.epochs or self.epoch - self.last_progress >= settings.patience


class _Loop:
    def __init__(self, heads: Heads, network: nn.Module, seed: int, started: float = 0.0) -> None:
        self.started = started  # when it would have been, had it never been stopped
        self.heads, self.network, self.seed, self.settings = heads, network, seed, heads.settings
        self.shards, self.device = heads.shards, heads.device
        data = self.shards.data
        self.task = data.task
        self.names = torch.from_numpy(data.rows).to(self.device)
        self.targets = torch.from_numpy(data.targets).to(self.device)
        self.wanted = self.task.target(self.targets)
        self.train, self.watched = (
            torch.from_numpy(np.flatnonzero(heads.part == which)).to(self.device) for which in (0, 1)
        )
        self.loss = Loss(self.targets[self.train], self.task, self.settings)
        self.masks = DropoutMasks(self.names, self.names)
        for layer in network.modules():
            if isinstance(layer, Dropout):
                layer.masks = self.masks
        self.optimizer = Adam(network.parameters(), self.settings.learning_rate)

    def run(self, on_epoch: Callable[[int], None], checkpoint: Checkpoint | None) -> _Progress:
        settings, progress = self.settings, self._resumed(checkpoint)
        on_epoch(progress.epoch)
        while not progress.is_over(settings):
            progress.epoch = epoch = progress.epoch + 1
            self.optimizer.rate = settings.learning_rate * settings.decay ** (epoch - 1)
            loss = self._epoch(epoch)
            if not np.isfinite(loss):
                raise EncoreError(
                    f"the training loss of {self.heads.head_type.NAME} became {loss} in epoch {epoch}; "
                    f"a lower learning rate than {settings.learning_rate:g} may hold it"
                )
            score = self._validate()
            progress.history.append({"loss": loss, "validation": score[0], "validation_loss": -score[1]})
            on_epoch(1)
            if score > progress.best_score:  # by the metric, and by the loss where the metric is equal
                progress.best_score, progress.best_epoch = score, epoch
                progress.best = copy.deepcopy(self.network.state_dict())
                progress.last_progress = epoch
            if -score[1] < progress.least_loss * (1 - _LEAST_PROGRESS):
                # The metric jumps on few clips; while the loss still falls the network still learns.
                progress.least_loss, progress.last_progress = -score[1], epoch
            # One of several networks that is done waits for the others, whose training may be stopped.
            waits = settings.members > 1 and progress.is_over(settings)
            if checkpoint is not None and self.shards.world.rank == 0 and (waits or checkpoint.is_due):
                progress.seconds = time.perf_counter() - self.started
                weights = {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}
                checkpoint.save({"progress": vars(progress), **weights})
        return progress

    def _resumed(self, checkpoint: Checkpoint | None) -> _Progress:
        """Where a training that was stopped had come to, in the first process's eyes; else the beginning."""
        first = self.shards.world.rank == 0
        held = self.shards.world.tell(checkpoint.load() if checkpoint is not None and first else None)
        if held is None:
            return _Progress()
        self.network.load_state_dict(held["network"])
        self.optimizer.load_state_dict(held["optimizer"])
        progress = _Progress(**held["progress"])
        self.started -= progress.seconds
        return progress

    def _epoch(self, epoch: int) -> float:
        self.network.train()
        drop_edge = self.settings.drop_edge if "drop_edge" in self.heads.head_type.SETTINGS else 0.0
        draw = Draw(self.settings.neighbours, drop_edge, key(self.seed, epoch), self.names)
        stretches = torch.arange(len(self.shards.stretches))
        total = torch.zeros((), device=self.device)
        for number in bits(key(draw.key, "stretches"), stretches).argsort().tolist():
            total += self._train(number, draw)
        return float(self.shards.world.sum(total)) / len(self.train)

    def _train(self, number: int, draw: Draw) -> Tensor:
        """Train once on each training clip of a stretch; the sum of the losses of those held here."""
        stretch, batch = self.shards.stretches[number], self.settings.batch
        first, begin, end, last = self._among(self.train, stretch.first, stretch.begin, stretch.end, stretch.last)
        order = draw.streams(self.train[first:last], "order").argsort() - (begin - first)
        turns = ((order >= 0) & (order < end - begin)).nonzero().squeeze(1)  # those of the clips that are held here
        sizes = torch.bincount(turns // batch, minlength=-(-(last - first) // batch)).tolist()
        here = self.train[begin:end]
        total = torch.zeros((), device=self.device)
        if begin < end:
            head = self.heads(number)
            draw = replace(draw, names=self.names[stretch.begin : stretch.end])
            self.masks.streams = bits(key(draw.key, "dropout"), draw.names)
            head.start_epoch(here - stretch.begin, draw)
        for i, held in enumerate(torch.split(order[turns], sizes)):
            among = min(batch, last - first - i * batch)
            self.optimizer.zero_grad()
            if len(held):
                nodes = here[held] - stretch.begin
                total += self.add_gradients(head.training_inputs(nodes, held), nodes, self.wanted[here[held]], among)
            self.shards.world.sum_gradients(self.network)
            self.optimizer.step()
        return total

    def add_gradients(self, inputs: tuple[Tensor, ...], nodes: Tensor, wanted: Tensor, among: int) -> Tensor:
        """The sum of the losses of ``nodes``, whose mean over a step's ``among`` clips the gradients are of."""
        self.masks.nodes, self.masks.calls = nodes, 0
        loss = self.loss(self.network(*inputs), wanted)
        share = loss if len(nodes) == among else loss * (len(nodes) / among)
        share.backward()  # type: ignore[no-untyped-call]
        return loss.detach() * len(nodes)

    @staticmethod
    def _among(nodes: Tensor, *clips: int) -> list[int]:
        """Where in sorted ``nodes`` each of the clips would stand."""
        places: list[int] = torch.searchsorted(nodes, torch.tensor(clips, device=nodes.device)).tolist()
        return places

    def logits(self, nodes: Tensor) -> Tensor:
        """[nodes, labels] in scoring mode, of sorted clips, in every process."""
        self.network.eval()
        found = torch.zeros(len(nodes), self.targets.shape[1], device=self.device)
        with torch.inference_mode():
            for number, stretch in enumerate(self.shards.stretches):
                first, last = self._among(nodes, stretch.begin, stretch.end)
                for at in range(first, last, _SCORING_BATCH):
                    some = nodes[at : min(at + _SCORING_BATCH, last)]
                    found[at : at + len(some)] = self.network(*self.heads(number).inputs(some - stretch.begin))
        return self.shards.world.sum(found)

    def _validate(self) -> tuple[float, float]:
        logits = self.logits(self.watched)
        chosen = self.task.decide(self.task.activate(logits).cpu().numpy()).chosen
        truth = self.targets[self.watched].cpu().numpy()
        return self.task.main.measure(truth, chosen), -float(self.loss(logits, self.wanted[self.watched]))
