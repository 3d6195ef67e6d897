"""Label propagation: training labels spread over the artist graph, nothing is heard."""

from __future__ import annotations

import torch

from stages.head.collection import Collection
from stages.head.heads import CountedHead
from stages.head.scores.prediction import Prediction
from stages.splits.regimes import Split

_ALPHA = 0.9


class LabelPropagation(CountedHead):
    """Zhou's propagation of the training clips' labels, divided by the same propagation of "is a training clip".

    Both run to their end in closed form (`CliqueGraph.propagate`). On a union of cliques the quotient of a clip
    without a label is the share of its artist's training clips that carry the label, whatever alpha is: this is
    also the harmonic function of Zhu, Ghahramani and Lafferty (ICML 2003). It differs from `artist` in that
    clips are counted rather than songs, and in that a clip which nothing reaches (an artist without training
    clips, or unknown) has each label's frequency among the training clips.
    """

    NAME = "label-propagation"
    TITLE = "training labels spread over the artist graph"
    CITATION = "Zhou, Bousquet, Lal, Weston and Schoelkopf, Learning with Local and Global Consistency, NIPS 2003"
    READS_SONGS = False
    READS_ARTISTS = True

    def count(self, data: Collection, part: Split) -> dict[str, Prediction]:
        train = torch.from_numpy(part == 0).unsqueeze(1)
        labels = torch.from_numpy(data.targets) & train
        spread = data.graph.propagate(torch.cat([labels, train], dim=1).double(), _ALPHA)
        reached = spread[:, -1:] > 0
        frequency = torch.from_numpy(data.task.prior(data.targets[part == 0]))
        score = torch.where(reached, spread[:, :-1] / spread[:, -1:].where(reached, 1.0), frequency)
        return {"": data.task.decide(score.clamp(0, 1).float().numpy())}
