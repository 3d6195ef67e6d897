"""``encore store gc``: remove what nobody uses."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.arguments import open_store
from pipeline.options import DEFAULT_STORE, JsonOption, StoreOption
from pipeline.output import print_json
from pipeline.stores import mib
from stages import registry
from store.errors import RequestError

if TYPE_CHECKING:
    from store.schema import Manifest


def gc(
    dataset: Annotated[str | None, typer.Argument(metavar="[DATASET]")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """List what nobody uses, and remove it.

    That is representations that this version no longer makes, heads trained on representations that are gone, and
    what killed commands left behind. Searches for settings beside such heads go too.
    """
    from store.removal import find_unused, remove_unused

    where = open_store(store)
    absent = where.there_is_none()
    if absent is not None:
        raise RequestError(absent)
    unused = find_unused(where, dataset, _is_current)
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


def _is_current(manifest: Manifest) -> bool:
    """Whether this version, given the same settings and weights, makes a representation; True where it cannot say."""
    from stages.embed.choose import rebuild_config
    from stages.embed.encode import representation_name

    if manifest.backbone not in registry.names("backbone"):
        return True
    kind = registry.find("backbone", manifest.backbone)
    try:
        backbone = kind(rebuild_config(kind.Config, manifest.settings))
    except RequestError:
        return False
    backbone.precision = manifest.settings.get("precision", "32")
    backbone.dtype = manifest.settings.get("dtype", backbone.dtype)
    return representation_name(backbone, manifest.settings.get("weights")).fingerprint == manifest.fingerprint
