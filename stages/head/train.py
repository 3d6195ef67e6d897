"""The one training loop: epochs, early stopping, learning rate, seeds, for every head that is a network."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stages.head import metrics
from stages.head.collection import Collection
from stages.head.heads import Draw, Prediction, TrainedHead
from stages.head.losses import Loss
from stages.head.settings import Settings
from stages.splits import PARTS, Split
from store.errors import EncoreError, RequestError

_SCORING_BATCH = 4096
_LEAST_PROGRESS = 0.002  # a loss that falls by less than this share no longer counts as falling
_ONE_THREAD_FLOPS = 1e8  # below so much work a step, a second thread waits longer than it helps


@dataclass(frozen=True)
class Trained:
    """A trained network and what it says of every clip.

    Attributes
    ----------
    state : the network's weights after ``best_epoch`` (counted from 1).
    shift, scale : [dim] what was taken from the representations and what they were multiplied by, before the network.
    history : epoch by epoch the training loss, the validation score and the validation loss.
    remark : what the head says of how it was done (`TrainedHead.remark`).
    """

    state: dict[str, Tensor]
    shift: Tensor
    scale: Tensor
    prediction: Prediction
    history: list[dict[str, float]]
    best_epoch: int
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
) -> Trained:
    """Train a head on part 0, stop by part 1, and score every clip once.

    Equal arguments give equal results on one machine. The loss is that of `stages.head.losses`.

    Parameters
    ----------
    part : [clips] 0 train, 1 validation, 2 test, -1 none.
    on_epoch : called with 1 after each epoch.
    """
    started = time.perf_counter()
    if data.x is None:
        raise ValueError("this collection was loaded without representations")
    for i, name in enumerate(PARTS[:2]):
        if not (part == i).any():
            raise RequestError(f"the {name} part of this split is empty")
    nodes = torch.from_numpy(np.flatnonzero(part == 0)).to(device)
    watched = torch.from_numpy(np.flatnonzero(part == 1)).to(device)
    x = data.x.to(device)
    shift, scale = standard(x, nodes) if settings.standardise else (x.new_zeros(x.shape[1]), x.new_ones(x.shape[1]))
    if settings.standardise:
        x = (x - shift).mul_(scale)
    targets = torch.from_numpy(data.targets).to(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        head = head_type(data.shown(part), x, part, settings)
        network = head.build().to(device)
        loss = Loss(targets[nodes], data.multi_label, settings)
        loop = _Loop(head, network, targets, data.multi_label, settings, loss, seed)
        with _threads(network, settings.batch):
            history, best, best_epoch = loop.run(nodes, watched, on_epoch)
    network.load_state_dict(best)
    everything = torch.arange(len(data), device=device)
    score = head.refine(likelihood(loop.logits(everything), data.multi_label))
    prediction = decide(score, data.multi_label)
    state = {key: value.cpu() for key, value in best.items()}
    seconds = time.perf_counter() - started
    return Trained(state, shift.cpu(), scale.cpu(), prediction, history, best_epoch, seconds, head.remark)


@contextmanager
def _threads(network: nn.Module, batch: int) -> Iterator[None]:
    """One thread for steps so small that more would only wait for each other."""
    before = torch.get_num_threads()
    layers = (layer for layer in network.modules() if isinstance(layer, nn.Linear))
    flops = 6 * batch * sum(layer.weight.numel() for layer in layers)
    torch.set_num_threads(1 if flops < _ONE_THREAD_FLOPS else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Loop:
    def __init__(
        self,
        head: TrainedHead,
        network: nn.Module,
        targets: Tensor,
        multi_label: bool,
        settings: Settings,
        loss: Loss,
        seed: int,
    ) -> None:
        self.head, self.network, self.targets, self.settings = head, network, targets, settings
        self.multi_label, self.loss = multi_label, loss
        self.generator = torch.Generator(targets.device).manual_seed(seed)
        self.wanted = targets.float() if multi_label else targets.long().argmax(dim=1)
        self.optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, fused=True)
        self.schedule = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, settings.decay)

    def run(
        self, nodes: Tensor, watched: Tensor, on_epoch: Callable[[int], None]
    ) -> tuple[list[dict[str, float]], dict[str, Tensor], int]:
        history: list[dict[str, float]] = []
        best: dict[str, Tensor] = {}
        best_score, best_epoch = (-1.0, 0.0), 0
        least_loss, last_progress = float("inf"), 0
        for epoch in range(1, self.settings.epochs + 1):
            loss = self._epoch(nodes)
            if not np.isfinite(loss):
                raise EncoreError(
                    f"the training loss of {self.head.NAME} became {loss} in epoch {epoch}; "
                    f"a lower learning rate than {self.settings.learning_rate:g} may hold it"
                )
            score = self._validate(watched)
            history.append({"loss": loss, "validation": score[0], "validation_loss": -score[1]})
            on_epoch(1)
            if score > best_score:  # by the metric, and by the loss where the metric is equal
                best_score, best_epoch = score, epoch
                best = copy.deepcopy(self.network.state_dict())
                last_progress = epoch
            if -score[1] < least_loss * (1 - _LEAST_PROGRESS):
                # The metric jumps on few clips; while the loss still falls the network still learns.
                least_loss, last_progress = -score[1], epoch
            if epoch - last_progress >= self.settings.patience:
                break
            self.schedule.step()
        return history, best, best_epoch

    def _epoch(self, nodes: Tensor) -> float:
        self.network.train()
        drop_edge = self.settings.drop_edge if self.head.DROPS_EDGES else 0.0
        self.head.start_epoch(nodes, Draw(self.settings.neighbours, drop_edge, self.generator))
        order = torch.randperm(len(nodes), generator=self.generator, device=nodes.device)
        total = torch.zeros((), device=nodes.device)
        for places in torch.split(order, self.settings.batch):
            batch = nodes[places]
            logits = self.network(*self.head.training_inputs(batch, places))
            loss = self.loss(logits, self.wanted[batch])
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            total += loss.detach() * len(batch)
        return float(total) / len(nodes)

    def logits(self, nodes: Tensor) -> Tensor:
        """[nodes, labels] in scoring mode."""
        self.network.eval()
        with torch.inference_mode():
            return torch.cat([self.network(*self.head.inputs(batch)) for batch in torch.split(nodes, _SCORING_BATCH)])

    def _validate(self, nodes: Tensor) -> tuple[float, float]:
        logits = self.logits(nodes)
        found = choose(logits, self.multi_label)
        truth = self.targets[nodes].cpu().numpy()
        watch = metrics.micro_f1 if self.multi_label else metrics.exact
        return watch(truth, found.chosen), -float(self.loss(logits, self.wanted[nodes]))


def choose(logits: Tensor, multi_label: bool) -> Prediction:
    """Scores and decisions from logits [clips, labels]."""
    return decide(likelihood(logits, multi_label), multi_label)


def likelihood(logits: Tensor, multi_label: bool) -> Tensor:
    """How likely each label is [clips, labels]: each by itself where clips carry several, else one of all."""
    return torch.sigmoid(logits) if multi_label else torch.softmax(logits, dim=1)


def decide(score: Tensor, multi_label: bool) -> Prediction:
    """Every label above one half, or the one most likely label."""
    found = score.cpu().numpy()
    if multi_label:
        return Prediction(found, found > 0.5)
    chosen = np.zeros(found.shape, dtype=bool)
    chosen[np.arange(len(found)), found.argmax(axis=1)] = True
    return Prediction(found, chosen)


def standard(x: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor]:
    """Shift and scale [dim] that give ``nodes`` mean 0 and deviation 1; what is constant there is scaled to zero."""
    mean = torch.zeros(x.shape[1], device=x.device, dtype=torch.float64)
    square = torch.zeros_like(mean)
    for batch in torch.split(nodes, _SCORING_BATCH):  # in parts: no second copy of x in double precision
        rows = x[batch].double()
        mean += rows.sum(dim=0)
        square += (rows * rows).sum(dim=0)
    mean /= len(nodes)
    deviation = (square / len(nodes) - mean * mean).clamp(min=0).sqrt()
    scale = torch.where(deviation > 1e-6 * (1 + mean.abs()), 1 / deviation, 0.0)
    return mean.float(), scale.float()


def evaluate(prediction: Prediction, data: Collection, part: Split, which: int = 2) -> dict[str, Any]:
    """The metrics over the clips of one part, each scored once."""
    nodes = part == which
    return metrics.scores(
        data.targets[nodes], prediction.chosen[nodes], prediction.score[nodes], multi_label=data.multi_label
    )
