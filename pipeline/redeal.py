"""``encore store redeal``: deal the splits of a collection anew."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline.arguments import open_store
from pipeline.options import DEFAULT_STORE, JsonOption, StoreOption, YesOption
from pipeline.output import print_result, wrapped
from pipeline.process import confirmed
from store.words import plural


def redeal(
    dataset: Annotated[str, typer.Argument(metavar="DATASET")],
    yes: YesOption = False,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Deal a collection's splits anew, by the present rule.

    Splits are kept for ever otherwise. Trained heads stay as they are and refer to the older splits: reports leave them
    out as soon as there are runs on the new ones. Representations do not change.
    """
    from stages.splits.kept import KeptSplits
    from store.runs import count_runs
    from store.splits import read_dealings

    where = open_store(store)
    catalog = where.read_catalog(dataset)  # raises with the list of what there is
    runs = sum(count_runs(where, dataset).values())
    stay = f"; {plural(runs, 'run')} of trained heads will refer to the older ones" if runs else ""
    what = f"{plural(len(read_dealings(where, dataset)), 'split')} of {dataset} anew{stay}"
    if not confirmed("deal", what, yes=yes):
        return
    dealings, impossible = KeptSplits(catalog, where).redeal()
    document = {
        "dataset": dataset,
        "splits": {name: dealing.revision for name, dealing in dealings.items()},
        "impossible": impossible,
        "runs": runs,
    }
    print_result(document, redealt_text, json=json)


def redealt_text(document: dict[str, Any]) -> str:
    """What was dealt anew, and what becomes of the runs on the older splits."""
    dataset = document["dataset"]
    lines = wrapped(f"dealt anew: {', '.join(document['splits']) or 'no split'}")
    if document["impossible"]:
        lines += wrapped(f"no longer possible, and not kept any more: {', '.join(document['impossible'])}")
    if document["runs"]:
        lines += wrapped(
            f"{plural(document['runs'], 'run')} of trained heads refer to the older splits; train again: encore "
            f"compare {dataset}, or remove them: encore store remove {dataset} --runs"
        )
    return "\n".join(lines)
