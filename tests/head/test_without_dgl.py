"""Where DGL is not to be had, as under newer Pythons: its own tests are skipped, and all others pass."""

from __future__ import annotations

import re

import pytest

from stages.head.graph import _dgl
from store.errors import RequestError
from tests.processes import Process

# Encore is imported anew, in a process that cannot import DGL.
HIDDEN = """
import sys
for name in [name for name in sys.modules if name.partition(".")[0] in ("dgl", "pipeline", "stages", "store", "tests")]:
    del sys.modules[name]
sys.modules["dgl"] = None
import pytest
known = ["-W", "ignore:Module already imported"]  # pytest did not see the import of what was there before
chosen = "dgl or heterograph or sources or blocks"
sys.exit(pytest.main(["tests/head/test_graph.py", "-k", chosen, "-q", "-p", "no:cacheprovider", *known]))
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
