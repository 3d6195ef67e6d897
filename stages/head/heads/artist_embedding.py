"""Artist embedding: the song beside a learned vector for its artist."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stages.head.collection import Collection
from stages.head.heads import TrainedHead
from stages.head.heads._layers import Classifier
from stages.head.settings import Settings
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

    def __init__(self, data: Collection, x: Tensor, part: Split, settings: Settings) -> None:
        super().__init__(data, x, part, settings)
        everyone, parts = self.whole
        seen = np.unique(everyone.artist[(parts == 0) & (everyone.artist >= 0)])
        vector_of = np.zeros(int(everyone.artist.max(initial=-1)) + 2, dtype=np.int64)  # the last is artist -1's
        vector_of[seen] = np.arange(1, len(seen) + 1)
        self.artists = len(seen)
        self.seen = seen
        self.vector = torch.from_numpy(vector_of[data.artist]).to(x.device)

    def build(self) -> nn.Module:
        return _Network(self.x.shape[1], self.hidden, self.artists, self.labels, self.settings.dropout)

    def facts(self) -> dict[str, Any]:
        """``artists``: the ids of the artists of vectors 1, 2, ...; vector 0 is anyone else's."""
        ids = self.data.artist_ids
        return {"artists": [ids[artist] for artist in self.seen.tolist()] if ids else []}

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
