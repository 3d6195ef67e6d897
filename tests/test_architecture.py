"""The tree's rules, read off the sources: imports point one way, heavy libraries wait, files stay small."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOP_LEVEL = {
    *("pipeline", "stages", "store", "tests"),
    *("CHANGELOG.md", "LICENSE", "Makefile", "README.md", "pyproject.toml"),
}
FOLDERS = (
    *("pipeline", "pipeline/page", "store", "tests", "tests/bench", "tests/golden", "tests/soak"),
    *(
        "stages/splits",
        "stages/ask",
        "stages/embed",
        "stages/embed/datasets",
        "stages/embed/inputs",
        "stages/embed/backbones",
    ),
    *(
        "stages/ask",
        "stages/embed/engines",
        "stages/embed/objectives",
        "stages/embed/tables",
        "stages/head",
        "stages/head/heads",
        "stages/head/graph",
    ),
    *("stages/head/training", "stages/head/scores", "stages/head/runs"),
)

STAGES = ("stages.splits", "stages.embed", "stages.head", "stages.ask")
# What the files of a folder may import of the tree; the longest folder that holds a file counts.
MAY_IMPORT = {
    "store": ("store",),
    "stages": ("stages", "store"),  # what both stages share
    "stages/splits": ("stages", "stages.splits", "store"),
    "stages/embed": ("stages", "stages.splits", "stages.embed", "store"),
    "stages/embed/inputs": ("stages", "stages.embed.inputs", "stages.embed.tables", "store"),
    "stages/head": ("stages", "stages.splits", "stages.head", "store"),
    "stages/ask": ("stages", *STAGES, "store"),  # where the two stages meet
    "pipeline": ("pipeline", "stages", *STAGES, "store"),
    "tests": ("tests", "pipeline", "stages", *STAGES, "store"),
}

# Imported where they are used, and by no file on its top level.
WAIT = {
    *(
        "dgl",
        "faiss",
        "h5py",
        "jinja2",
        "librosa",
        "matplotlib",
        "mido",
        "optuna",
        "pooch",
        "pretty_midi",
        "requests",
        "rich",
    ),
    *("dask", "distributed", "onnx", "onnxruntime", "s3fs", "sklearn", "soundfile", "starlette", "submitit", "symusic"),
    *("torch_geometric", "torchaudio", "transformers", "uvicorn"),
}
# What is imported before anyone has named a command or a data set, and what it must not bring along, however far off.
LIGHT = {
    "pipeline.cli": {"numpy", "pyarrow", "torch", "zarr", "scipy", "fsspec"},
    "pipeline.__main__": {"numpy", "pyarrow", "torch", "zarr", "scipy", "fsspec", "typer"},
    "stages.embed.datasets": {"torch", "zarr", "scipy"},
}
LONGEST = 400
LONGER = {  # with the reason
    "pipeline/python/encore.py": "one function a question, each with an example that runs",
}
SHARED_PRIVATELY = {
    "stages.head.training.loop imports stages.head.heads._layers"
}  # to draw the masks of dropout layers


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {
    module_of(path): path
    for folder in ("pipeline", "stages", "store", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
OURS = {module: path for module, path in FILES.items() if not module.startswith("tests")}


def imports_of(module: str, *, on_import: bool = False) -> set[str]:
    """The modules that a file imports: anywhere, or only when it is itself imported."""
    return {name for name, _ in _imports(module, on_import=on_import)}


@cache
def _imports(module: str, *, on_import: bool) -> tuple[tuple[str, str | None], ...]:
    """Each imported module, with the name that is taken from it, where that is no module."""
    tree = ast.parse(FILES[module].read_text(encoding="utf-8"))
    imports: list[tuple[str, str | None]] = []
    for node in _run_on_import(tree) if on_import else ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports by a relative name"
            for alias in node.names:
                dotted = f"{node.module}.{alias.name}"
                imports.append((dotted, None) if dotted in FILES else (node.module or "", alias.name))
    return tuple(imports)


def _run_on_import(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _run_on_import(child)


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def may_import(name: str, allowed: Sequence[str]) -> bool:
    """``stages`` stands for the files that lie in it; every other package for all that is under it."""
    shared = is_within(name, "stages") and not any(is_within(name, stage) for stage in STAGES)
    return any(shared if package == "stages" else is_within(name, package) for package in allowed)


def test_imports_point_one_way() -> None:
    wrong = []
    for module, path in FILES.items():
        where = path.relative_to(ROOT).as_posix()
        allowed = MAY_IMPORT[max((folder for folder in MAY_IMPORT if where.startswith(f"{folder}/")), key=len)]
        ours = (name for name in imports_of(module) if name.split(".")[0] in TOP_LEVEL)
        wrong += [f"{where} imports {name}" for name in ours if not may_import(name, allowed)]
    assert not wrong


def test_private_names_stay_at_home() -> None:
    """No ``from other import _name``; a ``_module`` is imported by its own folder alone."""
    wrong = []
    for module in OURS:
        for name, member in _imports(module, on_import=False):
            if name.split(".")[0] not in TOP_LEVEL:
                continue
            if member is not None and member.startswith("_"):
                wrong.append(f"{module} takes {member} from {name}")
            parts = name.split(".")
            hidden = next((i for i, part in enumerate(parts) if part.startswith("_")), None)
            if hidden is not None and not is_within(module, ".".join(parts[:hidden])):
                wrong.append(f"{module} imports {name}")
    assert not set(wrong) - SHARED_PRIVATELY


def test_heavy_libraries_wait_until_they_are_used() -> None:
    top_level = {module: {name.split(".")[0] for name in imports_of(module, on_import=True)} for module in OURS}
    assert not {module: libraries & WAIT for module, libraries in top_level.items() if libraries & WAIT}


@pytest.mark.parametrize("start", LIGHT)
def test_what_comes_first_comes_lightly(start: str) -> None:
    """Followed through the tree: ``encore --help`` answers at once, and every data set is imported for its options."""
    waiting = [
        module for module in OURS if (is_within(module, start) if FILES[start].stem == "__init__" else module == start)
    ]
    brought_by = dict.fromkeys(waiting, "itself")
    while waiting:
        module = waiting.pop()
        for name in imports_of(module, on_import=True):
            parts = name.split(".")
            assert parts[0] not in LIGHT[start], f"{module} imports {name}; {start} comes to it by {brought_by[module]}"
            for ours in {".".join(parts[:n]) for n in range(1, len(parts) + 1)} & OURS.keys() - brought_by.keys():
                brought_by[ours] = module
                waiting.append(ours)


def test_files_can_be_held_in_the_head() -> None:
    lines = {path.relative_to(ROOT).as_posix(): len(path.read_bytes().splitlines()) for path in FILES.values()}
    assert {where: count for where, count in lines.items() if count > LONGEST and where not in LONGER} == {}


def test_pipeline_stays_thin() -> None:
    """But for the page of examples that `import encore` is, and the recipes, which are lists of commands."""
    others = ("python", "recipes")
    commands = [path for path in (ROOT / "pipeline").rglob("*.py") if path.parent.name not in others]
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in commands) < 4000


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_of_the_plan_is_there(folder: str) -> None:
    assert any((ROOT / folder).iterdir())


def test_the_top_level_is_the_plan() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no checkout, so what belongs to it is not known")
    tracked = {line.split("/")[0] for line in listed.stdout.splitlines() if not line.startswith(".")}
    assert tracked == TOP_LEVEL
