"""Gated: how far to trust the artist, learned clip by clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.head.collection import Collection
from stages.head.heads import Draw, Facts, NetworkInput, Spec, TrainedHead
from stages.head.heads._layers import Dropout, HiddenConfig, width
from stages.head.heads.artist import artist_counts, count_songs, training_songs
from stages.head.random import bits, key, uniform
from stages.head.scores.task import Task
from stages.head.settings import setting
from stages.splits.regimes import Split

_LEAST = 1e-4  # squared distance of a clip from its neighbours, whose logarithm is taken
_HIDDEN = (0.05, 0.95)  # whatever the split, artists with labels and artists without are seen


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(HiddenConfig):
    """Beside the hidden layer's settings:

    Attributes
    ----------
    gate_width : width of the gate's hidden layer.
    inductive : only training clips are neighbours, so that a clip is scored as one that came after the training.
    """

    gate_width: int = setting(32, least=1, most=1_000_000)
    inductive: bool = False


class Gated(TrainedHead):
    """Song and neighbourhood by a network, the artist's labels as evidence, and a gate that weighs the evidence.

    The logits are ``network(x, mean, deviation) + gate * evidence``:

    * ``mean`` and ``deviation`` are those of the representations of the artist's other clips, exact.
    * ``evidence`` is how much more likely each label is among the artist's other training songs than among all:
      the log ratio of the smoothed shares ``(count + a prior) / (songs + a)`` to the prior, with ``a`` learned.
    * ``gate`` >= 0 is a small network of how many songs and neighbours there are, how far they agree (highest
      share, entropy) and how far the clip lies from their mean.

    Where a number is asked for, the evidence is how far the smoothed mean of the artist's other training songs lies
    from that of all. The labels of a clip's own song are never part of its evidence. In every epoch the labels of some
    artists, drawn anew, are hidden whole: otherwise the network would never have seen an artist without labels, and
    lean on them where there are none. They are as many as there will be: the share of validation clips whose artist has
    no training song, which no label tells. Where nothing is known of the artist the evidence is zero and the song is
    left alone.
    """

    NAME = "gated"
    TITLE = "song, neighbours and the artist's labels, gated"
    CITATION = "Encore"
    READS_ARTISTS = True
    READS_NEIGHBOURS = True
    BY_ARTIST = True
    Config = Config
    INPUTS = (
        *TrainedHead.INPUTS,
        NetworkInput("mean", "the mean of the artist's other clips; NaN where there are none", is_vector=True),
        NetworkInput(
            "deviation", "their deviation, divided by their number; NaN as well", is_vector=True, is_spread=True
        ),
        NetworkInput("degree", "how many they are"),
        NetworkInput("counts", "how many of the artist's other training songs carry each label"),
        NetworkInput("songs", "how many such songs there are"),
    )

    @classmethod
    def learn(cls, collection: Collection, x: Tensor | None, split: Split, config: Any) -> Facts:
        """The counts of `count_songs`; ``prior``: [labels] float32, each label's share of the training clips; and
        ``hidden``: the share of artists whose labels are hidden in an epoch.
        """
        prior = collection.task.clear(torch.from_numpy(collection.task.prior(collection.truth[split == 0])))
        known = np.unique(collection.artist[(split == 0) & (collection.artist >= 0)])
        new = ~np.isin(collection.artist[split == 1], known)
        return {
            **count_songs(collection, split),
            "prior": prior.float(),
            "hidden": float(np.clip(new.mean(), *_HIDDEN)) if len(new) else _HIDDEN[0],
        }

    def __init__(self, collection: Collection, x: Tensor, split: Split, spec: Spec) -> None:
        super().__init__(collection, x, split, spec)
        self.graph = self.artist_graph()
        self.sums = self.graph.sums(x), self.graph.sums(x, squared=True)
        counts, songs = self._others_labels()
        self.counts, self.songs = torch.from_numpy(counts).to(x.device), torch.from_numpy(songs).to(x.device)
        self._hidden = torch.zeros(self.graph.artists + 1, dtype=torch.bool, device=x.device)

    def _others_labels(self) -> tuple[np.ndarray, np.ndarray]:
        """Of each clip's artist's other training songs: how many carry each label [clips, labels], how many [clips]."""
        collection, training = self.collection, training_songs(self.collection, self.split)
        carrying, songs = artist_counts(collection, self.facts)
        known = collection.artist >= 0
        counts = np.zeros(collection.truth.shape, dtype=np.float32)
        number = np.zeros(len(collection), dtype=np.float32)
        counts[known], number[known] = carrying[collection.artist[known]], songs[collection.artist[known]]
        own = training.of_clip >= 0
        counts[own] -= training.truth[training.of_clip[own]]
        number[own] -= 1
        return counts, number

    @staticmethod
    def build(spec: Spec) -> nn.Module:
        return _Network(spec.dim, width(spec), spec.facts["prior"], spec.config, spec.task)

    def start_epoch(self, nodes: Tensor, draw: Draw) -> None:
        artists = torch.arange(len(self._hidden), device=self.x.device)
        self._hidden = uniform(bits(key(draw.key, "hidden artists"), artists)) < self.facts["hidden"]

    def training_inputs(self, nodes: Tensor, places: Tensor) -> tuple[Tensor, ...]:
        shown = (~self._hidden[self.graph.artist[nodes]]).float()  # an unknown artist's -1 picks the last entry
        *rest, counts, songs = self.inputs(nodes)
        return *rest, counts * shown.unsqueeze(1), songs * shown

    def inputs(self, nodes: Tensor) -> tuple[Tensor, ...]:
        x, degree = self.x[nodes], self.graph.degree[nodes].float()
        mean, square = (self.graph.mean_of(nodes, y, sums) for y, sums in zip((x, x * x), self.sums, strict=True))
        deviation = (square - mean**2).clamp(min=0).sqrt()
        return x, mean, deviation, degree, self.counts[nodes], self.songs[nodes]

    def trust(self, network: nn.Module, nodes: Tensor) -> Tensor:
        """The gate; 0 where no song of the artist was in training."""
        assert isinstance(network, _Network)
        x, mean, _, degree, counts, songs = self.inputs(nodes)
        return network.weigh(x, mean, degree, counts, songs)[1].squeeze(1) * (songs > 0)


class _Network(nn.Module):
    def __init__(self, dim: int, hidden: int, prior: Tensor, config: Config, task: Task) -> None:
        super().__init__()
        self.task = task
        self.register_buffer("prior", prior.clone())
        self.song, self.mean, self.deviation = (nn.Linear(dim, hidden) for _ in range(3))
        self.mix = nn.Linear(3 * hidden, hidden)
        self.output = nn.Linear(hidden, len(prior))
        self.dropout = Dropout(config.dropout)
        self.smoothing = nn.Parameter(torch.zeros(()))
        self.gate = nn.Sequential(nn.Linear(6, config.gate_width), nn.ReLU(), nn.Linear(config.gate_width, 1))

    def forward(
        self, x: Tensor, mean: Tensor, deviation: Tensor, degree: Tensor, counts: Tensor, songs: Tensor
    ) -> Tensor:
        has = (degree > 0).float().unsqueeze(1)
        parts = (self.song(x), has * self.mean(mean), has * self.deviation(deviation))
        hidden = torch.relu(self.mix(self.dropout(torch.relu(torch.cat(parts, dim=1)))))
        share, gate = self.weigh(x, mean, degree, counts, songs)
        logits: Tensor = self.output(self.dropout(hidden)) + gate * self._evidence(share, self.get_buffer("prior"))
        return logits

    def weigh(self, x: Tensor, mean: Tensor, degree: Tensor, counts: Tensor, songs: Tensor) -> tuple[Tensor, Tensor]:
        """[clips, labels] the smoothed share of the artist's songs that carry each label; [clips, 1] the gate."""
        has = degree > 0
        prior = self.get_buffer("prior")
        smoothing = F.softplus(self.smoothing)
        share = (counts + smoothing * prior) / (songs + smoothing).unsqueeze(1)
        distance = has * (x - mean).square().mean(dim=1).add(_LEAST).log()
        agreement = self.task.agreement(share)
        circumstances = (songs.log1p(), degree.log1p(), *agreement, distance, (songs > 0).float())
        return share, F.softplus(self.gate(torch.stack(circumstances, dim=1)))

    def _evidence(self, share: Tensor, prior: Tensor) -> Tensor:
        return self.task.link(self.task.clear(share)) - self.task.link(prior)
