"""Heads: one file each, found by listing this folder; MODE names one.

The life of a head with a network (`TrainedHead`):

1. ``Config`` is a frozen dataclass of the settings that only this head reads. ``--set key=value`` sets them.
2. ``learn`` looks at the collection once, labels outside training masked, and returns the head's *facts*: what must
   be known beside the weights, such as the ids of the artists that have a vector. Most heads have none.
3. ``build`` makes the network from a `Spec` alone: the size of a representation, the labels, the config, the facts.
4. The head is bound to clips (``__init__``) and gathers what the network reads for some of them: ``inputs`` for
   scoring, ``start_epoch`` and ``training_inputs`` where training draws something at random.
5. ``refine`` may correct the network's scores; ``calibrate`` adds facts for it.

Spec and weights are the checkpoint. `stages.head.restore` binds the same head to other clips, of the same artists or
of new ones; so a head finds artists by their ids (`Collection.artists_among`), never by their numbers.

How networks are trained stands in `stages.head.training.loop`; one that is a single linear layer may be solved for
the `TrainedHead.penalties` that it names, instead of being trained step by step; one that ends in a
`stages.head.training.pool.Pool` is several experts, each with a loss of its own. A head that only counts
(`CountedHead`) has ``learn`` and ``score``. `stages.head.testing.HeadTests` holds the tests that every head must pass,
also those of other packages.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.head.collection import Collection
from stages.head.graph.cliques import CliqueGraph
from stages.head.modes import Rule
from stages.head.random import bits, key
from stages.head.scores.prediction import Prediction
from stages.head.scores.task import Task
from stages.head.settings import NoSettings, keys
from stages.splits.regimes import Split

Facts = Mapping[str, Any]  # numbers, strings, lists and tensors, by name


@dataclass(frozen=True)
class Spec:
    """All that a network is made from.

    Attributes
    ----------
    dim : numbers in a representation.
    outputs : how many numbers the network gives for a clip (`Task.outputs`).
    task : what is asked of a clip.
    config : the head's `Head.Config`.
    facts : what the head has learnt of its collection (`Head.learn`).
    """

    dim: int
    outputs: int
    task: Task
    config: Any
    facts: Facts


class Head(ABC):
    """What is common to all heads.

    Class attributes
    ----------------
    NAME, TITLE : what a user types as MODE, and one line of what it is.
    RULES : the rules by which it decides, by their names, where it has several.
    CITATION : where it comes from.
    Config : the frozen dataclass of the settings that it alone reads; a base `stages.head.settings.Checked` checks
        the bounds that fields name by `stages.head.settings.setting`. No key may be one of the trainer's `Settings`.
        One called ``inductive`` says whether only training clips are neighbours.
    READS_SONGS : whether it reads representations at all.
    READS_ARTISTS : whether it says nothing of its own where no artist is known.
    READS_NEIGHBOURS : whether other clips' representations take part in a clip's score.
    BY_ARTIST : whether training and scoring need no representations but those of a clip's own artist, so that artists
        can be trained apart: in several processes, or one stretch of a large collection after another.
    NEEDS_COLLECTION : why a trained head cannot score a clip from its artist's clips alone; empty where it can.
    """

    NAME: ClassVar[str]
    RULES: ClassVar[Mapping[str, Rule]] = {}
    TITLE: ClassVar[str]
    CITATION: ClassVar[str]
    Config: ClassVar[type[Any]] = NoSettings
    READS_SONGS: ClassVar[bool] = True
    READS_ARTISTS: ClassVar[bool] = False
    READS_NEIGHBOURS: ClassVar[bool] = False
    BY_ARTIST: ClassVar[bool] = False
    NEEDS_COLLECTION: ClassVar[str] = ""

    @classmethod
    def learn(cls, collection: Collection, x: Tensor | None, split: Split, config: Any) -> Facts:
        """What must be known of the collection beside the weights; plain types and tensors, kept in the checkpoint.

        Parameters
        ----------
        collection : the whole collection, with the labels of training clips alone.
        x : [clips, dim] its representations as the network will see them; None for a head that reads none, and
            for one that is `BY_ARTIST` where they do not fit in memory at once.
        split : [clips] the part of each clip.
        """
        return {}

    @classmethod
    def strangers(cls, collection: Collection, split: Split, facts: Facts) -> NDArray[np.bool_] | None:
        """[clips] those whose artist it does not know, where it is sure of others because it knows theirs.

        They have a threshold of their own (`stages.head.scores.thresholds.of_strangers`); None where all have one.

        Parameters
        ----------
        facts : those of the trained head, which may be asked about another collection.
        """
        return None

    @classmethod
    def notes(cls, collection: Collection, config: Any) -> dict[str, str]:
        """By setting, what its user should know of its effect on this collection; shown where it was set by hand."""
        return {}


def is_inductive(config: Any) -> bool:
    """Whether a head with this configuration takes training clips alone for neighbours."""
    return bool(getattr(config, "inductive", False))


def can_be_inductive(head: type[Head]) -> bool:
    """Whether training clips alone can be the neighbours; so it is, too, where no neighbours are read."""
    return not head.READS_NEIGHBOURS or "inductive" in keys(head.Config)


class CountedHead(Head):
    """A head without a network: what it learns is what it counts.

    An instance is bound to clips and a split.

    Parameters
    ----------
    collection : the clips, with the labels of part 0 alone.
    split : [clips] the part of each clip.
    """

    def __init__(self, collection: Collection, split: Split, spec: Spec) -> None:
        self.collection, self.split, self.spec = collection, split, spec

    @abstractmethod
    def score(self) -> dict[str, Prediction]:
        """A prediction for every clip by each rule of the head; an only rule is called ""."""


MOST_AXES = 1024
SCORING = key("scoring")  # the stream of what is drawn once for scoring, whatever the seed


@dataclass(frozen=True)
class Draw:
    """Where the random numbers of one epoch come from.

    Attributes
    ----------
    key : what all streams of the epoch hang on.
    rows : [clips] int64, the catalog row of each clip, so that its draws are its own wherever it is computed.
    """

    key: int
    rows: Tensor

    def streams(self, nodes: Tensor, purpose: str = "neighbours") -> Tensor:
        """[nodes] the stream of random numbers (`stages.head.random`) of each clip for one purpose."""
        return bits(key(self.key, purpose), self.rows[nodes])


@dataclass(frozen=True)
class NetworkInput:
    """One of the tensors that a network reads.

    Attributes
    ----------
    name, what : what it is called, and in words.
    is_vector : whether its rows are representations, or several side by side, and standardised as these are.
    is_spread : whether they are deviations of such, which standardising scales and does not shift.
    """

    name: str
    what: str
    is_vector: bool = False
    is_spread: bool = False


class TrainedHead(Head):
    """A head with a network.

    Class attributes
    ----------------
    INPUTS : what the network reads (`inputs`), in its order, for the ONNX file of a trained head.
    IS_DIFFERENTIABLE : whether what it gathers is made of representations by differentiable operations of torch. Layers
        are then mixed before, and training on a mixture costs little more than on one layer; other heads read all
        layers in each step.
    COMPARES : whether representations also say whose are gathered, as where those of similar clips are. Where layers
        are mixed, all of them side by side say it, once; `reading` must keep it then, as that of `Sage` does.
    CALIBRATED : whether validation makes probabilities of its scores, so that they can tell of their own threshold.

    An instance is bound to clips of whole artists (all, or a stretch of them), a split and a device.

    Parameters
    ----------
    collection : the clips, with the labels of part 0 alone (`Collection.masked`).
    x : [clips, dim] their representations on the device, standardised where the settings ask for it, and along `axes`.
    split : [clips] the part of each clip.
    spec : what the network is made from.

    Attributes
    ----------
    rows : [clips] the catalog row of each clip, on the device.
    """

    IS_DIFFERENTIABLE: ClassVar[bool] = False
    COMPARES: ClassVar[bool] = False
    CALIBRATED: ClassVar[bool] = False
    INPUTS: ClassVar[tuple[NetworkInput, ...]] = (NetworkInput("x", "the clip's representation", is_vector=True),)

    def __init__(self, collection: Collection, x: Tensor, split: Split, spec: Spec) -> None:
        self.collection, self.x, self.split, self.spec = collection, x, split, spec
        self.rows = torch.from_numpy(collection.rows).to(x.device)

    def reading(self, x: Tensor) -> Self:
        """The head on other representations [clips, dim] of its clips: another mixture of their layers. By default it
        is bound anew."""
        return type(self)(self.collection, x, self.split, replace(self.spec, dim=x.shape[1]))

    @property
    def config(self) -> Any:
        return self.spec.config

    @property
    def facts(self) -> Facts:
        return self.spec.facts

    @classmethod
    def remark(cls, collection: Collection, config: Any, device: torch.device) -> str:
        """What a table should say of how it was done; empty where there is nothing to say."""
        return ""

    def artist_graph(self) -> CliqueGraph:
        """The artist graph on the device, with training clips alone as neighbours where the config is inductive."""
        graph = self.collection.graph
        if is_inductive(self.config):
            graph = CliqueGraph(graph.artist, torch.from_numpy(self.split == 0))
        return graph.to(self.x.device)

    @classmethod
    def penalties(cls, config: Any) -> Sequence[float]:
        """The L2 penalties, strongest first, for each of which the network is solved; it is one linear layer then.

        None where it is trained step by step.
        """
        return ()

    @classmethod
    def axes(cls, config: Any, dim: int, clips: int) -> int | None:
        """Along how many principal axes of the training clips it reads representations; None for their own numbers.

        By default what ``clips_an_axis`` says, where the config has that. Clips tell no more axes apart than there are
        clips, so up to 1,024 clips nothing is lost.

        Parameters
        ----------
        dim : numbers in a representation.
        clips : that are trained on.
        """
        clips_an_axis = getattr(config, "clips_an_axis", 0)
        count = clips // clips_an_axis if clips_an_axis else dim
        return min(count, MOST_AXES) if 0 < count < dim else None

    @staticmethod
    @abstractmethod
    def build(spec: Spec) -> nn.Module:
        """A fresh network; torch's generator is seeded by the run."""

    @staticmethod
    def averaging(config: Any) -> float:  # noqa: ARG004
        """In [0, 1): how much a running mean of the weights, which scores, keeps of itself in a step; 0 for no mean."""
        return 0.0

    def start_epoch(self, nodes: Tensor, draw: Draw) -> None:
        """Prepare what is drawn anew for the training ``nodes`` of one epoch."""

    def training_inputs(self, nodes: Tensor, places: Tensor) -> tuple[Tensor, ...]:
        """What the network reads for a step; ``places`` says where the nodes stood in `start_epoch`'s."""
        return self.inputs(nodes)

    @abstractmethod
    def inputs(self, nodes: Tensor) -> tuple[Tensor, ...]:
        """What the network reads for scoring ``nodes``: everything known, nothing drawn."""

    def trust(self, network: nn.Module, nodes: Tensor) -> Tensor | None:
        """[nodes] the weight >= 0 that a trained network gives the artist's labels; None for one that weighs none."""
        return None

    @classmethod
    def calibrate(cls, scores: Tensor, collection: Collection, split: Split) -> Facts:
        """More facts, from the scores [clips, labels] that the trained network gives the whole collection."""
        return {}

    @classmethod
    def refine(cls, scores: Tensor, collection: Collection, split: Split, spec: Spec) -> Tensor:
        """The final scores [clips, labels] in [0, 1] of all clips, from the network's."""
        return scores
