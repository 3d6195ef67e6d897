"""The one training loop: epochs, early stopping, learning rate, seeds, for every head that is a network."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stages.head import layers
from stages.head.collection import Collection
from stages.head.heads import Draw, Spec, TrainedHead
from stages.head.heads._layers import Dropout, DropoutMasks
from stages.head.random import bits, key, seeded
from stages.head.scores.prediction import Prediction
from stages.head.settings import Settings
from stages.head.training.adam import Adam
from stages.head.training.average import Average
from stages.head.training.binder import Binder, places
from stages.head.training.checkpoint import Checkpoint
from stages.head.training.losses import Loss, crowd_out
from stages.head.training.pool import pool_of
from stages.head.training.progress import Progress
from stages.head.training.stretches import Stretches
from stages.head.training.threads import threads
from stages.memory import keep_freed_memory
from stages.splits.regimes import PARTS, Split
from store.errors import EncoreError, RequestError

_LEAST_PROGRESS = 0.002  # a loss that falls by less than this share no longer counts as falling


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained network, and its scores for every clip.

    Attributes
    ----------
    spec : what the network is made from, with all that the head learnt of the collection.
    state : its weights after ``best_epoch`` (counted from 1).
    shift, scale : [dim] what was taken from the representations and what they were multiplied by, before the network.
    history : epoch by epoch the training loss, the validation score and the validation loss.
    seconds : of the training, those before it was stopped and resumed included.
    others : the network after its next best epochs (`Settings.checkpoints`), without history and seconds.
    remark : what a table should say of how it was done (`TrainedHead.remark`).
    """

    spec: Spec
    state: dict[str, Tensor]
    shift: Tensor
    scale: Tensor
    prediction: Prediction
    history: list[dict[str, float]]
    best_epoch: int
    seconds: float
    remark: str = ""
    others: tuple[TrainedNetwork, ...] = ()


def train(
    head_type: type[TrainedHead],
    collection: Collection,
    split: Split,
    config: Any,
    settings: Settings,
    *,
    seed: int,
    device: torch.device,
    on_epoch: Callable[[int], None] = lambda _epoch: None,
    stretches: Stretches | None = None,
    checkpoint: Checkpoint | None = None,
) -> TrainedNetwork:
    """Train a head on part 0, stop by part 1, and score every clip once.

    Equal arguments give equal bits on one machine, also where the training was stopped and resumed (on a GPU for all
    heads but `gat` and `gcnii`, which say why): torch's generators are seeded for the weights, for each epoch and for
    scoring. The loss is that of `stages.head.training.losses`.

    Parameters
    ----------
    split : [clips] 0 train, 1 validation, 2 test, -1 none.
    config, settings : the head's own settings, and those of the training.
    on_epoch : called after each epoch with the number of epochs done.
    stretches : how ``collection`` is shared among processes, or read in stretches; all in memory, here, where None.
        Several processes give what one gives, but for the order in which floats are summed. With several stretches a
        step's clips come from one stretch, and the stretches from an order drawn anew in each epoch.
    checkpoint : where the state of an unfinished training is kept, and resumed from.
    """
    start_s = time.perf_counter()
    stretches = stretches or Stretches(collection.in_memory())
    for i, name in enumerate(PARTS[:2]):
        if not (split == i).any():
            raise RequestError(f"the {name} part of this split is empty")
    stretches.check(head_type)
    binder = Binder.learn(head_type, stretches, split, config, settings, device)
    with seeded(seed, device):
        network = layers.build(head_type, binder.spec).to(device)
    loop = loop_of(binder, network, settings, seed, start_s)
    keep_freed_memory(largest=1 << 25)
    solved = bool(head_type.penalties(config))
    with threads(network, len(collection) if solved else min(settings.batch, len(collection))):
        progress = loop.run(on_epoch, checkpoint)
    best, *others = (_trained(binder, network, entry, config, device) for entry in progress.kept)
    return replace(best, history=progress.history, seconds=time.perf_counter() - loop.start_s, others=tuple(others))


def loop_of(binder: Binder, network: nn.Module, settings: Settings, seed: int, start_s: float = 0.0) -> Loop:
    """The training of a network: the loop of steps, or one that builds on it."""
    from stages.head.training.mixing import Mixing, SolvedMixing
    from stages.head.training.solved import Solved

    mixes = isinstance(network, layers.Mixture) and network.is_mixed_first
    if binder.head_type.penalties(binder.spec.config):
        kind: type[Loop] = SolvedMixing if mixes else Solved
    else:
        kind = Mixing if mixes else Loop
    return kind(binder, network, settings, seed, start_s)


def _trained(
    binder: Binder, network: nn.Module, entry: dict[str, Any], config: Any, device: torch.device
) -> TrainedNetwork:
    """The network as it was after one of its epochs, and its scores."""
    network.load_state_dict(entry["network"])
    binder.mix(network)
    scores = binder.scores(network)
    binder.calibrate(scores)
    shift, scale = binder.standardised or (torch.zeros(binder.spec.dim), torch.ones(binder.spec.dim))
    remarks = binder.head_type.remark(binder.masked, config, device), layers.remark(entry["network"])
    return TrainedNetwork(
        spec=binder.spec,
        state={name: value.cpu() for name, value in entry["network"].items()},
        shift=shift.cpu(),
        scale=scale.cpu(),
        prediction=binder.spec.task.decide(binder.refined(scores).cpu().numpy()),
        history=[],
        best_epoch=entry["epoch"],
        seconds=0.0,
        remark="; ".join(filter(None, remarks)),
    )


class Loop:
    """The training of one network, epoch by epoch.

    Parameters
    ----------
    start_s : when it would have begun, had it never been stopped.
    """

    def __init__(self, binder: Binder, network: nn.Module, settings: Settings, seed: int, start_s: float = 0.0) -> None:
        self.start_s = start_s
        self.binder, self.network, self.settings, self.seed = binder, network, settings, seed
        self.stretches, self.device = binder.stretches, binder.device
        collection, self.task = self.stretches.collection, binder.spec.task
        self.rows = torch.from_numpy(collection.rows).to(self.device)
        self.answers, self.artist = (torch.from_numpy(a).to(self.device) for a in (collection.truth, collection.artist))
        self.truth = self.task.target(self.answers)
        train, self.validation = (
            torch.from_numpy(np.flatnonzero(binder.split == part)).to(self.device) for part in (0, 1)
        )
        self.train = train if settings.undersample is None else self._undersampled(train, settings.undersample)
        self.loss = Loss(self.answers[self.train], self.task, self.settings)
        self.masks = DropoutMasks(self.rows, self.rows)
        for layer in network.modules():
            if isinstance(layer, Dropout):
                layer.masks = self.masks
        self.pool = pool_of(network)
        self.optimizer = Adam(network.parameters(), self.settings.learning_rate, self.settings.weight_decay)
        self.average = Average(network, binder.head_type.averaging(binder.spec.config))
        self.passes = -(-settings.steps // -(-len(self.train) // settings.batch))

    def _undersampled(self, train: Tensor, most: float) -> Tensor:
        """Those of the sorted training clips that are trained on, drawn by the seed and their catalog rows."""
        streams = bits(key(self.seed, "undersample"), self.rows[train])
        rest = crowd_out(self.truth[train].squeeze(1).cpu(), streams.cpu(), most)
        return train[rest.to(self.device)]

    def run(self, on_epoch: Callable[[int], None], checkpoint: Checkpoint | None) -> Progress:
        settings, progress = self.settings, self._resumed(checkpoint)
        on_epoch(progress.epoch)
        while not progress.is_over(settings):
            self.advance(progress)
            on_epoch(1)
            # One of several networks that is done waits for the others, whose training may be stopped.
            waits = settings.members > 1 and progress.is_over(settings)
            if checkpoint is not None and self.stretches.processes.rank == 0 and (waits or checkpoint.is_due):
                progress.seconds = time.perf_counter() - self.start_s
                states = {name: part.state_dict() for name, part in self.parts().items()}
                checkpoint.save({"progress": vars(progress), **states})
        return progress

    def parts(self) -> dict[str, Any]:
        """By name what changes from step to step, and is kept for resuming."""
        return {"network": self.network, "optimizer": self.optimizer, "average": self.average}

    def advance(self, progress: Progress) -> None:
        """Train one more epoch and validate."""
        progress.epoch = epoch = progress.epoch + 1
        rate = self.settings.learning_rate
        self.optimizer.rate = rate * self.settings.decay ** (epoch - 1)
        with seeded(key(self.seed, epoch, "torch"), self.device):
            loss = self._epoch(epoch)
        if not np.isfinite(loss):
            raise EncoreError(
                f"the training loss of {self.binder.head_type.NAME} became {loss} in epoch {epoch}; "
                f"a lower learning rate than {rate:g} may hold it"
            )
        with self.average.swapped():
            score = self._validate()
            if self._keep(progress, score):
                progress.last_progress = epoch
        progress.history.append({"loss": loss, "validation": score[0], "validation_loss": -score[1]})
        if -score[1] < progress.least_loss * (1 - _LEAST_PROGRESS):
            # The metric jumps on few clips; while the loss still falls the network still learns.
            progress.least_loss, progress.last_progress = -score[1], epoch

    def _keep(self, progress: Progress, score: tuple[float, float]) -> bool:
        """Keep the weights where this epoch is one of the best so far; whether it is the best, of equals the first."""
        entries, rank = progress.kept, self._rank(score)
        if math.isnan(sum(rank)):
            rank = -math.inf, -math.inf
        place: int = sum(each["rank"] >= rank for each in entries)
        if place < self.settings.checkpoints:
            weights = copy.deepcopy(self.network.state_dict())
            entries.insert(place, {"epoch": progress.epoch, "rank": rank, "network": weights})
            del entries[self.settings.checkpoints :]
        return bool(place == 0)

    def _rank(self, score: tuple[float, float]) -> tuple[float, float]:
        """What the best epoch has most of: the metric, and less of the loss where the metric is equal."""
        return score

    def _resumed(self, checkpoint: Checkpoint | None) -> Progress:
        """The progress of a training that was stopped, as the first process finds it; else the beginning."""
        processes = self.stretches.processes
        state = processes.broadcast(checkpoint.load() if checkpoint is not None and processes.rank == 0 else None)
        if state is None:
            return Progress()
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        progress = Progress(**state["progress"])
        self.start_s -= progress.seconds
        return progress

    def _epoch(self, epoch: int) -> float:
        self.network.train()
        numbers = torch.arange(len(self.stretches.stretches))
        total = torch.zeros((), device=self.device)
        for turn in range(self.passes):
            draw = Draw(key(self.seed, epoch, *([turn] if turn else [])), self.rows)
            for number in bits(key(draw.key, "stretches"), numbers).argsort().tolist():
                total += self._train(number, draw)
        return float(self.stretches.processes.all_reduce(total)) / (len(self.train) * self.passes)

    def _train(self, number: int, draw: Draw) -> Tensor:
        """Train once on each training clip of a stretch; the sum of the losses of this process's share."""
        stretch, batch = self.stretches.stretches[number], self.settings.batch
        first, begin, end, last = places(self.train, stretch.first, stretch.begin, stretch.end, stretch.last)
        order = draw.streams(self.train[first:last], "order").argsort() - (begin - first)
        turns = ((order >= 0) & (order < end - begin)).nonzero().squeeze(1)  # those of the clips of this process
        sizes = torch.bincount(turns // batch, minlength=-(-(last - first) // batch)).tolist()
        nodes = self.train[begin:end]
        total = torch.zeros((), device=self.device)
        if begin < end:
            head = self.binder(number)
            draw = replace(draw, rows=self.rows[stretch.begin : stretch.end])
            self.masks.streams = bits(key(draw.key, "dropout"), draw.rows)
            head.start_epoch(nodes - stretch.begin, draw)
        for i, step in enumerate(torch.split(order[turns], sizes)):
            clips = min(batch, last - first - i * batch)
            self.optimizer.zero_grad()
            if len(step):
                some = nodes[step]
                inputs = self.gather(head, some - stretch.begin, step)
                total += self.add_gradients(inputs, some - stretch.begin, self.truth[some], clips)
            self.stretches.processes.all_reduce_gradients(self.network)
            self.optimizer.step()
            self.average.step()
        return total

    def gather(self, head: TrainedHead, nodes: Tensor, places: Tensor) -> tuple[Tensor, ...]:
        """What the network reads in a step."""
        return head.training_inputs(nodes, places)

    def add_gradients(self, inputs: tuple[Tensor, ...], nodes: Tensor, truth: Tensor, clips: int) -> Tensor:
        """The sum of the losses of ``nodes``; the gradients are those of the mean over a step's ``clips`` clips."""
        self.masks.nodes, self.masks.calls = nodes, 0
        outputs = self.network(*inputs)
        if self.pool is not None:
            outputs, truth = outputs.flatten(0, 1), torch.cat([truth] * len(outputs))
        loss = self.loss(outputs, truth)
        share = loss if len(nodes) == clips else loss * (len(nodes) / clips)
        self.backward(share)
        return loss.detach() * len(nodes)

    def backward(self, loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    def _validate(self) -> tuple[float, float]:
        """The main metric, and the loss with its sign turned: of both more is better."""
        if self.pool is not None:
            with self.pool.apart():
                outputs = self.binder.logits(self.network, self.validation, len(self.pool.weights))
            self.pool.fit(outputs, self.truth[self.validation], self.artist[self.validation], self.loss.terms)
        logits = self.binder.logits(self.network, self.validation)
        scores, truth = self.task.activate(logits).cpu().numpy(), self.answers[self.validation].cpu().numpy()
        decision = self.task.decide(scores, self.task.thresholds(self.settings.threshold, truth, scores)).decision
        score = self.task.main.measure(truth, decision)
        # Where these clips do not define the metric the loss alone decides.
        return -math.inf if math.isnan(score) else score, -float(self.loss(logits, self.truth[self.validation]))
