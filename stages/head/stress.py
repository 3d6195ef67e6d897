"""How far the scores of trained heads fall where the test clips are deformed.

Every clip of the test part is deformed, and nothing else: what a head was trained on, and the neighbours that are not
tested, are as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages import registry
from stages.head import layers
from stages.head.collection import Collection
from stages.head.modes import Mode
from stages.head.open import load
from stages.head.report import gather_in_folds, representation_of
from stages.head.restore import RestoredHead, restore
from stages.head.runs.pool import PooledRuns, reads_neighbours
from stages.head.scores.compared import Score, compared, summed
from stages.progress import note
from store.errors import RequestError
from store.layout import Store, split_layer
from store.runs import RunFolder, run_name

CLEAN, DEFORMED = Mode("clean"), Mode("deformed")


@dataclass(frozen=True)
class Subjects:
    """The runs of some modes on one representation, and the clips that they were tested on.

    Attributes
    ----------
    modes : those that hear songs; others bear any deformation.
    """

    store: Store
    pool: PooledRuns
    modes: list[Mode]
    device: torch.device

    @property
    def collection(self) -> Collection:
        return self.pool.data

    @property
    def representation(self) -> str:
        """The name of the representation, without a layer."""
        name = split_layer(self.pool.representation)[0]
        assert name is not None
        return name

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """The catalog rows of all test clips."""
        return np.unique(self.collection.rows[self.pool.places])

    @cached_property
    def _heads(self) -> dict[Mode, list[RestoredHead]]:
        return {
            mode: [
                restore(self.store, self._folder(mode), run_name(seed, fold or None, mode.rule)) for seed, fold in keys
            ]
            for mode in self.modes
            for keys in [self.pool.keys]
        }

    def _folder(self, mode: Mode) -> RunFolder:
        pool = self.pool
        inductive = pool.inductive and reads_neighbours(mode.name)
        target = pool.data.target
        return RunFolder(pool.data.info.name, pool.representation, mode.name, pool.regime, inductive, target)

    def scores(self, rows: NDArray[np.int64], has_values: NDArray[np.bool_], values: NDArray[Any]) -> dict[Mode, Score]:
        """By mode the main metric on deformed test clips, tested against the same clips as they are.

        Parameters
        ----------
        rows, has_values, values : catalog rows of clips, whether each could be encoded, and [clips, *shape] what as.
        """
        task = self.pool.task
        place = np.full(int(max(rows.max(), self.collection.rows.max())) + 1, -1, dtype=np.int64)
        place[rows[has_values]] = np.flatnonzero(has_values)
        deformed = layers.read(values, split_layer(self.pool.representation)[1])
        masks = [place[self.collection.rows[places]] >= 0 for places in self.pool.clips]
        if not any(some.any() for some in masks):
            raise RequestError("none of the deformed clips could be encoded")
        clips = np.concatenate([places[some] for places, some in zip(self.pool.clips, masks, strict=True)])
        truth, artist = self.collection.truth[clips], self.collection.artist[clips]
        scores = {}
        for mode in self.modes:
            decisions = [[], []]  # type: ignore[var-annotated]
            for number, (places, some) in enumerate(zip(self.pool.clips, masks, strict=True)):
                test_places = places[some]
                x = deformed[place[self.collection.rows[test_places]]]
                decisions[0].append(self.pool.runs[mode][number].decision[some])
                decisions[1].append(self._decide(mode, number, test_places, x))
            sums = np.stack([task.tally(truth, np.concatenate(each)) for each in decisions])
            scores[mode] = compared(task.main, [CLEAN, DEFORMED], summed(task, task.main, sums, artist), CLEAN)[
                DEFORMED
            ]
        return scores

    def _decide(self, mode: Mode, number: int, clips: NDArray[np.int64], x: NDArray[Any]) -> NDArray[Any]:
        """What a run decides for some clips when these have other representations."""
        assert self.collection.x is not None
        changed = self.collection.x.clone()
        changed[torch.from_numpy(clips)] = torch.from_numpy(np.asarray(x, dtype=np.float32))
        seed, fold = self.pool.keys[number]
        split = self.collection.parts(self.pool.regime, seed)[max(fold - 1, 0)]
        head = self._heads[mode][number]
        return head.score(replace(self.collection, x=changed), split, self.device).decision[clips]


def open_subjects(
    store: Store,
    dataset: str,
    *,
    backbone: str | None,
    modes: Sequence[str],
    regime: str,
    target: str | None,
    inductive: bool,
    device: torch.device,
) -> Subjects:
    """The stored runs whose heads are to be stressed.

    Raises
    ------
    RequestError
        where there are none, or none of the modes hears songs.
    """
    name = representation_of(store, dataset, backbone)
    deaf = [mode for mode in modes if not registry.find("head", mode).READS_SONGS]
    hearing = [mode for mode in modes if mode not in deaf]
    if deaf:
        note(f"left out: {', '.join(deaf)}, which hear no song, and so bear any deformation")
    pool = None
    if name is not None and hearing:
        collection = load(store, dataset, name, target=target)
        pool = gather_in_folds(
            store,
            collection,
            regime,
            representation=name,
            modes=hearing,
            against=hearing[0],
            inductive=inductive,
        )
    if pool is None:
        words = f"encore compare {dataset} --modes {','.join(hearing) or 'song'} --regimes {regime}"
        words += "" if target is None else f" --target {target}"
        raise RequestError(f"{dataset} has no runs of heads that hear songs in regime {regime}; make some: {words}")
    return Subjects(store, pool, list(pool.runs), device)
