"""``encore head`` and ``encore compare``: train heads on a stored collection and report their scores."""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from pipeline.configure import configure
from pipeline.presets import PAPER, settings_for
from stages import registry
from stages.head import collection as collections
from stages.head import train as training
from stages.head.collection import Collection
from stages.head.heads import CountedHead, Head, Prediction, TrainedHead
from stages.head.metrics import main_metric
from stages.head.settings import Settings
from stages.progress import note, task
from stages.splits import PARTS, REGIMES, Split
from store.errors import unknown
from store.fingerprint import canonical
from store.layout import Store


@dataclass(kw_only=True)
class Result:
    """The test scores of one mode in one regime, over seeds.

    ``rule`` tells the rules of one head apart (artist only has two); ``scores`` holds one dictionary a seed.
    """

    dataset: str
    synthetic: bool
    backbone: str | None
    mode: str
    rule: str | None
    regime: str
    transductive: bool
    overlap: dict[str, Any]
    scores: list[dict[str, float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    saved: str = ""

    def as_json(self) -> dict[str, Any]:
        """The record under DESIGN's stable keys; a metric that is not defined on these clips is null."""
        metrics = {
            name: {"mean": _number(np.mean(values)), "std": _number(np.std(values))}
            for name, values in self.by_metric().items()
        }
        return {
            "dataset": self.dataset,
            "synthetic": self.synthetic,
            "backbone": self.backbone,
            "mode": self.mode,
            "rule": self.rule,
            "regime": self.regime,
            "seeds": len(self.scores),
            "transductive": self.transductive,
            "metrics": metrics,
            "train_seconds": float(np.sum(self.seconds)),
            "overlap": self.overlap,
            "paper": self.paper(),
            "saved": self.saved,
        }

    def by_metric(self) -> dict[str, list[float]]:
        return {name: [scores[name] for scores in self.scores] for name in self.scores[0]}

    def paper(self) -> dict[str, Any] | None:
        """The thesis's figure for this data set and mode, and the backbone it had there."""
        paper = PAPER.get(self.dataset)
        if paper is None or self.mode not in paper.scores or self.rule not in (None, "most frequent"):
            return None
        return {paper.metric: paper.scores[self.mode], "backbone": paper.backbone}


def _number(value: Any) -> float | None:
    return None if math.isnan(value) else float(value)


def run(
    store: Store,
    dataset: str,
    *,
    backbone: str | None,
    modes: Sequence[str],
    regimes: Sequence[str],
    seeds: int,
    changes: Mapping[str, str],
    device: torch.device,
) -> list[Result]:
    """Train every mode in every regime under every seed. A seed decides split, network and draws.

    Reads the store once; opens no song.
    """
    heads: list[type[Head]] = [registry.find("head", mode) for mode in modes]
    for regime in regimes:
        if regime not in REGIMES:
            raise unknown("regime", regime, REGIMES)
    settings = configure(settings_for("" if backbone is None else backbone.split("-")[0]), changes, "a head")
    data = _load(store, dataset, backbone, heads)
    if backbone is None and data.backbone:
        settings = configure(settings_for(data.backbone.rpartition("-")[0]), changes, "a head")
    for reason, count in data.left_out.items():
        if count:
            note(f"{count:,} clips are left out: {reason}")
    epochs = settings.epochs * sum(issubclass(head, TrainedHead) for head in heads) * len(regimes) * seeds
    results: list[Result] = []
    started = time.monotonic()
    with task(f"training on {dataset}", epochs or None, "epochs") as advance:
        for regime in regimes:
            splits = [data.split(regime, seed) for seed in range(seeds)]
            for head in heads:
                found: dict[str | None, Result] = {}
                for seed, part in enumerate(splits):
                    for rule, prediction, seconds, trained in _fit(head, data, part, settings, seed, device, advance):
                        result = found.setdefault(
                            rule,
                            Result(
                                dataset=dataset,
                                synthetic=data.info.synthetic,
                                backbone=data.backbone if head.READS_SONGS else None,
                                mode=head.NAME,
                                rule=rule,
                                regime=regime,
                                transductive=head.READS_NEIGHBOURS,
                                overlap=data.overlap(splits[0]),
                            ),
                        )
                        result.scores.append(training.evaluate(prediction, data, part))
                        result.seconds.append(seconds)
                        result.saved = _save(store, data, head, result, part, settings, seed, trained)
                    if issubclass(head, TrainedHead):
                        advance(settings.epochs - (len(trained.history) if trained else 0))
                results += found.values()
    note(f"{len(results)} results in {time.monotonic() - started:.1f} s")
    return results


def _load(store: Store, dataset: str, backbone: str | None, heads: Sequence[type[Head]]) -> Collection:
    if any(head.READS_SONGS for head in heads):
        return collections.load(store, dataset, backbone)
    return collections.from_catalog(store.read_catalog(dataset))


def _fit(
    head: type[Head], data: Collection, part: Split, settings: Settings, seed: int, device: torch.device, advance: Any
) -> list[tuple[str | None, Prediction, float, training.Trained | None]]:
    if issubclass(head, TrainedHead):
        trained = training.train(head, data, part, settings, seed=seed, device=device, on_epoch=advance)
        return [(None, trained.prediction, trained.seconds, trained)]
    assert issubclass(head, CountedHead)
    started = time.perf_counter()
    predictions = head().predict(data, part)
    seconds = time.perf_counter() - started
    return [(rule, prediction, seconds / len(predictions), None) for rule, prediction in predictions.items()]


def _save(
    store: Store,
    data: Collection,
    head: type[Head],
    result: Result,
    part: Split,
    settings: Settings,
    seed: int,
    trained: training.Trained | None,
) -> str:
    """Leave checkpoint, scores and resolved settings of one seed behind; returns the folder of the mode."""
    folder = f"{data.info.name}/runs/{result.backbone or 'metadata'}/{head.NAME}-{result.regime}"
    rule = f"-{result.rule.replace(' ', '-')}" if result.rule else ""
    held = {
        "dataset": data.info.name,
        "synthetic": data.info.synthetic,
        "representation": result.backbone,
        "mode": head.NAME,
        "rule": result.rule,
        "regime": result.regime,
        "seed": seed,
        "labels": data.labels,
        "clips": {name: int((part == i).sum()) for i, name in enumerate(PARTS)},
        "metrics": {name: _number(value) for name, value in result.scores[-1].items()},
        "settings": canonical(settings) if trained else None,
        "best_epoch": trained.best_epoch if trained else None,
        "history": trained.history if trained else None,
    }
    store.files.write(f"{folder}/seed-{seed}{rule}.json", (json.dumps(held, indent=1) + "\n").encode())
    if trained:
        buffer = io.BytesIO()
        state = {"network": trained.state, "shift": trained.shift, "scale": trained.scale}
        torch.save({**state, "settings": asdict(settings), "mode": head.NAME, "labels": list(data.labels)}, buffer)
        store.files.write(f"{folder}/seed-{seed}.pt", buffer.getvalue())
    return store.files.show(folder)


def columns_of(results: Sequence[Result]) -> list[str]:
    """The metrics that any of the results has, the main one first."""
    names = list(dict.fromkeys(name for result in results for name in result.scores[0]))
    main = main_metric("micro_f1" in names)
    return [main, *(name for name in names if name != main)]
