"""``encore audit``: what a collection is, before anything is trained on it."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.output import SHORT, overlap_text, table
from pipeline.presets import PAPER
from stages.head.collection import Collection, from_catalog
from stages.head.heads import Prediction
from stages.head.heads.artist import Artist
from stages.head.homophily import homophily
from stages.head.train import evaluate
from stages.splits import REGIMES, Split
from store.errors import RequestError
from store.schema import Catalog

SEED = 0


def audit(catalog: Catalog) -> dict[str, Any]:
    """Counts, edges, homophily, what the sides of each regime share, and the baselines that hear no song.

    Keys are those of the plan: ``songs, clips, artists, edges, homophily, regimes, baselines`` and, beside
    them, ``dataset, synthetic, albums, labels, unknown_artist, multi_label``. Splits are those of seed 0. A
    regime that this collection cannot have is absent.
    """
    data = from_catalog(catalog)
    regimes: dict[str, Any] = {}
    baselines: dict[str, Any] = {}
    for regime in REGIMES:
        try:
            part = data.split(regime, SEED)
        except RequestError:
            continue
        regimes[regime] = data.overlap(part)
        baselines[regime] = _baselines(data, part)
    _, first_clip = np.unique(data.song, return_index=True)
    return {
        "dataset": catalog.info.name,
        "synthetic": catalog.info.synthetic,
        "songs": len(first_clip),
        "clips": len(data),
        "artists": _known(data.artist),
        "albums": _known(data.album),
        "unknown_artist": int((data.artist[first_clip] < 0).sum()),
        "labels": {
            label: int(count)
            for label, count in zip(data.labels, data.targets[first_clip].sum(axis=0).tolist(), strict=True)
        },
        "multi_label": data.multi_label,
        "edges": data.graph.edges,
        "homophily": homophily(data.artist, data.targets),
        "regimes": regimes,
        "baselines": baselines,
        "left_out": {reason: count for reason, count in data.left_out.items() if count},
    }


def _known(ids: np.ndarray[Any, Any]) -> int:
    return len(np.unique(ids[ids >= 0]))


def _baselines(data: Collection, part: Split) -> dict[str, dict[str, float | None]]:
    predictions = {f"artist ({rule})": found for rule, found in Artist().predict(data, part).items()}
    predictions["majority"] = _majority(data, part)
    return {
        name: {metric: None if np.isnan(value) else value for metric, value in evaluate(found, data, part).items()}
        for name, found in predictions.items()
    }


def _majority(data: Collection, part: Split) -> Prediction:
    """Every clip gets the one label that most training clips carry."""
    share = data.targets[part == 0].mean(axis=0)
    chosen = np.zeros(data.targets.shape, dtype=bool)
    chosen[:, int(share.argmax())] = True
    return Prediction(np.broadcast_to(share.astype(np.float32), data.targets.shape), chosen)


def describe(found: dict[str, Any]) -> str:
    """The audit for a person, in 80 columns."""
    name = found["dataset"] + (" (synthetic)" if found["synthetic"] else "")
    paper = PAPER.get(found["dataset"])
    kind = "several labels a clip" if found["multi_label"] else "one label a clip"
    lines = [
        f"{name}: {found['songs']:,} songs, {found['clips']:,} clips, {found['artists']:,} artists, "
        f"{found['albums']:,} albums",
        f"{len(found['labels'])} labels, {kind}; {found['unknown_artist']:,} songs of unknown artist",
        f"artist graph: {found['edges']:,} edges (pairs of clips of one artist)",
        _homophily_text(found["homophily"], None if paper is None else paper.homophily),
        *(f"{count:,} clips left out: {reason}" for reason, count in found["left_out"].items()),
    ]
    for regime, overlap in found["regimes"].items():
        baselines = found["baselines"][regime]
        columns = list(next(iter(baselines.values())))
        rows = [
            [which, *("-" if scores[m] is None else f"{100 * scores[m]:.2f}" for m in columns)]
            for which, scores in baselines.items()
        ]
        short = [SHORT.get(m, m) for m in columns]
        lines += [
            "",
            f"{regime}: {overlap_text(overlap)}",
            f"  test albums also in train: {overlap['shared_albums']:,}; test songs: {overlap['shared_songs']:,}",
            table(["without hearing", *short], rows),
        ]
    return "\n".join(lines)


def _homophily_text(found: dict[str, float | None], paper: float | None) -> str:
    if found["exact"] is None:
        return "label homophily: none, no two clips share an artist"
    shares = {name: 100 * (value or 0.0) for name, value in found.items()}
    text = (
        f"label homophily: {shares['exact']:.2f} % same set, {shares['jaccard']:.2f} % Jaccard, "
        f"{shares['any']:.2f} % any shared"
    )
    return text if paper is None else f"{text}\n  (thesis: {100 * paper:.2f} % same set)"
