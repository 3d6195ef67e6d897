"""Resuming ``encore head`` and ``compare``: the same command goes on where it was stopped."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, Self

from stages.head.training.checkpoint import Checkpoint
from stages.head.training.processes import ProcessGroup
from stages.progress import note
from store.errors import StoreError
from store.fingerprint import canonical
from store.layout import Store
from store.runs import RunFolder, RunRecord

_LOOK_AGAIN_S = 0.5


class Journal:
    """Lets a command that was stopped go on: what it finished is kept, and it replaces older runs only as a whole.

    New runs are collected in a temporary folder beside the final one and replace it once all of them are there, so the
    scores of the last complete command survive whatever happens to this one. Until the command ends, the folder holds a
    mark: a hash of everything that decides its numbers. A later command with the same mark keeps what it finds in
    either folder. A finished command removes its mark, so giving it again trains everything again; but for runs that
    last (baselines), whose mark stays for the next command to find.

    Commands that fill the same folder take turns; the lock of a killed command is released. Behind a URL nothing can be
    locked: if another command has started the folder afresh, this one stops.

    Parameters
    ----------
    about : what decides the numbers of all folders: collection, settings of the training, seeds.
    """

    def __init__(self, store: Store, processes: ProcessGroup, about: Mapping[str, Any]) -> None:
        self.store, self.processes, self.about = store, processes, about
        self.writes = processes.rank == 0
        self._marks: dict[RunFolder, str] = {}
        self._locks: dict[RunFolder, Callable[[], None]] = {}
        self._lasting: Collection[RunFolder] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        for folder in list(self._locks):
            self._leave(folder)

    def begin(
        self, folders: Mapping[RunFolder, Mapping[str, Any]], lasting: Collection[RunFolder] = ()
    ) -> dict[RunFolder, RunFolder]:
        """For each folder the one to fill: itself where it is this command's own, else the one beside it.

        Waits for other commands that fill any of them; each is this one's until it is `whole`.

        Parameters
        ----------
        folders : what decides the numbers of each besides ``about``: the head's own settings, its code.
        lasting : those of them whose mark stays.
        """
        self._lasting = lasting
        targets = {}
        for folder in sorted(folders, key=lambda folder: folder.path):  # in one order, or two could wait for each other
            self._take(folder)
            targets[folder] = self._begin(folder, folders[folder])
        return targets

    def _begin(self, folder: RunFolder, about: Mapping[str, Any]) -> RunFolder:
        mark = _hash(json.dumps(canonical({**self.about, **about}), sort_keys=True).encode())
        own = self.processes.broadcast(self.writes and self._read_mark(folder) == mark)
        target = folder if own else replace(folder, unfinished=True)
        self._marks[target] = mark
        if self.writes and self._read_mark(target) != mark:
            self.store.remove(target.path)
            self.store.files.write(target.mark, mark.encode())
        return target

    def _take(self, folder: RunFolder) -> None:
        waits = False
        while not self.processes.broadcast(not self.writes or self._is_free(folder)):
            if not waits:
                note(
                    f"another command trains {folder.mode}, {folder.regime} on {folder.dataset} at this moment; "
                    f"this one goes on when that is done"
                )
            waits = True
            time.sleep(_LOOK_AGAIN_S)

    def _is_free(self, folder: RunFolder) -> bool:
        give_back = self.store.files.take(folder.lock, 0)
        if give_back is not None:
            self._locks[folder] = give_back
        return give_back is not None

    def _leave(self, folder: RunFolder) -> None:
        if folder in self._locks:
            self._locks.pop(folder)()

    def _read_mark(self, folder: RunFolder) -> str | None:
        content = self._read(folder.mark)
        return None if content is None else content.decode(errors="replace")

    def _check(self, folder: RunFolder) -> None:
        if self.writes and self._read_mark(folder) != self._marks[folder]:
            raise StoreError(
                f"{self.store.files.show(folder.path)} was removed or begun anew by another command while this one "
                f"trained {folder.mode}, {folder.regime}; run the same command again when that has come to its end"
            )

    def done(self, folder: RunFolder, name: str) -> RunRecord | None:
        """The record of a finished run; None if it has not finished yet."""
        self._check(folder)
        content = self.processes.broadcast(self._read(folder.record(name)) if self.writes else None)
        if content is None:
            return None
        if folder not in self._lasting:
            note(f"{folder.mode}, {folder.regime}, {name} was done before; it is kept")
        return RunRecord.from_json(content)

    def checkpoint(self, folder: RunFolder, name: str, member: int) -> Checkpoint:
        """The file that holds a network's state while it is trained."""
        return Checkpoint(self.store.files, folder.resume(name, member), self._marks[folder])

    def whole(self, folder: RunFolder) -> None:
        """Put the runs of a folder in the place of earlier ones; called once all of them are there."""
        self._check(folder)
        if self.writes and folder.unfinished:
            finished_folder = replace(folder, unfinished=False)
            missing = set(self._runs(finished_folder)) - set(self._runs(folder))
            if missing:
                others = ", ".join(sorted(missing))
                note(f"{folder.mode}, {folder.regime}: this command's runs replace all earlier ones, also {others}")
            self.store.move(folder.path, finished_folder.path)
        self._leave(replace(folder, unfinished=False))

    def _runs(self, folder: RunFolder) -> list[str]:
        return [file.removesuffix(".json") for file in self.store.files.files(folder.path) if file.endswith(".json")]

    def forget(self, folder: RunFolder, name: str) -> None:
        """Remove the checkpoints of a finished run."""
        for file in self.store.files.files(folder.path) if self.writes else ():
            if folder.is_resume_of(name, file):
                self.store.files.remove(f"{folder.path}/{file}")

    def end(self) -> None:
        """Remove the marks at the end of the command."""
        for folder, mark in self._marks.items() if self.writes else ():
            finished_folder = replace(folder, unfinished=False)
            give_back = self.store.files.take(finished_folder.lock, 0)
            if give_back is None:
                continue  # another command fills it now, maybe the same one: the mark is its own to remove
            if finished_folder not in self._lasting and self._read_mark(finished_folder) == mark:
                self.store.files.remove(finished_folder.mark)
            give_back()

    def _read(self, path: str) -> bytes | None:
        try:
            return self.store.read(path)
        except FileNotFoundError:
            return None


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
