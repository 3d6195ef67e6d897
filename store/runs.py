"""What trained heads' files in a store are called: all that counting them needs, and nothing heavy to import."""

from __future__ import annotations

import re
from dataclasses import dataclass

from store.layout import Store

RUN_FILE = re.compile(r"seed-(?P<seed>\d+)(?:-fold-(?P<fold>\d+))?(?:-(?P<rule>[a-z-]+))?\.parquet")
UNFINISHED = ".unfinished"  # the end of a folder whose runs still count for nothing


def count_runs(store: Store, dataset: str) -> dict[str, int]:
    """How many runs there are of each representation, ``metadata`` being those of none; 0 for a search's alone."""
    return {of: sum(counts.values()) for of, counts in count_by_mode(store, dataset).items()}


def count_by_mode(store: Store, dataset: str) -> dict[str, dict[str, int]]:
    """The same by ``<mode>-<regime>``. One training is one run, by however many rules it decides."""
    found: dict[str, dict[str, int]] = {}
    for of in store.files.folders(f"{dataset}/runs"):
        where = f"{dataset}/runs/{of}"
        whole = [folder for folder in store.files.folders(where) if not folder.endswith(UNFINISHED)]
        files = {folder: map(RUN_FILE.fullmatch, store.files.files(f"{where}/{folder}")) for folder in whole}
        found[of] = {
            folder: len({(run["seed"], run["fold"]) for run in of_mode if run}) for folder, of_mode in files.items()
        }
    return found


@dataclass(frozen=True)
class RunFolder:
    """Where the runs of one mode in one regime lie; they are replaced together, so that they never mix settings."""

    dataset: str
    backbone: str | None
    mode: str
    regime: str
    inductive: bool = False
    unfinished: bool = False

    @property
    def path(self) -> str:
        return f"{self._beside}/{self._name}{UNFINISHED if self.unfinished else ''}"

    @property
    def lock(self) -> str:
        """The lock file of those who fill it."""
        return f"{self._beside}/.{self._name}.lock"

    @property
    def _beside(self) -> str:
        return f"{self.dataset}/runs/{self.backbone or 'metadata'}"

    @property
    def _name(self) -> str:
        return f"{self.mode}-{self.regime}{'-inductive' if self.inductive else ''}"


def run_name(seed: int, fold: int | None, rule: str | None) -> str:
    """The name of one run's files; ``fold`` counts from 1."""
    of_fold = "" if fold is None else f"-fold-{fold}"
    return f"seed-{seed}{of_fold}" + (f"-{rule.replace(' ', '-')}" if rule else "")
