"""Gated: how far to trust the artist, learned clip by clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.head.collection import Collection
from stages.head.graph.cliques import CliqueGraph
from stages.head.heads import MOST_AXES, Draw, Facts, NetworkInput, Spec, TrainedHead
from stages.head.heads._encoding import PiecewiseLinear, normal_edges, spread_edges
from stages.head.heads._layers import Dropout, HiddenConfig, width
from stages.head.heads.artist import TrainingSongs, artist_counts, count_songs, training_songs
from stages.head.random import bits, key, uniform
from stages.head.scores.task import Task
from stages.head.settings import setting
from stages.head.training.pool import Pool
from stages.splits.regimes import Split

_LEAST = 1e-4  # squared distance of a clip from its neighbours, whose logarithm is taken
_HIDDEN = (0.05, 0.95)  # whatever the split, artists with labels and artists without are seen
_THINNED = 0.8  # share of artists of which an epoch shows a part of the clips as neighbours
_PARTS = 1024  # numbers that a representation is encoded in at most
_FEW_AXES = 64  # which any collection is given
_GATE = 32  # width of the gate's hidden layer
_DOUBLINGS = 12  # of the number of neighbours, which the network tells apart


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(HiddenConfig):
    """Beside the hidden layer's settings:

    Attributes
    ----------
    bins : parts that each number is encoded in (`PiecewiseLinear`); fewer where all numbers together would have more
        than 1,024 parts, so that wide representations are read as they are.
    clips_an_axis : training clips for each of the principal axes along which a representation is read that has more
        than twice as many numbers, as many as a linear model wants for each of its inputs (Harrell, Regression Modeling
        Strategies, 2015, section 4.4); 64 axes at least. 0 reads any representation as it is.
    average : share of the running mean of the weights that a step keeps; 0 for the weights as they are.
    inductive : only training clips are neighbours, so that a clip is scored as one that came after the training.
    """

    bins: int = setting(8, least=1, most=64)
    clips_an_axis: int = setting(10, least=0)
    average: float = setting(0.99, least=0, below=1)
    inductive: bool = False


class Gated(TrainedHead):
    """Six experts, each with a loss of its own, and the pool that weighs them by what validation says.

    The experts share no weights but those of the evidence, and are trained side by side:

    1. a linear model of the song;
    2. a linear model of the song and its neighbourhood: ``mean`` and ``deviation`` of the representations of the
       artist's other clips, exact, and ``number``, how many these are;
    3. one hidden layer over the song;
    4. one GraphSAGE layer over song and mean;
    5. two hidden layers over all of these, each number in bins so that they can bend at thresholds as trees do, plus
       ``gate * evidence``;
    6. a constant plus a gate of its own times the evidence: the artist's labels alone.

    Each of the simpler ones is right on some collection where a richer one has learnt its few artists by heart. What
    scores is the weighted sum of their logits (`Pool`): nearly one expert's alone, or that of several.

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

    Of four artists in five an epoch shows a share of the clips as neighbours, drawn anew, from none to all: an artist
    whose neighbours are the same in every epoch is learnt by heart, and one with few neighbours would be new. What
    scores is the running mean of the weights over the last steps (Polyak and Juditsky, Acceleration of Stochastic
    Approximation by Averaging, SIAM Journal on Control and Optimization 30, 1992).
    """

    NAME = "gated"
    TITLE = "song, neighbours and the artist's labels, gated"
    CITATION = "Encore"
    READS_ARTISTS = True
    READS_NEIGHBOURS = True
    BY_ARTIST = True
    IS_DIFFERENTIABLE = True
    CALIBRATED = True  # each expert by its temperature, and so what the pool makes of them
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
        training_artists = np.unique(collection.artist[(split == 0) & (collection.artist >= 0)])
        new = ~np.isin(collection.artist[split == 1], training_artists)
        return {
            **count_songs(collection, split),
            "prior": prior.float(),
            "hidden": float(np.clip(new.mean(), *_HIDDEN)) if len(new) else _HIDDEN[0],
        }

    @classmethod
    def strangers(cls, collection: Collection, split: Split, facts: Facts) -> NDArray[np.bool_]:
        """Clips whose artist has no other song in training."""
        songs = artist_counts(collection, facts)[1]
        strangers: NDArray[np.bool_] = _others_songs(collection, training_songs(collection, split), songs) == 0
        return strangers

    def __init__(self, collection: Collection, x: Tensor, split: Split, spec: Spec) -> None:
        super().__init__(collection, x, split, spec)
        self.graph = self.artist_graph()
        self.sums = self.graph.sums(x), self.graph.sums(x, squared=True)
        counts, songs = _others_labels(collection, split, self.facts)
        self.counts, self.songs = torch.from_numpy(counts).to(x.device), torch.from_numpy(songs).to(x.device)
        self._hidden = torch.zeros(self.graph.artists + 1, dtype=torch.bool, device=x.device)
        self._shown, self._shown_sums = self.graph, self.sums

    @staticmethod
    def build(spec: Spec) -> nn.Module:
        return _Network(spec.dim, width(spec), spec.facts["prior"], spec.config, spec.task)

    @classmethod
    def axes(cls, config: Any, dim: int, clips: int) -> int | None:
        count = max(_FEW_AXES, clips // config.clips_an_axis) if config.clips_an_axis else dim
        return count if 2 * count <= dim and count <= MOST_AXES else None

    @staticmethod
    def averaging(config: Any) -> float:
        average: float = config.average
        return average

    def start_epoch(self, nodes: Tensor, draw: Draw) -> None:
        artists = torch.arange(len(self._hidden), device=self.x.device)
        self._hidden = uniform(bits(key(draw.key, "hidden artists"), artists)) < self.facts["hidden"]
        thinned = uniform(bits(key(draw.key, "thinned artists"), artists)) < _THINNED
        share = torch.where(thinned, uniform(bits(key(draw.key, "neighbours shown"), artists)), 1.0)
        clips = torch.arange(len(self.x), device=self.x.device)
        sources = uniform(draw.streams(clips, "shown as a neighbour")) < share[self.graph.artist]
        if self.graph.sources is not None:
            sources &= self.graph.sources
        self._shown = CliqueGraph(self.graph.artist, sources)
        self._shown_sums = self._shown.sums(self.x), self._shown.sums(self.x, squared=True)

    def training_inputs(self, nodes: Tensor, places: Tensor) -> tuple[Tensor, ...]:
        visible = (~self._hidden[self.graph.artist[nodes]]).float()  # an unknown artist's -1 picks the last entry
        around = self._neighbourhood(nodes, self._shown, self._shown_sums)
        return *around, self.counts[nodes] * visible.unsqueeze(1), self.songs[nodes] * visible

    def inputs(self, nodes: Tensor) -> tuple[Tensor, ...]:
        return *self._neighbourhood(nodes, self.graph, self.sums), self.counts[nodes], self.songs[nodes]

    def _neighbourhood(self, nodes: Tensor, graph: CliqueGraph, sums: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        """Of each clip its own numbers [nodes, dim], its neighbours' mean and deviation, and how many these are."""
        x, degree = self.x[nodes], graph.degree[nodes].float()
        mean, square = (graph.mean_of(nodes, y, total) for y, total in zip((x, x * x), sums, strict=True))
        return x, mean, _root(square - mean**2), degree

    def trust(self, network: nn.Module, nodes: Tensor) -> Tensor:
        """The two gates, by the weights of their experts; 0 where no song of the artist was in training."""
        assert isinstance(network, _Network)
        x, mean, _, degree, counts, songs = self.inputs(nodes)
        gates = network.weigh(x, mean, degree, counts, songs)[1]
        return gates @ network.pool.weights[-2:] * (songs > 0)


def _others_labels(
    collection: Collection, split: Split, facts: Facts
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Of each clip's artist's other training songs: how many carry each label [clips, labels], how many [clips]."""
    training = training_songs(collection, split)
    carrying, songs = artist_counts(collection, facts)
    has_artist = collection.artist >= 0
    counts = np.zeros(collection.truth.shape, dtype=np.float32)
    counts[has_artist] = carrying[collection.artist[has_artist]]
    own = training.of_clip >= 0
    counts[own] -= training.truth[training.of_clip[own]]
    return counts, _others_songs(collection, training, songs)


def _others_songs(collection: Collection, training: TrainingSongs, songs: NDArray[np.int64]) -> NDArray[np.float32]:
    """[clips] how many other songs of the clip's artist are in training; ``songs`` [artists] counts all of them."""
    number = np.zeros(len(collection), dtype=np.float32)
    has_artist = collection.artist >= 0
    number[has_artist] = songs[collection.artist[has_artist]]
    number[training.of_clip >= 0] -= 1
    return number


def _root(variance: Tensor) -> Tensor:
    """Its square root, 0 where rounding has made it negative: there the gradient, which would be infinite, is 0 too."""
    varies = variance > 0
    return torch.where(varies, variance, 1.0).sqrt() * varies


class _Network(nn.Module):
    def __init__(self, dim: int, hidden: int, prior: Tensor, config: Config, task: Task) -> None:
        super().__init__()
        self.task, labels = task, len(prior)
        self.register_buffer("prior", prior.clone())
        self.doublings = PiecewiseLinear(torch.arange(-1.0, _DOUBLINGS))
        self.dropout = Dropout(config.dropout)
        # Linear models, a network of the song, GraphSAGE.
        self.linear_song = nn.Linear(dim, labels)
        self.linear_around = nn.Linear(3 * dim + _DOUBLINGS, labels)
        self.hidden_song = nn.Linear(dim, hidden)
        self.hidden_sage = nn.ModuleList(nn.Linear(dim, hidden) for _ in range(2))
        self.output_song, self.output_sage = nn.Linear(hidden, labels), nn.Linear(2 * hidden, labels)
        # All that is known, in bins.
        bins = max(1, min(config.bins, _PARTS // dim))
        self.numbers, self.spreads = PiecewiseLinear(normal_edges(bins)), PiecewiseLinear(spread_edges(bins))
        self.song, self.mean, self.deviation = (nn.Linear(dim * bins, hidden) for _ in range(3))
        self.number = nn.Linear(_DOUBLINGS, 3 * hidden)
        self.mix = nn.Linear(3 * hidden, hidden)
        self.output = nn.Linear(hidden, labels)
        # The artist's labels, beside these and alone.
        self.smoothing = nn.Parameter(torch.zeros(()))
        self.gate = nn.Sequential(nn.Linear(6, _GATE), nn.ReLU(), nn.Linear(_GATE, 2))
        self.alone = nn.Parameter(task.link(prior).clone())
        self.pool = Pool(6)

    def forward(
        self, x: Tensor, mean: Tensor, deviation: Tensor, degree: Tensor, counts: Tensor, songs: Tensor
    ) -> Tensor:
        number = self.doublings(degree.log2().clamp(min=-1).unsqueeze(1))
        song = torch.relu(self.hidden_song(x))
        sage = torch.relu(torch.cat([layer(part) for layer, part in zip(self.hidden_sage, (x, mean), strict=True)], 1))
        share, gates = self.weigh(x, mean, degree, counts, songs)
        beside, alone = (gates.unsqueeze(2) * self._evidence(share).unsqueeze(1)).unbind(dim=1)
        experts = (
            self.linear_song(x),
            self.linear_around(torch.cat([x, mean, deviation, number], dim=1)),
            self.output_song(self.dropout(song)),
            self.output_sage(self.dropout(sage)),
            self._everything(x, mean, deviation, degree, number) + beside,
            self.alone + alone,
        )
        pooled: Tensor = self.pool(torch.stack(experts))
        return pooled

    def _everything(self, x: Tensor, mean: Tensor, deviation: Tensor, degree: Tensor, number: Tensor) -> Tensor:
        has = (degree > 0).float().unsqueeze(1)
        around = self.mean(self.numbers(mean)), self.deviation(self.spreads(deviation))
        parts = torch.cat([self.song(self.numbers(x)), *(has * part for part in around)], dim=1)
        hidden = torch.relu(self.mix(self.dropout(torch.relu(parts + self.number(number)))))
        logits: Tensor = self.output(self.dropout(hidden))
        return logits

    def weigh(self, x: Tensor, mean: Tensor, degree: Tensor, counts: Tensor, songs: Tensor) -> tuple[Tensor, Tensor]:
        """[clips, labels] the smoothed share of the artist's songs that carry each label; [clips, 2] the gates."""
        has = degree > 0
        prior = self.get_buffer("prior")
        smoothing = F.softplus(self.smoothing)
        share = (counts + smoothing * prior) / (songs + smoothing).unsqueeze(1)
        distance = has * (x - mean).square().mean(dim=1).add(_LEAST).log()
        agreement = self.task.agreement(share)
        circumstances = (songs.log1p(), degree.log1p(), *agreement, distance, (songs > 0).float())
        return share, F.softplus(self.gate(torch.stack(circumstances, dim=1)))

    def _evidence(self, share: Tensor) -> Tensor:
        return self.task.link(self.task.clear(share)) - self.task.link(self.get_buffer("prior"))
