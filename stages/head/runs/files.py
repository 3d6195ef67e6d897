"""From a training to the files of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from stages.environment import environment
from stages.head import layers
from stages.head.collection import Collection
from stages.head.fit import FitResult, evaluate
from stages.head.results import numbers
from stages.head.saved import SavedHead
from stages.progress import log
from stages.splits.kept import KeptSplits
from stages.splits.regimes import PARTS, Split
from store.columns import targets
from store.fingerprint import canonical
from store.layout import Store
from store.runs import RunFolder, RunRecord, run_name, write_run


def save_run(
    store: Store,
    folder: RunFolder,
    result: FitResult,
    *,
    collection: Collection,
    split: Split,
    seed: int,
    fold: int | None,
    code: str,
    device: torch.device,
    writes: bool = True,
    keeps_head: bool = True,
) -> RunRecord:
    """Write one run to the store, unless another process ``writes``, and return its record.

    ``keeps_head`` says whether the trained head stands beside its scores.
    """
    networks = result.networks
    threshold = None if result.threshold is None else result.threshold.tolist()
    record = RunRecord(
        dataset=folder.dataset,
        representation=folder.representation,
        mode=folder.mode,
        regime=folder.regime,
        rule=result.rule,
        seed=seed,
        fold=fold,
        metrics=numbers(evaluate(result.prediction, collection, split)),
        seconds=result.seconds,
        synthetic=collection.info.synthetic,
        task=collection.task.NAME,
        labels=collection.outputs,
        catalog=None if collection.splits is None else catalog_mark(collection.splits, collection.target),
        split=None if collection.splits is None else split_mark(collection.splits, folder.regime, seed),
        clips={name: int((split == part).sum()) for part, name in enumerate(PARTS)},
        threshold=threshold,
        stranger_threshold=result.stranger_threshold,
        settings=canonical(result.settings) if networks else None,
        config=canonical(result.config),
        tuned=dict(result.tuned) or None,
        remark="; ".join(filter(None, [networks[0].remark if networks else "", _of_strangers(result)])),
        best_epoch=networks[0].best_epoch if networks else None,
        history=networks[0].history if networks else None,
        mixture=layers.weights(networks[0].state) if networks else None,
        other_members=[{"best_epoch": other.best_epoch, "history": other.history} for other in networks[1:]],
        environment=environment(device),
    )
    if not writes:
        return record
    test = np.flatnonzero(split == 2)
    prediction = result.prediction
    heads = [head.to_bytes() for head in _saved(folder, record, result, code)] if keeps_head else []
    strangers = None if result.strangers is None else result.strangers[test]
    scored = collection.rows[test], prediction.score[test], prediction.decision[test]
    write_run(store, folder, record, *scored, heads, strangers)
    log(f"{folder.path}: {run_name(seed, fold, record.rule)} is written")
    return record


def _of_strangers(result: FitResult) -> str:
    """What a table should say of thresholds."""
    return (
        "" if result.stranger_threshold is None else "songs of artists that it does not know may have a lower threshold"
    )


def _saved(folder: RunFolder, record: RunRecord, result: FitResult, code: str) -> Sequence[SavedHead]:
    """The trained head as its files hold it, one for each network."""
    shared: Mapping[str, Any] = {
        "mode": folder.mode,
        "labels": list(record.labels),
        "threshold": record.threshold,
        "stranger_threshold": record.stranger_threshold,
        "rule": result.rule,
        "representation": folder.representation,
        "dataset": folder.dataset,
        "regime": folder.regime,
        "seed": record.seed,
        "fold": record.fold,
        "code": code,
    }
    spec = result.spec
    plain: dict[str, Any] = {
        "task": spec.task.NAME,
        "fitted": asdict(spec.task),
        "dim": spec.dim,
        "config": asdict(spec.config),
    }
    if not result.networks:
        facts = dict(spec.facts)
        return [SavedHead(**shared, **plain, facts=facts, network=None, shift=None, scale=None, settings=None)]
    return [
        SavedHead(
            **shared,
            **plain,
            facts=dict(network.spec.facts),
            network=network.state,
            shift=network.shift,
            scale=network.scale,
            settings=asdict(result.settings),
        )
        for network in result.networks
    ]


def catalog_mark(splits: KeptSplits, target: str | None, rows: int | None = None) -> dict[str, Any]:
    """What a run keeps of the catalog that it was trained on: how many rows it had, `KeptSplits.mark` of them, and a
    hash of their numbers where it learnt a ``target``.
    """
    rows = len(splits.catalog) if rows is None else rows
    mark = {"rows": rows, "mark": splits.mark(rows)}
    if target is None:
        return mark
    numbers = targets(splits.catalog).get(target, np.empty(0))[:rows]
    digest = hashlib.sha256(np.where(np.isnan(numbers), np.nan, numbers).tobytes())
    return mark | {"target": digest.hexdigest()[:32]}


def split_mark(splits: KeptSplits, regime: str, seed: int) -> str | None:
    """The `Dealing.mark` of the split that a run was trained on; None if that was not recorded."""
    dealing = splits.dealing(regime, seed)
    return None if dealing is None else dealing.mark
