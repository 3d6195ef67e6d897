"""Artist embedding: the song beside a learned vector for its artist."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stages.head.collection import Collection
from stages.head.heads import Facts, NetworkInput, Spec, TrainedHead
from stages.head.heads._layers import Classifier, HiddenConfig, width
from stages.splits.regimes import Split


class ArtistEmbedding(TrainedHead):
    """The representation's hidden layer and the artist's vector, concatenated.

    An artist without a training clip, or unknown, has the zero vector: nothing was learned about it.
    """

    NAME = "artist-embedding"
    TITLE = "song and learned artist vector"
    CITATION = "S. Lee, thesis, Seoul National University: its artist embedding"
    READS_ARTISTS = True
    BY_ARTIST = True
    IS_DIFFERENTIABLE = True
    Config = HiddenConfig
    INPUTS = (
        *TrainedHead.INPUTS,
        NetworkInput("vector", "the artist's place, from 1, among the artists of the metadata; 0 for any other"),
    )

    @classmethod
    def learn(cls, collection: Collection, x: Tensor | None, split: Split, config: Any) -> Facts:
        """``artists``: the ids of the artists of vectors 1, 2, ...; vector 0 is anyone else's."""
        artists = np.unique(collection.artist[(split == 0) & (collection.artist >= 0)])
        return {"artists": [collection.artist_ids[artist] for artist in artists.tolist()]}

    def __init__(self, collection: Collection, x: Tensor, split: Split, spec: Spec) -> None:
        super().__init__(collection, x, split, spec)
        vectors = np.append(collection.artists_among(self.facts["artists"]) + 1, 0)  # the last is artist -1's
        self.vector = torch.from_numpy(vectors[collection.artist]).to(x.device)

    @staticmethod
    def build(spec: Spec) -> nn.Module:
        return _Network(spec.dim, width(spec), len(spec.facts["artists"]), spec.outputs, spec.config.dropout)

    def inputs(self, nodes: Tensor) -> tuple[Tensor, ...]:
        return self.x[nodes], self.vector[nodes]


class _Network(nn.Module):
    def __init__(self, dim: int, hidden: int, artists: int, labels: int, dropout: float) -> None:
        super().__init__()
        self.song = nn.Linear(dim, hidden)
        self.artist = nn.Embedding(artists + 1, hidden, padding_idx=0)
        self.classify = Classifier(2 * hidden, labels, dropout)

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        logits: Tensor = self.classify(self.song(x), self.artist(vector))
        return logits
