"""``encore head`` and ``encore compare``: train heads on a stored collection and report their scores."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from pipeline.configure import configure
from pipeline.presets import PAPER, settings_for
from pipeline.runs import RunFolder, run_name, save_run
from stages import registry
from stages.head import collection as collections
from stages.head import train as training
from stages.head.collection import Collection
from stages.head.heads import CountedHead, Head, Prediction, TrainedHead
from stages.head.metrics import main_metric
from stages.head.settings import Settings
from stages.progress import note, task
from stages.splits import Split
from stages.splits import parse as parse_regime
from store.errors import RequestError
from store.layout import Store


@dataclass(kw_only=True)
class Result:
    """The test scores of one mode in one regime, over seeds.

    ``rule`` tells the rules of one head apart (artist only has two); ``scores`` holds one dictionary for each fold of
    each seed. ``neighbours`` says whose representations take part in a clip's score: ``all`` (transductive), ``train``
    (inductive) or None.
    """

    dataset: str
    synthetic: bool
    backbone: str | None
    mode: str
    rule: str | None
    regime: str
    seeds: int
    neighbours: str | None
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
            "seeds": self.seeds,
            "transductive": self.transductive,
            "neighbours": self.neighbours,
            "metrics": metrics,
            "train_seconds": float(np.sum(self.seconds)),
            "overlap": self.overlap,
            "paper": self.paper(),
            "saved": self.saved,
        }

    @property
    def transductive(self) -> bool:
        return self.neighbours == "all"

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


def _numbers(scores: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _number(value) for name, value in scores.items()}


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
    folds = [parse_regime(regime)[1] or 1 for regime in regimes]
    configure(Settings(), changes, "a head")  # refuses wrong settings before anything large is read
    if "inductive" in changes:
        _refuse_transductive(heads)
    data = _load(store, dataset, backbone, heads)
    # The representation's own name tells the backbone: what was asked for may be none, or cut short.
    settings = configure(settings_for((data.backbone or "").rpartition("-")[0]), changes, "a head")
    for reason, count in data.left_out.items():
        if count:
            note(f"{count:,} clips are left out: {reason}")
    epochs = settings.epochs * sum(issubclass(head, TrainedHead) for head in heads) * sum(folds) * seeds
    results: list[Result] = []
    started = time.monotonic()
    with task(f"training on {dataset}", epochs or None, "epochs") as advance:
        for regime in regimes:
            splits = [(seed, data.parts(regime, seed)) for seed in range(seeds)]
            for head in heads:
                found: dict[str | None, Result] = {}
                representation = data.backbone if head.READS_SONGS else None
                folder = RunFolder(dataset, representation, head.NAME, regime, _neighbours(head, settings) == "train")
                store.files.remove(folder.path)
                for seed, fold, part in ((seed, i, part) for seed, parts in splits for i, part in enumerate(parts)):
                    for rule, prediction, seconds, trained in _fit(head, data, part, settings, seed, device, advance):
                        result = found.setdefault(
                            rule,
                            Result(
                                dataset=dataset,
                                synthetic=data.info.synthetic,
                                backbone=representation,
                                mode=head.NAME,
                                rule=rule,
                                regime=regime,
                                seeds=seeds,
                                neighbours=_neighbours(head, settings),
                                overlap=data.overlap(part),
                                saved=store.files.show(folder.path),
                            ),
                        )
                        result.scores.append(training.evaluate(prediction, data, part))
                        result.seconds.append(seconds)
                        name = run_name(seed, fold + 1 if parse_regime(regime)[1] else None, rule)
                        save_run(
                            store,
                            folder,
                            name,
                            {"rule": rule, "seed": seed, "metrics": _numbers(result.scores[-1])},
                            data=data,
                            part=part,
                            prediction=prediction,
                            settings=settings,
                            trained=trained,
                        )
                    if issubclass(head, TrainedHead):
                        advance(settings.epochs - (len(trained.history) if trained else 0))
                results += found.values()
    note(f"done in {time.monotonic() - started:.1f} s")
    return results


def _refuse_transductive(heads: Sequence[type[Head]]) -> None:
    wrong = [head.NAME for head in heads if head.READS_NEIGHBOURS and not head.INDUCTIVE]
    if wrong:
        raise RequestError(f"{', '.join(wrong)} cannot be inductive; leave out --inductive, or name other modes")


def _neighbours(head: type[Head], settings: Settings) -> str | None:
    if not head.READS_NEIGHBOURS:
        return None
    return "train" if settings.inductive else "all"


def _load(store: Store, dataset: str, backbone: str | None, heads: Sequence[type[Head]]) -> Collection:
    if any(head.READS_SONGS for head in heads):
        return collections.load(store, dataset, backbone or _default_backbone(store, dataset))
    return collections.from_catalog(store.read_catalog(dataset), store)


def _default_backbone(store: Store, dataset: str) -> str | None:
    """The collection's own default where several are stored and exactly one is of it."""
    complete = [name for name in store.representations(dataset) if store.is_complete(dataset, name)]
    if len(complete) < 2:
        return None
    meant = store.read_catalog(dataset).info.backbone
    fitting = [name for name in complete if name.backbone == meant]
    if len(fitting) != 1:
        return None
    others = ", ".join(str(name) for name in complete if name != fitting[0])
    note(f"{fitting[0]} is taken, the default of {dataset}; there are also: {others} (--backbone)")
    return str(fitting[0])


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
    return [(rule or None, found, seconds / len(predictions), None) for rule, found in predictions.items()]


def columns_of(results: Sequence[Result]) -> list[str]:
    """The metrics that any of the results has, the main one first."""
    names = list(dict.fromkeys(name for result in results for name in result.scores[0]))
    main = main_metric("micro_f1" in names)
    return [main, *(name for name in names if name != main)]
