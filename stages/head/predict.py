"""What a trained head says of songs: of those of its collection, and of new ones.

The new clips and the stored clips of the same artists form a small collection, which the restored head scores. Clips
of the store are scored among stored clips alone, so their scores are those of the run, whatever else is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.head.collection import Collection
from stages.head.graph.cliques import CliqueGraph
from stages.head.heads import is_inductive
from stages.head.open import from_catalog, load
from stages.head.restore import RestoredHead, restore
from stages.head.runs.find import Run
from stages.head.scores.prediction import Prediction
from stages.splits.regimes import Split
from store.errors import FormatError, RequestError
from store.layout import Store

UNSEEN = 2  # the part of a split to which clips belong that no head was trained on


@dataclass(frozen=True)
class NewClips:
    """Clips that are not in the store.

    Attributes
    ----------
    x : [clips, dim] float32 representations; None for a head that reads none.
    artists : the artist of each clip by its id in the store, or any other name; None where unknown.
    songs : [clips] which clips are of one song.
    same : [clips] a stored clip of the same song, by its place in the collection; -1 for a song that is new. The head
        knows of such a song what it knew in training, and its stored clips are not among the neighbours.
    """

    x: Tensor | None
    artists: Sequence[str | None]
    songs: NDArray[np.int64]
    same: NDArray[np.int64]


@dataclass(frozen=True)
class ClipScores:
    """What a head says of some clips.

    Attributes
    ----------
    prediction : scores and decisions [clips, outputs].
    neighbours : [clips] how many other clips of the artist it took into account; None for a head that reads no artist.
    trust : [clips] the weight >= 0 of the artist's labels beside the song; None for a head that does not weigh them.
    limits : `RestoredHead.limits`.
    """

    prediction: Prediction
    neighbours: NDArray[np.int64] | None
    trust: NDArray[np.float32] | None
    limits: NDArray[np.float64] | None

    def __getitem__(self, clips: NDArray[np.int64]) -> ClipScores:
        return ClipScores(
            Prediction(self.prediction.score[clips], self.prediction.decision[clips]),
            None if self.neighbours is None else self.neighbours[clips],
            None if self.trust is None else self.trust[clips],
            None if self.limits is None else self.limits[clips],
        )


class Predictor:
    """A trained head and the collection that it was trained on, ready to score songs.

    Attributes
    ----------
    head : the restored head.
    collection : the stored clips that are encoded and labelled; representations are read where they are needed.
    split : [clips] the part of each in the run's split, `UNSEEN` for those added since.

    Raises
    ------
    RequestError
        where the run or what it reads is not there.
    FormatError
        where its files are damaged, or of another version.
    """

    def __init__(self, store: Store, run: Run, device: torch.device) -> None:
        folder, record = run.folder, run.record
        self.run, self.device = run, device
        self.head: RestoredHead = restore(store, folder, run.name)
        if folder.representation is None:
            self.collection = from_catalog(store.read_catalog(folder.dataset), store, target=folder.target)
        else:
            self.collection = load(store, folder.dataset, folder.representation, target=folder.target, in_memory=False)
        self.split = self._split(record.regime, record.seed, record.fold, record.catalog)
        self._rows = len(store.read_catalog(folder.dataset))

    def _split(self, regime: str, seed: int, fold: int | None, catalog: dict[str, Any] | None) -> Split:
        parts = self.collection.parts(regime, seed)
        split = parts[(fold or 1) - 1].copy()
        rows = (catalog or {}).get("rows")
        if isinstance(rows, int):
            split[self.collection.rows >= rows] = UNSEEN
        return split

    @property
    def labels(self) -> tuple[str, ...]:
        return self.head.labels

    def places(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """[rows] where each catalog row stands in the collection; -1 where it is not encoded, or without labels."""
        of_row = np.full(self._rows, -1, dtype=np.int64)
        of_row[self.collection.rows] = np.arange(len(self.collection))
        return of_row[rows]

    def score_stored(self, clips: NDArray[np.int64]) -> ClipScores:
        """The scores of some clips of the collection, which are those of the run."""
        if self.head.head_type.NEEDS_COLLECTION:
            part = np.arange(len(self.collection))
        else:
            artists = np.unique(self.collection.artist[clips])
            among = np.isin(self.collection.artist, artists[artists >= 0])
            among[clips] = True
            part = np.flatnonzero(among)
        scores = self._score(self.collection.select(part), self.split[part])
        return scores[np.searchsorted(part, clips)]

    def score_new(self, clips: NewClips) -> ClipScores:
        """The scores of new clips; clips of one artist are each other's neighbours, beside the stored ones."""
        collection = self.collection
        if self.head.head_type.NEEDS_COLLECTION:
            part = np.arange(len(collection))
        else:
            artists = {artist for artist in clips.artists if artist is not None}
            numbers = [number for number, artist in enumerate(collection.artist_ids) if artist in artists]
            part = np.flatnonzero(np.isin(collection.artist, numbers))
        has_artist = clips.same >= 0
        part = part[~np.isin(collection.song[part], collection.song[clips.same[has_artist]])]
        together = _join(collection.select(part), clips, collection, self._rows)
        own = np.where(has_artist, self.split[clips.same], UNSEEN).astype(self.split.dtype)
        split = np.concatenate([self.split[part], own])
        order = np.argsort(together.artist, kind="stable")  # the clips of an artist lie together
        scores = self._score(together.select(order), split[order])
        return scores[np.argsort(order)[len(part) :]]

    def decide(self, scores: ClipScores, by: str = "mean") -> Prediction:
        """One prediction [1, outputs] for a song from those of its clips.

        Parameters
        ----------
        by : ``mean`` of the clips' scores, decided as the head decides; or ``vote``: the share of the clips that chose
            a label is its score, and the majority decides. A head with a rule of its own always votes on the decision.
            On a number there is no vote: it is the mean either way.
        """
        task, clips = self.head.task, scores.prediction
        votes = clips.decision.mean(axis=0, dtype=np.float32)[None]
        if by == "vote" and task.CHOOSES:
            return task.decide(votes)
        score = clips.score.mean(axis=0, dtype=np.float32)[None]
        if self.head.members[0].rule is not None:
            return Prediction(score, votes > 0.5)
        return task.decide(score, None if scores.limits is None else scores.limits.mean(axis=0))

    def _score(self, collection: Collection, split: Split) -> ClipScores:
        prediction = self.head.score(collection, split, self.device)
        if not np.isfinite(prediction.score).all():
            raise FormatError(f"{self.head.file} gives scores that are not finite; train it again: {self.head.command}")
        neighbours = None
        if self.head.head_type.READS_ARTISTS:
            inductive = is_inductive(self.head.config)
            graph = CliqueGraph(
                torch.from_numpy(collection.artist), torch.from_numpy(split == 0) if inductive else None
            )
            neighbours = graph.degree.numpy().astype(np.int64)
        trust = self.head.trust(collection, split, self.device)
        return ClipScores(prediction, neighbours, trust, self.head.limits(collection, split))


def _join(stored: Collection, new: NewClips, collection: Collection, first_row: int) -> Collection:
    """Some stored clips of the whole collection and new ones behind them; songs that are new carry no labels."""
    count = len(new.artists)
    if stored.x is not None and (new.x is None or new.x.shape[1:] != stored.x.shape[1:]):
        raise RequestError(f"the head reads {stored.dim} numbers a clip, and the new clips have others")
    number = {artist: i for i, artist in enumerate(stored.artist_ids)}
    for artist in new.artists:
        if artist is not None:
            number.setdefault(artist, len(number))
    artists = np.array([-1 if artist is None else number[artist] for artist in new.artists], dtype=np.int64)
    unknown = np.full(count, -1, dtype=np.int64)
    has_artist = new.same >= 0
    labels = collection.labels[new.same] & has_artist[:, None]
    song = np.where(has_artist, collection.song[new.same], collection.song.max(initial=-1) + 1 + new.songs)

    def behind(values: NDArray[Any] | None, more: NDArray[Any]) -> NDArray[Any] | None:
        return None if values is None else np.concatenate([values, more.astype(values.dtype)])

    fields: dict[str, Any] = {
        "rows": behind(stored.rows, first_row + np.arange(count)),
        "labels": behind(stored.labels, labels),
        "numbers": None
        if collection.numbers is None
        else behind(stored.numbers, np.where(has_artist, collection.numbers[new.same], 0)),
        "song": behind(stored.song, song),
        "album": behind(stored.album, unknown),
        "artist": behind(stored.artist, artists),
        "official": behind(stored.official, unknown),
        "recording": None,
        "trained_on": behind(stored.trained_on, np.zeros(count)),
        "targets": {name: behind(values, np.full(count, np.nan)) for name, values in stored.targets.items()},
        "x": None if stored.x is None or new.x is None else torch.cat([stored.x, new.x]),
    }
    return replace(stored, **fields, artist_ids=tuple(number), splits=None, stored=None)
