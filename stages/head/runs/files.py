"""What trained heads leave in a store: settings, scores, predictions of the test clips, checkpoints."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from stages.head.collection import Collection
from stages.head.scores.prediction import Prediction
from stages.head.scores.task import TASKS, Task, task_judged_by
from stages.head.settings import Settings
from stages.head.training import loop as training
from stages.splits.kept import KeptSplits
from stages.splits.regimes import PARTS, Split
from store.errors import FormatError, StoreError
from store.fingerprint import canonical
from store.layout import Store
from store.runs import RUN_FILE, RunFolder


def save_run(
    store: Store,
    folder: RunFolder,
    name: str,
    about: dict[str, Any],
    *,
    data: Collection,
    part: Split,
    prediction: Prediction,
    threshold: NDArray[np.float64] | None,
    settings: Settings,
    networks: Sequence[training.Trained],
    code: str,
    writes: bool = True,
) -> dict[str, Any]:
    """Leave one run behind: ``NAME.parquet`` (catalog row, score, chosen of each test clip), of a network
    ``NAME.pt``, which loads with ``weights_only``, of further ones ``NAME-member-2.pt`` and so on, and at last
    ``NAME.json``, which is returned. Nothing is left where another process ``writes``.
    """
    thresholds = None if threshold is None else threshold.tolist()
    held = {
        "dataset": folder.dataset,
        "representation": folder.backbone,
        "mode": folder.mode,
        "regime": folder.regime,
        **about,
        "synthetic": data.info.synthetic,
        "task": data.task.NAME,
        "labels": data.labels,
        "catalog": None if data.division is None else catalog_mark(data.division),
        "clips": {name: int((part == i).sum()) for i, name in enumerate(PARTS)},
        "threshold": thresholds,
        "settings": canonical(settings) if networks else None,
        "remark": networks[0].remark if networks else "",
        "best_epoch": networks[0].best_epoch if networks else None,
        "history": networks[0].history if networks else None,
        "other_members": [{"best_epoch": other.best_epoch, "history": other.history} for other in networks[1:]],
    }
    if not writes:
        return held
    tested = np.flatnonzero(part == 2)
    scores = pa.array(list(prediction.score[tested]), type=pa.list_(pa.float32()))
    chosen = pa.array(list(prediction.chosen[tested]), type=pa.list_(pa.bool_()))
    table = pa.table({"row": data.rows[tested], "score": scores, "chosen": chosen})
    labels = json.dumps(data.labels).encode()
    store.write_table(f"{folder.path}/{name}.parquet", table.replace_schema_metadata({b"labels": labels}))
    for member, trained in enumerate(networks, start=1):
        buffer = io.BytesIO()
        state = {"network": trained.state, "shift": trained.shift, "scale": trained.scale, **trained.facts}
        about_it = {
            "settings": asdict(settings),
            "mode": folder.mode,
            "code": code,
            "labels": list(data.labels),
            "task": data.task.NAME,
            "representation": folder.backbone,
            "dim": data.dim,
            "dataset": folder.dataset,
            "regime": folder.regime,
            "seed": about["seed"],
            "fold": about["fold"],
        }
        torch.save({**state, **about_it, "threshold": thresholds}, buffer)
        which = f"-member-{member}" if member > 1 else ""
        store.files.write(f"{folder.path}/{name}{which}.pt", buffer.getvalue())
    # Last: a run that has told of itself is whole.
    store.files.write(f"{folder.path}/{name}.json", (json.dumps(held, indent=1) + "\n").encode())
    return held


def catalog_mark(division: KeptSplits, rows: int | None = None) -> dict[str, Any]:
    """What a run keeps of the catalog that it was trained on: how many rows it had, and `KeptSplits.mark` of them."""
    rows = len(division.catalog) if rows is None else rows
    return {"rows": rows, "mark": division.mark(rows)}


@dataclass(frozen=True)
class StoredRun:
    """The predictions of one run: ``rows`` [clips] of the catalog, ``score`` and ``chosen`` [clips, labels].

    ``labels`` are those of the clips that were encoded, ``task`` is that of the collection;
    ``file`` is where it tells of itself, ``catalog`` what `catalog_mark` said when it was trained.
    """

    seed: int
    fold: int | None
    rule: str | None
    labels: tuple[str, ...]
    task: Task
    file: str
    metrics: dict[str, Any]
    settings: dict[str, Any] | None
    catalog: dict[str, Any] | None
    rows: list[int]
    score: NDArray[np.float32]
    chosen: np.ndarray[Any, np.dtype[np.bool_]]


def stored_runs(store: Store, folder: RunFolder) -> Iterator[StoredRun]:
    """The runs of a folder, in the order of their names; none where there is no such folder."""
    for file in store.files.files(folder.path):
        match = RUN_FILE.fullmatch(file)
        if match is None:
            continue
        held = store.read_table(f"{folder.path}/{file}")
        found = {
            "seed": int(match["seed"]),
            "fold": int(match["fold"]) if match["fold"] else None,
            "rule": match["rule"].replace("-", " ") if match["rule"] else None,
            "labels": json.loads((held.schema.metadata or {}).get(b"labels", b"[]")),
        }
        told = f"{folder.path}/{file.removesuffix('.parquet')}.json"
        about = _about(store, told)
        of_folder = {"dataset": folder.dataset, "representation": folder.backbone}
        of_folder |= {"mode": folder.mode, "regime": folder.regime}
        for key, value in {**of_folder, **found}.items():
            if about.get(key) != value:
                raise not_its_own(store, folder, told, f"its {key} is {about.get(key)!r} and should be {value!r}")
        if not isinstance(about.get("metrics"), dict) or not isinstance(about.get("settings"), dict | None):
            raise not_its_own(store, folder, told, "its metrics or settings are not there")
        yield StoredRun(
            **{**found, "labels": tuple(found["labels"])},
            file=told,
            task=_task(about),
            metrics=about["metrics"],
            settings=about["settings"],
            catalog=about.get("catalog"),
            rows=held.column("row").to_pylist(),
            score=np.array(held.column("score").to_pylist(), dtype=np.float32),
            chosen=np.array(held.column("chosen").to_pylist(), dtype=bool),
        )


def _task(about: dict[str, Any]) -> Task:
    """The task that a run names; one of a version that named none tells it by its metrics."""
    return TASKS.get(str(about.get("task"))) or task_judged_by(about["metrics"])


def not_its_own(store: Store, folder: RunFolder, file: str, why: str) -> FormatError:
    """The error for what a run tells of itself where that cannot be of this run."""
    backbone = "" if folder.backbone is None else f" --backbone {folder.backbone}"
    mode = f"--mode {folder.mode} --regime {folder.regime}{' --neighbours train' if folder.inductive else ''}"
    return FormatError(
        f"{store.files.show(file)} was changed or is of another run: {why}; run the head again: "
        f"encore head {folder.dataset}{backbone} {mode}"
    )


def _about(store: Store, name: str) -> dict[str, Any]:
    try:
        found = json.loads(store.files.read(name))
    except FileNotFoundError as error:
        raise StoreError(
            f"{store.files.show(name)} is not there; the head runs at this moment, or did not end"
        ) from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{store.files.show(name)} is damaged; run the head again") from error
    if not isinstance(found, dict):
        raise FormatError(f"{store.files.show(name)} is damaged; run the head again")
    return found
