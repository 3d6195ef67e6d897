"""What `embed` would do, and why, before it does anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.embed.encode import decides, open_writer
from stages.embed.run import Prepared
from store.layout import Store
from store.merge import Growth, merge
from store.schema import RETIRED, Catalog, Manifest
from store.writer import RepresentationWriter


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
    why: dict[str, int]
    stored: list[Stored]


def explain(store: Store, setup: Prepared) -> Explanation:
    """Say what `embed` would encode, and why; nothing is written."""
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
        entries.append(Stored(name=str(other), clips=None if manifest is None else manifest.rows, differs=differs))
    why = _reasons(store, before, catalog, writer)
    return _explanation(name, growth, writer, why, entries)


def _explanation(
    name: str, growth: Growth, writer: RepresentationWriter, why: Counter[str], entries: list[Stored]
) -> Explanation:
    return Explanation(
        dataset=name,
        representation=str(writer.name),
        added=growth.added,
        retired=growth.retired,
        revived=growth.revived,
        corrected=growth.corrected,
        clips=sum(why.values()),
        shards=len(writer.pending),
        bytes=writer.pending_bytes,
        why=dict(why),
        stored=entries,
    )


def differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Each setting in which two settings of a fingerprint differ, with its two values."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted(before.keys() | after.keys()):
            default = "32" if not path and key == "precision" else None  # which is left out where it is the usual one
            yield from differences(before.get(key, default), after.get(key, default), f"{path}.{key}" if path else key)
    elif before != after:
        yield f"{path}: {before} -> {after}"


def _reasons(store: Store, before: Catalog | None, catalog: Catalog, writer: RepresentationWriter) -> Counter[str]:
    """How many clips are to be encoded for which reason."""
    manifest = store.read_manifest(writer.dataset, writer.name)
    rows = np.array([row for shard in writer.pending for row in shard.rows], dtype=np.int64)
    if manifest is None:
        has_shards = bool(store.files.files(f"{writer.folder}/shards"))
        reason = "left by a run that was stopped" if has_shards else "never encoded with these settings"
        return Counter({reason: len(rows)} if len(rows) else {})
    old_ids = set() if before is None else set(before.strings("clip_id"))
    failures = {row: kind for shard in manifest.shards for row, kind, _ in shard.failures}
    clip_ids = catalog.strings("clip_id")
    return Counter(_reason(row, clip_ids[row], manifest, failures, old_ids, before) for row in rows.tolist())


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
