"""A head, bound to what is in memory of a collection, and the scores of its network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stages.head.heads import Spec, TrainedHead
from stages.head.layers import LAYERS, Mixture
from stages.head.random import key, seeded
from stages.head.settings import Settings
from stages.head.training.axes import AXES, SAMPLED, principal_axes
from stages.head.training.stretches import Stretches, moments, standard
from stages.splits.regimes import Split

_SCORING_BATCH = 4096
_BINDING, _SCORING = key("binding"), key("scoring with torch")  # streams of torch's own generator


class Binder:
    """A head on one stretch of a collection after another.

    Parameters
    ----------
    split : [clips] the part of each clip of the whole collection.
    spec, shift, scale : of a head that was trained before; see `learn` for a new one.

    Attributes
    ----------
    masked : the whole collection, with the labels of training clips alone.
    shift, scale : [dim] what is taken from each representation, and what the rest is multiplied by; None for nothing.
    """

    def __init__(
        self,
        head_type: type[TrainedHead],
        stretches: Stretches,
        split: Split,
        spec: Spec,
        device: torch.device,
        standardised: tuple[Tensor, Tensor] | None,
    ) -> None:
        self.head_type, self.stretches, self.split, self.device = head_type, stretches, split, device
        self.spec = spec
        self.standardised = standardised
        self.masked = stretches.collection.masked(split)
        self._bound: tuple[int, TrainedHead] | None = None
        self._mixture: Mixture | None = None
        self._is_outdated = False  # whether what is bound reads an earlier mixture
        self._read: tuple[int, Tensor] | None = None

    @classmethod
    def learn(
        cls,
        head_type: type[TrainedHead],
        stretches: Stretches,
        split: Split,
        config: Any,
        settings: Settings,
        device: torch.device,
    ) -> Binder:
        """A binder for a head that is to be trained; learns what the head must know of the collection."""
        collection = stretches.collection
        task = collection.task.fitted(collection.truth[split == 0], settings.target_scale)
        spec = Spec(collection.dim, task.outputs(collection.outputs), task, config, {})
        mixed = {LAYERS: collection.layers} if collection.layers > 1 else {}
        standardised = _standardised(stretches, split, device) if settings.standardise else None
        binder = cls(head_type, stretches, split, spec, device, standardised)
        with seeded(_BINDING, device):
            axes = None if mixed else head_type.axes(config, collection.dim, int((split == 0).sum()))
            turned = {} if axes is None else {AXES: binder._principal_axes(axes)}
            binder.spec = replace(spec, facts=turned)
            # Layers that are mixed before are kept, to be mixed again and again.
            read = binder.layers if mixed and head_type.IS_DIFFERENTIABLE else binder.representations
            x = read(0) if stretches.whole else None
            facts = head_type.learn(binder.masked, x, split, config)
            binder.spec = replace(spec, facts={**facts, **mixed, **turned})
        return binder

    def _principal_axes(self, count: int) -> Tensor:
        """[dim, count] those of the training clips, the same in every process."""
        axes = principal_axes(self._sample(), count).cpu()
        return self.stretches.processes.broadcast(axes).to(self.device)

    def _sample(self) -> Tensor:
        """[sampled, dim] training clips from all over the collection, in every process."""
        train = torch.from_numpy(np.flatnonzero(self.split == 0))
        train = train[:: -(-len(train) // SAMPLED)]
        sample = torch.zeros(len(train), self.spec.dim, device=self.device)
        for number, stretch in enumerate(self.stretches.stretches):
            first, last = places(train, stretch.begin, stretch.end)
            if first < last:
                some = (train[first:last] - stretch.begin).to(self.device)
                sample[first:last] = self.representations(number)[some]
        return self.stretches.processes.all_reduce(sample)

    def calibrate(self, scores: Tensor) -> None:
        """Learn what the head wants to know of the trained network's scores for all clips."""
        facts = self.head_type.calibrate(scores, self.masked, self.split)
        self.spec = replace(self.spec, facts={**self.spec.facts, **facts})

    def refined(self, scores: Tensor) -> Tensor:
        """[clips, outputs] the final scores of all clips, from the network's."""
        return self.head_type.refine(scores, self.masked, self.split, self.spec)

    def any(self) -> TrainedHead:
        """The head on the stretch that is at hand, or the first of which this process holds anything."""
        if self._bound is not None:
            return self(self._bound[0])
        stretches = self.stretches.stretches
        return self(next(i for i, stretch in enumerate(stretches) if stretch.begin < stretch.end))

    def mix(self, network: nn.Module) -> None:
        """Of layers that are mixed before the head gathers, it reads the mixture as it is now, made once a stretch.

        While the network learns, gradients can be asked of what the head gathers: they arrive at its ``x``.
        """
        if isinstance(network, Mixture) and network.is_mixed_first:
            self._mixture, self._is_outdated = network, True

    def __call__(self, number: int) -> TrainedHead:
        """The head on a stretch."""
        if self._bound is not None and self._bound[0] != number:
            self._bound = None  # lets go of the last one's memory before the next is read
        if self._bound is None or self._is_outdated:
            with torch.inference_mode(False):  # what is prepared while scoring is learnt from in the next epoch
                self._bound, self._is_outdated = (number, self._bind(number)), False
        return self._bound[1]

    def _bind(self, number: int) -> TrainedHead:
        mixture = self._mixture
        if mixture is None:
            return self._head(number, self.representations(number), self.spec)
        if self._bound is not None:
            head: TrainedHead | None = self._bound[1]
        elif self.head_type.COMPARES:
            head = self._head(number, self.layers(number), self.spec)
        else:
            head = None
        with torch.no_grad():
            x = mixture.mixed(self.layers(number))
        x.requires_grad_(mixture.training)
        if head is None:
            return self._head(number, x, replace(self.spec, dim=mixture.dim))
        with seeded(_BINDING, self.device):
            return head.reading(x)

    def _head(self, number: int, x: Tensor, spec: Spec) -> TrainedHead:
        clips, split, stretch = self.masked, self.split, self.stretches.stretches[number]
        if not self.stretches.whole:
            clips = clips.part(stretch.begin, stretch.end)
            split = split[stretch.begin : stretch.end]
        with seeded(_BINDING, self.device):
            return self.head_type(clips, x, split, spec)

    def layers(self, number: int) -> Tensor:
        """`representations` with all layers, kept until those of another stretch are asked for."""
        if self._read is None or self._read[0] != number:
            self._read = None
            self._read = number, self.representations(number)
        return self._read[1]

    def representations(self, number: int) -> Tensor:
        """[clips, dim] those of a stretch on the device, as the network sees them."""
        raw = self.stretches.clips(number).x
        assert raw is not None
        x, axes = raw.to(self.device), self.spec.facts.get(AXES)
        if self.standardised is not None:
            shift, scale = self.standardised
            x = (x - shift).mul_(scale)
        return x if axes is None else x @ axes.to(self.device)

    def logits(self, network: nn.Module, nodes: Tensor, times: int = 1) -> Tensor:
        """[nodes, times * outputs] what the network gives for sorted clips in scoring mode, in every process."""
        network.eval()
        outputs = torch.zeros(len(nodes), times * self.spec.outputs, device=self.device)
        with torch.inference_mode(), seeded(_SCORING, self.device):
            for number, stretch in enumerate(self.stretches.stretches):
                first, last = places(nodes, stretch.begin, stretch.end)
                for at in range(first, last, _SCORING_BATCH):
                    some = nodes[at : min(at + _SCORING_BATCH, last)]
                    outputs[at : at + len(some)] = network(*self(number).inputs(some - stretch.begin))
        return self.stretches.processes.all_reduce(outputs)

    def scores(self, network: nn.Module) -> Tensor:
        """[clips, outputs] the activated outputs for all clips, before the head refines them."""
        return self.spec.task.activate(self.logits(network, torch.arange(len(self.masked), device=self.device)))


def places(nodes: Tensor, *clips: int) -> list[int]:
    """Where in sorted ``nodes`` each of the clips would stand."""
    positions: list[int] = torch.searchsorted(nodes, torch.tensor(clips, device=nodes.device)).tolist()
    return positions


def _standardised(stretches: Stretches, split: Split, device: torch.device) -> tuple[Tensor, Tensor]:
    """Shift and scale by the training clips' mean and deviation."""
    sums = torch.zeros(2, stretches.collection.dim, dtype=torch.float64)
    for number, stretch in enumerate(stretches.stretches):
        nodes = np.flatnonzero(split[stretch.begin : stretch.end] == 0)
        if len(nodes):
            x = stretches.clips(number).x
            assert x is not None
            sums += moments(x, nodes)
    sums = stretches.processes.all_reduce(sums.to(device)).cpu()
    shift, scale = standard(sums, int((split == 0).sum()))
    return shift.to(device), scale.to(device)
