"""The splits of a collection, dealt once and kept in its store: heads, audits, exports and backbones ask here.

A song keeps its part of a split for ever. When the collection grows, new songs are dealt to what is lacking; when a
correction of artists, albums or recordings (or a new song that is a version of both) puts songs of two parts together,
they go to the first of these (train before validation before test), which is said. `stages.splits.regimes.dealt` holds
the rule.

Songs that share any of their artists, directly or through others, are one artist's in the regime ``artist``, unless the
catalog says that the first-named one alone decides (``--first-artist``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stages.progress import note
from stages.splits.regimes import PARTS, REGIMES, Split, as_parts, dealt, parse, split, together
from store import columns
from store.errors import FormatError, RequestError
from store.layout import Store
from store.schema import Catalog
from store.splits import keep_splits, read_splits, splits_mark
from store.words import counted

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class KeptSplits:
    """The splits of one catalog. All arrays are [rows] of the catalog.

    Only live, labelled rows are divided (all live rows where no label is known): the same ones for every backbone,
    whatever could be encoded.

    Attributes
    ----------
    store : where splits are kept; None deals them afresh.
    keeps : whether splits that are not kept yet are written there.
    """

    catalog: Catalog
    store: Store | None = None
    keeps: bool = True

    def parts(self, regime: str, seed: int) -> list[Split]:
        """The one split of a regime, or the k of its k-fold version: 0 train, 1 validation, 2 test, -1 in none.

        Raises
        ------
        RequestError
            where there is no such regime, or this collection cannot have it.
        """
        if parse(regime)[0] == "official":
            return [split("official", **self._arrays, official=self._divided_official, seed=seed)]
        return as_parts(regime, self._numbers([(regime, seed)])[0])

    def settle(self, seed: int = 0) -> None:
        """Deal and keep the split of every regime that this collection can have."""
        self._numbers([(regime, seed) for regime in REGIMES[:-1]], possible_only=True)

    def with_unlabelled(self, part: Split, regime: str) -> Split:
        """A split in which unlabelled rows take part too: where their song, artist, album or recording (as the regime
        parts them) stands already, in train where it stands nowhere.

        Between two parts the later one wins, so that nothing akin to a test song is trained on.
        """
        free = ~self.catalog.retired() & (part < 0)
        base = parse(regime)[0]
        every = np.arange(len(part))
        # An official split, too, is one of artists where it is worth the name.
        by_artist = [(every, self.song), self._deciding or (every, self.artist)]
        of_base = {"random": [(every, self.song)], "album": [(every, self.song), (every, self.album)]}
        kinds = of_base.get(base, by_artist) + ([] if self.recording is None else [(every, self.recording)])
        after = np.where(free, np.maximum(self._known_part(regime, base), 0), part).astype(np.int8)
        for rows, ids in kinds:
            latest = np.zeros(int(ids.max(initial=-1)) + 1, dtype=np.int8)
            divided = (part[rows] >= 0) & (ids >= 0)
            np.maximum.at(latest, ids[divided], part[rows[divided]])
            others = free[rows] & (ids >= 0)
            np.maximum.at(after, rows[others], latest[ids[others]])
        return after

    def _known_part(self, regime: str, base: str) -> Split:
        """[rows] the part that a row has all the same: in the official split, or since it was dealt one earlier."""
        if base == "official":
            return columns.official(self.catalog)
        kept = self._kept([(regime, 0)]).get(f"{regime}-0")
        return np.full(len(self.catalog), -1, dtype=np.int8) if kept is None else kept[self.song]

    def mark(self, first: int) -> str:
        """A hash of which of the ``first`` rows are live and labelled, their labels, and which of them are of one song,
        one album, one artist; it stays as it is when rows are added.
        """
        if first not in self._marks:
            self._marks[first] = self._mark(first)
        return self._marks[first]

    @cached_property
    def _marks(self) -> dict[int, str]:
        return {}

    def _mark(self, first: int) -> str:
        rows = np.flatnonzero(~self.catalog.retired() & self.targets.any(axis=1))
        rows = rows[: np.searchsorted(rows, first)]
        targets = self.targets[rows]
        held = np.flatnonzero(targets.any(axis=0))
        digest = hashlib.sha256(repr([self.labels[i] for i in held.tolist()]).encode())
        for ids in (self.song, self.album, self.artist):
            _, earliest, which = np.unique(ids[rows], return_index=True, return_inverse=True)
            digest.update(np.where(ids[rows] < 0, -1, earliest[which]).data)
        digest.update(rows.data)
        if self._deciding is not None:
            of_row, number = self._deciding
            mine = np.isin(of_row, rows)
            names = np.unique(number[mine], return_inverse=True)[1]
            digest.update(of_row[mine].data)
            digest.update(names.data)
        digest.update(np.ascontiguousarray(targets[:, held]).data)
        return digest.hexdigest()[:32]

    def _numbers(self, asked: Sequence[tuple[str, int]], *, possible_only: bool = False) -> list[Split]:
        """The part or fold of each row in several splits, -1 where it has none; what is new is kept."""
        kept = self._kept(asked)
        found, changed, moved = self._dealt(asked, kept, possible_only)
        if self.store is not None and self.keeps and changed:
            name = self.catalog.info.name
            with self.store.lock(name):
                seen = splits_mark(self.store, name)
                now = self._kept(asked)
                # Another process may have kept some meanwhile.
                if now.keys() != kept.keys() or any((now[column] != kept[column]).any() for column in now):
                    found, changed, moved = self._dealt(asked, now, possible_only)
                keep_splits(self.store, name, self._songs, changed, seen)
        for column, count in moved.items():
            note(
                f"{self.catalog.info.name}: {counted(count, 'song')} of the split {column} now in another part, since "
                f"a correction or a new version of a song puts them together with songs there; run its heads again"
            )
        return found

    def _kept(self, asked: Sequence[tuple[str, int]]) -> dict[str, Split]:
        """By column, what the store keeps of some splits: [songs]."""
        if self.store is None:
            return {}
        return read_splits(self.store, self.catalog.info.name, [f"{r}-{seed}" for r, seed in asked], self._songs)

    def _dealt(
        self, asked: Sequence[tuple[str, int]], kept: Mapping[str, Split], possible_only: bool
    ) -> tuple[list[Split], dict[str, Split], dict[str, int]]:
        """The part or fold of each row in several splits; by column, what of it is new [songs] and how many moved."""
        found, changed, moved = [], {}, {}
        for regime, seed in asked:
            column = f"{regime}-{seed}"
            before = kept.get(column)
            _check(column, before, parse(regime)[1] or len(PARTS))
            held = None if before is None else before[self.song[self._rows]]
            number = np.full(len(self.catalog), -1, dtype=np.int8)
            try:
                number[self._rows] = dealt(regime, seed, **self._arrays, held=held)
            except RequestError:
                if possible_only:
                    continue
                raise
            found.append(number)
            after = np.full(len(self._songs), -1, dtype=np.int8)
            after[self.song[self._rows]] = number[self._rows]
            if before is None or ((after >= 0) & (after != before)).any():
                changed[column] = after
            count = 0 if before is None else int(((before >= 0) & (after >= 0) & (before != after)).sum())
            if count:
                moved[column] = count
        return found, changed, moved

    @cached_property
    def _rows(self) -> Ids:
        """The rows that are divided."""
        alive = ~self.catalog.retired()
        labelled = alive & self.targets.any(axis=1)
        return np.flatnonzero(labelled if labelled.any() else alive)

    @cached_property
    def _divided_official(self) -> Split:
        found = np.full(len(self.catalog), -1, dtype=np.int8)
        found[self._rows] = columns.official(self.catalog)[self._rows]
        return found

    @property
    def _arrays(self) -> dict[str, Any]:
        """What is dealt among: arrays of the divided rows."""
        every = {"song": self.song, "album": self.album, "artist": self._related, "recording": self.recording}
        found = {name: None if ids is None else ids[self._rows] for name, ids in every.items()}
        return {**found, "targets": self.targets[self._rows]}

    @cached_property
    def _numbered_songs(self) -> tuple[pa.StringArray, Ids]:
        return columns.numbered(self.catalog, "song_id")

    @property
    def _songs(self) -> pa.StringArray:
        return self._numbered_songs[0]

    @property
    def song(self) -> Ids:
        return self._numbered_songs[1]

    @cached_property
    def album(self) -> Ids:
        return columns.codes(self.catalog, "album_id")

    @cached_property
    def artist(self) -> Ids:
        return columns.codes(self.catalog, "artist_id")

    @cached_property
    def appearances(self) -> tuple[Ids, Ids] | None:
        """Every artist of every row as pairs of row and number; None where each row has one at most."""
        return columns.appearances(self.catalog)

    @property
    def _deciding(self) -> tuple[Ids, Ids] | None:
        """The appearances that the regime ``artist`` keeps together; None where only the first-named artist counts."""
        return None if self.catalog.info.first_artist else self.appearances

    @cached_property
    def _related(self) -> Ids:
        """[rows] a number that rows share whose artists are one, or are joined by songs that are divided; -1 where
        no artist is known.
        """
        if self._deciding is None:
            return self.artist
        of_row, number = self._deciding
        divided = np.isin(of_row, self._rows)
        related = together(of_row[divided], number[divided], len(self.catalog))
        songs = np.unique(self.song[self._rows], return_index=True)[1]
        of_songs = related[self._rows[songs]]
        most = int(np.bincount(of_songs[of_songs >= 0]).max(initial=0))
        if 2 * most > len(songs):
            note(
                f"{self.catalog.info.name}: {most:,} of {counted(len(songs), 'song')} hang together by artists that "
                f"they share, and stand in one part of the regime artist; --first-artist counts the first-named artist "
                f"alone"
            )
        return related

    @cached_property
    def recording(self) -> Ids | None:
        return columns.recordings(self.catalog)

    @cached_property
    def _labelled(self) -> tuple[list[str], NDArray[np.bool_]]:
        return columns.targets(self.catalog)

    @property
    def labels(self) -> list[str]:
        """The names of all labels, sorted."""
        return self._labelled[0]

    @property
    def targets(self) -> NDArray[np.bool_]:
        """[rows, labels] which of them each row carries."""
        return self._labelled[1]


def _check(column: str, kept: Split | None, parts: int) -> None:
    if kept is not None and (kept.max(initial=-1) >= parts or kept.min(initial=0) < -1):
        raise FormatError(f"the split {column} is kept with parts that there are none of; is splits.parquet damaged?")
