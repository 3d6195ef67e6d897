"""Where DGL is not to be had, as under newer Pythons: its own tests are skipped, and all others pass."""

from __future__ import annotations

import re

import pytest

from stages.head.graph import _dgl
from store.errors import RequestError
from tests.processes import Process

HIDDEN = """
import sys
sys.modules["dgl"] = None
import pytest
chosen = "dgl or heterograph or sources or blocks"
sys.exit(pytest.main(["tests/head/test_graph.py", "-k", chosen, "-q", "-p", "no:cacheprovider"]))
"""


def test_the_graph_without_dgl() -> None:
    process = Process(HIDDEN)
    out, _ = process.communicate()
    assert process.returncode == 0, out
    assert re.search(r"[0-9]+ passed, [0-9]+ skipped", out), out
    assert "DGL's packages end at Python 3.11" in out


def test_what_needs_dgl_names_what_there_is_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no choice of engine, which no command has."""
    monkeypatch.setattr(_dgl, "is_there", lambda: False)
    with pytest.raises(RequestError, match=r"its packages end at Python 3\.11: use Python 3\.11$"):
        _dgl.load()
