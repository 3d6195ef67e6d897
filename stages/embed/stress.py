"""The clips of a collection, deformed and encoded: kept in a collection beside it, so that they are encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from stages.embed.backbones import Backbone
from stages.embed.deformations import Deformation, Deformed, deformations
from stages.embed.encode import encode, open_writer
from stages.embed.inputs import Input
from stages.embed.loading import default_workers
from stages.embed.songs import open_backbone
from store.layout import RepresentationName, Store, check_name, check_writable
from store.merge import update
from store.reader import Representations
from store.schema import Catalog

_BESIDE = ".stress"  # what the name of the collection of deformed clips ends in
_BATCH = 16


@dataclass(frozen=True)
class Subject:
    """A backbone, and the clips of a collection that are to be deformed.

    Attributes
    ----------
    clips : the catalog of the collection beside it, with these clips and those that were deformed before.
    rows : [clips] their rows in the collection's own catalog, in that order.
    reader : what the backbone reads of clips as they are.
    """

    store: Store
    clips: Catalog
    rows: NDArray[np.int64]
    backbone: Backbone
    reader: Input
    weights: str | None

    def deformations(self, names: list[str] | None) -> list[Deformation]:
        """See `stages.embed.deformations.deformations`."""
        return deformations(self.reader, names)

    def encode(
        self, deformation: Deformation, device: torch.device, workers: int | None
    ) -> tuple[NDArray[np.bool_], NDArray[Any]]:
        """[clips] whether the deformed clip could be encoded, and [clips, *shape] its representation."""
        self.backbone.input = Deformed(input=self.reader, deformation=deformation)
        writer = open_writer(self.store, self.clips, self.backbone, self.weights)
        if not writer.is_complete:
            count = default_workers(device) if workers is None else workers
            encode(writer, self.clips, self.backbone, device=device, batch=_BATCH, workers=count)
        representations = Representations(self.store, self.clips, writer.name)
        live = np.flatnonzero(~self.clips.retired())
        return representations.encoded()[live], representations.read()[live]


def open_subject(
    store: Store, dataset: str, name: RepresentationName, rows: Sequence[int], weights: str | None = None
) -> Subject:
    """The backbone of a representation, and some clips of its collection (catalog ``rows``) to deform.

    Raises
    ------
    RequestError
        where the backbone reads no songs, its weights are not there, or this version of it gives other numbers.
    """
    backbone = open_backbone(store, dataset, name, weights)
    manifest = store.read_manifest(dataset, name)
    assert manifest is not None
    check_writable(store)
    catalog = store.read_catalog(dataset)
    beside = check_name(f"{dataset}{_BESIDE}")
    mark = store.catalog_mark(beside)
    before = set() if mark is None else set(store.read_catalog(beside).live().strings("clip_id"))
    selection = np.zeros(len(catalog), dtype=bool)
    selection[list(rows)] = True
    selection |= np.array([clip in before for clip in catalog.strings("clip_id")]) & ~catalog.retired()
    info = replace(catalog.info, name=beside, title=f"{catalog.info.title}: deformed clips")
    current = Catalog(info, catalog.table.take(pa.array(np.flatnonzero(selection))).combine_chunks())
    clips, _ = update(store, current, mark, lambda: current)
    of_clip = {clip: row for row, clip in enumerate(catalog.strings("clip_id")) if selection[row]}
    live = clips.live().strings("clip_id")
    return Subject(
        store=store,
        clips=clips,
        rows=np.array([of_clip[clip or ""] for clip in live], dtype=np.int64),
        backbone=backbone,
        reader=backbone.input,
        weights=manifest.settings.get("weights"),
    )
