"""``encore embed``: a collection's songs into the store."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from stages.devices import find_device
from stages.embed.catalogs import mark_sources, open_catalog
from stages.embed.choose import RANDOM, find_backbone, make_backbone
from stages.embed.encode import default_workers, encode, open_writer
from stages.embed.weights import read_about
from stages.progress import note
from stages.splits.kept import KeptSplits
from store.errors import EncoreError
from store.layout import RepresentationName, Store, check_writable
from store.merge import update
from store.schema import Catalog
from store.words import counted

_BATCH = {"cpu": 16, "cuda": 32}  # of 30 s at 22,050 Hz these are 85 MB, and a worker holds up to three such batches


@dataclass(frozen=True, kw_only=True)
class EmbedReport:
    """What ``embed`` did; counts are clips of the collection as it stands now, ``encoded`` those of this run."""

    dataset: str
    synthetic: bool
    backbone: str
    representation: str
    path: str
    songs: int
    artists: int
    clips: int
    added: int
    retired: int
    corrected: int
    encoded: int
    failed: dict[str, int]
    noted: dict[str, int]
    already_there: bool
    complete: bool
    seconds: float


def embed(
    name: str,
    options: Mapping[str, Any],
    *,
    store: Store,
    backbone_name: str | None,
    weights: str | None,
    settings: Mapping[str, str],
    precision: str,
    device_name: str,
    batch: int | None,
    workers: int | None,
    strict: bool,
    part: tuple[int, int],
) -> EmbedReport:
    """Bring the stored catalog up to date, then encode the clips that the store lacks."""
    started = time.perf_counter()
    device = find_device(device_name)
    # What is named is refused before a collection is read, or generated; its default, before its songs are looked at.
    chosen = None if backbone_name is None else find_backbone(backbone_name, weights, precision)
    seen = store.catalog_mark(options.get("name") or name)
    opened = open_catalog(name, options, store)
    chosen = chosen or find_backbone(opened.info.backbone, weights, precision, opened.info)
    found = mark_sources(opened)
    backbone, mark = make_backbone(chosen, settings, found.info)
    check_writable(store)
    catalog, growth = update(store, found, seen, lambda: mark_sources(open_catalog(name, options, store)))
    store.files.sweep(catalog.info.name)
    KeptSplits(catalog, store).settle()
    writer = open_writer(store, catalog, backbone, mark)
    if weights not in (None, RANDOM):
        _remember_training(store, catalog.info.name, writer.folder, Path(weights or ""))
    already_there = writer.is_complete
    encoded, complete = 0, True
    if not already_there:
        if writer.pending and catalog.info.synthetic:
            note(f"{catalog.info.name} is synthetic: generated music, for trying things out")
        done = encode(
            writer,
            catalog,
            backbone,
            device=device,
            batch=batch or _BATCH.get(device.type, 16),
            workers=default_workers(device) if workers is None else workers,
            strict=strict,
            part=part,
        )
        encoded, complete = done.clips, done.complete
    live = ~catalog.retired()
    if strict and already_there:
        _refuse_failures(store, catalog, writer.folder)
    failures = _failures(store, catalog, writer.folder) if complete else []
    return EmbedReport(
        dataset=catalog.info.name,
        synthetic=catalog.info.synthetic,
        backbone=backbone.NAME,
        representation=str(writer.name),
        path=store.files.show(writer.folder),
        songs=_distinct(catalog, "song_id"),
        artists=_distinct(catalog, "artist_id"),
        clips=int(live.sum()),
        added=growth.added,
        retired=growth.retired,
        corrected=growth.corrected,
        encoded=encoded,
        failed=dict(Counter(failure["kind"] for failure in failures)),
        noted=_noted(store, catalog, writer.name) if complete else {},
        already_there=already_there,
        complete=complete,
        seconds=time.perf_counter() - started,
    )


def _remember_training(store: Store, dataset: str, folder: str, weights: Path) -> None:
    """Leave beside a representation the songs of this collection that its backbone was trained on."""
    about = read_about(weights)
    songs = about.get("train_songs")
    if about.get("dataset") == dataset and isinstance(songs, list) and all(isinstance(song, str) for song in songs):
        table = pa.table({"song_id": pa.array(songs, type=pa.string())}, metadata={"regime": str(about.get("regime"))})
        store.write_table(f"{folder}/trained_on.parquet", table)


def _refuse_failures(store: Store, catalog: Catalog, folder: str) -> None:
    """What ``--strict`` says of clips that failed in an earlier run."""
    for failure in _failures(store, catalog, folder):
        raise EncoreError(f"{failure['path']}: {failure['kind']}: {failure['reason']} (recorded by an earlier run)")


def _failures(store: Store, catalog: Catalog, folder: str) -> list[dict[str, Any]]:
    """The live clips of this catalog that could not be encoded; another run may have grown the stored one since."""
    live = (~catalog.retired()).tolist()
    recorded: list[dict[str, Any]] = store.read_table(f"{folder}/failures.parquet").to_pylist()
    return [failure for failure in recorded if failure["row"] < len(live) and live[failure["row"]]]


def _noted(store: Store, catalog: Catalog, name: RepresentationName) -> dict[str, int]:
    """How many of the live clips are encoded with a note, by its kind."""
    manifest, live = store.read_manifest(catalog.info.name, name), ~catalog.retired()
    shards = manifest.shards if manifest is not None else ()
    return dict(Counter(kind for shard in shards for row, kind, _ in shard.notes if row < len(live) and live[row]))


def _distinct(catalog: Catalog, name: str) -> int:
    import pyarrow.compute as pc

    live = catalog.table.filter(pc.invert(catalog.column("retired")))
    return int(pc.count_distinct(live.column(name), mode="only_valid").as_py())


def describe(report: EmbedReport) -> str:
    """The report in a few lines for a person."""
    kind = " (synthetic)" if report.synthetic else ""
    changes = [
        f"{count:,} {what}"
        for count, what in ((report.added, "new"), (report.retired, "retired"), (report.corrected, "corrected"))
        if count
    ]
    lines = [
        f"{report.dataset}{kind}: {counted(report.clips, 'clip')}, {counted(report.songs, 'song')}, "
        f"{counted(report.artists, 'artist')}" + (f" ({', '.join(changes)})" if changes else "")
    ]
    encoded = f"{counted(report.encoded, 'clip')} encoded"
    if report.already_there:
        lines.append(f"{report.representation} is already there; nothing was encoded")
    elif not report.complete:
        lines.append(f"{report.representation}: {encoded}; other parts are still missing")
    else:
        lines.append(f"{report.representation}: {encoded} in {report.seconds:.1f} s")
    if report.failed:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(report.failed.items()))
        failed = counted(sum(report.failed.values()), "clip")
        lines.append(f"{failed} could not be encoded ({kinds}); which: encore store show {report.dataset} --failures")
    if report.noted:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(report.noted.items()))
        lines.append(f"notes on encoded clips: {kinds}; which: encore store show {report.dataset} --failures")
    lines.append(report.path)
    return "\n".join(lines)


def as_json(report: EmbedReport) -> dict[str, Any]:
    return dataclasses.asdict(report)
