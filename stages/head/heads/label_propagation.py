"""Label propagation: training labels spread over the artist graph, nothing is heard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.head.collection import Collection
from stages.head.heads import CountedHead, Facts
from stages.head.scores.prediction import Prediction
from stages.head.settings import Checked, setting
from stages.splits.regimes import Split


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Checked):
    """Attributes
    ----------
    alpha : how far labels spread: the share of its own label that a training clip gives up for its artist's.
    """

    alpha: float = setting(0.9, above=0, below=1)


class LabelPropagation(CountedHead):
    """Zhou's propagation of the training clips' labels, divided by the same propagation of "is a training clip".

    Both run to their end in closed form (`CliqueGraph.propagate`, of which an artist's counts are all that is needed).
    On a union of cliques the quotient of a clip without a label is the share of its artist's training clips that carry
    the label, whatever alpha is: this is also the harmonic function of Zhu, Ghahramani and Lafferty (ICML 2003). It
    differs from `artist` in that clips are counted rather than songs, and in that a clip which nothing reaches (an
    artist without training clips, or unknown) has each label's frequency among the training clips. Numbers spread as
    labels do: the quotient is the mean of the artist's training clips.
    """

    NAME = "label-propagation"
    TITLE = "training labels spread over the artist graph"
    CITATION = "Zhou, Bousquet, Lal, Weston and Schoelkopf, Learning with Local and Global Consistency, NIPS 2003"
    READS_SONGS = False
    READS_ARTISTS = True
    Config = Config

    @classmethod
    def learn(cls, collection: Collection, x: Tensor | None, split: Split, config: Any) -> Facts:
        """``artists``: ids of those with a training clip; [artists] ``clips`` of each, ``training`` those trained on,
        ``carrying`` [artists, outputs] how many of these carry each label, or the sum of their numbers; ``frequency``
        [outputs] `Task.prior` of all training clips.
        """
        artist, truth = collection.artist, collection.truth
        has_artist = artist >= 0
        train = has_artist & (split == 0)
        count = len(collection.artist_ids)
        carrying = np.zeros((count, truth.shape[1]))
        np.add.at(carrying, artist[train], truth[train])
        training = np.bincount(artist[train], minlength=count)
        artists = np.flatnonzero(training)
        return {
            "artists": [collection.artist_ids[number] for number in artists.tolist()],
            "clips": torch.from_numpy(np.bincount(artist[has_artist], minlength=count)[artists]),
            "training": torch.from_numpy(training[artists]),
            "carrying": torch.from_numpy(carrying[artists]),
            "frequency": torch.from_numpy(collection.task.prior(truth[split == 0])),
        }

    def score(self) -> dict[str, Prediction]:
        facts, alpha = self.spec.facts, self.spec.config.alpha
        artist = self.collection.artist
        place = np.append(self.collection.artists_among(facts["artists"]), -1)[artist]  # the last is artist -1's
        train = torch.from_numpy(self.split == 0).unsqueeze(1)
        own = torch.cat([torch.from_numpy(self.collection.truth) * train, train], dim=1).double()
        counts = torch.cat([facts["carrying"], facts["training"].unsqueeze(1).double()], dim=1)
        # A clip of no such artist is alone.
        row = torch.from_numpy(place)
        alone = (row < 0).unsqueeze(1)
        clips = torch.cat([facts["clips"].double(), torch.ones(1, dtype=torch.float64)])[row].unsqueeze(1)
        mean = torch.where(alone, own, torch.cat([counts, counts.new_zeros(1, counts.shape[1])])[row] / clips)
        share = (1 - alpha) / (1 + alpha / (clips - 1).clamp(min=1))
        spread = mean + share * (own - mean)
        has_label = spread[:, -1:] > 0
        score = torch.where(has_label, spread[:, :-1] / spread[:, -1:].where(has_label, 1.0), facts["frequency"])
        return {"": self.spec.task.decide(self.spec.task.bounded(score).float().numpy())}
