"""Train a backbone on a collection's songs: from a request to the checkpoint that stage one reads."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stages import registry
from stages.configure import configure
from stages.devices import find_device
from stages.embed.backbones import Backbone
from stages.embed.catalogs import mark_sources, open_catalog
from stages.embed.choose import hash_weights, load_weights
from stages.embed.datasets.folder import in_segments
from stages.embed.loading import ClipTable, default_workers
from stages.embed.objectives import Labels, Training
from stages.embed.songs import check_segments
from stages.embed.train import Outcome, train
from stages.embed.weights import read_about
from stages.progress import note
from stages.splits import regimes as splits
from stages.splits.kept import KeptSplits
from store import columns
from store.errors import RequestError, unknown
from store.fingerprint import canonical, hash_ids
from store.layout import Store
from store.schema import Catalog
from store.words import plural

_SPLIT_SEED = 0
_TRAINING = {field.name for field in dataclasses.fields(Training)}


@dataclass(frozen=True, kw_only=True)
class TrainReport:
    """What a training did. The losses are those of the best epoch, whose weights are in the checkpoint."""

    backbone: str
    objective: str
    dataset: str
    synthetic: bool
    regime: str
    parameters: int
    clips: int
    validation_clips: int
    unread: int
    epochs: int
    best_epoch: int
    resumed: int
    loss: float
    validation_loss: float
    path: str
    seconds: float


def train_backbone(
    backbone_name: str,
    dataset: str,
    options: Mapping[str, Any],
    *,
    store: Store,
    objective_name: str | None,
    regime: str | None,
    weights: str | None,
    changes: Mapping[str, str],
    out: Path | None,
    device_name: str,
    workers: int | None,
    segments_s: float | None = None,
    hop_s: float | None = None,
) -> TrainReport:
    """Train a backbone on the training songs of a collection.

    Parameters
    ----------
    regime : of the split into training and validation songs; by default the collection's own, or ``random`` where it
        has none. It is the one that the store keeps for ``encore head`` under its first seed (and is kept there now,
        where it is new), so that the test songs of a head are never among the training songs of its backbone.
    weights : a checkpoint to start from, where training goes on from another one (as in fine-tuning).
    changes : settings of the training and of the backbone.
    segments_s, hop_s : train on stretches of so many seconds, one every so many seconds of each clip (one behind the
        other by default), instead of on whole clips. Stretches of a song are all in one part.
    """
    start_s = time.perf_counter()
    check_segments(segments_s, hop_s)
    device = find_device(device_name)
    seed = configure(Training(), {k: v for k, v in changes.items() if k == "seed"}, "training").seed
    torch.manual_seed(seed)
    kind = _trainable(backbone_name)  # refused before a collection is read, or generated
    own = kind.settings_of(Path(weights)) if weights is not None else {}
    own |= {key: value for key, value in changes.items() if key not in _TRAINING}
    config = configure(kind.Config(), own, f"the backbone {backbone_name}")
    if regime is not None:
        _check_one_split(regime)
    catalog = mark_sources(open_catalog(dataset, options, store))
    backbone = kind(kind.resolve(config, catalog.info))
    if weights is not None:
        load_weights(backbone, Path(weights))
    makers = backbone.objectives()
    objective_name = objective_name or next(iter(makers))
    if objective_name not in makers:
        raise unknown(f"objective of {backbone_name}", objective_name, makers)
    kept_splits = KeptSplits(catalog, store, keeps=os.environ.get("RANK", "0") == "0")
    label_indices = np.flatnonzero(kept_splits.labels[~catalog.retired()].any(axis=0))
    labels = Labels(
        tuple(kept_splits.label_names[i] for i in label_indices.tolist()), kept_splits.labels[:, label_indices]
    )
    objective = makers[objective_name](labels)
    settings = configure(objective.settings, {k: v for k, v in changes.items() if k in _TRAINING}, "training")
    regime = regime or ("official" if set(columns.official(catalog).tolist()) >= {0, 1, 2} else "random")
    part = divide(kept_splits, regime, labelled_only=objective.LABELLED)
    train_rows, validation_rows = (np.flatnonzero(part == which) for which in (0, 1))
    out = out or Path("data", "weights", f"{backbone_name}-{catalog.info.name}-{objective_name}.pt")
    if catalog.info.synthetic:
        note(f"{catalog.info.name} is synthetic: generated music, for trying things out")
    songs = catalog.strings("song_id")
    about = {
        "backbone": backbone.NAME,
        "revision": backbone.REVISION,
        "settings": own,
        "config": canonical(backbone.config),
        "objective": objective_name,
        "training": canonical(settings),
        "start": None if weights is None else hash_weights(Path(weights)),
        "dataset": catalog.info.name,
        "synthetic": catalog.info.synthetic,
        "regime": regime,
        "data": _data_mark(catalog, part, labels if objective.LABELLED else None),
        "labels": list(labels.names) if objective.LABELLED else [],
        "train_songs": sorted({songs[row] or "" for row in train_rows.tolist()} | _known_before(weights, catalog)),
    }
    clips, label_matrix = catalog, labels.matrix
    if segments_s is not None and len(train_rows) + len(validation_rows):
        about["segments"] = [segments_s, hop_s or segments_s]
        clips, owner = in_segments(catalog, np.flatnonzero((part == 0) | (part == 1)), segments_s, hop_s or segments_s)
        part, label_matrix = part[owner], label_matrix[owner]
        train_rows, validation_rows = (np.flatnonzero(part == which) for which in (0, 1))
        one_each = ": no clip is long enough for two" if len(np.unique(owner)) == len(owner) else ""
        note(f"{plural(len(clips), 'stretch', 'stretches')} of {segments_s:g} s{one_each}")
    training = train(
        backbone,
        objective,
        ClipTable(clips, backbone.input),
        train_rows=train_rows,
        validation_rows=validation_rows,
        labels=label_matrix,
        settings=settings,
        out=out,
        about=about,
        device=device,
        workers=default_workers(device) if workers is None else workers,
    )
    return _report(backbone, catalog, about, training, part, out, time.perf_counter() - start_s)


def _trainable(name: str) -> type[Backbone]:
    kind: type[Backbone] = registry.find("backbone", name)
    if not _has_objectives(kind):
        others = [other for other, backbone in registry.load("backbone")[0].items() if _has_objectives(backbone)]
        raise RequestError(f"{name} cannot be trained; those that can: {', '.join(others)}")
    return kind


def _has_objectives(kind: type[Backbone]) -> bool:
    return kind.objectives is not Backbone.objectives


def _check_one_split(regime: str) -> None:
    base, folds = splits.parse(regime)
    if folds is not None:
        raise RequestError(f"a backbone is trained on one split, and {regime} is several; take {base}")


def _known_before(weights: str | None, catalog: Catalog) -> set[str]:
    """The songs of this collection that a checkpoint to start from was trained on."""
    about = {} if weights is None else read_about(Path(weights))
    songs = about.get("train_songs")
    if about.get("dataset") != catalog.info.name or not isinstance(songs, list):
        return set()
    return {song for song in songs if isinstance(song, str)}


def divide(kept_splits: KeptSplits, regime: str, *, labelled_only: bool) -> splits.Split:
    """The part of each catalog row: 0 train, 1 validation, 2 test, -1 left out.

    The split is that of the heads. What learns without labels also trains on unlabelled clips, as far as they are not
    akin to test songs; where no clip is labelled, all of them are divided.
    """
    if labelled_only and not kept_splits.labels[~kept_splits.catalog.retired()].any():
        raise RequestError(
            f"no clip of {kept_splits.catalog.info.name} carries a label; take an objective without labels"
        )
    _check_one_split(regime)
    (part,) = kept_splits.parts(regime, _SPLIT_SEED)
    return part if labelled_only else kept_splits.with_unlabelled(part, regime)


def _data_mark(catalog: Catalog, part: splits.Split, labels: Labels | None) -> str:
    """A hash of what is trained on: clips, their files' contents, which part each is in, and labels that are used."""
    marks = [f"{row}" for row in zip(catalog.strings("clip_id"), catalog.strings("source"), part.tolist(), strict=True)]
    clips = hash_ids(mark for mark, which in zip(marks, part.tolist(), strict=True) if which in (0, 1))
    if labels is None:
        return clips
    bits = np.packbits(labels.matrix[(part == 0) | (part == 1)]).tobytes()
    return hashlib.sha256(clips.encode() + bits).hexdigest()[:32]


def _report(
    backbone: Backbone,
    catalog: Catalog,
    about: Mapping[str, Any],
    training: Outcome,
    part: splits.Split,
    out: Path,
    seconds: float,
) -> TrainReport:
    assert backbone.module is not None
    best = training.log[training.best_epoch - 1]
    return TrainReport(
        backbone=backbone.NAME,
        objective=about["objective"],
        dataset=catalog.info.name,
        synthetic=catalog.info.synthetic,
        regime=about["regime"],
        parameters=sum(p.numel() for p in backbone.module.parameters()),
        clips=int((part == 0).sum()),
        validation_clips=int((part == 1).sum()),
        unread=training.unread,
        epochs=len(training.log),
        best_epoch=training.best_epoch,
        resumed=training.resumed,
        loss=best["loss"],
        validation_loss=best["validation_loss"],
        path=str(out),
        seconds=seconds,
    )
