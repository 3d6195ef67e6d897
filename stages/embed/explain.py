"""What `embed` would do, and why, before it does anything."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from stages.embed.backbones import Backbone
from stages.embed.encode import decides, open_writer
from stages.embed.loading import ClipTable, default_workers
from stages.embed.represent import encode_loaded
from stages.embed.run import Prepared
from store.layout import Store
from store.merge import merge
from store.schema import RETIRED, Catalog, Manifest
from store.writer import RepresentationWriter

_TRIED = (1, 1, 4, 16)  # clips at a time
_LONG_S = 1.0
_USUAL = {"precision": "32", "dtype": "float32"}  # what is left out of settings


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A representation of the collection that is in the store.

    Attributes
    ----------
    clips : encoded rows; None where it is not complete.
    differs : what tells it from the one that is asked for, as ``config.hidden: 4 -> 8``; None where that is not known,
        empty for the one that is asked for.
    """

    name: str
    clips: int | None
    differs: list[str] | None


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What `embed` would do.

    Attributes
    ----------
    clips : to be encoded; ``why`` counts them by reason.
    bytes : that the shards written take at most.
    seconds : that encoding them takes roughly, on this machine by itself; None where there is nothing to encode.
    tried : clips that were encoded to say so.
    """

    dataset: str
    representation: str
    added: int
    retired: int
    revived: int
    corrected: int
    clips: int
    shards: int
    bytes: int
    seconds: float | None
    tried: int
    why: dict[str, int]
    stored: list[Stored]


def explain(
    store: Store,
    setup: Prepared,
    device: torch.device,
    workers: int | None = None,
    part: tuple[int, int] = (1, 1),
) -> Explanation:
    """Say what `embed` would encode, and why; nothing is written.

    Parameters
    ----------
    device, workers : as `embed` would encode by itself.
    part : (i, n), 1 <= i <= n: what `embed` would encode of the i-th of n parts.
    """
    name = setup.files.info.name
    before = store.read_catalog(name) if store.has_catalog(name) else None
    catalog, growth = merge(before, setup.files)
    writer = open_writer(store, catalog, setup.backbone, setup.weights)
    settings = decides(setup.backbone, setup.weights)
    entries = []
    for other in store.representations(name):
        manifest = store.read_manifest(name, other)
        differs = None
        if manifest is not None and other.backbone == writer.name.backbone:
            differs = list(differences(manifest.settings, settings))
        entries.append(Stored(name=str(other), clips=_encoded(manifest), differs=differs))
    shards = writer.share(part)
    rows = [row for shard in shards for row in shard.rows]
    why = _reasons(store, before, catalog, writer, rows)
    seconds, tried = _estimate(catalog, setup.backbone, rows, device, workers)
    return Explanation(
        dataset=name,
        representation=str(writer.name),
        added=growth.added,
        retired=growth.retired,
        revived=growth.revived,
        corrected=growth.corrected,
        clips=len(rows),
        shards=len(shards),
        bytes=writer.most_bytes(shards),
        seconds=seconds,
        tried=tried,
        why=dict(why),
        stored=entries,
    )


def _encoded(manifest: Manifest | None) -> int | None:
    """Rows that hold a representation; None where it is not complete."""
    return None if manifest is None else manifest.rows - sum(len(shard.failures) for shard in manifest.shards)


def _estimate(
    catalog: Catalog, backbone: Backbone, rows: list[int], device: torch.device, workers: int | None
) -> tuple[float | None, int]:
    """How many seconds encoding rows takes, and how many were tried: a few, from everywhere among them."""
    if not rows:
        return None, 0
    workers = default_workers(device) if workers is None else workers
    clips = ClipTable(catalog, backbone.input)
    backbone.to(device)
    tried_clips, loading, encoding = 0, 0.0, 0.0
    for turn, count in enumerate(_TRIED):
        some = rows[:: -(-len(rows) // count)]
        began = time.perf_counter()
        batch = clips[some]
        load_end = time.perf_counter()
        encode_loaded(backbone, batch, device)
        encode_end = time.perf_counter()
        tried_clips, loading, encoding = len(some), (load_end - began) / len(some), (encode_end - load_end) / len(some)
        if turn and encode_end - began > _LONG_S:  # the first one also waits for libraries
            break
    loading /= max(1, workers)
    # Beside a GPU the processor loads the next clips; without one both want the same cores.
    together = max(loading, encoding) if device.type == "cuda" and workers else loading + encoding
    return len(rows) * together, tried_clips


def differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Each setting in which two settings of a fingerprint differ, with its two values."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted(before.keys() | after.keys()):
            default = None if path else _USUAL.get(key)
            yield from differences(before.get(key, default), after.get(key, default), f"{path}.{key}" if path else key)
    elif before != after:
        yield f"{path}: {before} -> {after}"


def _reasons(
    store: Store, before: Catalog | None, catalog: Catalog, writer: RepresentationWriter, rows: list[int]
) -> Counter[str]:
    """How many rows are to be encoded for which reason."""
    manifest = store.read_manifest(writer.dataset, writer.name)
    if manifest is None:
        has_shards = bool(store.files.files(f"{writer.folder}/shards"))
        reason = "left by a run that was stopped" if has_shards else "never encoded with these settings"
        return Counter({reason: len(rows)} if len(rows) else {})
    old_ids = set() if before is None else set(before.strings("clip_id"))
    failures = {row: kind for shard in manifest.shards for row, kind, _ in shard.failures}
    clip_ids = catalog.strings("clip_id")
    return Counter(_reason(row, clip_ids[row], manifest, failures, old_ids, before) for row in rows)


def _reason(
    row: int,
    clip_id: str | None,
    manifest: Manifest,
    failures: Mapping[int, str],
    old_ids: set[str | None],
    before: Catalog | None,
) -> str:
    if row < manifest.rows:
        kind = failures.get(row, "")
        return "back after they were retired" if kind == RETIRED else "could not be read before"
    if before is not None and row < len(before):
        return "in the catalog, but not encoded with these settings yet"
    return "files that changed" if clip_id in old_ids else "new"
