"""``encore store copy``: copy collections from one store to another."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from pipeline.arguments import open_store
from pipeline.options import JsonOption
from pipeline.output import print_json
from pipeline.stores import mib
from store.errors import RequestError
from store.words import plural


def copy(
    source: Annotated[str, typer.Argument(metavar="SRC", help="a store: a folder or an fsspec URL")],
    target: Annotated[str, typer.Argument(metavar="DST", help="another, which may not be there yet")],
    dataset: Annotated[str | None, typer.Option("--dataset", help="only this collection", metavar="NAME")] = None,
    json: JsonOption = False,
) -> None:
    """Copy a store, or one collection of it, to another place.

    Give the command again after a kill: what was copied is not copied twice. At the end the copy is verified.
    """
    from stages.progress import task
    from store.copies import check_places, count_files
    from store.copies import copy as copy_collection

    here, there = open_store(source), open_store(target)
    absent = here.there_is_none()
    if absent is not None:
        raise RequestError(absent)
    check_places(here, there)
    names = here.datasets() if dataset is None else [dataset]
    if not names:
        raise RequestError(f"there are no collections in the store {here.where()}")
    copied = []
    for name in names:
        here.read_catalog(name)  # raises with the list of what there is
        with task(f"copying {name}", count_files(here, name), "files") as advance:
            copied.append(copy_collection(here, there, name, advance))
    if json:
        print_json([dataclasses.asdict(entry) for entry in copied])
        return
    for entry in copied:
        present = f", {entry.already_there:,} were there already" if entry.already_there else ""
        print(f"{entry.dataset}: {plural(entry.files, 'file')} copied, {mib(entry.bytes)} MiB{present}; verified")
