"""``make soak``: run every module of this folder, or those that are named; ``--short`` for seconds of each.

Leaves with 1 where something does not hold.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import time

import tests.soak
from store.errors import unknown


def main(arguments: list[str]) -> int:
    short, names = "--short" in arguments, [name for name in arguments if name != "--short"]
    have = sorted(module.name for module in pkgutil.iter_modules(tests.soak.__path__) if module.name[0] != "_")
    for name in names:
        if name not in have:
            print(unknown("soak", name, have), file=sys.stderr)
            return 2
    failed = False
    for name in names or have:
        started = time.monotonic()
        for line in importlib.import_module(f"tests.soak.{name}").run(short):
            failed |= bool(line.wrong)
            end = f"WRONG: {line.wrong}" if line.wrong else "holds"
            print(f"{line.name}: {line.what}; {end} ({time.monotonic() - started:.0f} s)", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
