"""``make study``: what training gives each backbone, on generated music.

A backbone is trained on the songs of one demo collection, frozen, and encodes the songs of another (other artists,
other songs). Song-only heads with one and the same setting then read what the trained network says, and what the very
weights said that training began with. A seed decides weights, training, split and head. Names of backbones on the
command line run only these. What has been trained and encoded stays in the folder; the next run goes on from there.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.output import table
from stages import registry
from stages.configure import configure
from stages.embed.run import embed
from stages.embed.train_backbone import train_backbone
from stages.head import open as opening
from stages.head.collection import Collection
from stages.head.fit import evaluate
from stages.head.heads.song import Song
from stages.head.scores import metrics, thresholds
from stages.head.settings import Settings
from stages.head.training.loop import train
from stages.progress import note
from stages.splits.regimes import Split
from store.layout import Store

_METRICS = ("micro_f1", "tuned_f1", "roc_auc")
_text = metrics.ROC_AUC.mean_text  # all are fractions, printed alike
_TARGET_SONGS = 400
_REGIME = "random-5fold"
_HEAD = Settings(batch=32, learning_rate=1e-3)  # the default batch is as large as the training part: one step an epoch
Scores = dict[str, list[float]]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a backbone is trained: on how many generated songs, with which settings, under how many seeds."""

    songs: int
    seeds: int = 3
    config: dict[str, str] = dataclasses.field(default_factory=dict)
    training: dict[str, str] = dataclasses.field(default_factory=dict)


PLANS = {
    "musicbert": Plan(
        songs=1600, config={"size": "tiny"}, training={"steps": "500", "warmup": "50", "learning_rate": "1e-3"}
    ),
    "cola": Plan(
        songs=1600,
        config={"size": "tiny", "max_segments": "5"},
        training={"steps": "1000", "batch": "64", "learning_rate": "1.5e-3", "warmup": "20"},
    ),
    "pianoroll-cnn": Plan(songs=1600, training={"epochs": "5"}),
    "mixcnn": Plan(songs=200, seeds=1, training={"epochs": "4", "batch": "8"}),
}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.study", description=__doc__.splitlines()[0])
    parser.add_argument("backbones", nargs="*", metavar="BACKBONE", help=", ".join(PLANS))
    parser.add_argument("--out", type=Path, default=Path("data", "study"), help="where everything is kept")
    options = parser.parse_args(arguments)
    if unknown := set(options.backbones) - set(PLANS):
        parser.error(f"no study of {', '.join(sorted(unknown))}; have: {', '.join(PLANS)}")
    studies = {name: study(name, PLANS[name], options.out) for name in options.backbones or PLANS}
    (options.out / "study.json").write_text(json.dumps(studies, indent=1) + "\n")
    print(describe(studies, controls(Store(str(options.out / "store")), max(PLANS[name].seeds for name in studies))))
    return 0


def study(name: str, plan: Plan, out: Path) -> dict[str, Any]:
    """Scores of the untrained and of the trained network by seed, and the losses of the trainings."""
    store = Store(str(out / "store"))
    scores: dict[str, Scores] = {"untrained": _none(), "trained": _none()}
    losses = []
    report = None
    for seed in range(plan.seeds):
        start, end = (out / f"{name}-{seed}-{state}.pt" for state in ("start", "end"))
        if not start.is_file():
            _save_start(name, plan, seed, start)
        report = train_backbone(
            name,
            "demo",
            {"data": out / f"demo-{plan.songs}", "songs": plan.songs, "seed": 1},
            store=store,
            objective_name=None,
            regime="official",
            weights=None,
            changes={**plan.config, **plan.training, "seed": str(seed)},
            out=end,
            device_name="auto",
            workers=1,
        )
        log = torch.load(end, weights_only=True)["log"]
        losses.append([line["loss"] for line in log])
        for state, weights in (("untrained", start), ("trained", end)):
            summary = embed(
                "demo",
                {"data": out / "demo", "songs": _TARGET_SONGS},
                store=store,
                backbone_name=name,
                weights=str(weights),
                settings=plan.config,
                precision="32",
                device_name="auto",
                batch=None,
                workers=1,
                strict=True,
                part=(1, 1),
            )
            data = opening.load(store, "demo", summary.representation)
            result = score(data, seed)
            note(f"{name}, seed {seed}, {state}: micro F1 {result['micro_f1']:.3f}, ROC-AUC {result['roc_auc']:.3f}")
            for metric in _METRICS:
                scores[state][metric].append(result[metric])
    assert report is not None
    return {**dataclasses.asdict(plan), "parameters": report.parameters, "losses": losses, **scores}


def _save_start(name: str, plan: Plan, seed: int, path: Path) -> None:
    """The weights that a training under this seed begins with."""
    kind = registry.find("backbone", name)
    torch.manual_seed(seed)
    backbone = kind(configure(kind.Config(), plan.config, name))
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(backbone.module.state_dict(), path)


def score(data: Collection, seed: int) -> dict[str, float]:
    """Test scores of a song-only head, mean over five folds: every song is in one test part, and 400 songs are few."""
    results = []
    for part in data.parts(_REGIME, seed):
        trained = train(Song, data, part, Song.Config(), _HEAD, seed=seed, device=torch.device("cpu"))
        results.append(evaluate(trained.prediction, data, part))
        results[-1]["tuned_f1"] = tuned_f1(data.labels, trained.prediction.score, part)
    return {metric: float(np.mean([scores[metric] for scores in results])) for metric in _METRICS}


def tuned_f1(truth: NDArray[np.bool_], score: NDArray[np.float32], part: Split) -> float:
    """Test micro F1 of the labels [clips, labels] above the one threshold that is best for the validation part.

    At one half a head that is sure of itself scores higher than one that ranks as well and is less sure.
    """
    known, tested = part == 1, part == 2
    threshold = thresholds.find("tuned", truth[known], score[known])
    return metrics.micro_f1(truth[tested], thresholds.above(score[tested], threshold))


def controls(store: Store, seeds: int) -> dict[str, Scores]:
    """What the same head makes of vectors that say nothing, and the best answer that is the same for every clip."""
    catalog = store.read_catalog("demo")
    plain = opening.from_catalog(catalog)
    chance = {"random vectors": _none(), "one answer": _none()}
    for seed in range(seeds):
        noise = torch.randn(len(plain), 128, generator=torch.Generator().manual_seed(seed))
        result = score(dataclasses.replace(plain, x=noise), seed)
        constant = [
            _one_answer(plain.labels[part == 0], plain.labels[part == 2]) for part in plain.parts(_REGIME, seed)
        ]
        for metric in _METRICS:
            chance["random vectors"][metric].append(result[metric])
        for metric in ("micro_f1", "tuned_f1"):
            chance["one answer"][metric].append(float(np.mean(constant)))
        chance["one answer"]["roc_auc"].append(0.5)
    return chance


def _one_answer(known: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """The highest micro F1 of saying the k most frequent labels of every clip."""
    order = np.argsort(-known.sum(axis=0))
    right = truth[:, order].sum(axis=0).cumsum()
    answers = len(truth) * (1 + np.arange(len(order)))
    return float((2 * right / (truth.sum() + answers)).max())


def _none() -> Scores:
    return {metric: [] for metric in _METRICS}


def describe(studies: dict[str, dict[str, Any]], chance: dict[str, Scores]) -> str:
    """One table: each score untrained and trained, and training's loss, first and lowest epoch, mean over the seeds."""
    head = ["song-only head", "F1", "trained", "tuned F1", "trained", "ROC-AUC", "trained", "loss"]
    rows = [[name, *(cell for m in _METRICS for cell in (_text(s[m]), "-")), "-"] for name, s in chance.items()]
    for name, line in studies.items():
        cells = [_text(line[state][metric]) for metric in _METRICS for state in ("untrained", "trained")]
        first, least = (np.mean([pick(losses) for losses in line["losses"]]) for pick in (lambda x: x[0], min))
        rows.append([name, *cells, f"{first:.2f}-{least:.2f}"])
    return table(head, rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
