"""Import DGL where it can be had; every use of DGL in the project goes through `load`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import types
from typing import Any

from store.errors import RequestError


def is_there() -> bool:
    """Whether DGL is installed."""
    return importlib.util.find_spec("dgl") is not None


def load() -> Any:
    """The module ``dgl``; RequestError where it is not installed (its wheels end at Python 3.11)."""
    if not is_there():
        raise RequestError("this needs DGL, which is not installed; its packages end at Python 3.11: use Python 3.11")
    if "dgl" in sys.modules:
        return sys.modules["dgl"]
    # Without this DGL prints a notice and writes a configuration file into the home directory.
    os.environ.setdefault("DGLBACKEND", "pytorch")
    if importlib.util.find_spec("setuptools.extern") is None:
        # DGL 1.1.3 takes `packaging` from a corner of setuptools that newer releases no longer have.
        for name in ("packaging", "packaging.version", "packaging.specifiers", "packaging.requirements"):
            importlib.import_module(name)
        extern = types.ModuleType("setuptools.extern")
        extern.packaging = sys.modules["packaging"]  # type: ignore[attr-defined]
        sys.modules["setuptools.extern"] = extern
    return importlib.import_module("dgl")
