"""``python -m tests.golden``: write the golden files that may be written again.

Each module of this folder that defines ``write() -> Path`` owns one file. The stores of earlier versions are
written by those versions alone, and by nothing here.
"""

from __future__ import annotations

import importlib
import pkgutil

import tests.golden


def main() -> None:
    for module in pkgutil.iter_modules(tests.golden.__path__):
        if not module.name.startswith("_"):
            print(importlib.import_module(f"tests.golden.{module.name}").write())


if __name__ == "__main__":
    main()
