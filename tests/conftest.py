"""What tests share: where real data lies, and a skip that says so where it does not."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

from stages.embed.inputs.classical import compile_librosa
from store.seal import Seals

# Nothing that is imported or collected is garbage, and to look through all of it again and again takes seconds.
gc.disable()

# Shapes and dtypes in signatures are checked while tests run.
install_import_hook("stages.head.graph", "beartype.beartype")

# No test cuts the power: what is written need not have reached the disk when the next file is.
os.fsync = lambda _descriptor: None

# No test depends on the clock or on chance; ``--hypothesis-profile explore`` draws other examples each time.
settings.register_profile("explore", deadline=None)
settings.register_profile("encore", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("encore")

# A plug-in author's contract test says which values differ, as any other test does.
pytest.register_assert_rewrite("stages.embed.testing", "stages.head.testing")

# What numba compiles is kept apart from a person's own, and compiled once for all processes of a run.
os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(__file__).resolve().parents[1] / ".pytest_cache" / "numba"))

# What was read of libraries of music is kept apart from a person's own caches.
os.environ["XDG_CACHE_HOME"] = str(Path(__file__).resolve().parents[1] / ".pytest_cache" / "user")

# Two pytest workers on two cores: threads of their own would only wait for each other.
torch.set_num_threads(1)


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("no real data beside this checkout (../shared/data)")
    return SHARED


@pytest.fixture(autouse=True)
def _librosa(request: pytest.FixtureRequest) -> None:
    """librosa for the modules that import it: two processes that compile it at once would spoil numba's cache."""
    if hasattr(request.module, "librosa"):
        compile_librosa()


@pytest.fixture
def unsealed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores without a seal, as those of 0.1.0, whose files can be written by hand."""
    monkeypatch.setattr(Seals, "entries", lambda _self, _dataset: None)
    monkeypatch.setattr(Seals, "check_present", lambda _self, _dataset, _catalog: None)
    monkeypatch.setattr(Seals, "_update", lambda _self, _dataset, _change: None)
