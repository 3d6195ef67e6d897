"""Test songs deformed, encoded, and asked about: stage one deforms and encodes them, stage two scores them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages.progress import note
from store.words import plural

if TYPE_CHECKING:
    from stages.embed.deformations import Deformation
    from stages.head.modes import Mode
    from stages.head.scores.compared import Score
    from stages.head.stress import Subjects
    from store.layout import Store


@dataclass(frozen=True)
class StressScores:
    """The scores of some modes under some deformations."""

    subjects: Subjects
    by_deformation: list[tuple[Deformation, dict[Mode, Score]]]

    def as_json(self) -> dict[str, Any]:
        """The scores under their stable keys."""
        pool = self.subjects.pool
        return {
            "dataset": pool.data.info.name,
            "synthetic": pool.data.info.synthetic,
            "representation": pool.representation,
            "regime": pool.regime,
            "target": pool.data.target,
            "seeds": sorted({seed for seed, _ in pool.keys}),
            "metric": pool.task.main.name,
            "deformations": [
                {
                    "kind": deformation.kind,
                    "amount": deformation.amount,
                    "unit": deformation.about.unit,
                    "modes": {str(mode): {"clips": score.clips, **score.as_json()} for mode, score in scores.items()},
                }
                for deformation, scores in self.by_deformation
            ],
        }


def stress_heads(
    store: Store,
    dataset: str,
    *,
    backbone: str | None,
    modes: Sequence[str],
    regime: str,
    target: str | None,
    inductive: bool,
    deform: Sequence[str] | None,
    weights: str | None,
    workers: int | None,
    device: str,
) -> StressScores:
    """Deform the test songs of stored heads, encode what the store does not have of them, and score the results.

    Parameters
    ----------
    deform : kinds of deformation, or ``kind=amount``; None for all.
    weights : the backbone's, where they moved.
    """
    from stages.devices import find_device
    from stages.embed.stress import open_subject
    from stages.head.stress import open_subjects

    place = find_device(device)
    subjects = open_subjects(
        store,
        dataset,
        backbone=backbone,
        modes=modes,
        regime=regime,
        target=target,
        inductive=inductive,
        device=place,
    )
    songs = open_subject(store, dataset, store.find(dataset, subjects.representation), subjects.rows.tolist(), weights)
    kinds = songs.deformations(None if deform is None else list(deform))
    note(f"{plural(len(subjects.rows), 'test clip')} in {plural(len(kinds), 'deformation')}")
    scores = [(each, subjects.scores(songs.rows, *songs.encode(each, place, workers))) for each in kinds]
    return StressScores(subjects, scores)
