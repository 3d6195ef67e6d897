"""``make bench``: run every module of this folder, print one table, write ``bench.json``.

Names of modules on the command line run only these, and write nothing.
Leaves with 1 where something falls short of its target.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from pathlib import Path
from typing import Any

import tests.bench
from pipeline.output import table
from store.errors import unknown


def main(names: list[str]) -> int:
    have = sorted(module.name for module in pkgutil.iter_modules(tests.bench.__path__) if module.name[0] != "_")
    for name in names:
        if name not in have:
            print(unknown("benchmark", name, have), file=sys.stderr)
            return 2
    lines: dict[str, Any] = {}
    for name in names or have:
        print(f"measuring {name}", file=sys.stderr, flush=True)
        module = importlib.import_module(f"tests.bench.{name}")
        measured = module.measure()
        if not measured:
            print(f"{name} is left out: it wants {module.WANTS}, and there is none here", file=sys.stderr, flush=True)
        lines |= measured
    rows = [[name, *_cells(line)] for name, line in lines.items()]
    print(table(["benchmark", "ours", "peer", "unit", "ratio", "target", ""], rows))
    for name, line in lines.items():
        print(f"{name}: {line['note']}")
    if not names:
        Path("bench.json").write_text(json.dumps(lines, indent=1) + "\n")
    return int(any(_short(line) for line in lines.values()))


def _cells(line: dict[str, Any]) -> list[str]:
    target = "-" if line["target"] is None else f"{line['target']:g}"
    return [f"{line['ours']:.3g}", f"{line['peer']:.3g}", line["unit"], f"{line['ratio']:.2f}", target, _mark(line)]


def _mark(line: dict[str, Any]) -> str:
    return "short" if _short(line) else ""


def _short(line: dict[str, Any]) -> bool:
    return line["target"] is not None and line["ratio"] < line["target"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
