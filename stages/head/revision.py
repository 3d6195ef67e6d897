"""A hash of the source that decides what a head learns."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import stages
import store
from stages.head.heads import Head

_ROOT = Path(stages.__file__).parent.parent
_START = ("stages.head.fit", "stages.head.open", "stages.splits.kept")
# Modules that print, name or report, and decide no number.
_SILENT = frozenset(
    {
        "stages.progress",
        "stages.registry",
        "stages.head.checks",
        "stages.head.thesis",
        "store.errors",
        "store.words",
    }
)


def code_revision(head: type[Head], read: Callable[[Path], bytes] = Path.read_bytes) -> str:
    """A hash of all source files that take part in what a head learns: those of `source_files`."""
    digest = hashlib.sha256()
    for path in source_files(head):
        content = read(path)
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()[:16]


@cache
def source_files(head: type[Head]) -> list[Path]:
    """The modules of Encore and of the head's own package that training, scoring and splitting import, directly or not.

    Left out are modules that print or name things, and no others: what is imported anew takes part by itself.
    """
    package = head.__module__.partition(".")[0]
    packages = frozenset({stages.__name__, store.__name__, package})
    files: dict[str, Path] = {}
    todo = [*_START, head.__module__]
    while todo:
        module = todo.pop()
        if module in files or module in _SILENT or module.partition(".")[0] not in packages:
            continue
        path = _file(module)
        if path is not None:
            files[module] = path
            todo += _imports(path, module)
    own = inspect.getsourcefile(head)  # also of a head that is defined in a script
    paths = {*files.values(), *([Path(own)] if own is not None else [])}
    return sorted(paths, key=lambda path: path.relative_to(_ROOT).parts if path.is_relative_to(_ROOT) else path.parts)


@cache
def _file(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # a name within a module; ``__main__``
        return None
    return Path(spec.origin) if spec is not None and spec.origin is not None and spec.origin.endswith(".py") else None


@cache
def _imports(path: Path, module: str) -> tuple[str, ...]:
    """The modules that a file imports, wherever it does, and the packages that they lie in."""
    return tuple(_imported(ast.parse(path.read_bytes()), module, is_package=path.name == "__init__.py"))


def _imported(tree: ast.AST, module: str, *, is_package: bool) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: len(module.split(".")) - node.level + int(is_package)]
            base = ".".join([*(parents if node.level else []), *([node.module] if node.module else [])])
            yield from _with_parents(base)
            for alias in node.names:  # which may be modules themselves
                yield f"{base}.{alias.name}"


def _with_parents(module: str) -> Iterator[str]:
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        yield ".".join(parts[:end])
