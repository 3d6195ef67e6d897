"""``encore store redeal``: deal the splits of a collection anew."""

from __future__ import annotations

from typing import Any

from pipeline.output import wrapped
from stages.splits.kept import KeptSplits
from store.layout import Store
from store.runs import count_runs
from store.splits import read_dealings
from store.words import counted


def question(store: Store, dataset: str) -> str:
    """What would be dealt anew, and what becomes of the runs."""
    store.read_catalog(dataset)  # raises with the list of what there is
    splits = len(read_dealings(store, dataset))
    runs = sum(count_runs(store, dataset).values())
    stay = f"; {counted(runs, 'run')} of trained heads will refer to the older ones" if runs else ""
    return f"{counted(splits, 'split')} of {dataset} anew{stay}"


def redeal(store: Store, dataset: str) -> dict[str, Any]:
    """Deal all kept splits anew.

    Keys: ``dataset``, ``splits`` (name -> revision of the rule), ``impossible`` (names of splits that the collection
    can no longer have), ``runs`` (trained heads that refer to the older splits).
    """
    dealings, impossible = KeptSplits(store.read_catalog(dataset), store).redeal()
    return {
        "dataset": dataset,
        "splits": {name: dealing.revision for name, dealing in dealings.items()},
        "impossible": impossible,
        "runs": sum(count_runs(store, dataset).values()),
    }


def describe(found: dict[str, Any]) -> str:
    dataset = found["dataset"]
    lines = wrapped(f"dealt anew: {', '.join(found['splits']) or 'no split'}")
    if found["impossible"]:
        lines += wrapped(f"no longer possible, and not kept any more: {', '.join(found['impossible'])}")
    if found["runs"]:
        lines += wrapped(
            f"{counted(found['runs'], 'run')} of trained heads refer to the older splits; train again: encore compare "
            f"{dataset}, or remove them: encore store remove {dataset} --runs"
        )
    return "\n".join(lines)
