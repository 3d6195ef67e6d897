"""``encore store gc``: remove what nobody uses."""

from __future__ import annotations

import dataclasses
import sys
from typing import Annotated

import typer

from pipeline.arguments import open_store
from pipeline.options import DEFAULT_STORE, JsonOption, StoreOption, YesOption
from pipeline.output import print_json
from pipeline.stores import mib
from store.errors import RequestError


def gc(
    dataset: Annotated[str | None, typer.Argument(metavar="[DATASET]")] = None,
    yes: YesOption = False,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """List what nobody uses, and remove it.

    That is representations that this version no longer makes, heads trained on representations that are gone, and
    what killed commands left behind. Searches for settings beside such heads go too.
    """
    from stages.embed.choose import is_current
    from store.removal import find_unused, remove_unused

    where = open_store(store)
    absent = where.there_is_none()
    if absent is not None:
        raise RequestError(absent)
    unused = find_unused(where, dataset, is_current)
    total = mib(sum(entry.bytes for entry in unused))
    lines = [f"{where.files.show(entry.path)}: {entry.why}, {mib(entry.bytes)} MiB" for entry in unused]
    if not json:
        print("\n".join(lines) or "nothing is unused")
    removes = bool(unused) and (yes or (sys.stdin.isatty() and typer.confirm(f"Remove {total} MiB?", err=True)))
    if removes:
        remove_unused(where, unused)
    if json:
        print_json({"unused": [dataclasses.asdict(entry) for entry in unused], "removed": removes})
    elif unused:
        print(f"removed {total} MiB" if removes else f"nothing was removed; say --yes to remove {total} MiB")
