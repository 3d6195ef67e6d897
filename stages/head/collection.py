"""A stored collection as stage two sees it: arrays of the clips that can be trained on and scored."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.head.graph.cliques import CliqueGraph
from stages.head.scores.task import Task
from stages.head.stored import Stored
from stages.progress import note
from stages.splits.kept import KeptSplits
from stages.splits.regimes import Split, overlap
from stages.splits.remarks import remarks
from store.errors import RequestError, unknown
from store.schema import CatalogInfo


@dataclass(frozen=True)
class Collection:
    """The live clips of one catalog whose answer is known, and their representations where heads need them.

    The task is to say which labels a clip carries, or to estimate its ``target``; `truth` holds the answers.

    Attributes
    ----------
    rows : [clips] the catalog row of each clip.
    x : [clips, dim] float32, or None where they are not held in memory.
    labels : [clips, labels] bool, which labels each clip carries.
    label_names : the names of the labels, sorted.
    task : what is asked of the clips: `task_of` the whole collection, whatever part of it this is.
    song, album, artist : [clips] numbers from 0, -1 where unknown.
    official : [clips] the data set's own split: 0 train, 1 validation, 2 test, -1 none.
    backbone : the folder of the representation, or None.
    recording : [clips] numbers from 0 that copies and versions of one recording share; None where every song is one.
    left_out : clips not here, by reason.
    splits : the splits of the whole catalog, whatever of it is encoded; None where a head is not to see them.
    trained_on : [clips] whether the backbone was trained on the clip's song, as the store remembers; None where it was
        not trained on this collection.
    trained_in : the regime in which it was, where the store remembers that too.
    target, numbers : the name of the numeric target that is asked for, and [clips] float64 what it is; None where
        labels are asked for.
    targets : by name, [clips] float64 for each other numeric target of the catalog, NaN where a clip has none.
    artist_ids : the id of each artist number.
    stored : where the representations can be read; None where there are none.
    """

    info: CatalogInfo
    rows: NDArray[np.int64]
    x: Tensor | None
    labels: NDArray[np.bool_]
    label_names: tuple[str, ...]
    task: Task
    song: NDArray[np.int64]
    album: NDArray[np.int64]
    artist: NDArray[np.int64]
    official: NDArray[np.int8]
    backbone: str | None
    left_out: dict[str, int]
    recording: NDArray[np.int64] | None = None
    splits: KeptSplits | None = None
    trained_on: NDArray[np.bool_] | None = None
    trained_in: str | None = None
    target: str | None = None
    numbers: NDArray[np.float64] | None = None
    targets: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    artist_ids: tuple[str, ...] = ()
    stored: Stored | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def truth(self) -> NDArray[Any]:
        """[clips, outputs] what is asked for: ``labels``, or the one column of ``numbers``."""
        return self.labels if self.numbers is None else self.numbers[:, None]

    @property
    def outputs(self) -> tuple[str, ...]:
        """What the columns of `truth` are called."""
        return self.label_names if self.target is None else (self.target,)

    @cached_property
    def graph(self) -> CliqueGraph:
        return CliqueGraph(torch.from_numpy(self.artist))

    def artists_among(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """[artists] where the id of each artist stands in ``ids``; -1 where it does not."""
        import pyarrow as pa
        import pyarrow.compute as pc

        mine, others = (pa.array(list(names), pa.string()) for names in (self.artist_ids, ids))
        places: NDArray[np.int64] = pc.index_in(mine, value_set=others).fill_null(-1).to_numpy().astype(np.int64)
        return places

    def mark(self) -> str:
        """A hash of everything about the clips except their representations."""
        digest = hashlib.sha256(repr((self.info.name, self.label_names, *filter(None, [self.target]))).encode())
        names = ("rows", "labels", "song", "album", "artist", "official", "recording")
        arrays = [getattr(self, name) for name in names] + ([] if self.numbers is None else [self.numbers])
        for values in [*arrays, *(self.targets[name] for name in sorted(self.targets))]:
            digest.update(b"-" if values is None else np.ascontiguousarray(values).data)
        return digest.hexdigest()

    @property
    def dim(self) -> int:
        """How many numbers a representation has."""
        if self.x is not None:
            return self.x.shape[1]
        if self.stored is None:
            raise ValueError("this collection was loaded without representations")
        return self.stored.dim

    @property
    def layers(self) -> int:
        """Of how many layers a representation is made, one behind the other, for a head to mix."""
        return 1 if self.stored is None else self.stored.layers

    def in_memory(self) -> Collection:
        """The same with all representations in memory."""
        return self if self.x is not None else self.take(0, len(self))

    def target_values(self, name: str) -> NDArray[np.float64]:
        """[clips] a numeric target of the catalog for a head to read, NaN where a clip has none.

        Raises
        ------
        RequestError
            if there is no such target, or it is what heads are to estimate.
        """
        if name not in self.targets:
            raise unknown(f"numeric target of {self.info.name}", name, self.targets)
        return self.targets[name]

    def take(self, first: int, last: int) -> Collection:
        """Clips [first, last) with their representations; artists and songs keep their numbers."""
        if self.x is not None and (first, last) == (0, len(self)):
            return self
        return self.select(slice(first, last))

    def select(self, clips: slice | NDArray[np.int64]) -> Collection:
        """Some of the clips, in this order, with their representations where there are any; numbers stay theirs."""
        x = self.x
        if x is not None:
            x = x[clips if isinstance(clips, slice) else torch.from_numpy(clips)]
        elif self.stored is not None:
            x = self.stored.read(self.rows[clips])
        return replace(self._without_representations(clips), x=x, stored=self.stored)

    def part(self, first: int, last: int) -> Collection:
        """Clips [first, last) without representations."""
        return self._without_representations(slice(first, last))

    def _without_representations(self, clips: slice | NDArray[np.int64]) -> Collection:
        names = ("rows", "labels", "numbers", "song", "album", "artist", "official", "recording", "trained_on")
        arrays = {name: getattr(self, name) for name in names}
        arrays = {name: None if values is None else values[clips] for name, values in arrays.items()}
        targets = {name: values[clips] for name, values in self.targets.items()}
        return replace(self, **arrays, x=None, stored=None, targets=targets)

    def masked(self, split: Split, parts: tuple[int, ...] = (0,)) -> Collection:
        """The collection as a head may see it: the labels of clips outside ``parts`` of a split are all False, and
        their numbers zero. Where numbers are asked for, no label is seen at all.

        What is known without them stays: the names of labels, the task, the artist graph.
        """
        has_labels = np.isin(split, parts)
        if self.numbers is None:
            return replace(self, labels=self.labels & has_labels[:, None], splits=None)
        numbers = np.where(has_labels, self.numbers, 0.0)
        return replace(self, labels=np.zeros_like(self.labels), numbers=numbers, splits=None)

    def with_labels(self, labels: Sequence[str]) -> Collection:
        """The same under other labels, as of a run: those that no clip here carries are False, others are left out."""
        if tuple(labels) == self.outputs:
            return self
        places = {label: i for i, label in enumerate(self.label_names)}
        truth = np.zeros((len(self), len(labels)), dtype=bool)
        for column, label in enumerate(labels):
            if label in places:
                truth[:, column] = self.labels[:, places[label]]
        return replace(self, label_names=tuple(labels), labels=truth)

    def split(self, regime: str, seed: int) -> Split:
        """The part of each clip in a regime; see `parts`."""
        return self.parts(regime, seed)[0]

    def parts(self, regime: str, seed: int) -> list[Split]:
        """The one split of a regime, or those of its k-fold version; see `KeptSplits.parts`.

        Raises
        ------
        ValueError
            where this is what a head sees.
        """
        if self.splits is None:
            raise ValueError("a head sees no splits but the one that it is trained on")
        parts = [part[self.rows] for part in self.splits.parts(regime, seed)]
        self._tell_of_songs_trained_on(f"{regime}, seed {seed}", parts)
        return parts

    def overlap(self, part: Split) -> dict[str, Any]:
        """What the parts of a split share; ``trained_on`` counts the test songs that the backbone was trained on."""
        ids = {name: getattr(self, name) for name in ("song", "album", "artist", "recording")}
        counts = overlap(part, **ids, appearances=self._appearances())
        return counts if self.trained_on is None else {**counts, "trained_on": self._songs_trained_on(part)}

    def remarks(self, parts: Sequence[Split]) -> list[str]:
        """Remarks on the parts of some splits of one regime, one line each."""
        return remarks(parts, song=self.song, artist=self.artist, labels=self.labels, label_names=self.label_names)

    def _appearances(self) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        """Every artist of every clip as pairs of clip and number; None where each clip has one at most."""
        if self.splits is None or self.splits.appearances is None:
            return None
        row, artist = self.splits.appearances
        clip_of = np.full(len(self.splits.catalog), -1, dtype=np.int64)
        clip_of[self.rows] = np.arange(len(self))
        clip = clip_of[row]
        return clip[clip >= 0], artist[clip >= 0]

    def _songs_trained_on(self, part: Split) -> int:
        assert self.trained_on is not None
        return len(np.unique(self.song[(part == 2) & self.trained_on]))

    def _tell_of_songs_trained_on(self, split: str, parts: list[Split]) -> None:
        count = 0 if self.trained_on is None else max(map(self._songs_trained_on, parts))
        if count:
            note(
                f"{self.backbone} was trained on {count:,} of the test songs of {split}: scores there are too good"
                + (
                    f"; the split that it was trained in, with seed 0, has none (--regime {self.trained_in} --seeds 1)"
                    if self._knows_no_test_song_where_trained()
                    else ""
                )
            )

    def _knows_no_test_song_where_trained(self) -> bool:
        """False, too, where training began from weights that had already heard some of them, in another regime."""
        if self.trained_in is None or self.splits is None:
            return False
        try:
            (part,) = self.splits.parts(self.trained_in, 0)
        except RequestError:  # the collection can no longer be split so
            return False
        return not self._songs_trained_on(part[self.rows])
