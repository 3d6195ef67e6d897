"""The fingerprint of every backbone with its default settings, without weights.

A fingerprint names stored numbers, so it changes when, and only when, the numbers do: whoever changes a default, or
what is hashed, also raises the ``REVISION`` of the backbone or of its input, and writes the table again with
``python -m tests.golden``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages import registry
from stages.embed.backbones import Backbone
from stages.embed.encode import decides, representation_name
from store.errors import RequestError

TABLE = Path(__file__).with_name("fingerprints.json")

Row = dict[str, Any]


def read() -> dict[str, Row]:
    """The table as it is checked in: backbone -> its revision and those of its inputs, and its fingerprint."""
    table: dict[str, Row] = json.loads(TABLE.read_text())
    return table


def compute() -> dict[str, Row]:
    """The table of the code as it stands, without backbones that have no default settings (``hf``)."""
    table: dict[str, Row] = {}
    for name in registry.names("backbone"):
        kind: type[Backbone] = registry.find("backbone", name)
        try:
            backbone = kind(kind.Config())
        except RequestError:
            continue
        revisions = [backbone.REVISION, *_revisions(decides(backbone, None)["inputs"])]
        table[name] = {"revisions": revisions, "fingerprint": representation_name(backbone, None).fingerprint}
    return table


def _revisions(inputs: dict[str, Any]) -> Iterator[int]:
    """Of an input and of those within it."""
    for name, value in inputs.items():
        if name == "REVISION":
            yield value
        elif isinstance(value, dict):
            yield from _revisions(value)


def unrevised(before: dict[str, Row], after: dict[str, Row]) -> list[str]:
    """The backbones whose fingerprint changed while their revisions did not."""
    return [
        name
        for name in sorted(before.keys() & after.keys())
        if before[name]["fingerprint"] != after[name]["fingerprint"]
        and before[name]["revisions"] == after[name]["revisions"]
    ]


def write() -> Path:
    """Write the table again; exits where a fingerprint changed and the backbone's revision did not."""
    table = compute()
    wrong = unrevised(read(), table) if TABLE.is_file() else []
    if wrong:
        raise SystemExit(f"raise the REVISION first of {', '.join(wrong)}: the fingerprint changed")
    rows = [f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in table.items()]
    TABLE.write_text("{\n" + ",\n".join(rows) + "\n}\n")
    return TABLE
