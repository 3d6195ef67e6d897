"""What trained heads leave in a store: settings, scores, predictions of the test clips, checkpoints."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from stages.head import train as training
from stages.head.collection import Collection
from stages.head.heads import Prediction
from stages.head.settings import Settings
from stages.splits import PARTS, Split
from store.fingerprint import canonical
from store.layout import Store

_FILE = re.compile(r"seed-(?P<seed>\d+)(?:-fold-(?P<fold>\d+))?(?:-(?P<rule>[a-z-]+))?\.parquet")


@dataclass(frozen=True)
class RunFolder:
    """Where the runs of one mode in one regime lie; they are replaced together, so that they never mix settings."""

    dataset: str
    backbone: str | None
    mode: str
    regime: str
    inductive: bool = False

    @property
    def path(self) -> str:
        kind = "-inductive" if self.inductive else ""
        return f"{self.dataset}/runs/{self.backbone or 'metadata'}/{self.mode}-{self.regime}{kind}"


def run_name(seed: int, fold: int | None, rule: str | None) -> str:
    """The name of one run's files; ``fold`` counts from 1."""
    of_fold = "" if fold is None else f"-fold-{fold}"
    return f"seed-{seed}{of_fold}" + (f"-{rule.replace(' ', '-')}" if rule else "")


def save_run(
    store: Store,
    folder: RunFolder,
    name: str,
    about: dict[str, Any],
    *,
    data: Collection,
    part: Split,
    prediction: Prediction,
    settings: Settings,
    trained: training.Trained | None,
) -> None:
    """Leave one run behind: ``NAME.json``, ``NAME.parquet`` (catalog row, score, chosen of each test clip) and,
    of a network, ``NAME.pt``, which loads with ``weights_only``.
    """
    held = {
        "dataset": folder.dataset,
        "representation": folder.backbone,
        "mode": folder.mode,
        "regime": folder.regime,
        **about,
        "synthetic": data.info.synthetic,
        "labels": data.labels,
        "clips": {name: int((part == i).sum()) for i, name in enumerate(PARTS)},
        "settings": canonical(settings) if trained else None,
        "best_epoch": trained.best_epoch if trained else None,
        "history": trained.history if trained else None,
    }
    store.files.write(f"{folder.path}/{name}.json", (json.dumps(held, indent=1) + "\n").encode())
    tested = np.flatnonzero(part == 2)
    scores = pa.array(list(prediction.score[tested]), type=pa.list_(pa.float32()))
    chosen = pa.array(list(prediction.chosen[tested]), type=pa.list_(pa.bool_()))
    table = pa.table({"row": data.rows[tested], "score": scores, "chosen": chosen})
    labels = json.dumps(data.labels).encode()
    store.write_table(f"{folder.path}/{name}.parquet", table.replace_schema_metadata({b"labels": labels}))
    if trained:
        buffer = io.BytesIO()
        state = {"network": trained.state, "shift": trained.shift, "scale": trained.scale}
        torch.save({**state, "settings": asdict(settings), "mode": folder.mode, "labels": list(data.labels)}, buffer)
        store.files.write(f"{folder.path}/{name}.pt", buffer.getvalue())


@dataclass(frozen=True)
class StoredRun:
    """The predictions of one run: ``rows`` [clips] of the catalog, ``chosen`` [clips, labels]."""

    seed: int
    fold: int | None
    rule: str | None
    labels: tuple[str, ...]
    rows: list[int]
    chosen: np.ndarray[Any, np.dtype[np.bool_]]


def stored_runs(store: Store, folder: RunFolder) -> Iterator[StoredRun]:
    """The runs of a folder, in the order of their names; none where there is no such folder."""
    for file in store.files.files(folder.path):
        match = _FILE.fullmatch(file)
        if match is None:
            continue
        held = store.read_table(f"{folder.path}/{file}")
        yield StoredRun(
            seed=int(match["seed"]),
            fold=int(match["fold"]) if match["fold"] else None,
            rule=match["rule"].replace("-", " ") if match["rule"] else None,
            labels=tuple(json.loads((held.schema.metadata or {}).get(b"labels", b"[]"))),
            rows=held.column("row").to_pylist(),
            chosen=np.array(held.column("chosen").to_pylist(), dtype=bool),
        )
