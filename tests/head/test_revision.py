"""What decides a head's numbers is in the hash that guards its runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages import registry
from stages.head.heads.song import Song
from stages.head.revision import code_revision, source_files

ROOT = Path(__file__).resolve().parents[2]
DECIDE = [
    "stages/head/fit.py",
    "stages/head/collection.py",
    "stages/head/stored.py",
    "stages/head/open.py",
    "stages/head/options.py",
    "stages/head/settings.py",
    "stages/head/random.py",
    "stages/head/graph/cliques.py",
    "stages/head/heads/__init__.py",
    "stages/head/heads/_layers.py",
    "stages/head/heads/song.py",
    "stages/head/scores/task.py",
    "stages/head/scores/metrics.py",
    "stages/head/scores/thresholds.py",
    "stages/head/training/loop.py",
    "stages/head/training/binder.py",
    "stages/head/training/stretches.py",
    "stages/head/training/losses.py",
    "stages/head/training/adam.py",
    "stages/head/training/threads.py",
    "stages/splits/kept.py",
    "stages/splits/regimes.py",
    "stages/splits/stratify.py",
    "stages/configure.py",
    "store/columns.py",
    "store/reader.py",
    "store/schema.py",
    "store/splits.py",
]
PRINT = ["stages/progress.py", "stages/head/report.py", "stages/head/audit.py", "stages/head/results.py"]
PRINT += ["store/words.py", "store/errors.py", "stages/head/heads/gcnii.py"]


def test_every_file_that_decides_numbers_takes_part() -> None:
    files = {path.relative_to(ROOT).as_posix() for path in source_files(Song)}
    assert not set(DECIDE) - files
    assert not set(PRINT) & files
    assert not [file for file in files if file.startswith(("pipeline/", "stages/embed/", "tests/"))]


def test_a_byte_of_any_of_them_is_another_revision() -> None:
    plain = code_revision(Song)
    assert code_revision(Song) == plain
    revisions = {plain}
    for changed in source_files(Song):
        revisions.add(code_revision(Song, lambda path, one=changed: path.read_bytes() + b"#" * (path == one)))
    assert len(revisions) == 1 + len(source_files(Song))


@pytest.mark.parametrize("name", registry.names("head"))
def test_a_heads_own_file_takes_part(name: str) -> None:
    head = registry.find("head", name)
    assert ROOT / "stages" / "head" / "heads" / f"{name.replace('-', '_')}.py" in source_files(head)


def test_a_head_of_another_package_brings_the_files_that_it_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "their_heads"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "mine.py").write_text(
        "from stages.head.heads.song import Song\nfrom . import parts\n\nclass Mine(Song):\n    NAME = 'mine'\n"
    )
    (package / "parts.py").write_text("WIDTH = 3\n")
    (package / "unrelated.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    from their_heads.mine import Mine  # type: ignore[import-not-found]

    names = {path.name for path in source_files(Mine) if path.is_relative_to(package)}
    assert names == {"__init__.py", "mine.py", "parts.py"}
    before = code_revision(Mine)
    (package / "parts.py").write_text("WIDTH = 4\n")
    assert code_revision(Mine) != before
