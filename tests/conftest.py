"""What tests share: where real data lies, and a skip that says so where it does not."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from pathlib import Path

import pytest

# Nothing that is imported or collected is garbage, and to look through all of it again and again takes seconds.
gc.disable()

# No test cuts the power: what is written need not have reached the disk when the next file is.
os.fsync = lambda _descriptor: None

# Their thousands of small files lie in memory where it has room for them: to make and remove one on a disk costs more
# than most tests do with it.
_MEMORY, _ROOM_BYTES = Path("/dev/shm"), 4 << 30
if "TMPDIR" not in os.environ and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES:
    os.environ["TMPDIR"] = tempfile.tempdir = str(_MEMORY)

# A plug-in author's contract test says which values differ, as any other test does.
pytest.register_assert_rewrite("stages.embed.testing", "stages.head.testing")

# What numba compiles is kept apart from a person's own, and compiled once for all processes of a run.
os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(__file__).resolve().parents[1] / ".pytest_cache" / "numba"))

# What was read of libraries of music is kept apart from a person's own caches.
os.environ["XDG_CACHE_HOME"] = str(Path(__file__).resolve().parents[1] / ".pytest_cache" / "user")


def pytest_configure(config: pytest.Config) -> None:
    """What tests need is imported where they run: a process that hands them out to others does without."""
    if config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput"):
        return
    import torch
    from hypothesis import settings
    from jaxtyping import install_import_hook

    # Shapes and dtypes in signatures are checked while tests run.
    install_import_hook("stages.head.graph", "beartype.beartype")

    # No test depends on the clock or on chance; ``--hypothesis-profile explore`` draws other examples each time.
    settings.register_profile("explore", deadline=None)
    settings.register_profile("encore", deadline=None, derandomize=True, max_examples=40)
    settings.load_profile("encore")

    # Two pytest workers on two cores: threads of their own would only wait for each other.
    torch.set_num_threads(1)


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)  # by default a twentieth of the tests' time
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
        from stages.embed.inputs.classical import compile_librosa

        compile_librosa()


@pytest.fixture
def unsealed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores without a seal, as those of 0.1.0, whose files can be written by hand."""
    from store.seal import Seals

    monkeypatch.setattr(Seals, "entries", lambda _self, _dataset: None)
    monkeypatch.setattr(Seals, "check_present", lambda _self, _dataset, _catalog: None)
    monkeypatch.setattr(Seals, "_update", lambda _self, _dataset, _change: None)
