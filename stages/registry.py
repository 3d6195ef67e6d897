"""Find plug-ins: one file a data set, backbone or head, in its folder or in another package's entry points."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from store.errors import EncoreError, unknown

FOLDERS = {
    "dataset": ("stages.embed.datasets", "encore.datasets"),
    "backbone": ("stages.embed.backbones", "encore.backbones"),
    "head": ("stages.head.heads", "encore.heads"),
}


def names(kind: str) -> list[str]:
    """The names of a kind's plug-ins (``dataset``, ``backbone``, ``head``), sorted; imports none of them."""
    return sorted({*_own(kind), *_others(kind)})


def find(kind: str, name: str) -> Any:
    """The class that the plug-in ``name`` offers.

    A file ``artist_embedding.py`` of the folder is the plug-in ``artist-embedding``; its class carries
    ``NAME = "artist-embedding"``. Only the file asked for is imported.
    """
    own, others = _own(kind), _others(kind)
    if name in own:
        module = importlib.import_module(own[name])
        for value in vars(module).values():
            if isinstance(value, type) and value.__module__ == module.__name__ and vars(value).get("NAME") == name:
                return value
        raise EncoreError(f"{own[name]} has no class with NAME = {name!r}")
    if name in others:
        try:
            return others[name].load()
        except Exception as error:
            raise EncoreError(f"the {kind} {name!r} of {others[name].value} cannot be loaded: {error}") from error
    raise unknown({"dataset": "data set", "head": "mode"}.get(kind, kind), name, names(kind))


@cache
def _own(kind: str) -> dict[str, str]:
    package = FOLDERS[kind][0]
    spec = importlib.util.find_spec(package)  # finds the folder without importing it: backbones and heads need torch
    assert spec is not None
    listed = pkgutil.iter_modules(spec.submodule_search_locations)
    found = (module.name for module in listed if not module.name.startswith("_"))
    return {name.replace("_", "-"): f"{package}.{name}" for name in found}


@cache
def _others(kind: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=FOLDERS[kind][1])}
