"""Find plug-ins: one file a data set, backbone or head, in its folder or in another package's entry points."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import pkgutil
import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from store.errors import EncoreError, is_out_of_memory, unknown

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

    Raises
    ------
    RequestError
        where there is none of that name.
    EncoreError
        where it cannot be imported, or is no such class; whatever it raises stays with it.
    """
    own, others = _own(kind), _others(kind)
    if name not in own and name not in others:
        raise unknown({"dataset": "data set", "head": "mode"}.get(kind, kind), name, names(kind))
    where = own[name] if name in own else others[name].value
    try:
        # What another's package prints is no part of a document on standard output.
        with contextlib.redirect_stdout(sys.stderr):
            found = _class_in(where, name) if name in own else others[name].load()
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error):
            raise
        raise EncoreError(
            f"the {kind} {name!r} of {where} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(found, type) or getattr(found, "NAME", None) != name:
        raise EncoreError(f"the {kind} {name!r} of {where} cannot be loaded: it is no class with NAME = {name!r}")
    return found


@cache
def load(kind: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """All of a kind's plug-ins that can be loaded, Encore's own first, and a line about each that cannot."""
    found: dict[str, Any] = {}
    left_out: list[str] = []
    for name in sorted(names(kind), key=lambda name: (name not in _own(kind), name)):
        try:
            found[name] = find(kind, name)
        except EncoreError as error:
            left_out.append(str(error))
    return found, tuple(left_out)


def _class_in(module_name: str, name: str) -> Any:
    module = importlib.import_module(module_name)
    mine = (value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__)
    return next((value for value in mine if isinstance(value, type) and vars(value).get("NAME") == name), None)


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
