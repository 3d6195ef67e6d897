"""What a stopped ``encore head`` or ``compare`` had done, so that the same command goes on from there."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import stages
from pipeline.runs import RunFolder
from stages.head.checkpoint import Checkpoint
from stages.head.heads import Head
from stages.head.world import World
from stages.progress import note
from store.fingerprint import canonical
from store.layout import Store

_MARK = "unfinished"


class Journal:
    """A folder of runs holds a mark of what decides its numbers until the command that fills it has come to its end.

    Runs are gathered in a folder beside the one they are meant for, which they replace when all of them are there:
    whatever becomes of a command, the scores of the last whole one stand. Where the mark is that of the command, what
    lies in either folder is kept. A command that came to its end leaves no mark, so that it trains everything again.

    Parameters
    ----------
    about : what decides the numbers of all folders: collection, settings, seeds.
    """

    def __init__(self, store: Store, world: World, about: Mapping[str, Any]) -> None:
        self.store, self.world, self.about = store, world, about
        self.writes = world.rank == 0
        self.codes: dict[RunFolder, str] = {}
        self._marks: dict[RunFolder, str] = {}

    def begin(self, folder: RunFolder, head: type[Head]) -> RunFolder:
        """The folder to fill: ``folder`` itself where it is this command's own, else the one beside it.

        Its code revision and its mark are in ``codes`` and in `checkpoint` from then on.
        """
        code = code_revision(head)
        mark = _hash(json.dumps(canonical({**self.about, "code": code}), sort_keys=True).encode())
        own = self.world.tell(self.writes and self._is_own(folder, mark))
        filled = folder if own else replace(folder, unfinished=True)
        self.codes[filled], self._marks[filled] = code, mark
        if self.writes and not self._is_own(filled, mark):
            self.store.files.remove(filled.path)
            self.store.files.write(f"{filled.path}/{_MARK}", mark.encode())
        return filled

    def _is_own(self, folder: RunFolder, mark: str) -> bool:
        return self._read(f"{folder.path}/{_MARK}") == mark.encode()

    def done(self, folder: RunFolder, name: str) -> dict[str, Any] | None:
        """What a finished run told of itself (`save_run`); None where it is still to be done."""
        data = self.world.tell(self._read(f"{folder.path}/{name}.json") if self.writes else None)
        if data is None:
            return None
        told: dict[str, Any] = json.loads(data)
        note(f"{folder.mode}, {folder.regime}, {name} was done before; it is kept")
        return told

    def checkpoint(self, folder: RunFolder, name: str, member: int) -> Checkpoint:
        """Where a network waits while it is not finished."""
        return Checkpoint(self.store.files, f"{folder.path}/{name}-{member}.resume", self._marks[folder])

    def whole(self, folder: RunFolder) -> None:
        """All runs of a folder that was filled are there: they take the place of what stood before."""
        if self.writes and folder.unfinished:
            self.store.files.move(folder.path, replace(folder, unfinished=False).path)

    def forget(self, folder: RunFolder, name: str) -> None:
        """Remove the checkpoints of a run, which is finished."""
        for file in self.store.files.files(folder.path) if self.writes else ():
            if re.fullmatch(re.escape(name) + r"-\d+\.resume", file):
                self.store.files.remove(f"{folder.path}/{file}")

    def end(self) -> None:
        """The command has come to its end."""
        if self.writes:
            for folder in self._marks:
                self.store.files.remove(f"{replace(folder, unfinished=False).path}/{_MARK}")

    def _read(self, path: str) -> bytes | None:
        try:
            return self.store.files.read(path)
        except FileNotFoundError:
            return None


def code_revision(head: type[Head]) -> str:
    """A hash of the source that decides what a head learns: all of stage two, and the head's own file."""
    root = Path(stages.__file__).parent
    files = [path for path in sorted(root.rglob("*.py")) if path.relative_to(root).parts[0] != "embed"]
    own = inspect.getsourcefile(head)
    if own is not None and Path(own) not in files:
        files.append(Path(own))
    return _hash(b"\0".join(path.read_bytes() for path in files))


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
