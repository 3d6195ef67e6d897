"""Encode a collection into the store: bring its catalog up to date, then encode what the store lacks."""

from __future__ import annotations

import json
import secrets
import shlex
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from stages.devices import find_device
from stages.embed import probe
from stages.embed.backbones import Backbone
from stages.embed.catalogs import mark_sources, open_catalog
from stages.embed.choose import RANDOM, find_backbone, make_backbone
from stages.embed.encode import collect, decides, default_batch, encode, open_writer
from stages.embed.engines import Engine, Job, address, catalog_hash
from stages.embed.loading import default_workers
from stages.embed.weights import described_by, read_about
from stages.progress import note
from stages.splits.kept import KeptSplits
from store.clips import flags
from store.errors import EncoreError
from store.layout import Store, check_writable
from store.merge import update
from store.schema import Catalog, CatalogInfo
from store.writer import RepresentationWriter

OWN_WEIGHTS = "your own: encore train made them"
_WORTH_TELLING = 64 << 20  # bytes


@dataclass(frozen=True)
class Prepared:
    """A collection as its files are now, and the backbone that is to encode it.

    Attributes
    ----------
    catalog_mark : `Store.catalog_mark` from before the files were looked at.
    weights : what the fingerprint says of the weights; None without any.
    file : the weights' file or folder; None without any, or with random ones.
    """

    catalog_mark: str | None
    files: Catalog
    backbone: Backbone
    weights: str | None
    file: Path | None


def prepare(
    name: str,
    options: Mapping[str, Any],
    store: Store,
    backbone_name: str | None,
    weights: str | None,
    settings: Mapping[str, str],
    precision: str,
    dtype: str | None = None,
) -> Prepared:
    """Look at a collection's files and load a backbone; nothing is written. Parameters and errors: see `embed`."""
    # A backbone that someone named is refused before the collection is read, or generated; a default one before its
    # songs are opened.
    choice = None if backbone_name is None else find_backbone(backbone_name, weights, precision, dtype=dtype)
    catalog_mark = store.catalog_mark(options.get("name") or name)
    catalog = open_catalog(name, options, store)
    choice = choice or find_backbone(catalog.info.backbone, weights, precision, catalog.info, dtype)
    files = mark_sources(catalog)
    backbone, mark = make_backbone(choice, settings, files.info)
    file = choice.kind.fetch(choice.model) if choice.model else weights
    # Not resolved: a link of the hub's cache tells the commit, and has MusicFM's statistics beside it.
    return Prepared(
        catalog_mark, files, backbone, mark, None if file in (None, RANDOM) else Path(file or "").absolute()
    )


@dataclass(frozen=True, kw_only=True)
class EmbedReport:
    """What a run of `embed` did.

    ``songs``, ``artists``, ``clips`` and ``failed`` count the collection as it is now; ``added``, ``retired``,
    ``corrected`` and ``encoded`` are clips of this run alone.
    """

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
    engine: Engine | None = None,
    dtype: str | None = None,
) -> EmbedReport:
    """Bring the stored catalog up to date, then encode the clips that the store lacks.

    Parameters
    ----------
    name, options : a data set and its options, or a collection of the store.
    backbone_name : None for the collection's default.
    settings : of the backbone, as text.
    batch, workers : None for what suits the device. The engine says what its workers are.
    part : (i, n), 1 <= i <= n: encode every n-th shard, while other processes do the others.
    engine : who runs the shards; None for this process.
    dtype : float16 or float32, in which the store keeps the numbers; None for the backbone's own.

    Raises
    ------
    RequestError
        if the request does not fit together, or none of the songs is there.
    EncoreError
        if a clip fails and ``strict`` is set, or the store cannot be written.
    """
    start_s = time.perf_counter()
    here_name = device_name if engine is None else engine.encodes_here(device_name)
    device = None if here_name is None else find_device(here_name)
    setup = prepare(name, options, store, backbone_name, weights, settings, precision, dtype)
    backbone, mark, file = setup.backbone, setup.weights, setup.file
    check_writable(store)
    whole, growth = update(
        store, setup.files, setup.catalog_mark, lambda: mark_sources(open_catalog(name, options, store))
    )
    store.files.sweep(whole.info.name)
    KeptSplits(whole, store).settle()
    live = whole.live()
    clips_now, songs, artists = len(live), _distinct(live, "song_id"), _distinct(live, "artist_id")
    catalog = store.open_clips(whole.info.name)
    del setup, whole, live  # encoding takes long, and reads a block of clips at a time
    writer = open_writer(store, catalog, backbone, mark)
    if file is not None:
        about = read_about(file)
        licence = OWN_WEIGHTS if about else backbone.LICENSE
        note(f"licence of the weights: {licence}")
        _remember_training(store, catalog.info.name, writer.folder, about)
        store.files.write(f"{writer.folder}/weights.txt", f"{file}\n".encode())
        store.files.write(f"{writer.folder}/licence.txt", f"{licence}\n".encode())
    command = _command(catalog.info, backbone_name, weights, settings, precision, dtype)
    if store.read_line(catalog.info.name, writer.name, "command.txt") != command:
        store.files.write(f"{writer.folder}/command.txt", f"{command}\n".encode())
    already_there = writer.is_complete
    clips, complete = 0, True
    # Of another machine, a bf16 network cannot be asked here: a CPU runs none.
    here = device or (torch.device("cpu") if backbone.precision == "32" else None)
    if mark is not None and here is not None and (writer.pending or probe.is_due(store, writer.folder)):
        with nullcontext() if file is None else described_by(file):
            probe.check(store, writer.folder, catalog.info.name, backbone, here)
    if not already_there:
        if writer.pending and catalog.info.synthetic:
            note(f"{catalog.info.name} is synthetic: generated music, for trying things out")
        size = writer.most_bytes(writer.share(part))
        if size > _WORTH_TELLING:
            note(f"{writer.name} takes up to {size / 2**20:,.0f} MiB more of the store's disk")
        writer.check_room(size)
        if engine is not None and device is None:
            job = Job(
                store=address(store),
                dataset=catalog.info.name,
                settings=json.dumps(decides(backbone, mark)),
                weights=None if file is None else str(file),
                catalog=catalog_hash(catalog),
                device=device_name,
                batch=batch,
                strict=strict,
                threads=torch.get_num_threads(),
                run=secrets.token_hex(8),
            )
            outcome = collect(writer, partial(engine.run, job), part)
        else:
            assert device is not None
            outcome = encode(
                writer,
                catalog,
                backbone,
                device=device,
                batch=batch or default_batch(device),
                workers=default_workers(device) if workers is None else workers,
                strict=strict,
                part=part,
            )
        clips, complete = outcome.clips, outcome.complete
    is_live = ~flags(catalog)[0]
    if strict and already_there:
        _refuse_failures(store, is_live, writer.folder)
    failures = _failures(store, is_live, writer.folder) if complete else []
    return EmbedReport(
        dataset=catalog.info.name,
        synthetic=catalog.info.synthetic,
        backbone=backbone.NAME,
        representation=str(writer.name),
        path=store.files.show(writer.folder),
        songs=songs,
        artists=artists,
        clips=clips_now,
        added=growth.added,
        retired=growth.retired,
        corrected=growth.corrected,
        encoded=clips,
        failed=dict(Counter(failure["kind"] for failure in failures)),
        noted=_noted(store, is_live, writer) if complete else {},
        already_there=already_there,
        complete=complete,
        seconds=time.perf_counter() - start_s,
    )


def _remember_training(store: Store, dataset: str, folder: str, about: Mapping[str, Any]) -> None:
    """Write down beside a representation which songs of this collection its backbone was trained on."""
    songs = about.get("train_songs")
    if about.get("dataset") == dataset and isinstance(songs, list) and all(isinstance(song, str) for song in songs):
        table = pa.table({"song_id": pa.array(songs, type=pa.string())}, metadata={"regime": str(about.get("regime"))})
        store.write_table(f"{folder}/trained_on.parquet", table)


def _refuse_failures(store: Store, is_live: NDArray[np.bool_], folder: str) -> None:
    """Raise for a clip that failed in an earlier run (``--strict``)."""
    for failure in _failures(store, is_live, folder):
        raise EncoreError(f"{failure['path']}: {failure['kind']}: {failure['reason']} (recorded by an earlier run)")


def _command(
    info: CatalogInfo,
    backbone: str | None,
    weights: str | None,
    settings: Mapping[str, str],
    precision: str,
    dtype: str | None,
) -> str:
    """The command that encodes the same again; files are named as they were here."""
    words = ["encore", "embed", *(info.origin or (info.name,))]
    words += [] if backbone is None else ["--backbone", backbone]
    words += [] if weights is None else ["--weights", weights]
    words += [] if precision == "32" else ["--precision", precision]
    words += [] if dtype is None else ["--dtype", dtype]
    words += [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    return shlex.join(words)


def _failures(store: Store, is_live: NDArray[np.bool_], folder: str) -> list[dict[str, Any]]:
    """The live clips of this catalog that could not be encoded; the stored table may have grown since."""
    recorded: list[dict[str, Any]] = store.read_table(f"{folder}/failures.parquet").to_pylist()
    return [failure for failure in recorded if failure["row"] < len(is_live) and is_live[failure["row"]]]


def _noted(store: Store, is_live: NDArray[np.bool_], writer: RepresentationWriter) -> dict[str, int]:
    """How many of the live clips are encoded with a note, by its kind."""
    manifest = store.read_manifest(writer.dataset, writer.name)
    notes = [entry for shard in (manifest.shards if manifest is not None else ()) for entry in shard.notes]
    return dict(Counter(kind for row, kind, _ in notes if row < len(is_live) and is_live[row]))


def _distinct(catalog: Catalog, name: str) -> int:
    import pyarrow.compute as pc

    return int(pc.count_distinct(catalog.column(name), mode="only_valid").as_py())
