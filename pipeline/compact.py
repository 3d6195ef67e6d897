"""``encore store compact``: write a collection anew in artist order, without retired rows."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from pipeline.arguments import open_store
from pipeline.options import DEFAULT_STORE, JsonOption, StoreOption, YesOption
from pipeline.output import print_json
from pipeline.process import confirmed
from pipeline.stores import mib
from store.words import plural


def compact(
    dataset: Annotated[str, typer.Argument(metavar="DATASET")],
    yes: YesOption = False,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Put a collection in artist order, without retired songs.

    Nothing is encoded. What was written is compared with what was there, and put in its place at one moment. Songs that
    were retired are encoded again if they come back. Trained heads are bound to rows: remove them first.
    """
    from stages.progress import task
    from store.compact import compact as rewrite
    from store.compact import recover

    where = open_store(store)
    if where.files.local is not None:
        recover(where, dataset)
    catalog = where.read_catalog(dataset)  # raises with the list of what there is
    count = int(catalog.retired().sum())
    what = f"{dataset} in artist order, without {plural(count, 'retired row')} and what was encoded of them"
    if not confirmed("write", what, yes=yes):
        return
    total = (len(catalog) - count) * len(where.representations(dataset))
    with task(f"writing {dataset} anew", total, "rows") as advance:
        summary = rewrite(where, dataset, advance)
    if json:
        print_json(dataclasses.asdict(summary))
        return
    rows = f"{plural(summary.rows_before, 'row')} -> {summary.rows:,}, {summary.moved:,} of them elsewhere now"
    size = f"{mib(summary.bytes_before)} -> {mib(summary.bytes)} MiB"
    print(f"{dataset}: {rows}; {plural(len(summary.representations), 'representation')}, {size}")
