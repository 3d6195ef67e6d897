"""The splits of a collection, dealt once and kept in its store: heads, audits, exports and backbones ask here.

A song keeps its part of a split for ever. When the collection grows, new songs are dealt to what is lacking; when a
correction of artists, albums or recordings (or a new song that is a version of both) puts songs of two parts together,
they go to the first of these (train before validation before test), which is said. `stages.splits.regimes.dealt` holds
the rule. When the rule itself changes, kept splits stay as they were dealt, until someone asks to deal them anew
(`KeptSplits.redeal`): a split remembers the revision of the rule, and a run the split that it was trained on.

Songs that share any of their artists, directly or through others, are one artist's in the regime ``artist``, unless the
catalog says that the first-named one alone decides (``--first-artist``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
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
from store.splits import Dealing, StoredSplit, keep_splits, read_dealings, read_splits, splits_mark
from store.words import plural

Ids = NDArray[np.int64]

REVISION = 2  # of the rule that deals splits. 1: large groups went to train, single songs to the others


@dataclass(frozen=True)
class KeptSplits:
    """The splits of one catalog. All arrays are [rows] of the catalog.

    Only live, labelled rows are divided (all live rows where no label is known), so the split is the same for every
    backbone, whatever it could encode.

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

    def redeal(self) -> tuple[dict[str, Dealing], list[str]]:
        """Deal every kept split anew, as if no song had been dealt before.

        Returns
        -------
        How each split is dealt now, by its name ``<regime>-<seed>``; the names of those that the collection can no
        longer have, which are kept no more.

        Raises
        ------
        RequestError
            where no split is kept.
        """
        if self.store is None:
            raise ValueError("splits that are not kept in a store are dealt anew each time")
        name = self.catalog.info.name
        with self.store.lock(name):
            mark = splits_mark(self.store, name)
            before = read_dealings(self.store, name)
            if not before:
                raise RequestError(f"no split of {name} is kept yet; the first encore embed or head deals them")
            names = [column.rpartition("-") for column in before]
            splits = [(regime, int(seed)) for regime, _, seed in names if seed.isdecimal()]
            _, parts, _ = self._dealt(splits, {}, possible_only=True)
            after = keep_splits(self.store, name, self._songs, parts, mark, revision=REVISION, anew=True)
        self._dealings.update(after)
        return after, [column for column in before if column not in after]

    def dealing(self, regime: str, seed: int) -> Dealing | None:
        """How a split that `parts` returned was dealt; None for an official one."""
        return self._dealings.get(f"{regime}-{seed}")

    @cached_property
    def _dealings(self) -> dict[str, Dealing]:
        return {}

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
            in_parts = (part[rows] >= 0) & (ids >= 0)
            np.maximum.at(latest, ids[in_parts], part[rows[in_parts]])
            others = free[rows] & (ids >= 0)
            np.maximum.at(after, rows[others], latest[ids[others]])
        return after

    def _known_part(self, regime: str, base: str) -> Split:
        """[rows] the part that a row has all the same: in the official split, or since it was dealt one earlier."""
        if base == "official":
            return columns.official(self.catalog)
        entry = self._kept([(regime, 0)]).get(f"{regime}-0")
        return np.full(len(self.catalog), -1, dtype=np.int8) if entry is None else entry.part[self.song]

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
        rows = np.flatnonzero(~self.catalog.retired() & self.labels.any(axis=1))
        rows = rows[: np.searchsorted(rows, first)]
        labels = self.labels[rows]
        labels_present = np.flatnonzero(labels.any(axis=0))
        digest = hashlib.sha256(repr([self.label_names[i] for i in labels_present.tolist()]).encode())
        for ids in (self.song, self.album, self.artist):
            _, earliest, which = np.unique(ids[rows], return_index=True, return_inverse=True)
            digest.update(np.where(ids[rows] < 0, -1, earliest[which]).data)
        digest.update(rows.data)
        digest.update(np.ascontiguousarray(labels[:, labels_present]).data)
        return digest.hexdigest()[:32]

    def _numbers(self, splits: Sequence[tuple[str, int]], *, possible_only: bool = False) -> list[Split]:
        """The part or fold of each row in several splits, -1 where it has none; what is new is kept."""
        entries = self._kept(splits)
        numbers, changes, moves = self._dealt(splits, entries, possible_only)
        if self.store is not None and self.keeps and changes:
            name = self.catalog.info.name
            with self.store.lock(name):
                mark = splits_mark(self.store, name)
                now = self._kept(splits)
                # Another process may have kept some meanwhile.
                if now.keys() != entries.keys() or any((now[name].part != entries[name].part).any() for name in now):
                    entries = now
                    numbers, changes, moves = self._dealt(splits, entries, possible_only)
                dealings = keep_splits(self.store, name, self._songs, changes, mark, revision=REVISION)
            self._dealings.update(dealings)
        self._dealings.update({column: split.dealing for column, split in entries.items()})
        for column in changes:
            self._dealings.setdefault(column, Dealing(REVISION))  # which is kept nowhere, and so needs no mark
        for column, count in moves.items():
            note(
                f"{self.catalog.info.name}: {plural(count, 'song')} of the split {column} now in another part, since "
                f"a correction or a new version of a song puts them together with songs there; run its heads again"
            )
        return numbers

    def _kept(self, splits: Sequence[tuple[str, int]]) -> dict[str, StoredSplit]:
        """By column, what the store keeps of some splits: [songs]."""
        if self.store is None:
            return {}
        return read_splits(self.store, self.catalog.info.name, [f"{r}-{seed}" for r, seed in splits], self._songs)

    def _dealt(
        self, splits: Sequence[tuple[str, int]], entries: Mapping[str, StoredSplit], possible_only: bool
    ) -> tuple[list[Split], dict[str, Split], dict[str, int]]:
        """The part or fold of each row in several splits; by column, what of it is new [songs] and how many moved."""
        numbers, changes, moves = [], {}, {}
        for regime, seed in splits:
            column = f"{regime}-{seed}"
            number = np.full(len(self.catalog), -1, dtype=np.int8)
            try:
                number[self._rows] = self._deal(regime, seed, entries.get(column))
            except RequestError:
                if possible_only:
                    continue
                raise
            numbers.append(number)
            before = entries[column].part if column in entries else np.full(len(self._songs), -1, dtype=np.int8)
            after = np.full(len(self._songs), -1, dtype=np.int8)
            after[self.song[self._rows]] = number[self._rows]
            if column not in entries or ((after >= 0) & (after != before)).any():
                changes[column] = after
            count = int(((before >= 0) & (after >= 0) & (before != after)).sum())
            if count:
                moves[column] = count
        return numbers, changes, moves

    def _deal(self, regime: str, seed: int, entry: StoredSplit | None) -> Split:
        """[divided rows] their part or fold."""
        base, folds = parse(regime)
        arrays = self._arrays
        if base != "artist" or (entry is not None and entry.dealing.revision < 2):  # which knew the first artist alone
            arrays["related"] = None
        if entry is None:
            before = None
        else:
            _check(f"{regime}-{seed}", entry.part, folds or len(PARTS))
            before = entry.part[self.song[self._rows]]
        remark = "" if arrays["related"] is None else self.joined_by_artists
        try:
            part = dealt(regime, seed, **arrays, part_before=before)
        except RequestError as error:
            raise RequestError(f"{error}. {remark}" if remark else str(error)) from None
        if remark and remark not in self._notes:
            self._notes.add(remark)
            note(remark)
        return part

    @cached_property
    def _notes(self) -> set[str]:
        return set()

    @cached_property
    def _rows(self) -> Ids:
        """The rows that are divided."""
        alive = ~self.catalog.retired()
        has_labels = alive & self.labels.any(axis=1)
        return np.flatnonzero(has_labels if has_labels.any() else alive)

    @cached_property
    def _divided_official(self) -> Split:
        part = np.full(len(self.catalog), -1, dtype=np.int8)
        part[self._rows] = columns.official(self.catalog)[self._rows]
        return part

    @property
    def _arrays(self) -> dict[str, Any]:
        """What is dealt among: arrays of the divided rows."""
        names = ("song", "album", "artist", "related", "recording", "labels")
        arrays = {name: getattr(self, name) for name in names}
        return {name: None if array is None else array[self._rows] for name, array in arrays.items()}

    @cached_property
    def _numbered_songs(self) -> tuple[pa.StringArray, Ids]:
        return columns.ids_and_codes(self.catalog, "song_id")

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
        """The appearances that the regime ``artist`` keeps together; None where only first-named artists count."""
        return None if self.catalog.info.first_artist else self.appearances

    @cached_property
    def related(self) -> Ids | None:
        """[rows] a number that rows share whose artists are one, or are joined by songs that are divided; -1 where
        no artist is known. None where the first-named artist decides alone.
        """
        if self._deciding is None:
            return None
        of_row, number = self._deciding
        in_parts = np.isin(of_row, self._rows)
        return together(of_row[in_parts], number[in_parts], len(self.catalog))

    @cached_property
    def joined_by_artists(self) -> str:
        """A remark if shared artists join most songs into one group; empty otherwise."""
        if self.related is None:
            return ""
        _, first = np.unique(self.song[self._rows], return_index=True)
        related = self.related[self._rows[first]]
        most = int(np.bincount(related[related >= 0], minlength=1).max())
        if 2 * most <= len(first):
            return ""
        return (
            f"{self.catalog.info.name}: {most:,} of {plural(len(first), 'song')} are joined by artists that they "
            f"share, and stand in one part of the regime artist; to go by the first-named artist alone, embed with "
            f"--first-artist"
        )

    @cached_property
    def recording(self) -> Ids | None:
        return columns.recordings(self.catalog)

    @cached_property
    def _labelled(self) -> tuple[list[str], NDArray[np.bool_]]:
        return columns.labels(self.catalog)

    @property
    def label_names(self) -> list[str]:
        """The names of all labels, sorted."""
        return self._labelled[0]

    @property
    def labels(self) -> NDArray[np.bool_]:
        """[rows, labels] which of them each row carries."""
        return self._labelled[1]


def _check(column: str, part: Split, parts: int) -> None:
    if part.max(initial=-1) >= parts or part.min(initial=0) < -1:
        raise FormatError(f"the split {column} is kept with parts that there are none of; is splits.parquet damaged?")


def mark_of(parts: Iterable[Split]) -> str:
    """A hash of some splits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()[:32]
