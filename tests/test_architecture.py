"""The tree's rules, read off the sources: imports point one way."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# What a folder may not import.
FORBIDDEN = {
    "store": ("stages", "pipeline", "tests"),
    "stages/embed": ("pipeline", "stages.head", "tests"),
    "stages/embed/inputs": ("stages.embed.datasets", "stages.embed.backbones", "stages.embed.encode"),
    "stages/head": ("pipeline", "stages.embed", "tests"),
    "pipeline": ("tests",),
}
HEAVY = (
    "torch",
    "dgl",
    "librosa",
    "torchaudio",
    "torch_geometric",
    "transformers",
    "pretty_midi",
    "symusic",
    "sklearn",
    "faiss",
    "optuna",
)


def imported(path: Path, *, top_level: bool = False) -> set[str]:
    """The modules that a file imports anywhere, or on its top level outside TYPE_CHECKING."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_imports_point_one_way(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    for path in files:
        wrong = [
            name
            for name in imported(path)
            for forbidden in FORBIDDEN[folder]
            if name == forbidden or name.startswith(f"{forbidden}.")
        ]
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


@pytest.mark.parametrize("path", sorted((ROOT / "stages/embed/datasets").glob("*.py")), ids=lambda p: p.stem)
def test_data_sets_import_lightly(path: Path) -> None:
    """The command line imports every data set to list its options."""
    assert not {name.split(".")[0] for name in imported(path, top_level=True)} & set(HEAVY)


def test_the_top_level_is_the_plan() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no checkout, so what belongs to it is not known")
    tracked = {line.split("/")[0] for line in listed.stdout.splitlines() if not line.startswith(".")}
    plan = {
        "CHANGELOG.md",
        "pipeline",
        "stages",
        "store",
        "tests",
        "Makefile",
        "README.md",
        "pyproject.toml",
        "LICENSE",
    }
    assert tracked == plan
