"""Heads: one file each, found by listing this folder; MODE names one.

A head is given a collection and a split and says how likely each label is for any clip. Heads that are
networks say only what their network reads and looks like; how they are trained stands in `stages.head.training.loop`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from stages.head.collection import Collection
from stages.head.graph.cliques import CliqueGraph
from stages.head.modes import Rule
from stages.head.random import bits, key
from stages.head.scores.prediction import Prediction
from stages.head.settings import Settings
from stages.splits.regimes import Split

# Settings that not every trained head reads.
OWN_SETTINGS = frozenset({"hidden", "dropout", "neighbours", "neighbours_inference", "drop_edge", "side", "index"})


class Head(ABC):
    """What is common to all heads.

    Class attributes
    ----------------
    NAME, TITLE : what a user types as MODE, and one line of what it is.
    RULES : the rules by which it decides, by their names, where it has several.
    CITATION : where it comes from.
    READS_SONGS : whether it reads representations at all.
    READS_ARTISTS : whether it says nothing of its own where no artist is known.
    READS_NEIGHBOURS : whether other clips' representations take part in a clip's score.
    INDUCTIVE : whether it can do with those of training clips alone (``Settings.inductive``).
    BY_ARTIST : whether a clip's score needs no representations but those of its own artist's clips, so that artists can
        be trained apart: in several processes, or one stretch of a large collection after another.
    SETTINGS : which of the settings that are not everyone's (`OWN_SETTINGS`) it reads.
    """

    NAME: ClassVar[str]
    RULES: ClassVar[Mapping[str, Rule]] = {}
    TITLE: ClassVar[str]
    CITATION: ClassVar[str]
    READS_SONGS: ClassVar[bool] = True
    READS_ARTISTS: ClassVar[bool] = False
    READS_NEIGHBOURS: ClassVar[bool] = False
    INDUCTIVE: ClassVar[bool] = False
    BY_ARTIST: ClassVar[bool] = False
    SETTINGS: ClassVar[frozenset[str]] = frozenset()


class CountedHead(Head):
    """A head without a network: it counts, and is done."""

    def predict(self, data: Collection, part: Split) -> dict[str, Prediction]:
        """A prediction for every clip by each rule of the head (an only rule is ""), from the clips of part 0 alone."""
        return self.count(data.shown(part), part)

    @abstractmethod
    def count(self, data: Collection, part: Split) -> dict[str, Prediction]:
        """What `predict` gives; ``data`` holds the labels of part 0 alone."""


SCORING = key("scoring")  # the stream of what is drawn once for scoring, whatever the seed


@dataclass(frozen=True)
class Draw:
    """What is drawn at random in one epoch.

    Attributes
    ----------
    k, drop_edge : at most so many neighbours (None for all), after edges were dropped at this rate.
    key : what all streams of the epoch hang on.
    names : [clips] int64, the lasting number of each clip, so that its draws are its own wherever it is computed.
    """

    k: int | None
    drop_edge: float
    key: int
    names: Tensor

    def streams(self, nodes: Tensor, what: str = "neighbours") -> Tensor:
        """[nodes] the stream of random numbers (`stages.head.random`) of each clip for one purpose."""
        return bits(key(self.key, what), self.names[nodes])


class TrainedHead(Head):
    """A head with a network.

    An instance is bound to clips of whole artists (all, or a stretch of them), a split and a device; it gathers what
    the network reads for some nodes.

    Parameters
    ----------
    data : the clips, with the labels of part 0 alone (`Collection.shown`).
    x : [clips, dim] its representations on the device, standardised where the settings ask for it.
    part : [clips] the part of each clip.

    Attributes
    ----------
    remark : what a table should say of how it was done; empty where there is nothing to say.
    """

    remark = ""
    SETTINGS = frozenset({"hidden", "dropout"})

    def __init__(self, data: Collection, x: Tensor, part: Split, settings: Settings) -> None:
        self.data, self.x, self.part, self.settings = data, x, part, settings
        self.labels = data.task.outputs(data.labels)
        self.hidden = settings.hidden or x.shape[1]
        self.names = torch.from_numpy(data.rows).to(x.device)

    @property
    def whole(self) -> tuple[Collection, Split]:
        """The whole collection and its split, without representations: for what is counted over all clips."""
        return self.data.whole_training or (self.data, self.part)

    def artist_graph(self) -> CliqueGraph:
        """The artist graph on the device, with training clips alone as neighbours where the settings ask for it."""
        graph = self.data.graph
        if self.settings.inductive:
            graph = CliqueGraph(graph.artist, torch.from_numpy(self.part == 0))
        return graph.to(self.x.device)

    @abstractmethod
    def build(self) -> nn.Module:
        """A fresh network; called under the run's seed."""

    def start_epoch(self, nodes: Tensor, draw: Draw) -> None:
        """Prepare what is drawn anew for the training ``nodes`` of one epoch."""

    def training_inputs(self, nodes: Tensor, places: Tensor) -> tuple[Tensor, ...]:
        """What the network reads for a step; ``places`` says where the nodes stood in `start_epoch`'s."""
        return self.inputs(nodes)

    @abstractmethod
    def inputs(self, nodes: Tensor) -> tuple[Tensor, ...]:
        """What the network reads for scoring ``nodes``: everything known, nothing drawn."""

    def facts(self) -> dict[str, Any]:
        """What of the collection the network's weights cannot be read without; plain types, kept beside them."""
        return {}

    def refine(self, score: Tensor) -> Tensor:
        """The final scores [clips, labels] in [0, 1], from those that the network gives the clips of `whole`."""
        return score
