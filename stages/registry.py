"""Find plug-ins: data sets, backbones, engines, heads. Each is one file in its folder, or another package's."""

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
    "engine": ("stages.embed.engines", "encore.engines"),
    "head": ("stages.head.heads", "encore.heads"),
}


def names(kind: str) -> list[str]:
    """The sorted names of all plug-ins of a kind (a key of `FOLDERS`); imports none of them."""
    return sorted({*_own(kind), *_others(kind)})


def find(kind: str, name: str) -> Any:
    """Import one plug-in and return its class.

    The file ``artist_embedding.py`` holds the plug-in ``artist-embedding``, a class with ``NAME = "artist-embedding"``.
    No other plug-in is imported.

    Raises
    ------
    RequestError
        if there is no plug-in of that name.
    EncoreError
        if it cannot be imported (its own error is the cause), or is no such class.
    """
    own, others = _own(kind), _others(kind)
    if name not in own and name not in others:
        raise unknown({"dataset": "data set", "head": "mode"}.get(kind, kind), name, names(kind))
    where = own[name] if name in own else others[name].value
    try:
        # What another package prints on import must not end up in a JSON document on standard output.
        with contextlib.redirect_stdout(sys.stderr):
            plugin = _class_in(where, name) if name in own else others[name].load()
    except (Exception, SystemExit) as error:
        # No file of ours exits when it is imported; it is a signal that ends the process, such as a preempted job's.
        if is_out_of_memory(error) or (isinstance(error, SystemExit) and name in own):
            raise
        raise EncoreError(
            f"the {kind} {name!r} of {where} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(plugin, type) or getattr(plugin, "NAME", None) != name:
        raise EncoreError(f"the {kind} {name!r} of {where} cannot be loaded: it is no class with NAME = {name!r}")
    return plugin


@cache
def load(kind: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Import all plug-ins of a kind: the classes by name, Encore's own first, and a line for each that cannot load."""
    plugins: dict[str, Any] = {}
    failures: list[str] = []
    for name in sorted(names(kind), key=lambda name: (name not in _own(kind), name)):
        try:
            plugins[name] = find(kind, name)
        except EncoreError as error:
            failures.append(str(error))
    return plugins, tuple(failures)


def _class_in(module_name: str, name: str) -> Any:
    module = importlib.import_module(module_name)
    own = (value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__)
    return next((value for value in own if isinstance(value, type) and vars(value).get("NAME") == name), None)


@cache
def _own(kind: str) -> dict[str, str]:
    package = FOLDERS[kind][0]
    spec = importlib.util.find_spec(package)  # does not import the folder: backbones and heads need torch
    assert spec is not None
    modules = (module.name for module in pkgutil.iter_modules(spec.submodule_search_locations))
    return {name.replace("_", "-"): f"{package}.{name}" for name in modules if not name.startswith("_")}


@cache
def _others(kind: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=FOLDERS[kind][1])}
