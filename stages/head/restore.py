"""Trained heads, back from the files of a run: they score clips of any collection with the same representation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stages import registry
from stages.head.collection import Collection
from stages.head.heads import CountedHead, Head, Spec, TrainedHead
from stages.head.layers import Mixture, build
from stages.head.saved import SavedHead
from stages.head.scores.prediction import Prediction
from stages.head.scores.task import TASKS, Task
from stages.head.scores.thresholds import of_clips
from stages.head.training.binder import Binder
from stages.head.training.stretches import Stretches
from stages.splits.regimes import Split
from store.errors import FormatError, RequestError
from store.layout import Store
from store.runs import RunFolder

_CPU = torch.device("cpu")
_TRUST_CLIPS = 4_096  # whose weights are computed at once


def restore(store: Store, folder: RunFolder, name: str) -> RestoredHead:
    """The head that a run left.

    Parameters
    ----------
    name : of the run's files, as `run_name` gives it: ``seed-0``.

    Raises
    ------
    RequestError
        where there is no such run, or no such mode.
    FormatError
        where its files are damaged, or of another version.
    """
    members: list[SavedHead] = []
    files = set(store.names(folder.path))
    while folder.head(name, len(members) + 1).rpartition("/")[2] in files:
        file = folder.head(name, len(members) + 1)
        members.append(SavedHead.from_bytes(store.read(file), store.files.show(file), folder.command()))
    if not members:
        raise RequestError(
            f"{store.files.show(folder.path)} holds no trained head {name}; train one: {folder.command()}"
        )
    return RestoredHead(tuple(members), store.files.show(folder.head(name)), folder.command())


@dataclass(frozen=True)
class RestoredHead:
    """A trained head: one network, or several whose scores are averaged.

    Attributes
    ----------
    members : its networks; `score` gives the mean of their scores.
    file, command : where it lies, and what trains it again, for messages.
    """

    members: tuple[SavedHead, ...]
    file: str
    command: str

    @property
    def labels(self) -> tuple[str, ...]:
        """What the columns of its scores are: labels, or the target whose number it estimates."""
        return tuple(self.members[0].labels)

    @property
    def target(self) -> str | None:
        """The numeric target that it estimates; None for one that chooses labels."""
        return None if self.task.CHOOSES else self.labels[0]

    @property
    def task(self) -> Task:
        task = TASKS.get(self.members[0].task)
        if task is None:
            raise FormatError(f"{self.file} is damaged: there is no task {self.members[0].task!r}")
        return task

    @property
    def head_type(self) -> type[Head]:
        head: type[Head] = registry.find("head", self.members[0].mode)
        return head

    @property
    def config(self) -> Any:
        """The settings of the head itself."""
        return self.spec(self.members[0]).config

    def trust(self, collection: Collection, split: Split, device: torch.device = _CPU) -> NDArray[np.float32] | None:
        """[clips] how much the artist's labels weigh (`TrainedHead.trust`), the mean over the networks; else None."""
        head_type = self.head_type
        if not issubclass(head_type, TrainedHead) or head_type.trust is TrainedHead.trust:
            return None
        stretches = Stretches(self._asked(collection).in_memory())
        parts = torch.split(torch.arange(len(collection), device=device), _TRUST_CLIPS)
        weights = []
        for member in self.members:
            binder, network = self._bind(head_type, member, stretches, split, device)
            head, inner = binder.any(), network.network if isinstance(network, Mixture) else network
            with torch.inference_mode():
                weight = [head.trust(inner, nodes) for nodes in parts]
            weights.append(torch.cat([each for each in weight if each is not None]).cpu().numpy())
        mean: NDArray[np.float32] = np.stack(weights).mean(axis=0, dtype=np.float32)
        return mean

    def score(self, collection: Collection, split: Split, device: torch.device = _CPU) -> Prediction:
        """Scores and decisions [clips, outputs] for every clip, in the order of `labels`.

        Artists are matched by id, not by number. Heads that count read the labels of clips in part 0 alone, and leave
        out a training clip's own label.

        Parameters
        ----------
        collection : the clips, which may carry other labels, few of them or none. A head with `Head.NEEDS_COLLECTION`
            gives its stored scores only on the whole collection; others need the clips of whole artists.
        split : [clips] 0 for clips that the head was trained on; any other number for clips that it was not.

        Raises
        ------
        RequestError
            where the representations are not those that it reads.
        """
        self._check(collection)
        collection = self._asked(collection)
        if issubclass(self.head_type, TrainedHead):
            stretches = Stretches(collection.in_memory())
            each = [self._network_scores(self.head_type, member, stretches, split, device) for member in self.members]
            prediction = self.task.decide(np.stack(each).mean(axis=0, dtype=np.float32))
        else:
            prediction = self._counted(collection, split)
        limits = self.limits(collection, split)
        return prediction if limits is None else self.task.decide(prediction.score, limits)

    def limits(self, collection: Collection, split: Split) -> NDArray[np.float64] | None:
        """[clips, labels] the scores above which labels are chosen; None where no threshold decides."""
        member = self.members[0]
        if member.threshold is None:
            return None
        threshold = np.broadcast_to(np.array(member.threshold), (len(collection), len(member.threshold)))
        if member.stranger_threshold is None:
            return threshold
        strangers = self.head_type.strangers(self._asked(collection), split, member.facts)
        return threshold if strangers is None else of_clips(threshold, strangers, member.stranger_threshold)

    def _asked(self, collection: Collection) -> Collection:
        """The collection with the outputs of the head."""
        if collection.target != self.target:
            raise RequestError(f"{self.file} estimates {self.target or 'labels'}, not {collection.target or 'labels'}")
        return collection.with_labels(self.labels)

    def _network_scores(
        self, head_type: type[TrainedHead], member: SavedHead, stretches: Stretches, split: Split, device: torch.device
    ) -> np.ndarray[Any, np.dtype[np.float32]]:
        binder, network = self._bind(head_type, member, stretches, split, device)
        scores: np.ndarray[Any, np.dtype[np.float32]] = binder.refined(binder.scores(network)).cpu().numpy()
        return scores

    def _bind(
        self, head_type: type[TrainedHead], member: SavedHead, stretches: Stretches, split: Split, device: torch.device
    ) -> tuple[Binder, nn.Module]:
        """A network of the head with its weights, and the head on the clips."""
        assert member.shift is not None
        assert member.scale is not None
        standardised = member.shift.to(device), member.scale.to(device)
        binder = Binder(head_type, stretches, split, self.spec(member), device, standardised)
        network = self._network(head_type, member, device)
        binder.mix(network)
        return binder, network

    def _network(self, head_type: type[TrainedHead], member: SavedHead, device: torch.device) -> nn.Module:
        """Built once a device, since songs are often scored one after another."""
        assert member.network is not None
        key = id(member), str(device)
        if key not in self._networks:
            network = build(head_type, self.spec(member)).to(device)
            try:
                network.load_state_dict(member.network)
            except RuntimeError as error:
                reason = " ".join(str(error).split())
                raise FormatError(
                    f"{self.file} does not fit the head {member.mode} of this version ({reason}); train it again: "
                    f"{self.command}"
                ) from error
            self._networks[key] = network.eval()
        return self._networks[key]

    @cached_property
    def _networks(self) -> dict[tuple[int, str], nn.Module]:
        return {}

    def _counted(self, collection: Collection, split: Split) -> Prediction:
        (member,) = self.members
        assert issubclass(self.head_type, CountedHead)
        predictions = self.head_type(collection.masked(split), split, self.spec(member)).score()
        return predictions[member.rule or ""]

    def spec(self, member: SavedHead) -> Spec:
        """What one of its networks is made from."""
        try:
            config = self.head_type.Config(**member.config)
        except TypeError as error:
            raise FormatError(
                f"{self.file} has other settings than the head {member.mode} of this version: {error}; train it "
                f"again: {self.command}"
            ) from error
        try:
            task = replace(self.task, **member.fitted)
        except TypeError as error:
            raise FormatError(f"{self.file} is damaged: {error}; train it again: {self.command}") from error
        return Spec(member.dim, task.outputs(member.labels), task, config, member.facts)

    def _check(self, collection: Collection) -> None:
        representation = self.members[0].representation
        if representation is None:
            return
        if collection.backbone != representation or collection.dim != self.members[0].dim:
            other = collection.backbone or "none"
            raise RequestError(
                f"{self.file} reads representations {representation}, {self.members[0].dim} numbers each, and these "
                f"are {other}; encode the songs with the same backbone, settings and weights"
            )
