"""A few seconds of ``make soak``."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import tests.soak
from tests.soak.__main__ import main

SOAKS = sorted(module.name for module in pkgutil.iter_modules(tests.soak.__path__) if module.name[0] != "_")


@pytest.mark.parametrize("name", SOAKS)
def test_everything_holds(name: str) -> None:
    lines = list(importlib.import_module(f"tests.soak.{name}").run(short=True))
    assert lines
    assert {line.name: line.wrong for line in lines if line.wrong} == {}


def test_a_soak_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--short", "chaso"]) == 2
    assert "Did you mean chaos?" in capsys.readouterr().err
